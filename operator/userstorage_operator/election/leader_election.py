"""Leader election of this process: acquires the lease, renews it, and exits the process if the lease is lost."""

import asyncio
import os
import socket
import uuid
from collections.abc import Callable

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
        self._running: asyncio.Task[None] | None = None
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

    async def run(self, on_elected: Callable[[int], None]) -> None:
        """Wait until this process holds the lease, call `on_elected(term)`, and renew the lease until cancelled. If the lease is
        lost, the process exits at once.
        """
        self._running = asyncio.current_task()
        self.role = "standby"
        log.info("waiting_for_lease", identity=self._identity)
        await self._elector.acquire()
        self.role = "leading"
        log.info("leader_elected", identity=self._identity, term=self.fence.term)
        on_elected(self.fence.term)
        await self._keep_lease()

    async def resign(self, *, drained: bool) -> None:
        """End `run`, and stop being the leader. `drained` means that no write can still be in flight: only then is the lease
        released for the next leader. Otherwise the lease expires.
        """
        if self._running is None:
            return
        running, self._running = self._running, None
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        led, self.role = self.is_leader, "stopped"
        if not led:
            return
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

    async def run(self, on_elected: Callable[[int], None]) -> None:
        """Call `on_elected(0)` at once, because there is no lease to wait for, and wait until cancelled."""
        log.info("leader_elected", elected=False)
        on_elected(0)
        await asyncio.Event().wait()

    async def resign(self, *, drained: bool) -> None:
        """Do nothing: there is no lease to release."""
