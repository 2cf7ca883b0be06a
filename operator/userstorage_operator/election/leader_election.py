"""Whether this process leads, and what follows when that ends."""

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
"""Exit code of a process that no longer leads: told from 1, an error, in what a pod shows of its last end."""


class LeaderElection:
    """Leads for as long as it holds the lease."""

    def __init__(self, lease_namespace: str, client: KubeClient) -> None:
        """`client` is for the lease itself, and must not be fenced."""
        self.fence = Fence()
        self.role = "starting"
        self._identity = f"{socket.gethostname()}_{uuid.uuid4().hex[:8]}"
        self._renewing: asyncio.Task[None] | None = None
        self._elector = Elector(KubeLease(client, lease_namespace), self._identity, self.fence, asyncio.sleep)

    @property
    def is_leader(self) -> bool:
        """Whether it has come to lead."""
        return self.role == "leading"

    def detail(self) -> dict[str, object]:
        """What health and readiness answer besides."""
        return {"role": self.role, "identity": self._identity, "term": self._elector.term}

    def update_gauges(self, metrics: Metrics) -> None:
        """Read the gauges at this moment."""
        metrics.gauges.leader.set(self.fence.remaining() > 0)
        metrics.gauges.leader_term.set(self._elector.term)
        metrics.gauges.lease_renew_age.set(self._elector.unchanged_for())

    async def run(self, stop: asyncio.Event) -> int | None:
        """Stand by, then lead: the term, or None where `stop` came first. Where the lease is lost, the process ends at once."""
        self.role = "standing by"
        log.info("waiting_for_lease", identity=self._identity)
        if not await _completes_before(stop, self._elector.acquire()):
            return None
        self.role = "leading"
        log.info("leader_elected", identity=self._identity, term=self.fence.term)
        self._renewing = asyncio.create_task(self._keep_lease(), name="lease")  # before kopf starts, which ends what is younger
        return self.fence.term

    async def resign(self, *, drained: bool) -> None:
        """Lead no more. `settled`: nothing that was written can still be on its way, so a successor may begin at once."""
        if self._renewing is None:
            return
        renewing, self._renewing = self._renewing, None
        renewing.cancel()
        await asyncio.gather(renewing, return_exceptions=True)
        self.role = "ended"
        if drained:
            await self._elector.release()
        else:
            self.fence.revoke()
        log.info("leadership_released", identity=self._identity, released=drained)

    async def _keep_lease(self) -> None:
        try:
            log.error("leadership_lost", identity=self._identity, why=await self._elector.renew())
        except Exception:  # a lease that nobody renews any more is lost, too
            log.exception("leadership_lost", identity=self._identity)
        os._exit(_EXIT_LEADERSHIP_LOST)  # at once: whoever leads now is at whatever is still under way here


class NoElection:
    """Leads without asking anybody: on a laptop, in a test."""

    fence = NoopFence()
    is_leader = True

    def detail(self) -> dict[str, object]:
        """What health and readiness answer besides."""
        return {"role": "leading"}

    def update_gauges(self, metrics: Metrics) -> None:
        """Read the gauges at this moment."""
        metrics.gauges.leader.set(1)

    async def run(self, _: asyncio.Event) -> int | None:
        """At once, as term 0."""
        log.info("leader_elected", elected=False)
        return 0

    async def resign(self, *, drained: bool) -> None:
        """There is nobody to tell."""


async def _completes_before(stop: asyncio.Event, coroutine: Coroutine[Any, Any, None]) -> bool:
    """Whether the coroutine came to its end before `stop` was set. Raises what it raises."""
    working, stopping = asyncio.create_task(coroutine), asyncio.create_task(stop.wait())
    try:
        await asyncio.wait((working, stopping), return_when=asyncio.FIRST_COMPLETED)
        return working.done() and working.result() is None
    finally:
        working.cancel()
        stopping.cancel()
