"""One pass over one UserStorage: observe, decide, act, report. Decided from the world as it is now, on every pass."""

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta

import structlog

from userstorage_operator import browsers
from userstorage_operator.api.errors import (
    ClusterError,
    Conflict,
    InvalidSpec,
    LeftBehind,
    NameConflict,
    NotFound,
    OperatorError,
    Retry,
    Unavailable,
)
from userstorage_operator.api.resources import USER_STORAGES
from userstorage_operator.api.timestamps import parse_time
from userstorage_operator.api.unstructured import Object
from userstorage_operator.api.userstorage import Key
from userstorage_operator.api.userstorageclass import BUILT_IN
from userstorage_operator.arbitration.claim_book import ClaimBook
from userstorage_operator.arbitration.lister import Views
from userstorage_operator.arbitration.place_book import PlaceBook
from userstorage_operator.observed import backoff, pod_status
from userstorage_operator.observed.snapshot import is_ours
from userstorage_operator.plan.builders import Desired, build, claim_name
from userstorage_operator.plan.deferred_changes import granted_size, reached_as_before
from userstorage_operator.plan.planner import Plan, decide, decide_deletion, decide_obstructed, deferral
from userstorage_operator.reconcile.apply import Acted, Actor
from userstorage_operator.reconcile.books import Books
from userstorage_operator.reconcile.mount_inspector import Lookout
from userstorage_operator.reconcile.observe import Seen, observe
from userstorage_operator.reconcile.pod_starts import PodStartBook
from userstorage_operator.reconcile.ports import Cluster, Recorder
from userstorage_operator.reconcile.record import tell
from userstorage_operator.reconcile.repairs import RepairBook
from userstorage_operator.reconcile.rollout_tracker import ClassBook
from userstorage_operator.reconcile.volume_stats_cache import VolumeBook
from userstorage_operator.runtime.worker import Result
from userstorage_operator.status import conditions
from userstorage_operator.status.events import news
from userstorage_operator.status.outcome import Failure, Verdict
from userstorage_operator.status.report import report, status_patch
from userstorage_operator.status.rollout import standing

_FIRST_REPORT = timedelta(seconds=5)
"""How long a new pod has to become ready before the first status is written: the schema's default already says
Pending, so a start that goes well needs one write instead of two or three, in a burst of hundreds too."""
_ON_ITS_WAY = frozenset({"PodPending", "PodNotReady", "Unschedulable"})
"""What every pod says of itself while it starts: an unbound claim makes it unschedulable for a moment."""
_CONFLICTS = 4
"""Lost races in a row from which on they are worth telling."""


class Reconciler:
    """Brings one UserStorage at a time to where its spec wants it."""

    def __init__(
        self,
        cluster: Cluster,
        views: Views,
        book: ClassBook,
        recorder: Recorder,
        clock: Callable[[], datetime],
        volumes: VolumeBook | None = None,
    ) -> None:
        """`volumes` is kept by others; None where kubelets are not asked."""
        self._cluster = cluster
        self._views = views
        self._book = book
        self._recorder = recorder
        self._clock = clock
        self._books = Books(PodStartBook(clock), RepairBook(clock), ClaimBook(views), PlaceBook(), volumes)
        self._actor = Actor(cluster, views, self._books.starts, self._books.repairs)
        self._lookout = Lookout(cluster, views)

    async def reconcile(self, key: Key, failures: int) -> Result:
        """One pass; `failures` in a row went before."""
        structlog.contextvars.bind_contextvars(namespace=key.namespace, name=key.name)
        try:
            return await self._pass(key, failures)
        finally:
            self._book.looked_at(key)

    async def _pass(self, key: Key, failures: int) -> Result:
        seen = await observe(key, self._views, self._cluster, self._books)
        if seen is None:
            self._books.forget(key)
            self._book.record(key, None)
            self._lookout.forget(key)
            return Result()
        structlog.contextvars.bind_contextvars(uid=seen.world.storage.meta.uid, user_id=seen.world.storage.user_id)
        now, wanted, plan = self._clock(), None, Plan()
        try:
            seen, wanted, plan = self._decide_in_turn(seen, now)
            looked = await self._lookout.look(seen.world, plan, now)
            if looked is not seen.world:
                seen, plan = _decide(replace(seen, world=looked), wanted, now)
            acted = await self._actor.run(plan, seen.world)
        except OperatorError as refusal:
            acted = Acted(seen.world, refusal)
        except Exception as fault:  # noqa: BLE001  # a fault of ours belongs into the status of the object it hits
            acted = Acted(seen.world, _Fault(fault))
        if not _may_have_pod(acted):
            self._books.claims.release(key)
        if acted.released:
            return Result()
        error = acted.error or seen.obstacle
        verdict = Verdict(acted.world, wanted, plan, _failure(error, failures, now, soft=acted.soft), now)
        self._book.record(key, standing(verdict))
        not_told = await self._tell(verdict, seen.status)
        if (failed := not_told or error) is not None:
            return _failed(failed, failures + 1, "patch UserStorage status" if failed is not_told else acted.action)
        return _looking_ahead(verdict, seen.status)

    def _decide_in_turn(self, seen: Seen, now: datetime) -> tuple[Seen, Desired | None, Plan]:
        """Ask for a turn in the class's rollout, decide, and take the turn, and the claim too: nothing may be awaited in
        between, or two passes would take the same one.
        """
        key, cls = seen.world.storage.meta.key, seen.world.cls
        may_replace = cls is not None and self._book.may_replace(key, cls)
        seen, wanted = _render(replace(seen, world=replace(seen.world, may_replace=may_replace)))
        seen, plan = _decide(seen, wanted, now)
        if plan.ends_pod:
            self._book.going_down(key, cls or BUILT_IN)
        if plan.makes_pod:
            self._books.claims.take(key, claim_name(seen.world.storage))
        return seen, wanted, plan

    async def _tell(self, verdict: Verdict, previous: Object) -> OperatorError | None:
        """Write the status where it differs; the error where that fails."""
        if _moot(verdict) or first_report_at(verdict, previous) is not None:
            return None
        patch = status_patch(report(verdict, previous), previous)
        if not patch:
            return None
        meta = verdict.world.storage.meta
        body = {"metadata": {"uid": meta.uid}, "status": patch}
        try:
            told = await self._cluster.merge_patch(USER_STORAGES, meta.namespace, meta.name, body, "status")
        except NotFound:
            self._views.discard(USER_STORAGES, meta.namespace, meta.name, meta.uid)
            return None
        except OperatorError as error:
            return error
        self._views.put(USER_STORAGES, told)
        tell(self._recorder, told, news(previous, told["status"]))
        return None


def _render(seen: Seen) -> tuple[Seen, Desired | None]:
    """What should be there; None where an obstacle keeps that from being told, or a spec that cannot be served, which is one.
    In a deletion nothing depends on it.
    """
    world, storage, cls = seen.world, seen.world.storage, seen.world.cls
    if seen.obstacle is not None or cls is None:
        return seen, None
    try:
        browser = browsers.render(storage, cls)
        wanted = build(storage, cls, browser, exposed=world.not_exposed is None, granted=granted_size(world))
    except InvalidSpec as refusal:
        return (seen if storage.meta.deleted_at is not None else replace(seen, obstacle=refusal)), None
    return seen, reached_as_before(wanted, world) if deferral(world, wanted) is not None else wanted


def _decide(seen: Seen, wanted: Desired | None, now: datetime) -> tuple[Seen, Plan]:
    """The plan; a name that is taken is an obstacle, too: nothing but a pod that is not wanted is touched then."""
    if seen.world.storage.meta.deleted_at is not None:
        return seen, decide_deletion(seen.world)
    if wanted is not None:
        try:
            return seen, decide(seen.world, wanted, now)
        except (NameConflict, LeftBehind) as conflict:
            seen = replace(seen, obstacle=conflict)
    return seen, decide_obstructed(seen.world)


def _may_have_pod(acted: Acted) -> bool:
    """Whether there is a pod of its own, or may be: a request that was not answered may have been carried out."""
    pod = acted.world.children.pod
    return isinstance(acted.error, Unavailable) or (pod is not None and is_ours(pod, acted.world.storage.meta.uid))


def _failure(error: OperatorError | None, failures: int, now: datetime, *, soft: bool) -> Failure | None:
    if error is None:
        return None
    retrying = error.retry is Retry.BACKOFF
    next_retry = now + timedelta(seconds=backoff.pause(failures + 1)) if retrying else None
    return Failure(error, failures + 1, next_retry, soft)


def _moot(verdict: Verdict) -> bool:
    """Whether the next pass will know better in a moment."""
    return verdict.failure is not None and _lost_race(verdict.failure.error, verdict.failure.attempts)


def _lost_race(error: OperatorError, attempts: int) -> bool:
    """Whether the object moved on while the pass worked, and has not done so time and again."""
    return isinstance(error, Conflict) and attempts < _CONFLICTS


def first_report_at(verdict: Verdict, previous: Object) -> datetime | None:
    """Until when the first status may wait for a new pod to become ready; None where it is due, or long written."""
    pod = verdict.world.children.pod
    if "observedGeneration" in previous or verdict.failure is not None or pod is None:
        return None
    if pod_status.is_ready(pod) or pod_status.why_not_ready(pod).reason not in _ON_ITS_WAY:
        return None
    due = parse_time(pod["metadata"]["creationTimestamp"]) + min(_FIRST_REPORT, verdict.world.storage.lifecycle.start_timeout)
    # The pod's time is the API server's: where the clocks differ, the wait must not be longer for it. A pod that this pass
    # made is younger than the pass, by up to a second.
    return due if verdict.now < due <= verdict.now + _FIRST_REPORT + timedelta(seconds=1) else None


class _Fault(OperatorError):
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
        fault=error.fault if isinstance(error, _Fault) else None,
        routine=_lost_race(error, attempts),
    )


def _looking_ahead(verdict: Verdict, previous: Object) -> Result:
    """Wake at the next moment at which something changes by itself."""
    first = first_report_at(verdict, previous)
    moments = [*verdict.plan.wake_at, conditions.start_deadline(verdict), conditions.overdue_at(verdict), first]
    ahead = [(moment - verdict.now).total_seconds() for moment in moments if moment is not None and moment > verdict.now]
    return Result(wake_after=min(ahead, default=None))
