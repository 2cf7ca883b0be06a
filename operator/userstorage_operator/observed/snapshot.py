"""What was observed: the frozen input of one pass. Later steps never look again."""

from dataclasses import dataclass, field, replace
from datetime import datetime

from userstorage_operator.api import names
from userstorage_operator.api.unstructured import Unstructured
from userstorage_operator.api.userstorage import UserStorage
from userstorage_operator.api.userstorageclass import UserStorageClass
from userstorage_operator.observed.claim_usage import ClaimContext
from userstorage_operator.observed.pod_status import Finding
from userstorage_operator.observed.volume_usage import MeasuredVolume


@dataclass(frozen=True, slots=True)
class Children:
    """The objects that have the names of our children, ours or not, as last seen."""

    network_policy: Unstructured | None = None
    pvc: Unstructured | None = None
    service: Unstructured | None = None
    pod: Unstructured | None = None
    ingress: Unstructured | None = None
    http_route: Unstructured | None = None


@dataclass(frozen=True, slots=True)
class BackoffState:
    """How often a pod was made for this UserStorage in quick succession, and when the next may be."""

    count: int = 0
    not_before: datetime | None = None
    last_loss: str | None = None
    """How the last of them was lost, where that is known."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """One UserStorage and all that its reconcile depends on."""

    storage: UserStorage
    cls: UserStorageClass | None
    """None where the class does not exist."""
    children: Children
    pod_backoff: BackoffState = field(default_factory=BackoffState)
    may_replace: bool = True
    """Whether the rollout of the class lets a pod be replaced now that is old by no wish of its user."""
    claim_context: ClaimContext = field(default_factory=ClaimContext)
    exposure_conflict: Finding | None = None
    """Why there can be no Ingress or HTTPRoute although the class asks for one."""
    volume: MeasuredVolume | None = None
    """How full it is; None where kubelets are not asked for that."""

    def with_children(self, children: Children) -> "Snapshot":
        """The same world after our own writes."""
        return replace(self, children=children)


def is_ours(child: Unstructured, uid: str) -> bool:
    """Whether the controller ownerReference of `child` is the UserStorage `uid`: labels can be forged, this cannot
    be guessed before the object exists (docs/semantics.md#ownership).
    """
    return controller_uid(child) == uid


def is_owned_by_a_user_storage(child: Unstructured) -> bool:
    """Whether the controller ownerReference of `child` is some UserStorage."""
    owners = child["metadata"].get("ownerReferences") or ()
    return any(
        owner.get("controller") and owner["kind"] == names.KIND and owner["apiVersion"].startswith(f"{names.GROUP}/")
        for owner in owners
    )


def controller(child: Unstructured) -> Unstructured | None:
    """The controller ownerReference; None where there is none."""
    owners = child["metadata"].get("ownerReferences") or ()
    return next((owner for owner in owners if owner.get("controller")), None)


def controller_uid(child: Unstructured) -> str | None:
    """The uid in the controller ownerReference; None where there is none."""
    owner = controller(child)
    return owner["uid"] if owner is not None else None


def claim_is_ours(claim: Unstructured, storage: UserStorage) -> bool:
    """Whether we made this claim for this user. It has no owner, so it carries the user's id instead: that is how an
    object restored from a backup finds its data again (docs/semantics.md#claims-and-data).
    """
    annotations = claim["metadata"].get("annotations") or {}
    return bool(annotations.get(names.ANNOTATION_USER_ID) == storage.user_id)


def is_terminating(child: Unstructured) -> bool:
    """Whether its deletion has begun."""
    return "deletionTimestamp" in child["metadata"]
