"""Who must act for each condition reason, what to do, and the next command.

One entry for each reason of the operator's table (`api/reasons.py`); a test of the operator's repository compares the two.
None: nothing is wrong, and nothing is to be done.
"""

from enum import StrEnum
from typing import NamedTuple


class Actor(StrEnum):
    """Who can do the next step."""

    NONE = "no action needed: the operator or the cluster is at work"
    TENANT = "the tenant"
    PLATFORM = "a platform admin (classes, the operator)"
    CLUSTER = "a cluster admin (nodes, volumes, quotas, webhooks)"


class Step(NamedTuple):
    """The next step. `command` may contain the fields of `explaining.variables` in braces."""

    actor: Actor
    advice: str
    command: str


_STATUS = "kubectl userstorage status {name} -n {namespace}"
_EDIT = "kubectl edit userstorage {name} -n {namespace}"
_CLASS = "kubectl edit userstorageclass {class_name}"
_CLASSES = "kubectl get userstorageclasses"
_POD = "kubectl describe pod {pod} -n {namespace}"
_LOGS = "kubectl userstorage logs {name} -n {namespace}"
_PREVIOUS = "kubectl userstorage logs {name} -n {namespace} --previous"
_CLAIM = "kubectl describe pvc {claim} -n {namespace}"
_CHILDREN = "kubectl get pod,pvc,service,networkpolicy,ingress -n {namespace} -l userId={slug}"
_SHOW = "kubectl get userstorage {name} -n {namespace} -o yaml"
_USERS = "kubectl userstorage list -n {namespace} --user {user} -o wide"
_OPERATOR_LOG = "kubectl logs -n {operator_namespace} -l app.kubernetes.io/name=userstorage-operator --tail=100"
_DOCTOR = "kubectl userstorage doctor --operator-namespace {operator_namespace}"
_LOST_VOLUME = "kubectl get pv {lost_volume}"
_RESUME = "kubectl userstorage resume {name} -n {namespace}"
_LABEL_CLAIM = "kubectl label pvc {claim} -n {namespace} --overwrite userstorage.dev/shareable={shareable}"

_WAIT = Step(Actor.NONE, "Wait; the status changes by itself.", _STATUS)
_CLAIM_LOSS = Step(
    Actor.CLUSTER,
    "If that volume still exists, it has the files: give it to the claim again, as the runbook says (UserStorageClaimLost). "
    "Accept the loss only after the files are restored, or given up.",
    _LOST_VOLUME,
)
OWN_CLAIM_PENDING = Step(Actor.NONE, "Wait: the operator creates the claim.", _STATUS)
"""StorageReady=False/ClaimNotFound of a UserStorage that names no claim."""

FAILURES: dict[str, Step | None] = {
    "UserIDConflict": Step(Actor.TENANT, "Two UserStorages have this user id: delete the one that is not needed.", _USERS),
    "NameConflict": Step(Actor.TENANT, "Delete or rename the object that the message names, if it is not needed.", _CHILDREN),
    "WaitingForGarbageCollection": Step(
        Actor.NONE, "Wait for the garbage collector. After minutes: a finalizer keeps the object.", _CHILDREN
    ),
    "ClassNotFound": Step(
        Actor.TENANT, "Set spec.className to a class that exists, or have a platform admin create it.", _CLASSES
    ),
    "NoDefaultClass": Step(
        Actor.PLATFORM,
        "Mark a class as default: annotation userstorage.dev/is-default-class.",
        "kubectl annotate userstorageclass CLASS userstorage.dev/is-default-class=true",
    ),
    "NotAllowedByClass": Step(
        Actor.TENANT, "Remove the key that the message names, or have a platform admin allow it in the class.", _EDIT
    ),
    "InvalidSpec": Step(
        Actor.TENANT, "Correct the field that the message names; if it is of the class, a platform admin.", _EDIT
    ),
    "Forbidden": Step(Actor.PLATFORM, "Grant the operator the right, or change the policy, that the message names.", _DOCTOR),
    "NamespaceTerminating": Step(
        Actor.NONE,
        "The namespace is being deleted; create the UserStorage in another one.",
        "kubectl get namespace {namespace}",
    ),
    "QuotaExceeded": Step(
        Actor.CLUSTER,
        "Delete what is not needed in the namespace, or raise the quota or limit that the message names.",
        "kubectl describe resourcequota -n {namespace}",
    ),
    "WebhookFailed": Step(
        Actor.CLUSTER,
        "Repair the webhook that the message names, or exempt pods with the label userstorage.dev/managed-by.",
        "kubectl get mutatingwebhookconfigurations,validatingwebhookconfigurations",
    ),
    "APIError": Step(Actor.CLUSTER, "The API server refuses a request for a reason that the message has.", _OPERATOR_LOG),
    "APIUnavailable": Step(
        Actor.CLUSTER, "The API server is overloaded or away; the operator retries.", "kubectl get --raw '/readyz?verbose'"
    ),
    "InternalError": Step(Actor.PLATFORM, "A fault of the operator: report it, with a bundle.", "kubectl userstorage report"),
}

NEXT_STEPS: dict[str, dict[str, Step | None]] = {
    "Ready": {
        "PodReady": None,
        "Pending": Step(Actor.NONE, "Wait for the operator. After a minute: does it run?", _DOCTOR),
        "PodPending": Step(Actor.NONE, "Wait for scheduling and the image.", _POD),
        "PodNotReady": Step(
            Actor.NONE,
            "Wait for the readiness probe; the pod's events have its failures, or NodeNotReady if its node is down.",
            _POD,
        ),
        "SchedulingGated": Step(Actor.PLATFORM, "Have the queue manager that the message names admit the pod.", _POD),
        "ReadinessGatesNotReady": Step(
            Actor.PLATFORM, "Look at the controller of the readiness gate that the message names.", _POD
        ),
        "PodTerminating": Step(
            Actor.NONE,
            "Wait for the old pod. After minutes, a cluster admin sees to what the message names: a node that is away, or the "
            "controller of a finalizer.",
            _POD,
        ),
        "PodBackoff": Step(Actor.NONE, "Wait for the next pod; the message says what ended the former ones.", _STATUS),
        "StartTimeout": Step(
            Actor.TENANT,
            "Read the events and the log of the pod; then raise spec.lifecycle.startTimeout or repair the cause.",
            _POD,
        ),
        "Suspended": Step(Actor.TENANT, "Stopped on purpose; resume it when it is needed.", _RESUME),
        "StorageNotReady": Step(Actor.NONE, "See StorageReady: its reason has the next step.", _CLAIM),
        "NetworkNotReady": Step(
            Actor.CLUSTER,
            "Remove the finalizer of the former NetworkPolicy, or repair the controller that has set it; see NetworkReady.",
            "kubectl get networkpolicy {pod} -n {namespace} -o yaml",
        ),
        "ImagePullBackOff": Step(Actor.PLATFORM, "Correct browser.image of the class, or the login to the registry.", _POD),
        "CrashLoopBackOff": Step(
            Actor.PLATFORM, "Read the output of the last run; correct browser.args or env of the class.", _PREVIOUS
        ),
        "OOMKilled": Step(Actor.PLATFORM, "Raise browser.resources.limits.memory of the class.", _CLASS),
        "Unschedulable": Step(Actor.CLUSTER, "Make room on a node, or correct what the scheduler's message names.", _POD),
        "Contested": Step(Actor.PLATFORM, "Stop the client that the message names from changing the pod.", _SHOW),
        "Terminating": Step(Actor.NONE, "The UserStorage is being deleted. If it takes long, see Stalled.", _STATUS),
        **FAILURES,
    },
    "StorageReady": {
        "ClaimBound": None,
        "ControlledByOther": Step(
            Actor.TENANT, "Remove the other controller from the claim's ownerReferences, or never delete that object.", _CLAIM
        ),
        "ClaimNotFound": Step(Actor.TENANT, "Create the claim that spec.storage.claimName names, or correct the name.", _CLAIM),
        "WaitForFirstConsumer": Step(Actor.NONE, "Wait: the volume comes with the pod. See Ready.", _CLAIM),
        "ResizeFailed": Step(
            Actor.CLUSTER, "The message says why the volume cannot grow; correct it, or spec.storage.size.", _CLAIM
        ),
        "SizeDiffers": Step(Actor.TENANT, "Set spec.storage.size to what the claim has, or to more.", _EDIT),
        "ClaimPending": Step(
            Actor.CLUSTER, "Look at the provisioner of the StorageClass; the events of the claim have its answer.", _CLAIM
        ),
        "ClaimLost": Step(
            Actor.CLUSTER,
            "Bring the volume back, as the runbook says (Reason ClaimLost); until then leave a running pod alone.",
            _CLAIM,
        ),
        "ClaimTerminating": Step(Actor.CLUSTER, "Copy the files while the pod still runs: the claim goes with it.", _CLAIM),
        "ClaimReplaced": _CLAIM_LOSS,
        "ClaimDeleted": _CLAIM_LOSS,
        "ExpansionNotSupported": Step(
            Actor.CLUSTER,
            "Set allowVolumeExpansion on the StorageClass, or set spec.storage.size back.",
            "kubectl get pvc {claim} -n {namespace} -o jsonpath='{{.spec.storageClassName}}'",
        ),
        "ClaimNotAllowed": Step(
            Actor.TENANT, "The owner of the claim consents by the label userstorage.dev/shareable.", _LABEL_CLAIM
        ),
        "ClaimInUse": Step(
            Actor.TENANT,
            "Delete the UserStorage that the message names, or name another claim or directory.",
            "kubectl userstorage list -n {namespace} -o wide",
        ),
        "Contested": Step(Actor.PLATFORM, "Stop the client that the message names from changing the claim.", _CLAIM),
        "MultiAttach": Step(Actor.CLUSTER, "Stop the pods that the message names: the volume mounts on one node only.", _POD),
        "FailedMount": Step(Actor.CLUSTER, "The node cannot mount the volume; the pod's events have its error.", _POD),
    },
    "PodUpToDate": {
        "UpToDate": None,
        "Recreating": _WAIT,
        "Stalled": Step(Actor.NONE, "Do what the condition Stalled asks for.", _STATUS),
        "Terminating": _WAIT,
        "UpdateDeferred": Step(
            Actor.TENANT,
            "Restart when it suits the user; the next suspension updates it too.",
            "kubectl userstorage restart {name} -n {namespace}",
        ),
        "RolloutPaused": Step(
            Actor.PLATFORM,
            "Continue the rollout of the class.",
            'kubectl patch userstorageclass {class_name} --type=merge -p \'{{"spec":{{"rollout":{{"paused":false}}}}}}\'',
        ),
        "WaitingForRollout": Step(
            Actor.NONE, "Wait for a slot of the rollout.", "kubectl userstorage explain userstorageclass/{class_name}"
        ),
        "ClaimTerminating": Step(Actor.CLUSTER, "Copy the files while the pod still runs; do not stop it before.", _CLAIM),
        "ClaimLost": Step(
            Actor.CLUSTER, "Copy the files from the running pod if it still has them; do not stop it before.", _CLAIM
        ),
        "ClaimNotAllowed": Step(Actor.TENANT, "Have the owner of the claim set the label again.", _LABEL_CLAIM),
        "Suspended": None,
    },
    "NetworkReady": {
        "Synced": None,
        "Pending": Step(Actor.NONE, "Wait; the message names what does not exist yet.", _STATUS),
        "OutOfSync": Step(Actor.NONE, "Wait for the repair. After a minute: what keeps the operator from it?", _OPERATOR_LOG),
        "Contested": Step(Actor.PLATFORM, "Stop the client that the message names from changing the object.", _CHILDREN),
        "HostConflict": Step(
            Actor.PLATFORM, "Give each user a host or path of their own: network.hostTemplate, browser.basePath.", _CLASS
        ),
        "GatewayAPIMissing": Step(
            Actor.CLUSTER, "Install the CRDs of the Gateway API.", "kubectl get crd httproutes.gateway.networking.k8s.io"
        ),
        "RoutePending": Step(
            Actor.PLATFORM, "Check that the Gateway of the class exists and a controller serves it.", "kubectl get gateways -A"
        ),
        "RouteNotAccepted": Step(
            Actor.PLATFORM,
            "Change the Gateway's listener (allowedRoutes, hostname) as the message says.",
            "kubectl get httproute {pod} -n {namespace} -o yaml",
        ),
    },
    "Suspended": {
        "Requested": Step(Actor.TENANT, "Stopped on purpose, the files are kept; resume it when it is needed.", _RESUME),
        "Running": None,
        "Stopping": _WAIT,
    },
    "Reconciling": {
        "Pending": Step(Actor.NONE, "Wait for the operator. After a minute: does it run?", _DOCTOR),
        "Progressing": _WAIT,
        "Retrying": Step(Actor.NONE, "See the last error; the operator retries.", _STATUS),
        "Terminating": Step(Actor.NONE, "Wait for the pod to end.", _POD),
        "WaitingForGarbageCollection": Step(Actor.NONE, "Wait for the garbage collector.", _POD),
        "WaitingForFinalizers": Step(Actor.TENANT, "Have the controller whose finalizer the message names remove it.", _SHOW),
        "Done": None,
    },
    "Stalled": {
        "StartTimeout": Step(
            Actor.TENANT, "Read the events of the pod; then raise spec.lifecycle.startTimeout or repair the cause.", _POD
        ),
        "DeletionTimedOut": Step(
            Actor.CLUSTER,
            "Repair what the message names: a node that is away, or the controller of a finalizer. The operator never forces a "
            "deletion.",
            _POD,
        ),
        "UserIDConflict": FAILURES["UserIDConflict"],
        "NameConflict": FAILURES["NameConflict"],
        "ClassNotFound": FAILURES["ClassNotFound"],
        "NoDefaultClass": FAILURES["NoDefaultClass"],
        "NotAllowedByClass": FAILURES["NotAllowedByClass"],
        "InvalidSpec": FAILURES["InvalidSpec"],
        "QuotaExceeded": FAILURES["QuotaExceeded"],
        "ClaimNotAllowed": Step(
            Actor.TENANT, "The owner of the claim consents by the label userstorage.dev/shareable.", _LABEL_CLAIM
        ),
        "ClaimInUse": Step(
            Actor.TENANT,
            "Delete the UserStorage that the message names, or name another claim or directory.",
            "kubectl userstorage list -n {namespace} -o wide",
        ),
        "ClaimDeleted": _CLAIM_LOSS,
        "ClaimReplaced": _CLAIM_LOSS,
        "NotStalled": None,
    },
    "Paused": {
        "Paused": Step(
            Actor.TENANT,
            "Remove the annotation when the operator shall go on.",
            "kubectl annotate userstorage {name} -n {namespace} userstorage.dev/paused-",
        ),
        "NotPaused": None,
    },
}
"""Condition type -> reason -> next step, for a UserStorage."""

CLASS_NEXT_STEPS: dict[str, dict[str, Step | None]] = {
    "Ready": {
        "Valid": None,
        "DryRunRefused": Step(
            Actor.PLATFORM, "Change the field of the class, or the policy, that the API server's answer names.", _CLASS
        ),
        "InvalidSpec": Step(Actor.PLATFORM, "Correct the field that the message names.", _CLASS),
    },
    "Default": {
        "Default": None,
        "SeveralDefaults": Step(
            Actor.PLATFORM,
            "Remove the mark from the younger classes that the message names.",
            "kubectl annotate userstorageclass CLASS userstorage.dev/is-default-class-",
        ),
        "NotDefault": None,
        "OlderDefaultWins": Step(
            Actor.PLATFORM,
            "Remove the mark from this class, or from the older one.",
            "kubectl annotate userstorageclass {class_name} userstorage.dev/is-default-class-",
        ),
    },
    "ImagePinned": {
        "Digest": None,
        "NoDigest": Step(Actor.PLATFORM, "Name the image by its digest (name@sha256:…).", _CLASS),
    },
    "EndOfLife": {
        "NoSecurityFixes": Step(Actor.PLATFORM, "Plan a change of browser.flavor.", _CLASS),
        "NoneKnown": None,
    },
    "Reconciling": {
        "RolloutPaused": Step(
            Actor.PLATFORM,
            "Continue the rollout.",
            'kubectl patch userstorageclass {class_name} --type=merge -p \'{{"spec":{{"rollout":{{"paused":false}}}}}}\'',
        ),
        "RollingOut": Step(
            Actor.NONE,
            "Wait; the message says how many users wait.",
            "kubectl userstorage explain userstorageclass/{class_name}",
        ),
        "Done": None,
    },
}
"""The same for a UserStorageClass."""
