"""Leader election of this process: acquires the lease, renews it, and exits the process if the lease is lost."""

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
    """Leader election by a Lease: the process that holds the lease is the leader."""

    def __init__(self, lease_namespace: str, client: KubeClient) -> None:
        """`client` reads and writes the Lease itself, so it must have no fence."""
        self.fence = Fence()
        self.role = "starting"
        """State of this process in the election, for people: starting, standby, leading or stopped."""
        self._identity = f"{socket.gethostname()}_{uuid.uuid4().hex[:8]}"
        self._renewing: asyncio.Task[None] | None = None
        self._elector = Elector(KubeLease(client, lease_namespace), self._identity, self.fence, asyncio.sleep)

    @property
    def is_leader(self) -> bool:
        """Whether this process was elected and has not resigned."""
        return self.role == "leading"

    def detail(self) -> dict[str, object]:
        """Return the role, identity and term, as further fields for the responses of `/health` and `/ready`."""
        return {"role": self.role, "identity": self._identity, "term": self._elector.term}

    def update_gauges(self, metrics: Metrics) -> None:
        """Set the gauges of the election: whether this process leads, the term, and the time since the last renewal of the
        lease.
        """
        metrics.gauges.leader.set(self.fence.remaining() > 0)
        metrics.gauges.leader_term.set(self._elector.term)
        metrics.gauges.lease_renew_age.set(self._elector.unchanged_for())

    async def run(self, stop: asyncio.Event) -> int | None:
        """Wait until this process holds the lease, then renew it in the background. Return the term of the lease; None if
        `stop` is set first. If the lease is lost later, the process exits at once.
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
        """Stop being the leader. `drained` means that no write can still be in flight: only then is the lease released for the
        next leader. Otherwise the lease expires.
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
    """Replaces LeaderElection in a process that runs alone and always leads: on a laptop or in a test."""

    fence = NoopFence()
    is_leader = True

    def detail(self) -> dict[str, object]:
        """Return the role `leading`, as a further field for the responses of `/health` and `/ready`."""
        return {"role": "leading"}

    def update_gauges(self, metrics: Metrics) -> None:
        """Set the gauge `leader` to 1."""
        metrics.gauges.leader.set(1)

    async def run(self, _: asyncio.Event) -> int | None:
        """Return term 0 at once: there is no lease to wait for."""
        log.info("leader_elected", elected=False)
        return 0

    async def resign(self, *, drained: bool) -> None:
        """Do nothing: there is no lease to release."""


async def _completes_before(stop: asyncio.Event, coroutine: Coroutine[Any, Any, None]) -> bool:
    """Wait until the coroutine returns or `stop` is set. Return whether the coroutine has returned. Raises its exception."""
    task, stopping = asyncio.create_task(coroutine), asyncio.create_task(stop.wait())
    try:
        await asyncio.wait((task, stopping), return_when=asyncio.FIRST_COMPLETED)
        return task.done() and task.result() is None
    finally:
        task.cancel()
        stopping.cancel()
