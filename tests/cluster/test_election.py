"""Three operators, one lease: after any loss of the leader another one writes soon, and never two at a time.

The evidence is the audit log of the API server, in which every process has its own login.
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
from userstorage_operator.election.elector import LEASE_DURATION

pytestmark = [pytest.mark.kwok]

BURST = 12
EXIT_LEADERSHIP_LOST = 3


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
    """Collect the duration of each trial, and write the table if `--election-table` is set."""
    trials = Trials(request.config.getoption("--election-trials"))
    yield trials
    if (path := request.config.getoption("--election-table")) is not None:
        writes = three.writes()
        assert_never_two(writes)
        Path(path).write_text(trials.table(writes))


@pytest.fixture
def leader(three: OperatorReplicas) -> Iterator[Replica]:
    """Return the leader of three replicas. Afterwards, replace the replicas that ended and check that never two wrote at a time."""
    three.api.run(
        "delete", "us", "--all", "-n", three.namespace, "--wait=false"
    )  # this is work as well, and it frees room on the nodes
    found = three.leader()
    yield found
    ended = [replica for replica in three.running if replica.process.exit_code() is not None]
    for replica in ended:
        three.remove(replica)
    while len(three.running) < 3:
        three.add()
    assert_never_two(three.writes())
    assert not ended, "a replica ended unexpectedly"


def users(three: OperatorReplicas, count: int = BURST) -> None:
    """Create objects: work for the leader."""
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
    """Check that each process wrote during one period only, and not before it had acquired the lease."""
    work = [write for write in writes if is_work(write)]
    periods = [credential for credential, _ in itertools.groupby(work, key=lambda write: write.credential)]
    assert len(periods) == len(set(periods)), "a process wrote again after another one had written"
    for former, successor in itertools.pairwise(periods):
        acquired = min(w.received for w in writes if w.credential == successor and not is_work(w) and w.code == 200)
        assert max(w.answered for w in work if w.credential == former) <= acquired, (
            "written after another process had acquired the lease"
        )
        assert acquired <= min(w.received for w in work if w.credential == successor), "written before the lease was acquired"


def first_write_of_another(three: OperatorReplicas, old: Replica, since: datetime) -> timedelta:
    """Return the time from `since` until a process other than `old` wrote."""

    def first_write() -> Request | None:
        work = (write for write in three.writes() if is_work(write) and write.received > since)
        return next((write for write in work if write.credential != old.credential), None)

    found = eventually(first_write)
    assert found is not None
    return found.received - since


def test_one_replica_leads_and_the_others_report_standby(three: OperatorReplicas, leader: Replica) -> None:
    for replica in three.running:
        role = "leading" if replica is leader else "standby"
        for path in ("/health", "/ready"):
            assert json.loads(replica.get(path))["role"] == role
        assert f"userstorage_leader {1.0 if replica is leader else 0.0}" in replica.get("/metrics")
    users(three)
    eventually(lambda: sum(is_work(write) for write in three.writes()) > BURST)
    assert {write.credential for write in three.writes() if is_work(write)} == {leader.credential}


def test_terminated_leader_hands_over(three: OperatorReplicas, leader: Replica, trials: Trials, trial: int) -> None:
    users(three)
    asked = datetime.now(UTC)
    leader.process.send_signal(signal.SIGTERM)
    users(three, 1)
    duration = first_write_of_another(three, leader, asked)
    assert leader.process.wait() == 0
    three.remove(leader)
    trials.add("SIGTERM", duration)
    assert duration.total_seconds() < LEASE_DURATION, "the lease was not released"


def test_killed_leader_is_replaced_when_its_lease_expires(
    three: OperatorReplicas, leader: Replica, trials: Trials, trial: int
) -> None:
    users(three)
    killed = datetime.now(UTC)
    leader.process.kill()
    three.remove(leader)
    users(three, 1)
    duration = first_write_of_another(three, leader, killed)
    trials.add("SIGKILL", duration)


def test_suspended_leader_never_writes_again(three: OperatorReplicas, leader: Replica, trials: Trials, trial: int) -> None:
    users(three)
    stopped = datetime.now(UTC)
    leader.process.send_signal(signal.SIGSTOP)
    users(three, 1)
    duration = first_write_of_another(three, leader, stopped)
    time.sleep(max(0.0, 20 - (datetime.now(UTC) - stopped).total_seconds()))
    users(three)  # work that it would do when it resumes
    resumed = datetime.now(UTC)
    leader.process.send_signal(signal.SIGCONT)
    assert leader.process.wait() == EXIT_LEADERSHIP_LOST
    three.remove(leader)
    trials.add("SIGSTOP for 20 s", duration)
    assert not [write for write in three.writes() if write.credential == leader.credential and write.received > resumed]


def test_leader_without_network_exits_before_its_lease_expires(
    three: OperatorReplicas, leader: Replica, trials: Trials, trial: int
) -> None:
    users(three)
    cut = datetime.now(UTC)
    leader.proxy.cut_off = True
    users(three, 1)
    assert leader.process.wait() == EXIT_LEADERSHIP_LOST
    ended = datetime.now(UTC)
    three.remove(leader)
    duration = first_write_of_another(three, leader, cut)
    trials.add("cut off from the API server", duration)
    assert cut + duration > ended


def test_leader_recreates_deleted_lease(three: OperatorReplicas, leader: Replica, trial: int) -> None:
    three.api.run("delete", "lease", LEASE, "-n", SYSTEM)
    assert eventually(lambda: (three.api.get("lease", LEASE, SYSTEM) or {"spec": {}})["spec"].get("holderIdentity"))
    assert three.leader() is leader
    users(three)
    began = datetime.now(UTC)
    eventually(lambda: [w for w in three.writes() if is_work(w) and w.credential == leader.credential and w.received > began])
