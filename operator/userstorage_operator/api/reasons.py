"""Every condition type, and every reason that it can have. Reasons are API: the API reference is generated from this file."""

READY = "Ready"
STORAGE_READY = "StorageReady"
POD_UP_TO_DATE = "PodUpToDate"
NETWORK_READY = "NetworkReady"
SUSPENDED = "Suspended"
RECONCILING = "Reconciling"
STALLED = "Stalled"
PAUSED = "Paused"
DEFAULT = "Default"
IMAGE_PINNED = "ImagePinned"
END_OF_LIFE = "EndOfLife"

FAILURES = {
    "UserIDConflict": "Another UserStorage of the namespace with the same userID takes precedence; this one changes nothing.",
    "NameConflict": "An object that the operator does not own has the name of a child; it is left untouched. Delete it.",
    "WaitingForGarbageCollection": "A child of the user's previous UserStorage still exists; the garbage collector deletes it.",
    "ClassNotFound": "spec.className names a UserStorageClass that does not exist; a running pod keeps running.",
    "NoDefaultClass": (
        "spec.className is unset and the default UserStorageClass that served this UserStorage before is gone; all children stay "
        "as they are. Mark a class as default (one with an empty spec gives the built-in values), or set spec.className."
    ),
    "NotAllowedByClass": (
        "The spec sets a label, annotation, node label or toleration that the class does not allow (podMetadata.allowed, "
        "scheduling.allowed); the message names keys and class. A running pod keeps running."
    ),
    "InvalidSpec": "The spec, or that of the class, has a value that is not supported; the message names the field.",
    "Forbidden": "The API server refused a write; the message has its response.",
    "NamespaceTerminating": "The namespace is being deleted and accepts no new objects; the UserStorage is deleted with it.",
    "QuotaExceeded": (
        "A limit of the namespace is reached: limits.maxPerNamespace of the class (those in use, then the oldest, stay), "
        "or a ResourceQuota. The message says which."
    ),
    "WebhookFailed": (
        "An admission webhook that must answer did not, so the API server refuses the write; the message names the webhook. "
        "The operator retries with increasing delays."
    ),
    "APIError": "The API server answered with an unexpected error.",
    "APIUnavailable": "The API server was unreachable or overloaded, or failed. The operator retries with increasing delays.",
    "InternalError": "A fault in the operator; its log has the traceback. The operator retries with increasing delays.",
}

REASONS: dict[str, dict[str, str]] = {
    READY: {
        "PodReady": "The pod is ready: the browser answers and its volume is accessible.",
        "Pending": "The operator has not processed the object yet.",
        "PodPending": "The pod is being created or scheduled, or its image is being pulled.",
        "PodNotReady": "The pod is running but does not pass its readiness probe.",
        "SchedulingGated": "Another controller, such as a queue manager, holds the pod back; the message names its scheduling gates.",
        "ReadinessGatesNotReady": "The containers are ready, a readiness gate of another controller is not; the message names it.",
        "PodTerminating": "The old pod must terminate before a new one is created. The message names its node and what keeps it.",
        "PodBackoff": (
            "The pod was disrupted, terminated or edited several times in a row; the message says how. "
            "The next pod is created after a pause."
        ),
        "StartTimeout": "The pod was not ready within spec.lifecycle.startTimeout.",
        "Suspended": "spec.replicas is 0.",
        "StorageNotReady": "The claim keeps the pod from starting; see StorageReady.",
        "NetworkNotReady": "Another controller keeps the former NetworkPolicy, without which no pod is created; see NetworkReady.",
        "ImagePullBackOff": "The image cannot be pulled.",
        "CrashLoopBackOff": "A container keeps exiting; the message has its last exit code and the last line of its output.",
        "OOMKilled": "The container was killed at its memory limit.",
        "Unschedulable": "No node fits the pod; the message has the scheduler's explanation.",
        "Contested": "There is no pod, or none with its labels: another client keeps deleting or changing what the message names.",
        "Terminating": "The UserStorage is being deleted.",
        **FAILURES,
    },
    STORAGE_READY: {
        "ClaimBound": "The claim is bound to a volume.",
        "ControlledByOther": "As ClaimBound, but another object controls the claim: deleting that deletes the files. The message names it.",
        "ClaimNotFound": "The claim does not exist (yet), or it could not be read; the message says which and why.",
        "WaitForFirstConsumer": "The claim gets its volume when the pod is scheduled.",
        "ResizeFailed": "The claim is bound and in use, but changing its size failed or was refused; the message says why.",
        "SizeDiffers": (
            "The claim is bound and in use, but does not request spec.storage.size: another client has changed it since, or its "
            "volume has more already. The message says which."
        ),
        "ClaimPending": "The claim waits for a volume; the message gives the cause if it is known.",
        "ClaimLost": "The volume of the claim no longer exists. A pod that uses it is not replaced: it may still have the files.",
        "ClaimTerminating": "The claim is being deleted. A pod that uses it keeps it; no pod is started on it.",
        "ClaimReplaced": (
            "The claim is not the one that held the files, which was deleted; the message says when this one was created. The "
            "reason stays until spec.storage.acceptedClaimLoss accepts the loss, or the old volume is back."
        ),
        "ClaimDeleted": (
            "The claim that held the files was deleted, and storage.onClaimLoss of the class is Wait: no other one is created "
            "before spec.storage.acceptedClaimLoss accepts the loss."
        ),
        "ExpansionNotSupported": "The StorageClass of the claim does not allow expansion; the files are still served.",
        "ClaimNotAllowed": (
            "spec.storage.claimName names a claim without the label userstorage.dev/shareable: true or Directories. If the owner "
            "has removed the label, a pod that runs keeps running and is not replaced."
        ),
        "ClaimInUse": (
            "The claim, or the directory of a claim with userstorage.dev/shareable: Directories, is in use by another UserStorage, "
            "which the message names. This UserStorage gets it when the other one is gone."
        ),
        "Contested": "Another client keeps changing or deleting the claim; the message names it, if it is known.",
        "MultiAttach": "Other pods mount the claim, so this pod cannot; the message names pods and nodes.",
        "FailedMount": "The node cannot mount the volume; the message has the error from the pod's events.",
    },
    POD_UP_TO_DATE: {
        "UpToDate": "The pod matches the spec and the class.",
        "Recreating": "A pod of the current spec is being created.",
        "Stalled": "The spec and the class yield no valid pod; the condition Stalled says why. A running pod keeps running.",
        "Terminating": "The UserStorage is being deleted.",
        "UpdateDeferred": "The pod is outdated. It is replaced at the next suspension (updateStrategy WhenSuspended).",
        "RolloutPaused": "The pod is outdated; it is replaced after rollout.paused of the class is false again, or if it fails.",
        "WaitingForRollout": "The pod is outdated; it is replaced when rollout.maxUnavailable of the class permits it.",
        "ClaimTerminating": (
            "The pod should be replaced, but its claim is being deleted and this pod is the last that keeps the files; it is "
            "left running. The message says why it should be replaced."
        ),
        "ClaimLost": (
            "The pod should be replaced, but the volume of its claim no longer exists, so that no other pod could mount it; it is "
            "left running. The message says why it should be replaced."
        ),
        "ClaimNotAllowed": (
            "The pod should be replaced, but the owner of its claim has removed the label, so that no other pod may follow; it is "
            "left running. The message says why it should be replaced."
        ),
        "Suspended": "The UserStorage is suspended and has no pod.",
    },
    NETWORK_READY: {
        "Synced": "Service, NetworkPolicy, and Ingress or HTTPRoute exist as the class specifies.",
        "Pending": "A NetworkPolicy, Service, Ingress or HTTPRoute that the class asks for does not exist yet; the message names it.",
        "OutOfSync": (
            "A NetworkPolicy, Service, Ingress or HTTPRoute differs from the class or is no longer needed, "
            "and is not repaired or deleted yet; the message names it."
        ),
        "Contested": (
            "Another client keeps changing or deleting a NetworkPolicy, Service, Ingress or HTTPRoute, or the labels by which it selects the pod. "
            "It is repaired after growing pauses; the message names the client, if it is known."
        ),
        "HostConflict": "Another UserStorage has the host and path, or a path above or below it. The browser can be reached only inside the cluster.",
        "GatewayAPIMissing": "The class asks for a Gateway, but the cluster serves no HTTPRoutes. Checked again every minute.",
        "RoutePending": "No controller has accepted the HTTPRoute yet. Check that the Gateway and its listener exist.",
        "RouteNotAccepted": "The controller of the Gateway rejects the HTTPRoute; the message has its explanation and, for usual ones, what to change.",
    },
    SUSPENDED: {
        "Requested": "spec.replicas is 0: the pod is stopped, the data is kept.",
        "Running": "spec.replicas is 1.",
        "Stopping": "spec.replicas is 0 and the pod is being stopped.",
    },
    RECONCILING: {
        "Pending": "The operator has not processed the object yet.",
        "Progressing": "The operator is working towards the spec.",
        "Retrying": "The last attempt failed and is retried. See status.lastError.",
        "Terminating": "The pod is terminating; the UserStorage is deleted after it.",
        "WaitingForGarbageCollection": "The pod waits only for the garbage collector; the UserStorage is deleted after it.",
        "WaitingForFinalizers": "The pod is gone. Finalizers of other controllers keep the object; the message names them.",
        "Done": "Nothing is left to do.",
    },
    STALLED: {
        "StartTimeout": "The pod was not ready within spec.lifecycle.startTimeout.",
        "DeletionTimedOut": (
            "The pod still exists, spec.lifecycle.deletionTimeout after the UserStorage was deleted or the pod's grace period ended. "
            "It is never force-deleted, and no new pod is created before it is gone. The message names its node and what keeps it."
        ),
        "UserIDConflict": FAILURES["UserIDConflict"],
        "NameConflict": FAILURES["NameConflict"],
        "ClassNotFound": FAILURES["ClassNotFound"],
        "NoDefaultClass": FAILURES["NoDefaultClass"],
        "NotAllowedByClass": FAILURES["NotAllowedByClass"],
        "InvalidSpec": FAILURES["InvalidSpec"],
        "QuotaExceeded": FAILURES["QuotaExceeded"],
        "ClaimNotAllowed": "The claim that spec.storage.claimName names may not be shared.",
        "ClaimInUse": "The claim is in use by another UserStorage.",
        "ClaimDeleted": "The claim that held the files was deleted; spec.storage.acceptedClaimLoss has to accept the loss.",
        "ClaimReplaced": (
            "Another claim has the place of the one that held the files, and storage.onClaimLoss of the class is Wait: no pod is "
            "started on it before spec.storage.acceptedClaimLoss accepts the loss."
        ),
        "NotStalled": "No manual action is needed.",
    },
    PAUSED: {
        "Paused": (
            'The annotation userstorage.dev/paused is "true": until it is removed, the operator changes nothing and updates no other '
            "part of the status. A deletion is carried out."
        ),
        "NotPaused": 'The annotation userstorage.dev/paused is not "true".',
    },
}
"""Condition type -> reason -> meaning, for the status of a UserStorage."""

CLASS_REASONS: dict[str, dict[str, str]] = {
    READY: {
        "Valid": "UserStorages of the class can be served: the API server has accepted a dry run of a NetworkPolicy and a pod.",
        "DryRunRefused": (
            "The API server refuses the NetworkPolicy or the pod of a user of the class, at least in the operator's namespace, "
            "where it is tried without being created. The message has its answer. It is tried again each minute."
        ),
        "InvalidSpec": "The spec of the class has a value that is not supported; the message names the field.",
    },
    DEFAULT: {
        "Default": "UserStorages without a className get this class.",
        "SeveralDefaults": "UserStorages without a className get this class. Younger classes are marked as default too; the message names them.",
        "NotDefault": "The class is not marked as default.",
        "OlderDefaultWins": "The class is marked as default, but so is an older class, which takes precedence.",
    },
    IMAGE_PINNED: {
        "Digest": "The images of the browser and of the container that creates directories are named by their digests.",
        "NoDigest": "An image has no digest, so its content may change; the message names the field.",
    },
    END_OF_LIFE: {
        "NoSecurityFixes": (
            "The program of the flavor gets no security fixes any more; the message says since when. UserStorages of the class are "
            "served all the same. Change browser.flavor when it suits the users: their files stay, shares and settings do not."
        ),
        "NoneKnown": "No end of life of the program is known to this version of the operator.",
    },
    RECONCILING: {
        "RolloutPaused": "rollout.paused is true: no pod is replaced for a change of the class; the message says how many wait.",
        "RollingOut": "A change is being rolled out to the users; the message says how many wait.",
        "Done": "No UserStorage waits for its turn, not counting those with updateStrategy WhenSuspended.",
    },
}
