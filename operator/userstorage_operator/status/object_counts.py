"""Counts of UserStorages by phase, condition and reason, updated on every change: a scrape does not visit all.

`object_metrics.py` exports them as the gauges of `runtime/gauges.py`. A new count needs a field of `Counts`, a gauge there, and
a line in `ObjectMetrics._collect_storages`.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from sortedcontainers import SortedList

from userstorage_operator.api import reasons
from userstorage_operator.api.conditions import Phase
from userstorage_operator.api.errors import InvalidSpec
from userstorage_operator.api.timestamps import parse_time
from userstorage_operator.api.unstructured import Fields, Unstructured
from userstorage_operator.api.userstorage import Key, LifecycleSpec

LONG = timedelta(minutes=10)
"""A UserStorage that is not ready for longer than this counts in `long_not_ready`."""

PHASES = tuple(map(str, Phase))
CONDITIONS = tuple((kind, status) for kind in reasons.REASONS for status in ("True", "False"))
_NO_FAILURE = frozenset(
    {
        "PodReady", "Pending", "PodTerminating", "Suspended", "Terminating",
        "ClaimBound", "ClaimNotFound", "WaitForFirstConsumer",
        "Synced", "OutOfSync", "NotStalled",
    }
)  # fmt: skip
_WITHOUT_FAILURES = frozenset({reasons.RECONCILING, reasons.SUSPENDED, reasons.POD_UP_TO_DATE, reasons.PAUSED})
"""Condition types whose reasons are never counted as failures."""
FAILURE_REASONS = tuple(
    sorted(
        {reason for kind, known in reasons.REASONS.items() if kind not in _WITHOUT_FAILURES for reason in known} - _NO_FAILURE
    )
)
"""Every reason which says that something is not, or not yet, as desired."""


@dataclass(frozen=True, slots=True)
class _State:
    """The counted properties of one UserStorage. Many UserStorages have equal ones, so each distinct state has a count."""

    phase: str
    conditions: tuple[tuple[str, str], ...]
    """Pairs of type and status. Of an object without a reconcile only Paused: the schema's default conditions do not count."""
    failure_reasons: frozenset[str]
    may_lose_claim: bool
    """Whether its pod is what keeps a claim that is being deleted."""


@dataclass(frozen=True, slots=True)
class Counts:
    """The counts at one moment. Every mapping has every possible key, also with the count 0. Times are in seconds."""

    phases: Mapping[str, int]
    conditions: Mapping[tuple[str, str], int]
    """(type, status) of a condition -> number of UserStorages."""
    failure_reasons: Mapping[str, int]
    """Reason -> number of UserStorages. A UserStorage with several reasons counts once for each."""
    not_ready_longest: float
    """The longest time for which a UserStorage that should be ready has not been ready."""
    long_not_ready: int
    deletions: int
    deletion_oldest: float
    deletions_overdue: int
    claims_terminating_in_use: int


class ObjectCounts:
    """Counts of all UserStorages. The caller must call `update` or `remove` for every change of a UserStorage."""

    def __init__(self) -> None:
        self._states: dict[Key, _State] = {}
        self._counts: Counter[_State] = Counter()
        self._starting: dict[Key, str] = {}
        """The uids of UserStorages whose time to ready is measured: first seen without a status, and not ready yet."""
        self._unready_since = _Times()
        self._deleted_at = _Times()
        self._deletion_due = _Times()

    def update(self, raw: Unstructured, now: datetime) -> timedelta | None:
        """Count a raw UserStorage as it is now. If it is ready for the first time, return the time since its creation.

        Return None otherwise, and if it had a status when this process first saw it, as it may have been ready before.
        """
        key = Key.of(raw)
        self._forget(key)
        state = self._states[key] = _state(raw)
        self._counts[state] += 1
        meta, ready = raw["metadata"], ("Ready", "True") in state.conditions
        if (deleted := meta.get("deletionTimestamp")) is not None:
            self._deleted_at.add(key, parse_time(deleted))
            self._deletion_due.add(key, parse_time(deleted) + _deletion_timeout(raw))
        elif not ready and raw["spec"].get("replicas") != 0:
            self._unready_since.add(key, _unready_since(raw))
        return self._first_ready(key, raw, now, ready=ready)

    def remove(self, key: Key) -> None:
        """Stop counting a UserStorage that no longer exists."""
        self._forget(key)
        self._states.pop(key, None)
        self._starting.pop(key, None)

    def counts(self, now: datetime) -> Counts:
        """Return the counts at `now`. The cost grows with the distinct states, not with the number of UserStorages."""
        phases, failures = dict.fromkeys(PHASES, 0), dict.fromkeys(FAILURE_REASONS, 0)
        conditions, terminating_in_use = dict.fromkeys(CONDITIONS, 0), 0
        for state, count in self._counts.items():
            phases[state.phase] += count
            terminating_in_use += count * state.may_lose_claim
            for condition in state.conditions:
                conditions[condition] += count
            for reason in state.failure_reasons:
                failures[reason] += count
        return Counts(
            phases=phases,
            conditions=conditions,
            failure_reasons=failures,
            not_ready_longest=self._unready_since.longest(now),
            long_not_ready=self._unready_since.before(now - LONG),
            deletions=len(self._deleted_at),
            deletion_oldest=self._deleted_at.longest(now),
            deletions_overdue=self._deletion_due.before(now),
            claims_terminating_in_use=terminating_in_use,
        )

    def _forget(self, key: Key) -> None:
        if (state := self._states.get(key)) is not None:
            self._counts[state] -= 1
            if not self._counts[state]:
                del self._counts[state]
        for times in (self._unready_since, self._deleted_at, self._deletion_due):
            times.discard(key)

    def _first_ready(self, key: Key, raw: Unstructured, now: datetime, *, ready: bool) -> timedelta | None:
        uid, suspended = raw["metadata"]["uid"], raw["spec"].get("replicas") == 0
        if "observedGeneration" not in (raw.get("status") or {}) and not suspended:
            self._starting[key] = uid
        elif suspended or self._starting.get(key) != uid:
            self._starting.pop(key, None)
        elif ready:
            del self._starting[key]
            return now - parse_time(raw["metadata"]["creationTimestamp"])
        return None


def _state(raw: Unstructured) -> _State:
    """Return the counted properties of a UserStorage, without unknown values: another client may have written its status."""
    status = raw.get("status") or {}
    # Of a status without a reconcile, only Paused is the operator's: the others are the defaults of the schema.
    found = status.get("conditions") or ()
    reported = found if "observedGeneration" in status else [entry for entry in found if entry["type"] == reasons.PAUSED]
    conditions = tuple((entry["type"], entry["status"]) for entry in reported)
    phase = status.get("phase", str(Phase.PENDING))
    return _State(
        phase if phase in PHASES else str(Phase.PENDING),
        tuple(condition for condition in conditions if condition in CONDITIONS),
        frozenset(entry["reason"] for entry in reported if entry["type"] not in _WITHOUT_FAILURES).intersection(
            FAILURE_REASONS
        ),
        _may_lose_claim(raw, status),
    )


def _may_lose_claim(raw: Unstructured, status: Unstructured) -> bool:
    """Whether the object has a pod on a claim that is being deleted, and is not being deleted itself."""
    if "deletionTimestamp" in raw["metadata"] or not status.get("replicas"):
        return False
    found = [entry["reason"] for entry in status.get("conditions") or () if entry["type"] == reasons.STORAGE_READY]
    return "ClaimTerminating" in found


def _unready_since(raw: Unstructured) -> datetime:
    """Return since when the UserStorage should be ready but is not: its creation, loss of readiness, or resumption."""
    reported = ((raw.get("status") or {}).get("conditions")) or ()
    moments = [entry["lastTransitionTime"] for entry in reported if entry["type"] in (reasons.READY, reasons.SUSPENDED)]
    return max(map(parse_time, [raw["metadata"]["creationTimestamp"], *moments]))


def _deletion_timeout(raw: Unstructured) -> timedelta:
    try:
        return LifecycleSpec.parse(Fields(raw["spec"], "spec").section("lifecycle")).deletion_timeout
    except InvalidSpec:
        return timedelta(0)


class _Times:
    """One time for each of some UserStorages. A change and a question take O(log n)."""

    def __init__(self) -> None:
        self._of: dict[Key, datetime] = {}
        self._sorted: SortedList[datetime] = SortedList()

    def __len__(self) -> int:
        return len(self._of)

    def add(self, key: Key, time: datetime) -> None:
        """Set the time of a UserStorage that has none."""
        self._of[key] = time
        self._sorted.add(time)

    def discard(self, key: Key) -> None:
        if (time := self._of.pop(key, None)) is not None:
            self._sorted.remove(time)

    def before(self, moment: datetime) -> int:
        """Return the number of times before `moment`."""
        count: int = self._sorted.bisect_left(moment)
        return count

    def longest(self, now: datetime) -> float:
        """Return the seconds since the earliest of the times; 0 if there are none, or if it is in the future."""
        return max(0.0, (now - self._sorted[0]).total_seconds()) if self._sorted else 0.0
