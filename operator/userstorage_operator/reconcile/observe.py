"""Gather everything that a reconcile of one UserStorage depends on, as one frozen snapshot.

The input is the caches, and one request for a claim that the spec names, which no watch delivers. In memory, why the pod was
lost is recorded (`plan/pod.py: pod_loss_reason`), and a place in the quota of the class is reserved.
"""

from dataclasses import replace

from userstorage_operator.api import names
from userstorage_operator.api.errors import InvalidSpec, NotFound, OperatorError, QuotaExceeded, Retry
from userstorage_operator.api.names import child_name
from userstorage_operator.api.resources import Kind
from userstorage_operator.api.unstructured import Unstructured
from userstorage_operator.api.userstorage import Key, UserStorage
from userstorage_operator.api.userstorageclass import BUILT_IN, UserStorageClass, choose_class
from userstorage_operator.arbitration import claim, host, user_id
from userstorage_operator.arbitration.lister import Lister
from userstorage_operator.observed.claim_usage import ClaimContext
from userstorage_operator.observed.gateway_api import gateway_api_missing
from userstorage_operator.observed.pod_status import Finding, is_ready
from userstorage_operator.observed.snapshot import Children, Snapshot, former_class, without_unlabelled
from userstorage_operator.observed.volume_usage import MeasuredVolume
from userstorage_operator.plan.child import claim_name
from userstorage_operator.plan.pod import pod_loss_reason
from userstorage_operator.plan.volume_affinity import mounting_since
from userstorage_operator.reconcile.local_state import LocalState
from userstorage_operator.reconcile.missing_claims import MissingClaims
from userstorage_operator.reconcile.ports import Cluster


class WaitingForChange(OperatorError):
    """The spec cannot be acted on before another object changes; the event of that change requeues the UserStorage."""

    retry = Retry.ON_CHANGE


async def observe(key: Key, lister: Lister, cluster: Cluster, state: LocalState) -> Snapshot | None:
    """Return the snapshot of the UserStorage; None if it is gone.

    Also reserve a place in the quota of the class, and record why the pod was lost. The request for a named claim comes before
    arbitration, because the result of arbitration is only valid until the next await.
    """
    raw = lister.storage(key)
    if raw is None:
        return None
    state.identify(key, raw["metadata"]["uid"])
    snapshot = _from_caches(raw, lister, state)
    children = user_id.children_of(raw, lister)  # also those of another UserStorage
    if not snapshot.storage.is_deleting and (first := user_id.conflict(raw, children, lister)) is not None:
        return _without_user_id(snapshot, first)
    snapshot, read_error = await _with_named_claim(snapshot, lister, cluster, state.missing_claims)
    if snapshot.storage.is_deleting:
        return replace(snapshot, spec_error=None)
    return _arbitrate(raw, snapshot, read_error, lister, state)


def _from_caches(raw: Unstructured, lister: Lister, state: LocalState) -> Snapshot:
    storage, spec_error = _parse(raw)
    children = _own_children(storage, lister)
    cls, class_error = _class_of(storage, children, lister)
    key = storage.meta.key
    snapshot = Snapshot(
        storage,
        cls,
        children,
        status=raw.get("status") or {},
        spec_error=spec_error or class_error,
        claim_context=ClaimContext(
            binding_modes=lister.binding_modes(), waiting_since=state.held_since.get(key, (None, None))[1]
        ),
        volume=MeasuredVolume(state.volumes.of(key.namespace, claim_name(storage))) if state.volumes is not None else None,
    )
    pod = snapshot.own_pod
    if pod is not None and (reason := pod_loss_reason(pod)) is not None:
        state.pods.record_loss(key, reason)  # after the pod is gone, no object has the reason
    if pod is not None and is_ready(pod):
        state.remounts.pop(key, None)
    snapshot = replace(snapshot, pod_backoff=state.pods.state(key), remounts=state.remounts.get(key, 0))
    return with_mount_events(snapshot, state)


def with_mount_events(snapshot: Snapshot, state: LocalState) -> Snapshot:
    """Return the snapshot with what was last read from the Events of its pod, if the pod still waits for its volume."""
    key, pod = snapshot.storage.meta.key, snapshot.own_pod
    events = state.mount_events.get(key)
    if events is None:
        return snapshot
    if pod is None or pod["metadata"]["uid"] != events.pod_uid or mounting_since(snapshot) is None:
        del state.mount_events[key]
        return snapshot
    context = replace(snapshot.claim_context, mount_failure=events.failure, events_read_at=events.read_at)
    return replace(snapshot, claim_context=context)


def _without_user_id(snapshot: Snapshot, first: str) -> Snapshot:
    """Return the snapshot without children: they belong to the UserStorage `first`, which owns the user id."""
    message = f"spec.userID: UserStorage {first!r} of this namespace has the same userID and came first"
    return replace(
        snapshot,
        children=Children(),
        claim_context=ClaimContext(claim_read_error=message),
        spec_error=WaitingForChange(message, "UserIDConflict"),
        volume=None,
    )


def _arbitrate(
    raw: Unstructured, snapshot: Snapshot, read_error: OperatorError | None, lister: Lister, state: LocalState
) -> Snapshot:
    """Return the snapshot with the results of arbitration: the place in the quota, the holder of the claim, and the host."""
    storage, cls, spec_error = snapshot.storage, snapshot.cls, snapshot.spec_error
    if spec_error is None and cls is not None and cls.max_per_namespace is not None:
        spec_error = _take_place(raw, cls.name, cls.max_per_namespace, lister)
    context = snapshot.claim_context
    if (holder := claim.holder(raw, storage, snapshot.children.pvc, lister, state.claims)) is not None:
        context = replace(context, claim_holder=holder.name, holder_directory=holder.use.directory)
    return replace(
        snapshot,
        claim_context=context,
        exposure_conflict=_exposure_conflict(raw, cls, lister) if cls is not None else None,
        spec_error=spec_error or read_error,
    )


def _own_children(storage: UserStorage, lister: Lister) -> Children:
    """Return the children of the user. If the spec names a claim, an unused claim with their name is left out."""
    children = without_unlabelled(lister.children(storage.meta.namespace, child_name(storage.slug)), storage)
    return children if storage.storage.claim_name is None else replace(children, pvc=None)


async def _with_named_claim(
    snapshot: Snapshot, lister: Lister, cluster: Cluster, missing: MissingClaims
) -> tuple[Snapshot, OperatorError | None]:
    """Return the snapshot with the claim that the spec names, if any; and the error if that claim could not be read."""
    namespace, name = snapshot.storage.meta.namespace, snapshot.storage.storage.claim_name
    if name is None:
        return snapshot, None
    context = snapshot.claim_context
    if not lister.is_shareable(namespace, name) and missing.is_missing(namespace, name):
        return replace(snapshot, claim_context=replace(context, recheck_pause=missing.pause(namespace))), None
    try:
        named = await cluster.get(Kind.PVC.resource, namespace, name)
    except NotFound:
        missing.record(namespace, name, missing=True)
        return replace(snapshot, claim_context=replace(context, recheck_pause=missing.pause(namespace))), None
    except OperatorError as error:
        return replace(snapshot, claim_context=replace(context, claim_read_error=error.message)), error
    missing.record(namespace, name, missing=False)
    return snapshot.with_children(replace(snapshot.children, pvc=named)), None


def _parse(raw: Unstructured) -> tuple[UserStorage, OperatorError | None]:
    """Parse the object. If its spec is invalid, return the error, and a UserStorage with its metadata, user id, class and defaults."""
    try:
        return UserStorage.parse(raw), None
    except InvalidSpec as error:
        spec = raw["spec"] if isinstance(raw.get("spec"), dict) else {}
        kept = {field: spec[field] for field in ("userID", "className") if isinstance(spec.get(field), str)}
        return UserStorage.parse(raw | {"spec": {"userID": "", **kept}}), error


def _class_of(storage: UserStorage, children: Children, lister: Lister) -> tuple[UserStorageClass | None, OperatorError | None]:
    """Return the class, or why there is none. Whom a class has served never falls back to the built-in one: a default class that
    is recreated, or moved in two steps, would take its Ingress from every user at once.
    """
    raw = choose_class(storage.class_name, lister.classes())
    if raw is None and storage.class_name is not None:
        message = f"spec.className: there is no UserStorageClass {storage.class_name!r}"
        return None, WaitingForChange(message, "ClassNotFound")
    if raw is None and (former := former_class(children, storage)) is not None:
        message = (
            f"spec.className is unset and no UserStorageClass is the default; class {former!r} served this UserStorage before: "
            f'annotate a class with {names.ANNOTATION_DEFAULT_CLASS}="true", or set spec.className'
        )
        return None, WaitingForChange(message, "NoDefaultClass")
    try:
        return (UserStorageClass.parse(raw) if raw is not None else BUILT_IN), None
    except InvalidSpec as error:
        return None, error


def _exposure_conflict(raw: Unstructured, cls: UserStorageClass, lister: Lister) -> Finding | None:
    return gateway_api_missing(cls, served=lister.serves(Kind.HTTP_ROUTE)) or host.conflict(raw, cls, lister)


def _take_place(raw: Unstructured, class_name: str, limit: int, lister: Lister) -> OperatorError | None:
    if lister.take_place(raw):
        return None
    return QuotaExceeded(
        f"class {class_name!r} allows {limit} UserStorages per namespace (limits.maxPerNamespace), and that many exist already"
    )
