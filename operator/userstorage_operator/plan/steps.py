"""The steps of a plan, as data. `reconcile/apply.py` carries them out."""

from dataclasses import dataclass
from datetime import datetime

from userstorage_operator.api.errors import OperatorError
from userstorage_operator.api.resources import EXPOSURE, Kind
from userstorage_operator.api.unstructured import Unstructured
from userstorage_operator.plan.builders import Desired


@dataclass(frozen=True, slots=True)
class AddFinalizer:
    """Add our finalizer, so that a deletion waits for the pod."""


@dataclass(frozen=True, slots=True)
class RemoveFinalizer:
    """End the deletion, once the API server itself has confirmed that no pod is left: release the NetworkPolicy, give a claim of
    reclaimPolicy Delete to the garbage collector, and remove our finalizer.
    """


@dataclass(frozen=True, slots=True)
class ReleasePolicy:
    """Remove our finalizer from a NetworkPolicy that is being deleted, once the API server has confirmed that no pod is left."""


@dataclass(frozen=True, slots=True)
class Create:
    """Create the child `body`."""

    kind: Kind
    body: Unstructured


@dataclass(frozen=True, slots=True)
class Patch:
    """Repair a child, or change it as the spec asks."""

    kind: Kind
    patch: Unstructured
    best_effort: bool = False
    """Whether the plan continues if the API server refuses the patch.

    True for claims, except in a deletion: a StorageClass may forbid growth, and OwnerReferencesPermissionEnforcement refuses an
    ownerReference, because the operator may not delete claims. Growth and metadata are two patches, so that the refusal of one
    does not prevent the other. Also True for the label alone of a child that is to be deleted, or left as it is.
    """


@dataclass(frozen=True, slots=True)
class Delete:
    """Delete a child that the class no longer asks for, without waiting for the pod. `uid` and resourceVersion are preconditions: a
    newer object of that name, or one that has another owner by now, stays.
    """

    kind: Kind
    uid: str


@dataclass(frozen=True, slots=True)
class DeletePod:
    """Delete the pod gracefully. Preconditions as for Delete."""

    uid: str
    grace_period: int
    """Seconds."""
    reason: str
    requested: bool
    """False if the pod was lost or is restarted: the next one may then be created only after a pause. True for all other reasons."""
    by_rollout: bool = False
    """Whether a change of the class is the only reason."""
    remounts: bool = False
    """Whether the pod is replaced only so that its volume is mounted again."""
    only_if_claim_stays: bool = False
    """Whether to ask the API server first if our claim and its volume stay: the cache may be behind, and the pod may be the last on them."""


@dataclass(frozen=True, slots=True)
class InspectClaim:
    """Ask the API server whether the claim is really gone. One that only lacks the labels of our watch gets them back."""

    body: Unstructured
    """The desired claim."""


@dataclass(frozen=True, slots=True)
class InspectMounts:
    """List the pods that mount the claim.

    No watch covers the pods of other controllers, and each list is a request. It is planned only if the plan for the pod, or
    the status of a pod that cannot be scheduled, depends on it.
    """

    desired: Desired | None
    """The desired children, from which `pod.plan_pod` plans the pod after the list; None if only the status needs the list."""


@dataclass(frozen=True, slots=True)
class InspectMountEvents:
    """Read the Events about mounting the volume. The result is only reported in the status; no later step depends on it."""


Change = AddFinalizer | Create | Patch | Delete | DeletePod | ReleasePolicy
Inspection = InspectClaim | InspectMounts | InspectMountEvents
Step = Change | Inspection | RemoveFinalizer


def is_optional(step: Step) -> bool:
    """Whether the plan continues if `step` fails, because access to the files does not depend on it.

    True for the steps for Ingress and HTTPRoute, and for best-effort patches of a claim. A failure of them is reported, and the
    next reconcile tries again.
    """
    if isinstance(step, Patch) and step.best_effort:
        return True
    return isinstance(step, Create | Patch | Delete) and step.kind in EXPOSURE


def depends_on(later: Step, step: Step) -> bool:
    """Whether `later` must not be carried out before `step`.

    Without our finalizer nothing is created: a deletion would not wait for it. Without NetworkPolicy, claim and Service no pod is
    created: it would be open to other pods, have no volume or have no Service.
    """
    match step:
        case AddFinalizer():
            return isinstance(later, Create) or may_create_pod(later)
        case Create(kind):
            return kind in (Kind.NETWORK_POLICY, Kind.PVC, Kind.SERVICE) and may_create_pod(later)
        case Patch(kind):
            return kind is Kind.NETWORK_POLICY and may_create_pod(later)
        case _:
            return False


def may_create_pod(step: Step) -> bool:
    """Whether the step creates a pod, or may lead to it after an inspection."""
    return isinstance(step, InspectMounts) or (isinstance(step, Create) and step.kind is Kind.POD)


@dataclass(frozen=True, slots=True)
class Plan:
    """Steps in the order of their execution. If a step fails for which `is_optional` is False, the later ones are skipped."""

    steps: tuple[Step, ...] = ()
    hold: str | None = None
    """Why no pod is created although there should be one, as a reason of the condition Ready; None otherwise."""
    requeue_at: tuple[datetime, ...] = ()
    """Times at which to reconcile again, because no watch event may report the change."""
    desired: Desired | None = None
    """The children that spec and class ask for; None if they cannot be rendered, or if the UserStorage is being deleted."""
    spec_error: OperatorError | None = None
    """The error that keeps the operator from doing what the spec asks for; None if there is none."""

    @property
    def creates_pod(self) -> bool:
        """Whether the plan creates a pod, or may do so after `InspectMounts`. Its claim has to be reserved in both cases."""
        return any(map(may_create_pod, self.steps))

    @property
    def pod_deletion(self) -> DeletePod | None:
        """The step that deletes the pod; None if there is none."""
        return next((step for step in self.steps if isinstance(step, DeletePod)), None)
