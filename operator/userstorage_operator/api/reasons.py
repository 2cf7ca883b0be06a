"""Every condition type and every reason it can carry. Reasons are API: the reference page is made from these tables."""

READY = "Ready"
STORAGE_READY = "StorageReady"
POD_UP_TO_DATE = "PodUpToDate"
NETWORK_READY = "NetworkReady"
SUSPENDED = "Suspended"
RECONCILING = "Reconciling"
STALLED = "Stalled"
DEFAULT = "Default"
IMAGE_PINNED = "ImagePinned"

FAILURES = {
    "UserIDConflict": "Another UserStorage of the namespace has the same userID and came first; this one touches nothing.",
    "NameConflict": "An object that is not ours has the name of a child; it is left alone.",
    "WaitingForGarbageCollection": "A child of the user's former UserStorage is still there; the garbage collector takes it.",
    "ClassNotFound": "spec.className names a UserStorageClass that does not exist; a running pod keeps running.",
    "InvalidSpec": "The spec, or that of the class, holds a value that cannot be served; the message names the field.",
    "Forbidden": "The API server refused a write; the message holds its words.",
    "NamespaceTerminating": "The namespace is being deleted and takes nothing new; the object goes with it.",
    "QuotaExceeded": (
        "The namespace may not have more: limits.maxPerNamespace of the class (the oldest stay), or a ResourceQuota; "
        "the message says which."
    ),
    "APIError": "The API server answered with an unexpected error.",
    "APIUnavailable": "The API server could not be reached, was overloaded or failed; tried again with a growing pause.",
    "InternalError": "A fault in the operator; its log has the traceback. Tried again with a growing pause.",
}

REASONS: dict[str, dict[str, str]] = {
    READY: {
        "PodReady": "The pod is ready: the browser answers and sees the volume.",
        "Pending": "The operator has not looked at the object yet.",
        "PodPending": "The pod is being created, scheduled or its image pulled.",
        "PodNotReady": "The pod runs but does not pass its readiness probe.",
        "PodTerminating": "The old pod is going; the new one follows. The message names the node and what keeps the pod.",
        "PodBackoff": "The pod was lost several times in a row, the message says how; the next one comes after a pause.",
        "StartTimeout": "The pod was not ready within spec.lifecycle.startTimeout.",
        "Suspended": "spec.replicas is 0.",
        "StorageNotReady": "The claim keeps the pod from starting; see StorageReady.",
        "ImagePullBackOff": "The image cannot be pulled.",
        "CrashLoopBackOff": "A container keeps ending; the message has its last exit code and the last line that it printed.",
        "OOMKilled": "The container was ended at its memory limit.",
        "Unschedulable": "No node takes the pod; the message holds the scheduler's words.",
        "Terminating": "The UserStorage is being deleted.",
        **FAILURES,
    },
    STORAGE_READY: {
        "ClaimBound": "The claim is bound to a volume.",
        "ClaimNotFound": "There is no claim of that name (yet); or it was not looked up, the message says so and why.",
        "WaitForFirstConsumer": "The claim gets its volume with the pod that is being placed.",
        "ResizeFailed": "The claim is bound and serves; its growth failed or was refused, the message says why.",
        "ClaimPending": "The claim waits for a volume; the message says for what else where that is known.",
        "ClaimLost": "The claim's volume is gone.",
        "ClaimTerminating": "The claim is being deleted; no pod is started on it.",
        "ExpansionNotSupported": "The claim's StorageClass does not let it grow; the files are served meanwhile.",
        "ClaimNotAllowed": "spec.storage.claimName names a claim without the label userstorage.dev/shareable=true.",
        "ClaimInUse": "Another UserStorage has the claim, which serves one at a time; this one moves in when that is gone.",
        "MultiAttach": "Pods of others mount the claim where ours cannot join them; the message names pods and nodes.",
        "FailedMount": "The node cannot mount the volume; the message holds the cluster's words.",
    },
    POD_UP_TO_DATE: {
        "UpToDate": "The pod is what the spec and the class ask for.",
        "Recreating": "A pod of the current spec is on its way.",
        "UpdateDeferred": "A newer pod waits for the next suspension (updateStrategy WhenSuspended).",
        "WaitingForRollout": "A newer pod waits for its turn: rollout.maxUnavailable of the class are not ready as it is.",
        "Suspended": "No pod is wanted.",
    },
    NETWORK_READY: {
        "Synced": "Service, NetworkPolicy and Ingress or HTTPRoute, as the class asks for, are there and as they should be.",
        "Pending": "One of them is not there yet; the message names it.",
        "OutOfSync": "Somebody changed one of them, or it is no longer wanted, and putting that right has not succeeded yet.",
        "HostConflict": "Another UserStorage has the same host and path; the browser is reached inside the cluster only.",
        "GatewayAPIMissing": "The class asks for a Gateway and the cluster does not serve HTTPRoutes; looked for again every minute.",
        "RoutePending": "No controller of the Gateway has accepted the HTTPRoute yet; does the Gateway exist?",
        "RouteNotAccepted": "The Gateway's controller refuses the HTTPRoute; the message holds its words.",
    },
    SUSPENDED: {
        "Requested": "spec.replicas is 0: the pod is stopped, the data stays.",
        "Running": "spec.replicas is 1.",
        "Stopping": "spec.replicas is 0 and the pod is still ending.",
    },
    RECONCILING: {
        "Pending": "The operator has not looked at the object yet.",
        "Progressing": "Work towards the spec is going on.",
        "Retrying": "The last try failed; another follows. See status.lastError.",
        "Terminating": "The pod is ending; the object goes after it.",
        "WaitingForGarbageCollection": "Of the pod's end only the garbage collector's part is missing; the object goes after it.",
        "WaitingForFinalizers": "The pod is gone; finalizers of others keep the object, the message names them.",
        "Done": "Nothing is left to do.",
    },
    STALLED: {
        "StartTimeout": "The pod was not ready within spec.lifecycle.startTimeout.",
        "DeletionTimedOut": (
            "A pod did not go within spec.lifecycle.deletionTimeout, of the object's deletion or of its own grace period; it "
            "is never forced, and none follows before. The message names the node and what keeps it."
        ),
        "UserIDConflict": FAILURES["UserIDConflict"],
        "NameConflict": FAILURES["NameConflict"],
        "ClassNotFound": FAILURES["ClassNotFound"],
        "InvalidSpec": FAILURES["InvalidSpec"],
        "QuotaExceeded": FAILURES["QuotaExceeded"],
        "ClaimNotAllowed": "The named claim may not be shared.",
        "ClaimInUse": "The claim serves another UserStorage.",
        "NotStalled": "Nothing stands in the way.",
    },
}
"""Condition type -> reason -> what it means."""

CLASS_REASONS: dict[str, dict[str, str]] = {
    READY: {
        "Valid": "UserStorages of the class can be served.",
        "InvalidSpec": "The spec of the class holds a value that cannot be served; the message names the field.",
    },
    DEFAULT: {
        "Default": "The class serves UserStorages without a className.",
        "SeveralDefaults": "It does, although younger classes are marked as default too; the message names them.",
        "NotDefault": "The class is not marked as default.",
        "OlderDefaultWins": "The class is marked as default, but an older one is too, and counts.",
    },
    IMAGE_PINNED: {
        "Digest": "The image is named by its digest.",
        "NoDigest": "The image has no digest: what its name means may change.",
    },
    RECONCILING: {
        "RollingOut": "A change is on its way to the users; the message says how many wait.",
        "Done": "No UserStorage waits for its turn. Those whose updateStrategy is WhenSuspended are not waited for.",
    },
}
