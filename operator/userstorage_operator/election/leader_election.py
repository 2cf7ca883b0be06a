"""Leader election of this process: acquire the lease, renew it, and exit if it is lost."""

import asyncio
import os
import socket
import uuid
from collections.abc import Coroutine
from typing import Any

import structlog

from userstorage_operator.election.elector import Elector, Fence
from userstorage_operator.election.kube_lease import KubeLease
from userstorage_operator.kube.client import KubeClient
from userstorage_operator.kube.write_gate import NoopFence
from userstorage_operator.runtime.metrics import Metrics

log = structlog.get_logger(__name__)

_EXIT_LEADERSHIP_LOST = 3
"""Exit code of a process that lost the lease, shown in the last state of its container. Code 1 means an error."""


class LeaderElection:
    """The election by a lease: its holder is the leader."""

    def __init__(self, lease_namespace: str, client: KubeClient) -> None:
        """`client` is used for the lease itself and must not be fenced."""
        self.fence = Fence()
        self.role = "starting"
        """What this process does, for people: starting, standby, leading or stopped."""
        self._identity = f"{socket.gethostname()}_{uuid.uuid4().hex[:8]}"
        self._renewing: asyncio.Task[None] | None = None
        self._elector = Elector(KubeLease(client, lease_namespace), self._identity, self.fence, asyncio.sleep)

    @property
    def is_leader(self) -> bool:
        """Whether this process was elected and has not resigned."""
        return self.role == "leading"

    def detail(self) -> dict[str, object]:
        """Return further fields for the answers of `/health` and `/ready`."""
        return {"role": self.role, "identity": self._identity, "term": self._elector.term}

    def update_gauges(self, metrics: Metrics) -> None:
        """Set the gauges of the election."""
        metrics.gauges.leader.set(self.fence.remaining() > 0)
        metrics.gauges.leader_term.set(self._elector.term)
        metrics.gauges.lease_renew_age.set(self._elector.unchanged_for())

    async def run(self, stop: asyncio.Event) -> int | None:
        """Wait for the lease and start to renew it. Return the term, or None if `stop` is set first. If the lease is lost later,
        the process exits at once.
        """
        self.role = "standby"
        log.info("waiting_for_lease", identity=self._identity)
        if not await _completes_before(stop, self._elector.acquire()):
            return None
        self.role = "leading"
        log.info("leader_elected", identity=self._identity, term=self.fence.term)
        # Started before kopf: when kopf stops, it cancels all tasks that were started after it.
        self._renewing = asyncio.create_task(self._keep_lease(), name="lease")
        return self.fence.term

    async def resign(self, *, drained: bool) -> None:
        """Stop being the leader. If `drained`, no write can still be in flight, and the lease is released for the next leader.
        Else it expires.
        """
        if self._renewing is None:
            return
        renewing, self._renewing = self._renewing, None
        renewing.cancel()
        await asyncio.gather(renewing, return_exceptions=True)
        self.role = "stopped"
        if drained:
            await self._elector.release()
        else:
            self.fence.revoke()
        log.info("leadership_released", identity=self._identity, released=drained)

    async def _keep_lease(self) -> None:
        try:
            log.error("leadership_lost", identity=self._identity, why=await self._elector.renew())
        except Exception:  # a lease that is no longer renewed is lost as well
            log.exception("leadership_lost", identity=self._identity)
        os._exit(_EXIT_LEADERSHIP_LOST)  # at once: the new leader works on the same objects


class NoElection:
    """No election: the process is always the leader. For a laptop or a test."""

    fence = NoopFence()
    is_leader = True

    def detail(self) -> dict[str, object]:
        """Return further fields for the answers of `/health` and `/ready`."""
        return {"role": "leading"}

    def update_gauges(self, metrics: Metrics) -> None:
        """Set the gauges of the election."""
        metrics.gauges.leader.set(1)

    async def run(self, _: asyncio.Event) -> int | None:
        """Return term 0 at once."""
        log.info("leader_elected", elected=False)
        return 0

    async def resign(self, *, drained: bool) -> None:
        """Do nothing: there is no lease."""


async def _completes_before(stop: asyncio.Event, coroutine: Coroutine[Any, Any, None]) -> bool:
    """Whether the coroutine returned before `stop` was set. Raises its exception."""
    task, stopping = asyncio.create_task(coroutine), asyncio.create_task(stop.wait())
    try:
        await asyncio.wait((task, stopping), return_when=asyncio.FIRST_COMPLETED)
        return task.done() and task.result() is None
    finally:
        task.cancel()
        stopping.cancel()
