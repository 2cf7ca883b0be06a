"""Two replicas of the gate, restarted and killed while alice uses her files and bob tries to."""

import uuid
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from localcluster.netns import Namespace
from localcluster.state import read
from support.cluster_access import LocalNode
from support.front_door import NAME, SECRET, FrontDoor, assert_refused, assert_served
from support.gate_process import KEY
from support.gateway_answers import LATE_ANSWER, NO_ANSWER
from support.installation import Installation, InstalledGate
from support.kubectl import WAIT
from support.users import NamespaceUsers
from testservers.frontdoor import GATEWAYS, Gateway

Door = FrontDoor[InstalledGate]


@pytest.fixture(scope="module")
def front_door(installation: Installation, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Door]:
    """alice and bob, with the gate of deploy/gate."""
    found = read(installation.directory / "state.json")
    assert found is not None
    kubectl, namespace = installation.kubectl, f"test-{uuid.uuid4().hex[:8]}"
    node = LocalNode(kubectl, Namespace(found.processes["namespace"].pid), installation.directory)
    kubectl.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}})
    gate = InstalledGate(kubectl)
    gate.install(KEY)
    door = FrontDoor(NamespaceUsers(kubectl, namespace, node), tmp_path_factory.mktemp("front-door"), gate)
    try:
        yield door.start()
    finally:
        door.stop()
        kubectl.run("delete", "namespace", namespace, WAIT)
        kubectl.delete("userstorageclass", *door.users.classes)


@pytest.fixture(params=GATEWAYS)
def gateway(request: pytest.FixtureRequest, front_door: Door) -> Iterator[Gateway]:
    """A gateway in front of the pods."""
    front_door.place(NAME, SECRET)
    started = front_door.gateway(request.param, front_door.pods())
    yield started
    started.stop()


def test_rolling_restart_refuses_no_owner_and_admits_no_stranger(front_door: Door, gateway: Gateway) -> None:
    with ThreadPoolExecutor() as pool, ThreadPoolExecutor(1) as beside:
        restarted = beside.submit(front_door.gate.restart)
        while not restarted.done():
            of_alice, of_bob = front_door.visit(pool, gateway)
            assert_served(of_alice)
            assert_refused(of_bob, 403)
        restarted.result()


def test_killed_replica_admits_no_stranger(front_door: Door, gateway: Gateway) -> None:
    codes, failures = Counter[int](), {NO_ANSWER[gateway.name], LATE_ANSWER[gateway.name]}
    with ThreadPoolExecutor() as pool, ThreadPoolExecutor(1) as beside:
        killed = beside.submit(front_door.gate.kill)
        while not killed.done():
            of_alice, of_bob = front_door.visit(pool, gateway)
            codes.update(answer.code for answer in of_alice)
            assert_refused(of_bob, 403, *failures)
        killed.result()
        assert {code for code in codes if code >= 300} <= failures
        of_alice, of_bob = front_door.visit(pool, gateway)
        assert_served(of_alice)
        assert_refused(of_bob, 403)
