"""Leader election by a lease, and the fence that keeps a former leader from writing.

Nothing here compares the clocks of two machines. A leader may write until RENEW_DEADLINE after it *sent* its last
successful renewal, by its own clock. A candidate waits until the record has not changed for LEASE_DURATION after the
candidate *read* it, by the clock of the candidate. A renewal is read after it was sent, and LEASE_DURATION is longer than
RENEW_DEADLINE. So the candidate's wait ends only when the leader may no longer write, however the clocks are set and
however the network delays or loses messages. The API server refuses to update a record that has changed since it was read.
A candidate waits just as long for a record that was deleted or edited by hand.
If etcd is restored to an earlier moment, the record is an old one: that it is released proves nothing about its later holder.
"""

import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import Protocol

import structlog

log = structlog.get_logger(__name__)

LEASE_DURATION = 15.0
"""Seconds without a change of the Lease after which a candidate may take it."""
RENEW_DEADLINE = 10.0
"""Seconds after its last successful renewal for which the leader may write."""
RETRY_PERIOD = 2.0
"""Seconds between two renewals by the leader."""
POLL_PERIOD = 1.0
"""Seconds between two reads of the Lease by a candidate. The later a candidate reads a renewal, the later it may take over."""
REQUEST_TIMEOUT = 4.0
"""Maximum seconds for one request about the Lease: two tries fit into RENEW_DEADLINE."""
_TERM_MAX = 2**31 - 1
_CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
"""The clock of the election. On Linux it is not CLOCK_MONOTONIC, which stops while the machine is suspended: meanwhile the
lease expires for other replicas.
"""


def now() -> float:
    """Return the time of the election's clock in seconds. No administrator can set this clock."""
    return time.clock_gettime(_CLOCK)


class LeaseUnavailable(Exception):
    """The API server did not respond to a request about the Lease, or responded with an error. Whether it carried out a write
    is unknown.
    """


@dataclass(frozen=True, slots=True)
class LeaseRecord:
    """The fields of the Lease that the election uses."""

    holder_identity: str
    """Identity of the process that holds the lease; empty if there is none."""
    lease_transitions: int
    """The term: how often the holder of the lease has changed."""
    resource_version: str = ""
    """The resourceVersion of the Lease: changes with every write."""
    released: bool = False
    """Whether the holder has stopped writing and released the lease. A candidate then need not wait."""


class LeaseStore(Protocol):
    """The Lease of the election on the API server. Every method takes `timeout` seconds at most, and may raise
    LeaseUnavailable.
    """

    async def get(self, timeout: float) -> LeaseRecord | None:
        """Return the record in the Lease; None if the Lease does not exist."""

    async def create(self, record: LeaseRecord, timeout: float) -> LeaseRecord | None:
        """Create the Lease with this record, and return the record as stored. Return None if the Lease already exists."""

    async def update(self, record: LeaseRecord, timeout: float) -> LeaseRecord | None:
        """Replace the record in the Lease, and return the record as stored. Return None if the resourceVersion of `record` is
        outdated, or the Lease does not exist.
        """


class Fence:
    """Open while this process can prove, by its own clock alone, that it still holds the lease."""

    def __init__(self, clock: Callable[[], float] = now) -> None:
        self._clock = clock
        self._until = float("-inf")
        self.term = 0
        """The term for which the fence was last opened; 0 if it never was."""

    def remaining(self) -> float:
        """Return the seconds for which this process may still write; 0 if the fence is closed."""
        return max(0.0, self._until - self._clock())

    def prove(self, term: int, sent: float) -> None:
        """Open the fence for `term`, because a request acquired or renewed the lease. `sent` is the time at which this process
        sent that request; the fence stays open for RENEW_DEADLINE seconds after it.
        """
        self.term, self._until = term, sent + RENEW_DEADLINE

    def revoke(self) -> None:
        """Close the fence: this process may not write any longer."""
        self._until = float("-inf")


class Elector:
    """One candidate of the election. Call `acquire`, `renew` and `release` once each, in this order."""

    def __init__(
        self,
        store: LeaseStore,
        identity: str,
        fence: Fence,
        sleep: Callable[[float], Awaitable[None]],
        clock: Callable[[], float] = now,
    ) -> None:
        """`identity` must be unique to this process. `clock` returns the seconds of a clock that cannot be set."""
        self._store = store
        self._identity = identity
        self._fence = fence
        self._sleep = sleep
        self._clock = clock
        self._record: LeaseRecord | None = None
        self._changed_at = float("-inf")
        self._restored_version = ""
        """resourceVersion of the last record that was older than the one read before it."""

    @property
    def term(self) -> int:
        """The term in the Lease as this process last read or wrote it, whichever process is the holder; 0 before the first
        read.
        """
        return self._record.lease_transitions if self._record is not None else 0

    def unchanged_for(self) -> float:
        """Return the seconds since this process last renewed the Lease, or first read its current resourceVersion; 0 before the
        first read.
        """
        return self._clock() - self._changed_at if self._record is not None else 0.0

    async def acquire(self) -> None:
        """Wait until this process holds the lease. The fence is then open."""
        while True:
            try:
                if await self._try_acquire():
                    return
            except LeaseUnavailable as error:
                log.warning("lease_unavailable", error=str(error))
            pause, expires_in = _jittered(POLL_PERIOD), LEASE_DURATION - self.unchanged_for()
            await self._sleep(min(pause, expires_in) if expires_in > 0 else pause)

    async def renew(self) -> str:
        """Renew the lease periodically until it is lost. Then close the fence for good, and return a message that says why it
        was lost.
        """
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
        """Release the lease, so that the next leader need not wait until it expires. Call this only when no write is in flight.
        If the request fails, the lease expires instead.
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
        if self._record is not None and int(observed.resource_version) < int(self._record.resource_version):
            self._restored_version = observed.resource_version
        if self._record is None or observed.resource_version != self._record.resource_version:
            self._record, self._changed_at = (
                replace(observed, lease_transitions=max(observed.lease_transitions, self.term)),
                read_at,
            )
        released = observed.released and observed.resource_version != self._restored_version
        if not released and read_at - self._changed_at < LEASE_DURATION:
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
        """Write `desired` to the Lease and return the record as stored, even if the Lease was edited or deleted by hand. Return
        None if the lease was released or another process holds it. Raises LeaseUnavailable.
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
    """Return `term` + 1, or 1 after the largest that the API server accepts: a person may have edited the Lease."""
    return term + 1 if term < _TERM_MAX else 1


def _jittered(period: float) -> float:
    return random.uniform(0.8, 1.2) * period  # noqa: S311  # so that candidates do not all send their requests at once
