"""The gate through which every write of a client goes."""

import asyncio
import contextlib
from collections.abc import Iterator
from typing import Protocol

from userstorage_operator.api.errors import NotLeader, Unavailable


class Fence(Protocol):
    """Who is asked before every write."""

    def remaining(self) -> float:
        """Seconds for which this process may write; 0 where it may not."""


class NoopFence:
    """Whoever writes for nobody but itself: a command, a lease, a process without election."""

    def remaining(self) -> float:
        """Satisfies Fence."""
        return float("inf")


class WriteGate:
    """Lets writes through while the fence is open, and none any more once it is closed for good."""

    def __init__(self, fence: Fence) -> None:
        self.fence = fence
        self._closed = False
        self._in_flight = 0
        self._idle = asyncio.Event()
        self._idle.set()
        self._in_doubt_until = float("-inf")

    @contextlib.contextmanager
    def admit(self, timeout: float) -> Iterator[float]:
        """One write of at most `longest` seconds: the seconds that it may take, for then the lease may be another's.

        Raises NotLeading.
        """
        remaining = 0.0 if self._closed else self.fence.remaining()
        if not remaining:
            raise NotLeader("not written: this process does not lead, or cannot prove that it does")
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
            if not answered:  # cancelled, too
                self._in_doubt_until = max(self._in_doubt_until, deadline)
            self._in_flight -= 1
            if not self._in_flight:
                self._idle.set()

    async def close(self) -> bool:
        """Let nothing more through and wait for the answers to what is under way: whether nothing is left in doubt. A write
        that got no answer may be carried out until the time that it was given is over, by whomever it was given up.
        """
        self._closed = True
        await self._idle.wait()
        return asyncio.get_running_loop().time() >= self._in_doubt_until
