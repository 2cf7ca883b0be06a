"""The steps of a plan, as data: what each does is up to the applier (reconcile/apply.py)."""

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
    """Create a child."""

    kind: Kind
    body: Unstructured


@dataclass(frozen=True, slots=True)
class Patch:
    """Repair a child, or change it as the spec asks."""

    kind: Kind
    patch: Unstructured
    best_effort: bool = False
    """Whether the plan continues if the API server refuses the patch. True for claims: a StorageClass may forbid growth, and
    OwnerReferencesPermissionEnforcement refuses an owner, since the operator may not delete claims. Growth and metadata are two
    patches, so that the refusal of one does not prevent the other.
    """


@dataclass(frozen=True, slots=True)
class Delete:
    """Delete a child that the class no longer asks for; the `uid` precondition protects a newer one of the same name."""

    kind: Kind
    uid: str


@dataclass(frozen=True, slots=True)
class DeletePod:
    """Delete the pod gracefully; the `uid` precondition protects a newer pod of the same name."""

    uid: str
    grace_period: int
    """Seconds."""
    reason: str
    requested: bool
    """Whether the user or an administrator asked for it. If not, the pod was lost, and the next one may have to back off."""
    resource_version: str | None = None
    """A further precondition: no newer version of the pod exists."""


@dataclass(frozen=True, slots=True)
class InspectMounts:
    """List the pods that mount the claim. No watch shows those of other controllers, and each list is a request, so it is made
    only if the plan of the pod depends on it.
    """

    desired: Desired | None
    """What to plan the pod from with the answer (`pod.plan_pod`); None if the answer is for the status only."""


@dataclass(frozen=True, slots=True)
class InspectMountEvents:
    """Read what the cluster's events say about mounting the volume. The answer explains; no later step depends on it."""


Change = AddFinalizer | Create | Patch | Delete | DeletePod | ReleasePolicy
Inspection = InspectMounts | InspectMountEvents
Step = Change | Inspection | RemoveFinalizer


def is_optional(step: Step) -> bool:
    """Whether the plan continues if this step fails: a claim that cannot grow or be owned, and an Ingress or HTTPRoute that
    cannot be created, are reported and tried again, but do not block access to the files.
    """
    if isinstance(step, Patch) and step.best_effort:
        return True
    return isinstance(step, Create | Patch | Delete) and step.kind in EXPOSURE


@dataclass(frozen=True, slots=True)
class Plan:
    """Steps in order. After a failure the rest waits for the next reconcile, unless the step `is_optional`."""

    steps: tuple[Step, ...] = ()
    hold: str | None = None
    """Reason (of the condition Ready) for which no pod is created."""
    requeue_at: tuple[datetime, ...] = ()
    """Moments at which the plan changes without an event."""
    desired: Desired | None = None
    """The children that the spec asks for; None if they cannot be rendered."""
    spec_error: OperatorError | None = None
    """Why the spec cannot be acted on."""

    @property
    def creates_pod(self) -> bool:
        """Whether it creates a pod, or may after `InspectMounts`: the claim has to be reserved for it."""
        return any(
            isinstance(step, InspectMounts) or (isinstance(step, Create) and step.kind is Kind.POD) for step in self.steps
        )

    @property
    def deletes_pod(self) -> bool:
        """Whether it deletes the pod."""
        return any(isinstance(step, DeletePod) for step in self.steps)
