"""Three operators, one lease: after any loss of the leader another one writes soon, and never two at a time.

The evidence is the audit log of the API server, in which every process has its own login.
"""

import json
import signal
import time
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from support.election_table import Trials
from support.faultproxy import Effect, Fault
from support.kubectl import Kubectl, eventually
from support.operator_account import SYSTEM, Request, requests
from support.operator_replicas import LEASE, OperatorReplicas, Replica, assert_never_two, is_work, replicas, sent_on_resume
from support.redis_workload import metric

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
    api.delete("namespace", namespace)


@pytest.fixture(scope="module")
def trials(three: OperatorReplicas, request: pytest.FixtureRequest) -> Iterator[Trials]:
    """Collect the duration of each trial, and write the table if `--election-table` is set."""
    trials = Trials(request.config.getoption("--election-trials"))
    yield trials
    if (path := request.config.getoption("--election-table")) is not None:
        writes = three.writes()
        assert_never_two(writes, three.resumed)
        Path(path).write_text(trials.table(writes, sent_on_resume(writes, three.resumed)))


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
    assert_never_two(three.writes(), three.resumed)
    # A leader that a busy machine keeps from renewing its lease for ten seconds has to end.
    assert {replica.process.exit_code() for replica in ended} <= {EXIT_LEADERSHIP_LOST}


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
        eventually(replica.is_ready)
        for path in ("/health", "/ready"):
            assert json.loads(replica.get(path))["role"] == role
        assert f"userstorage_leader {1.0 if replica is leader else 0.0}" in replica.get("/metrics")
    three.create_users(BURST)
    eventually(lambda: sum(is_work(write) for write in three.writes()) > BURST)
    assert {write.credential for write in three.writes() if is_work(write)} == {leader.credential}


def test_terminated_leader_hands_over(three: OperatorReplicas, leader: Replica, trials: Trials, trial: int) -> None:
    three.create_users(BURST)
    asked = datetime.now(UTC)
    leader.process.send_signal(signal.SIGTERM)
    three.create_users(1)
    duration = first_write_of_another(three, leader, asked)
    assert leader.process.wait() == 0
    three.remove(leader)
    trials.add("SIGTERM", duration)
    assert leader.has_logged("leadership_released")
    assert "write refused" not in leader.process.log.read_text()  # no failure of an object


def test_killed_leader_is_replaced_when_its_lease_expires(
    three: OperatorReplicas, leader: Replica, trials: Trials, trial: int
) -> None:
    three.create_users(BURST)
    killed = datetime.now(UTC)
    leader.process.kill()
    three.remove(leader)
    three.create_users(1)
    duration = first_write_of_another(three, leader, killed)
    trials.add("SIGKILL", duration)


def test_replica_that_takes_over_lists_nothing_before_it_serves_a_new_user(three: OperatorReplicas, leader: Replica) -> None:
    three.create_users(BURST)
    for replica in three.running:
        eventually(replica.is_ready)
    killed = datetime.now(UTC)
    leader.process.kill()
    three.remove(leader)
    [user] = three.create_users(1)
    eventually(lambda: three.api.get("pod", f"user-storage-{user}", three.namespace))
    others = [replica.credential for replica in three.running]
    since = [request for request in requests(three.api, *others) if request.received > killed]
    assert [request for request in since if request.is_write and request.resource == "pods"]
    lists = {request.resource for request in since if request.verb == "list" and request.code < 400}  # 404: no Gateway API
    assert lists <= {"pods"}  # one of the namespace, before a pod is created on a claim


def test_standby_with_stalled_watches_takes_over_without_harm(three: OperatorReplicas, leader: Replica) -> None:
    users = three.create_users(BURST)
    gone, kept = users[: BURST // 2], users[BURST // 2 :]
    eventually(lambda: all(three.is_ready(user) for user in users))
    others = [replica for replica in three.running if replica is not leader]
    for replica in others:
        eventually(replica.is_ready)
        replica.proxy.fail(Fault(verb="watch", effect=Effect.STALL))
    three.api.run("delete", "us", *gone, "-n", three.namespace)
    eventually(lambda: all(replica.proxy.stalled for replica in others))
    killed = datetime.now(UTC)
    leader.process.kill()
    three.remove(leader)
    successor = three.leader()
    eventually(lambda: metric(successor.port, "userstorage_reconcile_duration_seconds_count") >= BURST)
    for replica in others:
        replica.proxy.fail()
        replica.proxy.hang_up()
    [new] = three.create_users(1)
    eventually(lambda: three.is_ready(new))
    assert all(three.is_ready(user) for user in kept)
    about_gone = {*gone, *(f"user-storage-{user}" for user in gone)}
    written = [write for write in three.writes() if is_work(write) and write.received > killed and write.code < 400]
    assert not [write for write in written if write.name in about_gone and write.resource != "events"]
    assert not [
        write for write in written if write.verb == "create" and write.name in {f"user-storage-{user}" for user in kept}
    ]


def test_suspended_leader_begins_no_write_after_it_resumes(
    three: OperatorReplicas, leader: Replica, trials: Trials, trial: int
) -> None:
    three.create_users(BURST)
    stopped = datetime.now(UTC)
    leader.process.send_signal(signal.SIGSTOP)
    three.create_users(1)
    duration = first_write_of_another(three, leader, stopped)
    time.sleep(max(0.0, 20 - (datetime.now(UTC) - stopped).total_seconds()))
    three.create_users(BURST)  # work that it would do when it resumes
    three.resume(leader)
    assert leader.process.wait() == EXIT_LEADERSHIP_LOST
    three.remove(leader)
    trials.add("SIGSTOP for 20 s", duration)


def test_leader_without_network_exits_before_its_lease_expires(
    three: OperatorReplicas, leader: Replica, trials: Trials, trial: int
) -> None:
    three.create_users(BURST)
    cut = datetime.now(UTC)
    leader.proxy.cut_off = True
    three.create_users(1)
    assert leader.process.wait() == EXIT_LEADERSHIP_LOST
    ended = datetime.now(UTC)
    three.remove(leader)
    duration = first_write_of_another(three, leader, cut)
    trials.add("cut off from the API server", duration)
    assert cut + duration > ended


def test_leader_recreates_deleted_lease(three: OperatorReplicas, leader: Replica, trial: int) -> None:
    three.api.delete("lease", LEASE, namespace=SYSTEM)
    assert eventually(lambda: (three.api.get("lease", LEASE, SYSTEM) or {"spec": {}})["spec"].get("holderIdentity"))
    assert three.leader() is leader
    three.create_users(BURST)
    began = datetime.now(UTC)
    eventually(lambda: [w for w in three.writes() if is_work(w) and w.credential == leader.credential and w.received > began])
