"""Leader election by a lease, and the fence that keeps a former leader from writing.

Nothing here compares the clocks of two machines. A leader may write until RENEW_DEADLINE after it *sent* its last
successful renewal, by its own clock. A candidate waits until the record has not changed for LEASE_DURATION after the
candidate *read* it, by the clock of the candidate. A renewal is read after it was sent, and LEASE_DURATION is longer than
RENEW_DEADLINE. So the candidate's wait ends only when the leader may no longer write, however the clocks are set and
however the network delays or loses messages. The API server refuses to update a record that has changed since it was read.
A candidate waits just as long for a record that was deleted or edited by hand.
"""

import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import Protocol

import structlog

log = structlog.get_logger(__name__)

LEASE_DURATION = 15.0
"""Seconds without a change after which a lease is free."""
RENEW_DEADLINE = 10.0
"""Seconds after its last renewal for which the holder may write."""
RETRY_PERIOD = 2.0
"""Seconds between renewals."""
POLL_PERIOD = 1.0
"""Seconds between the reads of a candidate. The later it reads a renewal, the later it may take over."""
REQUEST_TIMEOUT = 4.0
"""Seconds for one request about the lease: two tries fit into RENEW_DEADLINE."""
_TERM_MAX = 2**31 - 1
_CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
"""Not CLOCK_MONOTONIC on Linux: it stops while the machine is suspended, but the lease still expires for other replicas."""


def now() -> float:
    """Return the seconds on a clock that cannot be set."""
    return time.clock_gettime(_CLOCK)


class LeaseUnavailable(Exception):
    """The API server did not answer, or answered with an error; whether it carried out a write is unknown."""


@dataclass(frozen=True, slots=True)
class LeaseRecord:
    """The fields of a Lease that the election uses."""

    holder_identity: str
    """Empty if there is no holder."""
    lease_transitions: int
    """The term: how often the holder has changed."""
    resource_version: str = ""
    """Changes with every write."""
    released: bool = False
    """Whether the holder has stopped writing and released the lease. A candidate then need not wait."""


class LeaseStore(Protocol):
    """One Lease on the API server. Every call takes `timeout` seconds at most, and may raise LeaseUnavailable."""

    async def get(self, timeout: float) -> LeaseRecord | None:
        """Return the record; None if it does not exist."""

    async def create(self, record: LeaseRecord, timeout: float) -> LeaseRecord | None:
        """Create the record and return it as stored; None if it already exists."""

    async def update(self, record: LeaseRecord, timeout: float) -> LeaseRecord | None:
        """Replace the record and return it as stored; None if its resourceVersion is outdated, or it does not exist."""


class Fence:
    """Open while this process can prove, by its own clock alone, that it still holds the lease."""

    def __init__(self, clock: Callable[[], float] = now) -> None:
        self._clock = clock
        self._until = float("-inf")
        self.term = 0
        """The term for which the fence was last opened; 0 before the first."""

    def remaining(self) -> float:
        """Return the seconds for which this process may still write; 0 if it may not."""
        return max(0.0, self._until - self._clock())

    def prove(self, term: int, sent: float) -> None:
        """Open the fence for `term`: a request sent at `sent` acquired or renewed the lease."""
        self.term, self._until = term, sent + RENEW_DEADLINE

    def revoke(self) -> None:
        """Close the fence."""
        self._until = float("-inf")


class Elector:
    """One candidate. Call `acquire`, `renew` and `release` once each, in this order."""

    def __init__(
        self,
        store: LeaseStore,
        identity: str,
        fence: Fence,
        sleep: Callable[[float], Awaitable[None]],
        clock: Callable[[], float] = now,
    ) -> None:
        """`identity` must be unique to this process."""
        self._store = store
        self._identity = identity
        self._fence = fence
        self._sleep = sleep
        self._clock = clock
        self._record: LeaseRecord | None = None
        self._changed_at = float("-inf")

    @property
    def term(self) -> int:
        """The term of the lease as last read, of any holder; 0 before the first read."""
        return self._record.lease_transitions if self._record is not None else 0

    def unchanged_for(self) -> float:
        """Return the seconds since this process last renewed the record or first read its current version; 0 before the first
        read.
        """
        return self._clock() - self._changed_at if self._record is not None else 0.0

    async def acquire(self) -> None:
        """Wait until this process holds the lease. The fence is open then."""
        while True:
            try:
                if await self._try_acquire():
                    return
            except LeaseUnavailable as error:
                log.warning("lease_unavailable", error=str(error))
            pause, expires_in = _jittered(POLL_PERIOD), LEASE_DURATION - self.unchanged_for()
            await self._sleep(min(pause, expires_in) if expires_in > 0 else pause)

    async def renew(self) -> str:
        """Renew the lease until it is lost. Then close the fence for good and return the reason as a message."""
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
                reason = "another process holds the lease, or it was released"
                break
            self._mark_held(renewed, sent)
        self._fence.revoke()
        return reason

    async def release(self) -> None:
        """Release the lease, so that a candidate need not wait. Call when no write is in flight. If the release fails, the
        lease expires.
        """
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
            # The Lease may have been deleted by hand while its holder still writes: create one without a holder, and wait.
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
            self._mark_held(acquired, sent)
        return (
            self._fence.remaining() > 0
        )  # 0 if this process was suspended while it waited for the answer: then wait like any other candidate

    def _mark_held(self, record: LeaseRecord, sent: float) -> None:
        self._record, self._changed_at = record, sent
        self._fence.prove(record.lease_transitions, sent)

    def _own_record(self) -> LeaseRecord:
        version = self._record.resource_version if self._record is not None else ""
        return LeaseRecord(self._identity, self._fence.term, version)

    async def _replace(self, desired: LeaseRecord, timeout: float) -> LeaseRecord | None:
        """Write `desired` and return it as stored, even if the record was edited or deleted by hand. Return None if the lease
        was released or another process holds it. Raises LeaseUnavailable.
        """
        written = await self._store.update(desired, timeout)
        if written is None:  # edited, deleted, or changed by an earlier renewal whose answer was lost
            observed = await self._store.get(timeout)
            if observed is None:
                written = await self._store.create(desired, timeout)
            elif observed.released or observed.holder_identity not in ("", self._identity):
                log.warning("lease_taken", holder=observed.holder_identity)
                return None
            else:
                written = await self._store.update(replace(desired, resource_version=observed.resource_version), timeout)
        if written is None:
            raise LeaseUnavailable("the lease was changed again while it was being written")
        return written


def _next_term(term: int) -> int:
    """Return the term after `term`. A person may have edited `term`, so it may be the largest that the API server accepts."""
    return term + 1 if term < _TERM_MAX else 1


def _jittered(period: float) -> float:
    return random.uniform(0.8, 1.2) * period  # noqa: S311  # so that candidates do not all send their requests at once
