"""The operator behind the fault proxy, against the real API server. `matrix.py` says which test shows which cell."""

import os
from collections.abc import AsyncIterator, Callable, Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from support import faultproxy
from support.control_plane import ControlPlane
from support.crashes import Crashes, Operator, Workload
from support.faultproxy import FaultProxy
from support.kubectl import Kubectl
from support.live import Live, open_live
from support.oracles import History, recording, violations
from support.oracles.invariants import longest_untrue_ready
from userstorage_operator.reconcile import reconciler
from userstorage_operator.status import requeue


@pytest.fixture
async def live(api: Kubectl, namespace: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Live]:
    """The test's namespace, read directly from the API server."""
    monkeypatch.setenv("KUBECONFIG", str(api.kubeconfig))
    async with open_live(namespace) as live:
        yield live


@pytest.fixture
def proxy(live: Live, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultProxy]:
    """The proxy that the operator uses as its API server. `live` bypasses it."""
    with faultproxy.running(Path(os.environ["KUBECONFIG"]), tmp_path) as proxy:
        monkeypatch.setenv("KUBECONFIG", str(proxy.kubeconfig))
        yield proxy


@pytest.fixture
async def judged(live: Live, proxy: FaultProxy, record_property: Callable[[str, object], None]) -> AsyncIterator[History]:
    """A record of the namespace. At the end of the test, every invariant must have held at every moment of it."""
    async with recording(live) as history:
        yield history
        await history.caught_up(live)
    assert violations(history, proxy.requests) == []
    record_property("worst", f"Ready untrue for {longest_untrue_ready(history):.1f} s")


@pytest.fixture
async def operator(live: Live, proxy: FaultProxy, judged: History) -> AsyncIterator[Operator]:
    """A running operator of the test's namespace that does not sweep: what a watch misses stays missed."""
    async with Operator(proxy, (live.namespace,)).running() as operator:
        yield operator


@pytest.fixture
async def sweeping(live: Live, proxy: FaultProxy, judged: History) -> AsyncIterator[Operator]:
    """A running operator of the test's namespace that sweeps each second."""
    async with Operator(proxy, (live.namespace,), sweep_period=1).running() as operator:
        yield operator


@pytest.fixture
async def crashes(
    live: Live, proxy: FaultProxy, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Callable[[Workload], Crashes]]:
    """A function that prepares crashes of a workload, with a running operator of all namespaces."""
    # The status waits for the end of a start or deletion, however slow it is, so that each run makes the same writes.
    monkeypatch.setattr(requeue, "REPORT_DELAY", timedelta(minutes=5))
    # But not for the details of a claim that is seen as bound only after its pod is ready.
    monkeypatch.setattr(reconciler, "claim_details_at", lambda *_: None)
    prepared: list[Crashes] = []
    async with Operator(proxy).running() as operator:

        def prepare(workload: Workload) -> Crashes:
            prepared.append(Crashes(live, proxy, operator, workload))
            return prepared[-1]

        yield prepare
    for these in prepared:
        await these.clean_up()


@pytest.fixture(scope="module")
def control_plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    """A separate cluster, whose programs a test may kill."""
    own = ControlPlane(tmp_path_factory.mktemp("own") / "cluster")
    yield own
    own.stop()


@pytest.fixture
async def own_live(control_plane: ControlPlane, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Live]:
    """A namespace of the separate cluster."""
    monkeypatch.setenv("KUBECONFIG", str(control_plane.kubectl.kubeconfig))
    async with open_live(control_plane.new_namespace()) as live:
        yield live
