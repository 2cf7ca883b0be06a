"""A compaction while the watches are cut, a garbage collector that is away, and CRDs that are deleted and created again."""

import asyncio
from pathlib import Path

import pytest

from support.control_plane import ControlPlane
from support.crashes import Operator
from support.faultproxy import Fault, FaultProxy
from support.kubectl import eventually
from support.live import Live
from support.oracles import History
from userstorage_operator.api.resources import Kind

pytestmark = [pytest.mark.kwok]

ROOT = Path(__file__).parents[3]


@pytest.fixture
def live(own_live: Live) -> Live:
    return own_live


async def test_what_was_compacted_while_the_watches_were_cut_is_listed(
    live: Live, control_plane: ControlPlane, operator: Operator, proxy: FaultProxy, judged: History
) -> None:
    for name in ("alice", "bob"):
        await live.create(name)
        await live.until_ready(name)
    await judged.caught_up(live)
    proxy.fail(Fault(verb="watch|list"))
    proxy.hang_up()
    pod = (await live.pod())["metadata"]["uid"]
    await live.delete(Kind.POD.resource, "user-storage-alice")
    await live.change({"spec": {"replicas": 0}}, "bob")
    await live.create("carol")
    await judged.caught_up(live)
    control_plane.compact()
    await asyncio.to_thread(control_plane.kill, "kube-apiserver")  # its cache of changes goes with it
    await asyncio.to_thread(control_plane.resume)
    proxy.fail()
    await live.until_ready("carol")
    await live.until_condition("Suspended", "True", "Requested", "bob")

    async def is_replaced() -> bool:
        found = await live.child(Kind.POD)
        return found is not None and found["metadata"]["uid"] != pod

    await live.until(is_replaced)
    await live.until_ready()


async def test_deletion_waits_for_the_garbage_collector_and_says_so(
    live: Live, control_plane: ControlPlane, operator: Operator, judged: History
) -> None:
    await live.create()
    await live.until_ready()
    with control_plane.stopped("kube-controller-manager"):
        await live.delete_with("Foreground")
        await live.until_condition("Reconciling", "True", "Terminating")
        # As the kubelet does once the containers have terminated.
        pod = (await live.pod())["metadata"]
        await live.client.delete(Kind.POD.resource, live.namespace, pod["name"], pod["uid"], 0, "Foreground")
        await live.until_condition("Reconciling", "True", "WaitingForGarbageCollection")
        assert (await live.get() or {})["status"]["phase"] == "Terminating"
    await live.until_gone()
    assert await live.child(Kind.POD) is None


async def test_claims_survive_the_deletion_of_the_crds(
    live: Live, control_plane: ControlPlane, operator: Operator, proxy: FaultProxy
) -> None:
    await live.create()
    await live.until_ready()
    claim = await live.child(Kind.PVC)
    assert claim is not None
    crds = ("userstorages.userstorage.dev", "userstorageclasses.userstorage.dev")
    await asyncio.to_thread(control_plane.kubectl.run, "delete", "crd", *crds)
    before = len(proxy.requests)

    async def watch_is_refused() -> bool:
        return any(request.code == 404 and request.resource == "userstorages" for request in proxy.requests[before:])

    await live.until(watch_is_refused)
    await asyncio.to_thread(control_plane.kubectl.run, "apply", "-k", str(ROOT / "deploy/crds"))
    await asyncio.to_thread(control_plane.kubectl.wait_established, *(f"crd/{name}" for name in crds))
    await asyncio.to_thread(eventually, lambda: control_plane.kubectl.run("get", "us", "-A", check=False).returncode == 0)
    await live.create_class(live.lab_class)  # the end of the test deletes it
    await live.create()
    await live.until_ready()
    kept = await live.child(Kind.PVC)
    assert kept is not None
    assert kept["metadata"]["uid"] == claim["metadata"]["uid"]
    assert operator.metrics.is_alive()
