"""Redis loses all data, or the operator restarts, in a steady cluster: the operator writes nothing to the cluster."""

import os
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.kubectl import Kubectl, eventually, until_equal, until_unchanged
from support.operator_process import PROGRAM, OperatorProcess
from support.redis_workload import FAILING, AuditLog, listed, metric, started, user
from testservers.redis import RedisServer
from userstorage_operator.api.unstructured import Unstructured
from userstorage_operator.redis_cache.codec import Codec
from userstorage_operator.redis_cache.keys import Keys

pytestmark = [pytest.mark.kwok]

KEYS = Keys("default")


@pytest.fixture
def count(request: pytest.FixtureRequest) -> int:
    number: int = request.config.getoption("--redis-steady-objects")
    return number


@pytest.fixture
def operator(
    api: Kubectl, as_operator: Path, namespace: str, redis_server: RedisServer, tmp_path: Path, count: int, port: int
) -> Iterator[OperatorProcess]:
    """Return an operator whose objects are all suspended and mirrored in Redis."""
    options = (f"--namespace={namespace}", f"--http-port={port}", f"--redis-url={redis_server.url}")
    with OperatorProcess(as_operator, tmp_path / "operator.log", *options) as process:
        started(process, port)
        objects = [user(f"u{number}", replicas=0) for number in range(count)]
        api.run("create", "-n", namespace, "-f", "-", input=listed(objects))
        until_equal(lambda: Counter(reported(api, namespace, "phase")), {"Suspended": count}, within=400)
        yield process
    command = [PROGRAM, "release-finalizers", f"--namespace={namespace}"]
    subprocess.run(command, env={**os.environ, "KUBECONFIG": str(api.kubeconfig)}, capture_output=True, check=True, timeout=300)


def reported(api: Kubectl, namespace: str, field: str) -> list[str]:
    """Return a field of the status of all UserStorages that have it."""
    return api.run("get", "us", "-n", namespace, "-o", f"jsonpath={{.items[*].status.{field}}}").stdout.split()


def is_warm(redis_server: RedisServer, count: int) -> bool:
    summaries = int(redis_server.cli("dbsize")) - int(redis_server.cli("exists", KEYS.head, KEYS.index))
    return summaries >= count and redis_server.cli("zcard", KEYS.index) == str(3 * count)


def written_at_rest(api: Kubectl, namespace: str, log: AuditLog, count: int) -> int:
    """Return the number of writes once none follows: the last ones are Events, after the reports that claims are bound."""
    eventually(lambda: reported(api, namespace, "storage.claimPhase").count("Bound") >= count, every=1)

    def written() -> int:
        log.read()
        return log.writes.total()

    return until_unchanged(written, 10)


@pytest.mark.timeout(1200)
def test_refilling_the_mirror_writes_nothing_to_the_cluster(
    api: Kubectl, namespace: str, operator: OperatorProcess, redis_server: RedisServer, count: int
) -> None:
    eventually(lambda: is_warm(redis_server, count))
    log = AuditLog(api, namespace)
    before = written_at_rest(api, namespace, log, count)
    redis_server.cli("flushall")
    began = time.monotonic()
    eventually(lambda: is_warm(redis_server, count), every=0.02)  # PATIENCE is shorter than the 300 s until the next relist
    print(f"{count} objects: warm again after {time.monotonic() - began:.2f} s")  # noqa: T201  # the figure, shown with -s or -rP
    report = [PROGRAM, "cache", f"--redis-url={redis_server.url}"]
    environment = {**os.environ, "KUBECONFIG": str(api.kubeconfig)}
    done = subprocess.run(report, env=environment, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    log.read()
    assert log.writes.total() == before


@pytest.mark.timeout(1200)
def test_restarted_operator_continues_a_backoff_and_writes_nothing_to_the_cluster(
    api: Kubectl, namespace: str, operator: OperatorProcess, redis_server: RedisServer, count: int, port: int
) -> None:
    api.run("create", "service", "clusterip", f"user-storage-{FAILING}", "--tcp=80", "-n", namespace)
    api.run("create", "-n", namespace, "-f", "-", input=listed([user(FAILING)]))
    raw = api.get("us", FAILING, namespace)
    assert raw is not None
    uid = raw["metadata"]["uid"]
    name = KEYS.backoff(uid)

    def saved() -> Unstructured:
        data = redis_server.cli("get", name)
        return Codec(b"").open(name, data.encode(), uid).value or {} if data else {}

    eventually(lambda: saved().get("failures", 0) >= 3)
    log = AuditLog(api, namespace)
    written = written_at_rest(api, namespace, log, count)
    operator.kill()
    before = saved()
    started(operator, port)
    eventually(lambda: metric(port, 'userstorage_reconcile_errors_total{reason="NameConflict"}') > 0, every=0.05)
    assert before["due"] - 0.1 < time.time(), "the pause was cut short"
    eventually(lambda: saved()["failures"] == before["failures"] + 1)
    reconciles = metric(port, 'userstorage_reconcile_duration_seconds_count{result="success"}')
    assert reconciles >= count
    log.read()
    assert log.writes.total() == written
    assert set(log.refused) <= {"create services 409"}
