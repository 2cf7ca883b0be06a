"""One pass over one UserStorage: observe, decide, act, report. Decided from the world as it is now, on every pass."""

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta

import structlog

from userstorage_operator import browsers
from userstorage_operator.api.errors import (
    AwaitingGarbageCollection,
    ClusterError,
    Conflict,
    InvalidSpec,
    NameConflict,
    NotFound,
    OperatorError,
    Retry,
    Unavailable,
)
from userstorage_operator.api.resources import USER_STORAGES
from userstorage_operator.api.timestamps import parse_time
from userstorage_operator.api.unstructured import Unstructured
from userstorage_operator.api.userstorage import Key
from userstorage_operator.api.userstorageclass import BUILT_IN
from userstorage_operator.arbitration.lister import Lister
from userstorage_operator.arbitration.reservations import Reservations
from userstorage_operator.observed import backoff, pod_status
from userstorage_operator.observed.snapshot import is_ours
from userstorage_operator.plan.builders import Desired, build, claim_name
from userstorage_operator.plan.deferred_changes import current_claim_size, keep_current_endpoint
from userstorage_operator.plan.planner import Plan, deferral, plan_blocked, plan_changes, plan_deletion
from userstorage_operator.reconcile.apply import Applier, ApplyResult
from userstorage_operator.reconcile.books import Books
from userstorage_operator.reconcile.mount_inspector import MountInspector
from userstorage_operator.reconcile.observe import Observation, observe
from userstorage_operator.reconcile.pod_starts import PodStartBook
from userstorage_operator.reconcile.ports import Cluster, Recorder
from userstorage_operator.reconcile.record import record_events
from userstorage_operator.reconcile.repairs import RepairBook
from userstorage_operator.reconcile.rollout_tracker import RolloutTracker
from userstorage_operator.reconcile.volume_stats_cache import VolumeStatsCache
from userstorage_operator.runtime.worker import Result
from userstorage_operator.status import conditions
from userstorage_operator.status.events import status_events
from userstorage_operator.status.outcome import Failure, Outcome
from userstorage_operator.status.report import report, status_patch
from userstorage_operator.status.rollout import member_state

_FIRST_REPORT = timedelta(seconds=5)
"""How long a new pod has to become ready before the first status is written: the schema's default already says
Pending, so a start that goes well needs one write instead of two or three, in a burst of hundreds too."""
_STARTING = frozenset({"PodPending", "PodNotReady", "Unschedulable"})
"""What every pod says of itself while it starts: an unbound claim makes it unschedulable for a moment."""
_CONFLICTS = 4
"""Lost races in a row from which on they are worth telling."""


class Reconciler:
    """Brings one UserStorage at a time to where its spec wants it."""

    def __init__(
        self,
        cluster: Cluster,
        views: Lister,
        book: RolloutTracker,
        recorder: Recorder,
        clock: Callable[[], datetime],
        volumes: VolumeStatsCache | None = None,
    ) -> None:
        """`volumes` is kept by others; None where kubelets are not asked."""
        self._cluster = cluster
        self._views = views
        self._book = book
        self._recorder = recorder
        self._clock = clock
        self._books = Books(PodStartBook(clock), RepairBook(clock), Reservations(views.claim_released), Reservations(), volumes)
        self._actor = Applier(cluster, views, self._books.starts, self._books.repairs)
        self._lookout = MountInspector(cluster, views)

    async def reconcile(self, key: Key, failures: int) -> Result:
        """One pass; `failures` in a row went before."""
        structlog.contextvars.bind_contextvars(namespace=key.namespace, name=key.name)
        try:
            return await self._reconcile(key, failures)
        finally:
            self._book.mark_observed(key)

    async def _reconcile(self, key: Key, failures: int) -> Result:
        seen = await observe(key, self._views, self._cluster, self._books)
        if seen is None:
            self._books.forget(key)
            self._book.record(key, None)
            self._lookout.forget(key)
            return Result()
        structlog.contextvars.bind_contextvars(uid=seen.snapshot.storage.meta.uid, user_id=seen.snapshot.storage.user_id)
        now, wanted, plan = self._clock(), None, Plan()
        try:
            seen, wanted, plan = self._decide_in_turn(seen, now)
            looked = await self._lookout.inspect(seen.snapshot, plan, now)
            if looked is not seen.snapshot:
                seen, plan = _decide(replace(seen, snapshot=looked), wanted, now)
            acted = await self._actor.apply(plan, seen.snapshot)
        except OperatorError as refusal:
            acted = ApplyResult(seen.snapshot, refusal)
        except Exception as fault:  # noqa: BLE001  # a fault of ours belongs into the status of the object it hits
            acted = ApplyResult(seen.snapshot, InternalError(fault))
        if not _may_have_pod(acted):
            self._books.claims.release(key)
        if acted.finalizer_removed:
            return Result()
        error = acted.error or seen.spec_error
        outcome = Outcome(acted.snapshot, wanted, plan, _failure(error, failures, now, soft=acted.non_blocking), now)
        self._book.record(key, member_state(outcome))
        not_told = await self._patch_status(outcome, seen.status)
        if (failed := not_told or error) is not None:
            return _failed(failed, failures + 1, "patch UserStorage status" if failed is not_told else acted.action)
        return _next_requeue(outcome, seen.status)

    def _decide_in_turn(self, seen: Observation, now: datetime) -> tuple[Observation, Desired | None, Plan]:
        """Ask for a turn in the class's rollout, decide, and take the turn, and the claim too: nothing may be awaited in
        between, or two passes would take the same one.
        """
        key, cls = seen.snapshot.storage.meta.key, seen.snapshot.cls
        may_replace = cls is not None and self._book.may_replace(key, cls)
        seen, wanted = _render(replace(seen, snapshot=replace(seen.snapshot, may_replace=may_replace)))
        seen, plan = _decide(seen, wanted, now)
        if plan.deletes_pod:
            self._book.mark_unavailable(key, cls or BUILT_IN)
        if plan.creates_pod:
            self._books.claims.reserve(key, claim_name(seen.snapshot.storage))
        return seen, wanted, plan

    async def _patch_status(self, outcome: Outcome, previous: Unstructured) -> OperatorError | None:
        """Write the status where it differs; the error where that fails."""
        if _moot(outcome) or first_report_at(outcome, previous) is not None:
            return None
        patch = status_patch(report(outcome, previous), previous)
        if not patch:
            return None
        meta = outcome.snapshot.storage.meta
        body = {"metadata": {"uid": meta.uid}, "status": patch}
        try:
            told = await self._cluster.merge_patch(USER_STORAGES, meta.namespace, meta.name, body, "status")
        except NotFound:
            self._views.discard(USER_STORAGES, meta.namespace, meta.name, meta.uid)
            return None
        except OperatorError as error:
            return error
        self._views.put(USER_STORAGES, told)
        record_events(self._recorder, told, status_events(previous, told["status"]))
        return None


def _render(seen: Observation) -> tuple[Observation, Desired | None]:
    """What should be there; None where an obstacle keeps that from being told, or a spec that cannot be served, which is one.
    In a deletion nothing depends on it.
    """
    snapshot, storage, cls = seen.snapshot, seen.snapshot.storage, seen.snapshot.cls
    if seen.spec_error is not None or cls is None:
        return seen, None
    try:
        browser = browsers.render(storage, cls)
        wanted = build(storage, cls, browser, exposed=snapshot.exposure_conflict is None, granted=current_claim_size(snapshot))
    except InvalidSpec as refusal:
        return (seen if storage.meta.deleted_at is not None else replace(seen, spec_error=refusal)), None
    return seen, keep_current_endpoint(wanted, snapshot) if deferral(snapshot, wanted) is not None else wanted


def _decide(seen: Observation, wanted: Desired | None, now: datetime) -> tuple[Observation, Plan]:
    """The plan; a name that is taken is an obstacle, too: nothing but a pod that is not wanted is touched then."""
    if seen.snapshot.storage.meta.deleted_at is not None:
        return seen, plan_deletion(seen.snapshot)
    if wanted is not None:
        try:
            return seen, plan_changes(seen.snapshot, wanted, now)
        except (NameConflict, AwaitingGarbageCollection) as conflict:
            seen = replace(seen, spec_error=conflict)
    return seen, plan_blocked(seen.snapshot)


def _may_have_pod(acted: ApplyResult) -> bool:
    """Whether there is a pod of its own, or may be: a request that was not answered may have been carried out."""
    pod = acted.snapshot.children.pod
    return isinstance(acted.error, Unavailable) or (pod is not None and is_ours(pod, acted.snapshot.storage.meta.uid))


def _failure(error: OperatorError | None, failures: int, now: datetime, *, soft: bool) -> Failure | None:
    if error is None:
        return None
    retrying = error.retry is Retry.BACKOFF
    next_retry = now + timedelta(seconds=backoff.delay(failures + 1)) if retrying else None
    return Failure(error, failures + 1, next_retry, soft)


def _moot(outcome: Outcome) -> bool:
    """Whether the next pass will know better in a moment."""
    return outcome.failure is not None and _lost_race(outcome.failure.error, outcome.failure.attempts)


def _lost_race(error: OperatorError, attempts: int) -> bool:
    """Whether the object moved on while the pass worked, and has not done so time and again."""
    return isinstance(error, Conflict) and attempts < _CONFLICTS


def first_report_at(outcome: Outcome, previous: Unstructured) -> datetime | None:
    """Until when the first status may wait for a new pod to become ready; None where it is due, or long written."""
    pod = outcome.snapshot.children.pod
    if "observedGeneration" in previous or outcome.failure is not None or pod is None:
        return None
    if pod_status.is_ready(pod) or pod_status.not_ready_finding(pod).reason not in _STARTING:
        return None
    due = parse_time(pod["metadata"]["creationTimestamp"]) + min(
        _FIRST_REPORT, outcome.snapshot.storage.lifecycle.start_timeout
    )
    # The pod's time is the API server's: where the clocks differ, the wait must not be longer for it. A pod that this pass
    # made is younger than the pass, by up to a second.
    return due if outcome.now < due <= outcome.now + _FIRST_REPORT + timedelta(seconds=1) else None


class InternalError(OperatorError):
    """An exception that nobody foresaw. The message is for the status; the log gets the exception."""

    def __init__(self, fault: Exception) -> None:
        super().__init__(f"{type(fault).__name__} in the operator; its log has more")
        self.fault = fault


def _failed(error: OperatorError, attempts: int, action: str) -> Result:
    """What the queue is to do about an error: by its policy, and no sooner than the API server asked for."""
    retry_after = error.retry_after if isinstance(error, ClusterError) else None
    return Result(
        outcome=error.reason,
        retry=error.retry is Retry.BACKOFF,
        retry_after=retry_after or 0.0,
        error=error.message,
        action=action,
        fault=error.fault if isinstance(error, InternalError) else None,
        routine=_lost_race(error, attempts),
    )


def _next_requeue(outcome: Outcome, previous: Unstructured) -> Result:
    """Wake at the next moment at which something changes by itself."""
    first = first_report_at(outcome, previous)
    moments = [*outcome.plan.requeue_at, conditions.start_deadline(outcome), conditions.overdue_at(outcome), first]
    ahead = [(moment - outcome.now).total_seconds() for moment in moments if moment is not None and moment > outcome.now]
    return Result(requeue_after=min(ahead, default=None))
