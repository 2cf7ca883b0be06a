"""Three operators, one lease: whatever becomes of the leader, another one writes soon, and never two at a time.

What counts is what the API server saw: its audit log, in which every process has a login of its own.
"""

import itertools
import json
import signal
import time
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from support.election_table import Trials
from support.kubectl import Kubectl, eventually
from support.operator_account import SYSTEM, Request
from support.operator_replicas import LEASE, OperatorReplicas, Replica, replicas

pytestmark = [pytest.mark.kwok]

BURST = 12
LOST = 3


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "trial" in metafunc.fixturenames:
        metafunc.parametrize("trial", range(metafunc.config.getoption("--election-trials")))


@pytest.fixture(scope="module")
def three(api: Kubectl, tmp_path_factory: pytest.TempPathFactory) -> Iterator[OperatorReplicas]:
    namespace = f"test-{uuid.uuid4().hex[:8]}"
    api.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}})
    with replicas(api, tmp_path_factory.mktemp("replicas"), namespace, 3) as several:
        yield several
    api.run("delete", "namespace", namespace, "--wait=false")


@pytest.fixture(scope="module")
def trials(three: OperatorReplicas, request: pytest.FixtureRequest) -> Iterator[Trials]:
    """What each trial took, written down where somebody wants it."""
    told = Trials(request.config.getoption("--election-trials"))
    yield told
    if (path := request.config.getoption("--election-table")) is not None:
        writes = three.writes()
        assert_never_two(writes)
        Path(path).write_text(told.table(writes))


@pytest.fixture
def leader(three: OperatorReplicas) -> Iterator[Replica]:
    """The one that leads, with two that stand by; who ends is replaced, and nobody has written at another's time."""
    three.api.run("delete", "us", "--all", "-n", three.namespace, "--wait=false")  # work too, and it keeps room on the nodes
    found = three.leader()
    yield found
    ended = [replica for replica in three.running if replica.process.exit_code() is not None]
    for replica in ended:
        three.remove(replica)
    while len(three.running) < 3:
        three.add()
    assert_never_two(three.writes())
    assert not ended, "somebody ended who should not have"


def users(three: OperatorReplicas, count: int = BURST) -> None:
    """New objects: work for whoever leads."""
    names = [f"u{uuid.uuid4().hex[:8]}" for _ in range(count)]
    items = [
        {"apiVersion": "userstorage.dev/v1", "kind": "UserStorage", "metadata": {"name": name}, "spec": {"userID": name}}
        for name in names
    ]
    listed = json.dumps({"apiVersion": "v1", "kind": "List", "items": items})
    three.api.run("create", "-n", three.namespace, "-f", "-", input=listed)


def is_work(write: Request) -> bool:
    return write.resource != "leases"


def assert_never_two(writes: list[Request]) -> None:
    """Each has written for one stretch of time only, and nobody before the lease was its own."""
    work = [write for write in writes if is_work(write)]
    stretches = [who for who, _ in itertools.groupby(work, key=lambda write: write.credential)]
    assert len(stretches) == len(set(stretches)), "somebody wrote again after another had written"
    for one, another in itertools.pairwise(stretches):
        taken = min(w.received for w in writes if w.credential == another and not is_work(w) and w.code == 200)
        assert max(w.answered for w in work if w.credential == one) <= taken, "written after another had taken the lease"
        assert taken <= min(w.received for w in work if w.credential == another), "written before the lease was taken"


def first_write_of_another(three: OperatorReplicas, old: Replica, since: datetime, within: float) -> timedelta:
    """How long after `since` another one than `old` began to write."""

    def look() -> Request | None:
        work = (write for write in three.writes() if is_work(write) and write.received > since)
        return next((write for write in work if write.credential != old.credential), None)

    found = eventually(look, within=within)
    assert found is not None
    return found.received - since


def test_one_leads_and_the_others_say_that_they_stand_by(three: OperatorReplicas, leader: Replica) -> None:
    for replica in three.running:
        role = "leading" if replica is leader else "standing by"
        for path in ("/health", "/ready"):
            assert json.loads(replica.get(path))["role"] == role
        assert f"userstorage_leader {1.0 if replica is leader else 0.0}" in replica.get("/metrics")
    users(three)
    eventually(lambda: sum(is_work(write) for write in three.writes()) > BURST)
    assert {write.credential for write in three.writes() if is_work(write)} == {leader.credential}


def test_a_leader_that_is_asked_to_end_hands_over(three: OperatorReplicas, leader: Replica, trials: Trials, trial: int) -> None:
    users(three)
    asked = datetime.now(UTC)
    leader.process.send(signal.SIGTERM)
    users(three, 1)
    took = first_write_of_another(three, leader, asked, within=20)
    assert leader.process.wait(within=10) == 0
    three.remove(leader)
    trials.took("SIGTERM", took)
    assert took < timedelta(seconds=5)


def test_a_leader_that_is_killed_is_followed_when_its_lease_is_out(
    three: OperatorReplicas, leader: Replica, trials: Trials, trial: int
) -> None:
    users(three)
    killed = datetime.now(UTC)
    leader.process.kill()
    three.remove(leader)
    users(three, 1)
    took = first_write_of_another(three, leader, killed, within=30)
    trials.took("SIGKILL", took)
    assert took < timedelta(seconds=17)


def test_a_leader_that_was_stopped_never_writes_again(
    three: OperatorReplicas, leader: Replica, trials: Trials, trial: int
) -> None:
    users(three)
    stopped = datetime.now(UTC)
    leader.process.send(signal.SIGSTOP)
    users(three, 1)
    took = first_write_of_another(three, leader, stopped, within=30)
    time.sleep(max(0.0, 20 - (datetime.now(UTC) - stopped).total_seconds()))
    users(three)  # what it would like to work on when it goes on
    resumed = datetime.now(UTC)
    leader.process.send(signal.SIGCONT)
    assert leader.process.wait(within=5) == LOST
    three.remove(leader)
    trials.took("SIGSTOP for 20 s", took)
    assert not [write for write in three.writes() if write.credential == leader.credential and write.received > resumed]


def test_a_leader_that_is_cut_off_ends_before_its_lease_is_out(
    three: OperatorReplicas, leader: Replica, trials: Trials, trial: int
) -> None:
    users(three)
    cut = datetime.now(UTC)
    leader.proxy.cut_off = True
    users(three, 1)
    assert leader.process.wait(within=13) == LOST
    ended = datetime.now(UTC)
    three.remove(leader)
    took = first_write_of_another(three, leader, cut, within=30)
    trials.took("cut off from the API server", took)
    assert cut + took > ended


def test_a_lease_that_is_deleted_by_hand_comes_back_to_the_one_that_leads(
    three: OperatorReplicas, leader: Replica, trial: int
) -> None:
    three.api.run("delete", "lease", LEASE, "-n", SYSTEM)
    assert eventually(lambda: (three.api.get("lease", LEASE, SYSTEM) or {"spec": {}})["spec"].get("holderIdentity"), within=10)
    assert three.leader() is leader
    users(three)
    began = datetime.now(UTC)
    eventually(lambda: [w for w in three.writes() if is_work(w) and w.credential == leader.credential and w.received > began])
