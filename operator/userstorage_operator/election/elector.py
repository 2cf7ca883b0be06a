"""Leader election by a lease, and the fence that keeps whoever no longer leads from writing.

Nothing here compares the clocks of two machines. Who leads may write until RENEW_DEADLINE after it *sent* its last
successful renewal, by its own clock. Who wants to lead waits until it has seen the record unchanged for LEASE_DURATION, by
its own clock, from when it *read* it. Reading comes after sending, so the second moment is later than the first however the
clocks are set and whatever the network delays, loses or delivers late; the API server refuses an update of a record
that has moved on. A record that is gone or was edited by hand is waited for like that of a holder who has died.
"""

import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import Protocol

import structlog

log = structlog.get_logger(__name__)

LEASE_DURATION = 15.0
"""Seconds without a change after which a lease is nobody's."""
RENEW_DEADLINE = 10.0
"""Seconds after the last renewal for which its holder may write."""
RETRY_PERIOD = 2.0
"""Seconds between renewals."""
POLL_PERIOD = 1.0
"""Seconds between the looks of those who wait: what passes between a renewal and the look at it prolongs a takeover."""
REQUEST_TIMEOUT = 4.0
"""Seconds for one request about the lease: two tries fit into the deadline."""
_TERM_MAX = 2**31 - 1
_CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
"""Linux's monotonic clock stands still while the machine is suspended; the leases of others run on."""


def now() -> float:
    """Seconds on a clock that nobody sets."""
    return time.clock_gettime(_CLOCK)


class LeaseUnavailable(Exception):
    """The API server did not answer, or not usefully; whether it did what it was asked is unknown."""


@dataclass(frozen=True, slots=True)
class LeaseRecord:
    """A lease as the API server has it."""

    holder_identity: str
    """Empty where nobody holds it."""
    lease_transitions: int
    """How often the holder has changed."""
    resource_version: str = ""
    """Changes with every write."""
    released: bool = False
    """Its holder had stopped writing and gave it up itself: it may be taken at once."""


class LeaseStore(Protocol):
    """One lease on the API server. Every call ends within `timeout` seconds; raises LeaseUnavailable."""

    async def get(self, timeout: float) -> LeaseRecord | None:
        """The record; None where there is none."""

    async def create(self, record: LeaseRecord, timeout: float) -> LeaseRecord | None:
        """The record as it was made; None where there is one already."""

    async def update(self, record: LeaseRecord, timeout: float) -> LeaseRecord | None:
        """The record as it now is; None where its version is no longer the newest, or it is gone."""


class Fence:
    """Whether the term of this process can still be proved, by its own clock alone."""

    def __init__(self, clock: Callable[[], float] = now) -> None:
        self._clock = clock
        self._until = float("-inf")
        self.term = 0
        """The term that was last proved; 0 before the first."""

    def remaining(self) -> float:
        """Seconds for which this process may still write; 0 where it may not."""
        return max(0.0, self._until - self._clock())

    def prove(self, term: int, sent: float) -> None:
        """A request sent at `sent` has found the lease ours, or made it so."""
        self.term, self._until = term, sent + RENEW_DEADLINE

    def revoke(self) -> None:
        """From now on there is nothing to prove."""
        self._until = float("-inf")


class Elector:
    """One candidate. `acquire`, then `keep` for as long as it lasts, then `release`, in this order and each once."""

    def __init__(
        self,
        store: LeaseStore,
        identity: str,
        fence: Fence,
        sleep: Callable[[float], Awaitable[None]],
        clock: Callable[[], float] = now,
    ) -> None:
        """`identity` must be of this process alone."""
        self._store = store
        self._identity = identity
        self._fence = fence
        self._sleep = sleep
        self._clock = clock
        self._record: LeaseRecord | None = None
        self._changed_at = float("-inf")

    @property
    def term(self) -> int:
        """The term of the lease as last seen, whoever holds it; 0 before the first look."""
        return self._record.lease_transitions if self._record is not None else 0

    def unchanged_for(self) -> float:
        """Seconds since the record was last renewed, or was first seen as it is; 0 before the first look."""
        return self._clock() - self._changed_at if self._record is not None else 0.0

    async def acquire(self) -> None:
        """Wait until the lease is ours. The fence is open then."""
        while True:
            try:
                if await self._try_acquire():
                    return
            except LeaseUnavailable as error:
                log.warning("lease_unavailable", error=str(error))
            pause, expires_in = _jittered(POLL_PERIOD), LEASE_DURATION - self.unchanged_for()
            await self._sleep(min(pause, expires_in) if expires_in > 0 else pause)

    async def renew(self) -> str:
        """Renew for as long as we lead: why we no longer do, for people. The fence is closed then, for good."""
        reason = f"the lease could not be renewed for {RENEW_DEADLINE:.0f} s"
        while True:
            await self._sleep(min(_jittered(RETRY_PERIOD), self._fence.remaining()))
            if not (remaining := self._fence.remaining()):
                break
            sent = self._clock()
            try:
                renewed = await self._replace(self._own_record(), min(REQUEST_TIMEOUT, remaining))
            except LeaseUnavailable as error:
                log.warning("lease_not_renewed", error=str(error), remaining=round(self._fence.remaining(), 1))
                continue
            if renewed is None:
                reason = "the lease is no longer ours"
                break
            self._renewed(renewed, sent)
        self._fence.revoke()
        return reason

    async def release(self) -> None:
        """Let a successor take over at once; call when nothing writes any more. Where it fails, the lease runs out by itself."""
        if not self._fence.remaining():
            return
        self._fence.revoke()
        try:
            await self._replace(replace(self._own_record(), holder_identity="", released=True), REQUEST_TIMEOUT)
        except LeaseUnavailable as error:
            log.warning("lease_not_released", error=str(error))

    async def _try_acquire(self) -> bool:
        observed = await self._store.get(REQUEST_TIMEOUT)
        if observed is None:
            # Deleted by hand, perhaps, and its holder does not know yet: the wait begins with a record of nobody's.
            observed = await self._store.create(LeaseRecord("", self.term), REQUEST_TIMEOUT)
            if observed is None:
                return False
        read_at = self._clock()
        if self._record is None or observed.resource_version != self._record.resource_version:
            self._record, self._changed_at = (
                replace(observed, lease_transitions=max(observed.lease_transitions, self.term)),
                read_at,
            )
        if not observed.released and read_at - self._changed_at < LEASE_DURATION:
            return False
        ours = LeaseRecord(self._identity, _next_term(self._record.lease_transitions), observed.resource_version)
        sent = self._clock()
        acquired = await self._store.update(ours, REQUEST_TIMEOUT)
        if acquired is not None:
            self._renewed(acquired, sent)
        return self._fence.remaining() > 0  # none where we were stopped before the answer: waited for like any other's

    def _renewed(self, record: LeaseRecord, sent: float) -> None:
        self._record, self._changed_at = record, sent
        self._fence.prove(record.lease_transitions, sent)

    def _own_record(self) -> LeaseRecord:
        version = self._record.resource_version if self._record is not None else ""
        return LeaseRecord(self._identity, self._fence.term, version)

    async def _replace(self, desired: LeaseRecord, timeout: float) -> LeaseRecord | None:
        """Put `wanted` in place of the record of this term, whatever hands have made of it; None where it is another's."""
        written = await self._store.update(desired, timeout)
        if written is None:  # edited, deleted, or an earlier renewal of ours whose answer was lost
            observed = await self._store.get(timeout)
            if observed is None:
                written = await self._store.create(desired, timeout)
            elif observed.released or observed.holder_identity not in ("", self._identity):
                log.warning("lease_taken", holder=observed.holder_identity)
                return None
            else:
                written = await self._store.update(replace(desired, resource_version=observed.resource_version), timeout)
        if written is None:
            raise LeaseUnavailable("it was changed again while it was written")
        return written


def _next_term(term: int) -> int:
    """The term after `term`, which somebody may have edited."""
    return term + 1 if term < _TERM_MAX else 1


def _jittered(period: float) -> float:
    return random.uniform(0.8, 1.2) * period  # noqa: S311  # so that candidates do not ask in step
