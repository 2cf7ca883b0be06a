"""How many UserStorages stand how: counted as they change, so that asking costs the same however many there are."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from userstorage_operator.api import reasons
from userstorage_operator.api.conditions import Phase
from userstorage_operator.api.errors import InvalidSpec
from userstorage_operator.api.timestamps import parse_time
from userstorage_operator.api.unstructured import Fields, Unstructured
from userstorage_operator.api.userstorage import Key, LifecycleSpec

LONG = timedelta(minutes=10)
"""From when on not being ready is worth waking somebody."""

PHASES = tuple(map(str, Phase))
CONDITIONS = tuple((kind, status) for kind in reasons.REASONS for status in ("True", "False"))
_NO_FAILURE = frozenset(
    {
        "PodReady", "Pending", "PodTerminating", "Suspended", "Terminating",
        "ClaimBound", "ClaimNotFound", "WaitForFirstConsumer",
        "Synced", "OutOfSync", "NotStalled",
    }
)  # fmt: skip
_TOLD_ELSEWHERE = frozenset({reasons.RECONCILING, reasons.SUSPENDED, reasons.POD_UP_TO_DATE})
"""Condition types whose reasons are no failures; what they say is in their status."""
FAILURE_REASONS = tuple(
    sorted({reason for kind, known in reasons.REASONS.items() if kind not in _TOLD_ELSEWHERE for reason in known} - _NO_FAILURE)
)
"""Every reason for which something is not as it should be, or is still on its way there."""


@dataclass(frozen=True, slots=True)
class _State:
    """What is counted of one UserStorage; many are equal."""

    phase: str
    conditions: tuple[tuple[str, str], ...]
    """Types and statuses, once the operator has looked; the schema's placeholders are no statements."""
    failure_reasons: frozenset[str]


@dataclass(frozen=True, slots=True)
class Counts:
    """The counts at one moment. Every mapping has every key there can be; times are in seconds."""

    phases: Mapping[str, int]
    conditions: Mapping[tuple[str, str], int]
    """By type and status."""
    failure_reasons: Mapping[str, int]
    """By reason; one that has several counts for each."""
    not_ready_longest: float
    """Of those that should be ready."""
    long_not_ready: int
    deletions: int
    deletion_oldest: float
    deletions_overdue: int


class ObjectCounts:
    """Told of every change of every UserStorage."""

    def __init__(self) -> None:
        self._stand_of: dict[Key, _State] = {}
        self._counts: Counter[_State] = Counter()
        self._awaited: dict[Key, str] = {}
        """The uids of those that were seen before they were ever told to be anything, and are not ready yet."""
        self._unready_since: dict[Key, datetime] = {}
        self._deleted_at: dict[Key, datetime] = {}
        self._deletion_due: dict[Key, datetime] = {}

    def update(self, raw: Unstructured, now: datetime) -> timedelta | None:
        """Take in an object as it now is. The time from its creation, where it has just become ready for the first time.

        Told of nobody whose start began before this process came to know it: it may have been ready before.
        """
        key = Key.of(raw)
        self._forget(key)
        stand = self._stand_of[key] = _state(raw)
        self._counts[stand] += 1
        meta, ready = raw["metadata"], ("Ready", "True") in stand.conditions
        if (deleted := meta.get("deletionTimestamp")) is not None:
            self._deleted_at[key] = parse_time(deleted)
            self._deletion_due[key] = parse_time(deleted) + _deletion_timeout(raw)
        elif not ready and raw["spec"].get("replicas") != 0:
            self._unready_since[key] = _unready_since(raw)
        return self._first_ready(key, raw, now, ready=ready)

    def remove(self, key: Key) -> None:
        """Take in that it is gone."""
        self._forget(key)
        self._stand_of.pop(key, None)
        self._awaited.pop(key, None)

    def counts(self, now: datetime) -> Counts:
        """The counts. Costs as much as there are different ways to stand, objects that are not ready, and deletions."""
        phases, troubles = dict.fromkeys(PHASES, 0), dict.fromkeys(FAILURE_REASONS, 0)
        conditions = dict.fromkeys(CONDITIONS, 0)
        for stand, count in self._counts.items():
            phases[stand.phase] += count
            for condition in stand.conditions:
                conditions[condition] += count
            for trouble in stand.failure_reasons:
                troubles[trouble] += count
        return Counts(
            phases=phases,
            conditions=conditions,
            failure_reasons=troubles,
            not_ready_longest=_age(self._unready_since, now),
            long_not_ready=sum(now - since > LONG for since in self._unready_since.values()),
            deletions=len(self._deleted_at),
            deletion_oldest=_age(self._deleted_at, now),
            deletions_overdue=sum(now > due for due in self._deletion_due.values()),
        )

    def _forget(self, key: Key) -> None:
        if (stand := self._stand_of.get(key)) is not None:
            self._counts[stand] -= 1
            if not self._counts[stand]:
                del self._counts[stand]
        for book in (self._unready_since, self._deleted_at, self._deletion_due):
            book.pop(key, None)

    def _first_ready(self, key: Key, raw: Unstructured, now: datetime, *, ready: bool) -> timedelta | None:
        uid, suspended = raw["metadata"]["uid"], raw["spec"].get("replicas") == 0
        if "observedGeneration" not in (raw.get("status") or {}) and not suspended:
            self._awaited[key] = uid
        elif suspended or self._awaited.get(key) != uid:
            self._awaited.pop(key, None)
        elif ready:
            del self._awaited[key]
            return now - parse_time(raw["metadata"]["creationTimestamp"])
        return None


def _state(raw: Unstructured) -> _State:
    """Words that are not ours are not counted: what a status holds could have been written by others."""
    status = raw.get("status") or {}
    told = (status.get("conditions") or ()) if "observedGeneration" in status else ()
    conditions = tuple((entry["type"], entry["status"]) for entry in told)
    phase = status.get("phase", str(Phase.PENDING))
    return _State(
        phase if phase in PHASES else str(Phase.PENDING),
        tuple(condition for condition in conditions if condition in CONDITIONS),
        frozenset(entry["reason"] for entry in told if entry["type"] not in _TOLD_ELSEWHERE).intersection(FAILURE_REASONS),
    )


def _unready_since(raw: Unstructured) -> datetime:
    """Since when it should be ready and is not: its creation, the loss of its readiness, or the end of a suspension."""
    told = ((raw.get("status") or {}).get("conditions")) or ()
    moments = [entry["lastTransitionTime"] for entry in told if entry["type"] in (reasons.READY, reasons.SUSPENDED)]
    return max(map(parse_time, [raw["metadata"]["creationTimestamp"], *moments]))


def _deletion_timeout(raw: Unstructured) -> timedelta:
    try:
        return LifecycleSpec.parse(Fields(raw["spec"], "spec").section("lifecycle")).deletion_timeout
    except InvalidSpec:
        return timedelta(0)


def _age(since: Mapping[Key, datetime], now: datetime) -> float:
    """Seconds since the earliest; 0 where there is none, or a clock is behind."""
    earliest = min(since.values(), default=now)
    return max(0.0, (now - earliest).total_seconds())
