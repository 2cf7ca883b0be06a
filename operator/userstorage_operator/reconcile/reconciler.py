"""Reconcile one UserStorage: observe, plan, apply, report.

Every decision is made from the current state of the caches, never from what an earlier reconcile reported.
"""

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial

import structlog

from userstorage_operator.api.errors import InternalError, NotFound, OperatorError, Unavailable
from userstorage_operator.api.resources import USER_STORAGES
from userstorage_operator.api.unstructured import Unstructured
from userstorage_operator.api.userstorage import Key
from userstorage_operator.api.userstorageclass import BUILT_IN
from userstorage_operator.arbitration.lister import Lister
from userstorage_operator.observed.snapshot import Snapshot
from userstorage_operator.plan import planner
from userstorage_operator.plan.child import claim_use
from userstorage_operator.plan.steps import Plan
from userstorage_operator.reconcile.apply import Applier
from userstorage_operator.reconcile.finalizers import Finalizers
from userstorage_operator.reconcile.local_state import LocalState
from userstorage_operator.reconcile.observe import observe
from userstorage_operator.reconcile.ports import Cluster, Recorder
from userstorage_operator.reconcile.record import record_events
from userstorage_operator.reconcile.rollout_tracker import RolloutTracker
from userstorage_operator.reconcile.volume_stats_cache import VolumeStatsCache
from userstorage_operator.runtime.token_bucket import TokenBucket
from userstorage_operator.runtime.worker import Result
from userstorage_operator.status import requeue
from userstorage_operator.status.events import status_events
from userstorage_operator.status.outcome import ApplyResult, Failure, Outcome
from userstorage_operator.status.report import report, status_patch
from userstorage_operator.status.requeue import claim_details_at, report_at, requeue_after
from userstorage_operator.status.rollout import has_ready_pod, member_state


class Reconciler:
    """Brings UserStorages to what their specs ask for. Workers call `reconcile` concurrently, but never twice for one key."""

    def __init__(
        self,
        cluster: Cluster,
        lister: Lister,
        rollout: RolloutTracker,
        recorder: Recorder,
        clock: Callable[[], datetime],
        volumes: VolumeStatsCache | None = None,
    ) -> None:
        """`volumes` is the cache that the VolumeStatsCollector fills; None without `--volume-stats`."""
        self._cluster = cluster
        self._lister = lister
        self._rollout = rollout
        self._recorder = recorder
        self._clock = clock
        self._state = LocalState.new(clock, lister, volumes)
        self._applier = Applier(cluster, lister, self._state)
        self._finalizers = Finalizers(cluster, lister)
        self._progress_reports = TokenBucket(rate=1, burst=20)

    async def reconcile(self, key: Key, failures: int) -> Result:
        """Reconcile the UserStorage `key`, after `failures` failed reconciles in a row."""
        structlog.contextvars.bind_contextvars(namespace=key.namespace, name=key.name)
        try:
            snapshot = await observe(key, self._lister, self._cluster, self._state)
            if snapshot is None:
                return await self._forget(key, failures)
            structlog.contextvars.bind_contextvars(uid=snapshot.storage.meta.uid, user_id=snapshot.storage.user_id)
            now = self._clock()
            result = await self._plan_and_apply(snapshot, now)
            if result.finalizer_removed:
                return Result()  # the object may be gone by now: there is no status to write
            outcome = Outcome.of(result, failures, now)
            self._rollout.record(key, member_state(outcome))
            report_due, status_failure = await self._report(outcome)
            # The status first: without it, the outcome is not visible.
            failed = [failure for failure in (status_failure, outcome.failure) if failure is not None]
            reconciled = _failed(*failed) if failed else Result()
            # Also after a failure that is not retried.
            return replace(reconciled, requeue_after=requeue_after(outcome, report_due, self._clock()))
        finally:
            self._rollout.mark_reconciled(key)

    async def _forget(self, key: Key, failures: int) -> Result:
        """Remove what this process keeps in memory about a UserStorage that is gone.

        The key may also name a NetworkPolicy that has outlived its UserStorage: it is released once its pod is gone.
        """
        self._state.forget(key)
        self._rollout.record(key, None)
        try:
            await self._finalizers.release_former_policy(key)
        except OperatorError as error:
            return _failed(Failure.of(error, failures + 1, self._clock(), action="patch NetworkPolicy"))
        return Result()

    async def _plan_and_apply(self, snapshot: Snapshot, now: datetime) -> ApplyResult:
        """Plan and apply. The result has the error if either failed. Without a pod, release the claim's reservation."""
        snapshot = self._with_rollout(snapshot)
        plan = Plan()
        try:
            plan = self._plan(snapshot, now)
            result = await self._applier.apply(plan, snapshot, now)
            self._state.record_hold(snapshot.storage.meta, result.plan.hold, now)
        except OperatorError as error:
            result = ApplyResult(snapshot, plan, error)
        except Exception as exception:  # noqa: BLE001  # a fault of the operator is reported in the status of the object that it hits
            result = ApplyResult(snapshot, plan, InternalError(exception))
        else:
            result = await self._with_former_policy_released(result)
        # After a request without an answer, the pod may have been created although the snapshot has none.
        may_have_pod = result.snapshot.own_pod is not None or isinstance(result.error, Unavailable)
        if not may_have_pod:
            self._state.claims.release(snapshot.storage.meta.key)
        return result

    async def _with_former_policy_released(self, result: ApplyResult) -> ApplyResult:
        """Release the NetworkPolicy of another user that has this object's name. The result gets the error if it has none."""
        try:
            await self._finalizers.release_former_policy(result.snapshot.storage.meta.key)
        except Exception as exception:  # noqa: BLE001  # as above; what was applied is reported too
            error = exception if isinstance(exception, OperatorError) else InternalError(exception)
            if result.error is None:
                return replace(result, error=error, non_blocking=True, action="patch NetworkPolicy")
        return result

    def _with_rollout(self, snapshot: Snapshot) -> Snapshot:
        """Return a copy of the snapshot with `may_replace` set from the rollout of the class."""
        key, cls = snapshot.storage.meta.key, snapshot.cls
        may_replace = cls is not None and self._rollout.may_replace(key, cls, available=has_ready_pod(snapshot))
        return replace(snapshot, may_replace=may_replace)

    def _plan(self, snapshot: Snapshot, now: datetime) -> Plan:
        """Plan, take a rollout slot if the plan deletes the pod, and reserve the claim if it creates one.

        There must be no await from the last part of `observe`, which decides who holds the claim, to the end of this method: a
        concurrent reconcile could take the same claim or slot in between.
        """
        key = snapshot.storage.meta.key
        plan = planner.plan(snapshot, now)
        if (deletion := plan.pod_deletion) is not None:
            cls = snapshot.cls or BUILT_IN  # no class: it was deleted, or never parsed
            self._rollout.mark_unavailable(key, cls, by_rollout=deletion.by_rollout, available=has_ready_pod(snapshot))
        if plan.creates_pod:
            self._state.claims.reserve(key, claim_use(snapshot.storage))
        return plan

    async def _report(self, outcome: Outcome) -> tuple[datetime | None, Failure | None]:
        """Write the status if it differs, unless it waits for the end of what is in progress.

        Return until when it waits, and the failure of the write.
        """
        if outcome.failure is not None and outcome.failure.is_lost_race:
            return None, None  # the next reconcile, which follows at once, knows better
        now = self._clock()
        if (due := self._due(partial(report_at, outcome, now))) is not None:
            return due, None
        patch = status_patch(report(outcome, outcome.snapshot.status), outcome.snapshot.status)
        if not patch or (due := self._due(partial(claim_details_at, outcome, patch, now))) is not None:
            return due, None
        return None, await self._write_status(outcome, patch)

    def _due(self, due_after: Callable[[timedelta], datetime | None]) -> datetime | None:
        """Return until when the status waits, None if it is written now. `due_after(delay)` says so for a delay."""
        if (soon := due_after(requeue.REPORT_DELAY)) is not None:
            return soon
        later = due_after(requeue.REPORT_DELAY_IN_BURST)
        return later if later is not None and not self._progress_reports.try_accept() else None

    async def _write_status(self, outcome: Outcome, patch: Unstructured) -> Failure | None:
        """Patch the status, then send the Events. Return the failure of the patch; None if it succeeded."""
        snapshot, meta = outcome.snapshot, outcome.snapshot.storage.meta
        body = {"metadata": {"uid": meta.uid}, "status": patch}  # the uid protects another object of that name
        try:
            patched = await self._cluster.merge_patch(USER_STORAGES, meta.namespace, meta.name, body, "status")
        except NotFound:
            self._lister.discard(USER_STORAGES, meta.namespace, meta.name, meta.uid)
            return None
        except OperatorError as error:
            return Failure.of(error, outcome.attempts, outcome.now, action="patch UserStorage status")
        self._lister.put(USER_STORAGES, patched)
        record_events(self._recorder, patched, status_events(snapshot.status, patched["status"]))
        return None


def _failed(failure: Failure, *others: Failure) -> Result:
    """Return the Result that reports `failure` to the work queue and the log. The pauses that `others` ask for count too."""
    return Result(
        reason=failure.error.reason,
        retry=failure.retries,
        retry_after=max(each.retry_after for each in (failure, *others)),
        error=failure.error.message,
        action=failure.action,
        exception=failure.exception,
        routine=failure.is_lost_race,
    )
