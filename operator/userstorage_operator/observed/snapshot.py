"""The snapshot of a UserStorage: the frozen input of one reconcile."""

from dataclasses import dataclass, field, replace

from userstorage_operator.api import names
from userstorage_operator.api.errors import OperatorError
from userstorage_operator.api.resources import Kind
from userstorage_operator.api.unstructured import Unstructured
from userstorage_operator.api.userstorage import UserStorage
from userstorage_operator.api.userstorageclass import UserStorageClass
from userstorage_operator.observed.backoff import BackoffState
from userstorage_operator.observed.claim_usage import ClaimContext
from userstorage_operator.observed.pod_status import Finding
from userstorage_operator.observed.volume_usage import MeasuredVolume


@dataclass(frozen=True, slots=True)
class Children:
    """The objects with the names of the children, as last seen. They may be foreign: check with `is_ours`."""

    network_policy: Unstructured | None = None
    pvc: Unstructured | None = None
    service: Unstructured | None = None
    pod: Unstructured | None = None
    ingress: Unstructured | None = None
    http_route: Unstructured | None = None

    def owned(self, kind: Kind, uid: str) -> Unstructured | None:
        """Return the child of that kind if the UserStorage with this uid controls it (ownerReference); else None."""
        child: Unstructured | None = getattr(self, kind.field)
        return child if child is not None and is_ours(child, uid) else None


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A UserStorage and everything that its reconcile depends on."""

    storage: UserStorage
    cls: UserStorageClass | None
    """None if the class does not exist or is invalid."""
    children: Children
    status: Unstructured = field(default_factory=dict)
    """The status that the UserStorage has now, as raw JSON."""
    spec_error: OperatorError | None = None
    """The error that keeps the operator from doing what the spec asks for; None if there is none."""
    pod_backoff: BackoffState = field(default_factory=BackoffState)
    remounts: int = 0
    """How many pods were replaced in a row because they could not read their volume."""
    may_replace: bool = True
    """Whether the rollout of the class allows the pod to be replaced now, if a change of the class made it outdated."""
    claim_context: ClaimContext = field(default_factory=ClaimContext)
    exposure_conflict: Finding | None = None
    """Why the Ingress or HTTPRoute that the class asks for cannot be created; None if nothing prevents it."""
    volume: MeasuredVolume | None = None
    """Usage of the volume behind the claim; None if the operator does not query kubelets (`--volume-stats`)."""

    @property
    def own_pod(self) -> Unstructured | None:
        """The pod that this UserStorage controls; None if there is no pod or it is not ours."""
        return self.own(Kind.POD)

    def own(self, kind: Kind) -> Unstructured | None:
        """Return the child of that kind that this UserStorage controls; None if there is none or it is not ours."""
        return self.children.owned(kind, self.storage.meta.uid)

    def with_children(self, children: Children) -> "Snapshot":
        """Return a copy of the snapshot with other children, for example after a write."""
        return replace(self, children=children)

    def with_child(self, kind: Kind, child: Unstructured | None) -> "Snapshot":
        """Return a copy of the snapshot in which `child`, None if it is gone, is the child of that kind."""
        return self.with_children(replace(self.children, **{kind.field: child}))


def is_ours(child: Unstructured, uid: str) -> bool:
    """Whether the controller ownerReference of `child` names the UserStorage with this uid.

    Labels can be forged; a UID cannot be guessed before the object exists (docs/semantics.md#ownership).
    """
    return controller_uid(child) == uid


def is_adoptable(child: Unstructured, storage: UserStorage) -> bool:
    """Whether `child` was created for this user and has lost its owner: an orphaning deletion, a restored backup or a manual
    edit removes it (docs/semantics.md#ownership).

    A terminating child is not worth adopting, except for a NetworkPolicy that our finalizer keeps in force: it is taken over from a
    former UserStorage too, for the pod may be ours by now.
    """
    if not _is_labelled_for(child, storage):
        return False
    if not is_terminating(child):
        return controller(child) is None
    held = names.FINALIZER in (child["metadata"].get("finalizers") or ())
    return held and (controller(child) is None or is_owned_by_a_user_storage(child))


def is_labelled(child: Unstructured) -> bool:
    """Whether `child` has the label by which the watches select it."""
    return (child["metadata"].get("labels") or {}).get(names.LABEL_MANAGED_BY) == names.MANAGED_BY


def without_unlabelled(children: Children, storage: UserStorage) -> Children:
    """Return the children without those that lack the label of the watches and get none, as they are not of this UserStorage, or
    were orphaned and are ending: only a list has found them, and no watch would report their end.
    """
    found = ((kind, getattr(children, kind.field)) for kind in Kind)
    strange = [kind for kind, child in found if child and not is_labelled(child) and not _is_of(kind, child, storage)]
    return replace(children, **dict.fromkeys(kind.field for kind in strange)) if strange else children


def _is_of(kind: Kind, child: Unstructured, storage: UserStorage) -> bool:
    if kind is Kind.PVC:
        return claim_is_ours(child, storage)
    return is_ours(child, storage.meta.uid) or is_adoptable(child, storage)


def _is_labelled_for(child: Unstructured, storage: UserStorage) -> bool:
    labels, annotations = (child["metadata"].get(field) or {} for field in ("labels", "annotations"))
    ours = is_labelled(child) or labels.get(names.LABEL_RECOMMENDED_MANAGED_BY) == names.MANAGED_BY
    return ours and annotations.get(names.ANNOTATION_USER_ID) == storage.user_id


def is_former(child: Unstructured, storage: UserStorage) -> bool:
    """Whether `child` goes by itself: the UserStorage that controlled it is gone, or it was orphaned and deleted since."""
    orphaned = controller(child) is None and is_terminating(child) and _is_labelled_for(child, storage)
    return orphaned or is_owned_by_a_user_storage(child)


def was_orphaned(children: Children, storage: UserStorage) -> bool:
    """Whether the garbage collector has removed the owner from the children, as the propagation policy Orphan asks for.

    During a deletion nothing else shows it: the policy is forgotten as soon as it is carried out.
    """
    pod_path = (children.network_policy, children.service, children.pod)
    return any(child is not None and controller(child) is None and _is_labelled_for(child, storage) for child in pod_path)


def former_class(children: Children, storage: UserStorage) -> str | None:
    """Return the class by which the children of the UserStorage were last built, also those that it is about to adopt; None if
    by none, or by the built-in one.

    The Service says it too: a suspended or lost pod says nothing.
    """
    for kind in (Kind.SERVICE, Kind.POD):
        child: Unstructured | None = getattr(children, kind.field)
        if child is None or not (is_ours(child, storage.meta.uid) or is_adoptable(child, storage)):
            continue
        if name := (child["metadata"].get("annotations") or {}).get(names.ANNOTATION_CLASS):
            return str(name)
    return None


def is_owned_by_a_user_storage(child: Unstructured) -> bool:
    """Whether the controller ownerReference of `child` names a UserStorage, no matter which."""
    owners = child["metadata"].get("ownerReferences") or ()
    return any(
        owner.get("controller") and owner["kind"] == names.KIND and owner["apiVersion"].startswith(f"{names.GROUP}/")
        for owner in owners
    )


def controller(child: Unstructured) -> Unstructured | None:
    """Return the controller ownerReference of `child`; None if it has none."""
    for owner in child["metadata"].get("ownerReferences") or ():
        if owner.get("controller"):
            found: Unstructured = owner
            return found
    return None


def controller_uid(child: Unstructured) -> str | None:
    """Return the uid in the controller ownerReference of `child`; None if it has none."""
    owner = controller(child)
    return owner["uid"] if owner is not None else None


def claim_is_ours(claim: Unstructured, storage: UserStorage) -> bool:
    """Whether the operator created this claim for this user, according to its user-id annotation.

    A claim has no owner by default, so that a UserStorage restored from a backup finds its data again
    (docs/semantics.md#claims-and-data).
    """
    annotations = claim["metadata"].get("annotations") or {}
    return bool(annotations.get(names.ANNOTATION_USER_ID) == storage.user_id)


def is_terminating(child: Unstructured) -> bool:
    """Whether `child` has a deletionTimestamp."""
    return "deletionTimestamp" in child["metadata"]


def has_lost_volume(claim: Unstructured) -> bool:
    """Whether the volume of the claim no longer exists: a pod that mounts it may still serve the files, and no other pod could."""
    phase: str | None = claim.get("status", {}).get("phase")
    return phase == "Lost"
