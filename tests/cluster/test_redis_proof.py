"""Whatever becomes of Redis, the cluster ends up the same, by as many writes, and not much later."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from support.kubectl import Kubectl
from support.operator_process import OperatorProcess
from support.redis_workload import Workload, WorkloadResult
from support.redistrouble import TROUBLES, NewRedis

pytestmark = [pytest.mark.kwok, pytest.mark.alone]

SLOWER = 1.2
FLOOR = 1.0
"""Seconds that a run may take longer whatever the healthy one took: short runs are mostly chance."""
TRIES = 3
"""Runs of which the fastest counts, where one was too slow: other programs may have had the processor."""
QUIET_ONES = {"healthy", "no --redis-url", "another object's values"}
"""In which the operator has nothing to complain of: a leader reads nothing back but pauses, and here only one object has one to be
exchanged. What those say who read views is in test_redis_poisoned.py.
"""

MATTERS_OF_TIME = {"create services 409", "patch userstorages 404", "create events 409"}
"""Writes that may be refused, more often or less (see `WorkloadResult.refused`)."""


class Proof:
    """All conditions, one after the other, and the table of them."""

    def __init__(self, workload: Workload, kubeconfig: Path, namespace: str, new_redis: NewRedis, directory: Path) -> None:
        self._workload = workload
        self._kubeconfig = kubeconfig
        self._namespace = namespace
        self._new_redis = new_redis
        self._directory = directory

    def run(self, condition: str) -> WorkloadResult:
        """The workload under that condition."""
        with TROUBLES[condition](self._new_redis) as trouble:

            def operator(port: int) -> OperatorProcess:
                options = [f"--namespace={self._namespace}", f"--http-port={port}"]
                options += [f"--redis-url={trouble.url}"] if trouble.url else []
                return OperatorProcess(self._kubeconfig, self._directory / "operator.log", *options)

            return self._workload.run(operator, trouble.before)


@pytest.fixture
def proof(
    api: Kubectl,
    as_operator: Path,
    namespace: str,
    new_redis: NewRedis,
    tmp_path: Path,
    request: pytest.FixtureRequest,
) -> Proof:
    workload = Workload(api, namespace, request.config.getoption("--redis-proof-objects"))
    return Proof(workload, as_operator, namespace, new_redis, tmp_path)


@pytest.mark.timeout(7200)
def test_whatever_becomes_of_redis_the_cluster_ends_up_the_same(
    proof: Proof, request: pytest.FixtureRequest, capsys: pytest.CaptureFixture[str]
) -> None:
    healthy, again = proof.run("healthy"), proof.run("healthy")
    assert (again.objects, again.writes) == (healthy.objects, healthy.writes), "two healthy runs differ"
    healthy.seconds = min(healthy.seconds, again.seconds)
    assert healthy.writes["create pods"] > 0
    rows, wrong = [("healthy", healthy)], []
    for condition in TROUBLES:
        outcome = healthy if condition == "healthy" else proof.run(condition)
        for _ in range(TRIES - 1):
            if outcome.seconds <= _limit(healthy):
                break
            outcome.seconds = min(outcome.seconds, proof.run(condition).seconds)
        if outcome is not healthy:
            rows.append((condition, outcome))
        found = [f"{condition}: {why}" for why in _differences(condition, outcome, healthy)]
        wrong += found
        with capsys.disabled():
            print("", _row(condition, outcome, healthy), *found, sep="\n", end="", flush=True)  # noqa: T201  # each takes a while
    count = request.config.getoption("--redis-proof-objects")
    if (path := request.config.getoption("--redis-proof-table")) is not None:
        Path(path).write_text(_table(count, rows, healthy))
    assert not wrong, "\n".join(wrong)


def _limit(healthy: WorkloadResult) -> float:
    return max(SLOWER * healthy.seconds, healthy.seconds + FLOOR)


def _differences(condition: str, outcome: WorkloadResult, healthy: WorkloadResult) -> Iterator[str]:
    if outcome.objects != healthy.objects:
        at = next(n for n, (a, b) in enumerate(zip(outcome.objects, healthy.objects, strict=False)) if a != b)
        yield f"another world: …{outcome.objects[at - 300 : at + 100]}… instead of …{healthy.objects[at - 100 : at + 100]}…"
    if outcome.writes != healthy.writes:
        yield f"other writes: {outcome.writes - healthy.writes} more, {healthy.writes - outcome.writes} less"
    if unknown := outcome.refused.keys() - MATTERS_OF_TIME:
        yield f"refused: {unknown}"
    if outcome.seconds > _limit(healthy):
        yield f"{outcome.seconds:.1f} s instead of {healthy.seconds:.1f} s"
    if bool(outcome.redis_counts) is (condition in QUIET_ONES):
        yield f"the operator told of Redis {dict(outcome.redis_counts)}"


def _row(condition: str, outcome: WorkloadResult, healthy: WorkloadResult) -> str:
    same = "same" if outcome.objects == healthy.objects else "DIFFERS"
    told = ", ".join(f"{name} {number}" for name, number in sorted(outcome.redis_counts.items())) or "nothing"
    time = f"{outcome.seconds:.1f} s | {outcome.seconds / healthy.seconds:.2f}"
    writes = f"{outcome.writes.total()}{'' if outcome.writes == healthy.writes else ' DIFFERS'}"
    refused = ", ".join(f"{what} {times}" for what, times in sorted(outcome.refused.items()))
    return f"| {condition} | {same} | {writes} | {refused} | {time} | {told} |"


def _table(count: int, rows: list[tuple[str, WorkloadResult]], healthy: WorkloadResult) -> str:
    lines = [
        "# What becomes of the cluster when something becomes of Redis",
        "",
        f"Made by `make test-redis`. The same workload of {count} UserStorages under each condition: created, a third",
        "changed, a third suspended, the operator killed and started again, half of those resumed, a sixth deleted; one fails",
        "throughout. The cluster is compared byte by byte, status and children included, without uids, versions, times, addresses",
        "and nodes. The writes are the operator's in the API server's audit log, equal by verb and kind; left out is the status of",
        "the one that fails, which once a minute tells how often it was tried. Refused writes change nothing. There are two kinds,",
        "and how many is a matter of time: tries of the one that fails (409; without Redis its pauses begin anew after the restart)",
        "and a finalizer that is taken off twice because the watch had not told yet that the object is gone (404).",
        "",
        "Scheduler and kubelets (kwok) are stopped and let go in turns, so that the operator sees the same states every time: left to",
        "themselves, a claim is bound before the operator's first look or after it, and two healthy runs differ by such writes. The",
        "time is that from each step to the operator's last write in it, added up; the fastest of up to three runs.",
        "",
        "| Redis | cluster | writes | refused writes | time | of healthy | what the operator counted of Redis |",
        "|---|---|---|---|---|---|---|",
        *(_row(condition, outcome, healthy) for condition, outcome in rows),
        "",
        "The writes of each run:",
        "",
        "| write | times |",
        "|---|---|",
        *(f"| `{write}` | {times} |" for write, times in sorted(healthy.writes.items())),
        "",
    ]
    return "\n".join(lines)
