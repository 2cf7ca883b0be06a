"""Admits or refuses every write of a KubeClient to the API server."""

import asyncio
import contextlib
from collections.abc import Iterator
from typing import Protocol

from userstorage_operator.api.errors import NotLeader, Unavailable


class Fence(Protocol):
    """Says for how long this process may write. WriteGate asks it before every write."""

    def remaining(self) -> float:
        """Return the seconds for which this process may write; 0 if it may not."""


class NoopFence:
    """A Fence that is always open: for commands, for the client that writes the Lease, and for a process without leader
    election.
    """

    def remaining(self) -> float:
        """Return infinity: this process may always write."""
        return float("inf")


class WriteGate:
    """Admits writes while the fence is open, and no write after `close`."""

    def __init__(self, fence: Fence) -> None:
        self.fence = fence
        self._closed = False
        self._in_flight = 0
        self._idle = asyncio.Event()
        self._idle.set()
        self._in_doubt_until = float("-inf")

    @contextlib.contextmanager
    def admit(self, timeout: float) -> Iterator[float]:
        """Admit one write of at most `timeout` seconds. Yield the time limit of the write in seconds. The limit is shorter than
        `timeout` if the fence closes sooner, because then another process may hold the lease.

        Raises NotLeader if the fence is closed, or if `close` was called.
        """
        remaining = 0.0 if self._closed else self.fence.remaining()
        if not remaining:
            raise NotLeader("write refused: this process is not the leader, or cannot prove that it is")
        limit = min(timeout, remaining)
        deadline = asyncio.get_running_loop().time() + limit
        answered = False
        self._in_flight += 1
        self._idle.clear()
        try:
            yield limit
            answered = True
        except Unavailable:
            raise
        except Exception:
            answered = True
            raise
        finally:
            if not answered:  # also after a cancellation
                self._in_doubt_until = max(self._in_doubt_until, deadline)
            self._in_flight -= 1
            if not self._in_flight:
                self._idle.set()

    async def close(self) -> bool:
        """Refuse further writes, and wait until those in flight have ended. Return whether the outcome of all writes is known.

        The outcome of a write without a response is unknown until its time limit has passed: until then the API server may
        carry it out.
        """
        self._closed = True
        await self._idle.wait()
        return asyncio.get_running_loop().time() >= self._in_doubt_until
