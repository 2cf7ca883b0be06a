"""Which faults fail `/health` and `/ready`, and which must not."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import pytest

from userstorage_operator.api.resources import Resource
from userstorage_operator.health import HealthChecks
from userstorage_operator.runtime.http import Check


@dataclass
class FakeProbe:
    unreachable: str | None = None
    reached: bool = True
    missing_crds: str | None = None
    reachable_seconds: float = 1000

    def reachable_for(self) -> float:
        return self.reachable_seconds


@dataclass
class FakeLoopMonitor:
    late: float = 0

    def late_for(self) -> float:
        return self.late


@dataclass
class FakeElection:
    is_leader: bool = True


@dataclass
class FakeWorkers:
    stuck: float = 0

    def stuck_for(self) -> float:
        return self.stuck


@dataclass
class FakeWatch:
    resource: Resource
    stuck: float = 0

    def stuck_for(self) -> float:
        return self.stuck


def watch(plural: str, stuck: float = 0) -> FakeWatch:
    return FakeWatch(Resource("", "v1", plural, plural), stuck)


@dataclass
class FakeControllers:
    worker_pools: Sequence[FakeWorkers] = (FakeWorkers(), FakeWorkers())
    informers: Sequence[FakeWatch] = (watch("pods"), watch("services"))
    failing: Collection[str] = ()
    missing: Iterable[str] = ()

    def failing_watches(self) -> Collection[str]:
        return self.failing

    def not_synced(self) -> Iterable[str]:
        return iter(self.missing)


@dataclass
class FakeRedis:
    degradation: str | None = None
    mirror: bool = False

    async def has_mirror(self) -> bool:
        return self.mirror


@dataclass
class Process:
    """The parts that the checks look at; all healthy unless a test says otherwise."""

    probe: FakeProbe = field(default_factory=FakeProbe)
    loop: FakeLoopMonitor = field(default_factory=FakeLoopMonitor)
    election: FakeElection = field(default_factory=FakeElection)
    controllers: FakeControllers = field(default_factory=FakeControllers)
    redis: FakeRedis = field(default_factory=FakeRedis)

    async def health(self) -> dict[str, str]:
        return await failures(self.checks().health)

    async def readiness(self) -> dict[str, str]:
        return await failures(self.checks().readiness)

    async def degraded(self) -> dict[str, str]:
        return await failures(self.checks().degraded)

    def checks(self) -> HealthChecks:
        return HealthChecks(self.probe, self.loop, self.election, self.controllers, self.redis)


async def failures(checks: Mapping[str, Check]) -> dict[str, str]:
    return {name: problem for name, check in checks.items() if (problem := await check()) is not None}


def stalled_workers(seconds: float) -> FakeControllers:
    return FakeControllers(worker_pools=(FakeWorkers(), FakeWorkers(seconds)))


def stalled_watch(seconds: float) -> FakeControllers:
    return FakeControllers(informers=(watch("pods", seconds), watch("services")))


async def test_a_healthy_process_fails_no_check() -> None:
    process = Process()
    assert await process.health() == {}
    assert await process.readiness() == {}
    assert await process.degraded() == {}


@pytest.mark.parametrize(
    ("process", "failing"),
    [
        (
            Process(controllers=stalled_workers(46)),
            {"workers": "a reconcile has been running for 46 s, or none has ended while keys were waiting"},
        ),
        (Process(controllers=stalled_watch(121)), {"watches": "watches without progress: pods"}),
        (Process(loop=FakeLoopMonitor(61)), {"loop": "the event loop has been late for 61 s"}),
    ],
    ids=["workers stalled", "watches stalled", "loop lagging"],
)
async def test_health_fails_for_problems_that_a_restart_repairs(process: Process, failing: dict[str, str]) -> None:
    assert await process.health() == failing
    assert await process.readiness() == {}
    assert await process.degraded() == {}


@pytest.mark.parametrize(
    "process",
    [
        Process(controllers=stalled_workers(45)),
        Process(controllers=stalled_watch(120)),
        Process(loop=FakeLoopMonitor(60)),
    ],
    ids=["workers", "watches", "loop"],
)
async def test_health_passes_while_delays_are_up_to_their_limits(process: Process) -> None:
    assert await process.health() == {}


@pytest.mark.parametrize(
    "process",
    [
        Process(FakeProbe(reachable_seconds=0), controllers=stalled_workers(100)),
        Process(FakeProbe(reachable_seconds=0), controllers=stalled_watch(500)),
        Process(FakeProbe(reachable_seconds=20), controllers=stalled_workers(100)),
        Process(FakeProbe(reachable_seconds=119), controllers=stalled_watch(500)),
    ],
)
async def test_health_passes_while_the_api_server_is_unreachable_or_just_back(process: Process) -> None:
    assert await process.health() == {}


@pytest.mark.parametrize(
    ("process", "failing"),
    [
        (Process(FakeProbe(unreachable="connection refused", reachable_seconds=0)), {"apiServer": "connection refused"}),
        (Process(FakeProbe(missing_crds="not served: userstorages")), {"crds": "not served: userstorages"}),
        (
            Process(controllers=FakeControllers(missing=("pods in b", "pods in a"))),
            {"caches": "not synced: pods in a, pods in b"},
        ),
        (Process(controllers=FakeControllers(missing="abcdefg")), {"caches": "not synced: a, b, c, d, e and 2 more"}),
        (
            Process(election=FakeElection(is_leader=False), controllers=FakeControllers(missing=("pods",))),
            {"caches": "not synced: pods"},
        ),
    ],
    ids=["API server unreachable", "CRDs missing", "two caches", "many caches", "standby"],
)
async def test_readiness_lists_each_failing_check_while_health_passes(process: Process, failing: dict[str, str]) -> None:
    assert await process.readiness() == failing
    assert await process.health() == {}


@pytest.mark.parametrize(
    ("process", "failing"),
    [
        (
            Process(controllers=FakeControllers(failing=frozenset({"services", "pods"}))),
            {"watches": "watches fail, so only sweeps find changes: pods, services"},
        ),
        (Process(redis=FakeRedis("connection refused")), {"redis": "connection refused"}),
    ],
    ids=["watches", "redis"],
)
async def test_failing_watches_and_redis_degrade_readiness_without_failing_it(
    process: Process, failing: dict[str, str]
) -> None:
    assert await process.degraded() == failing
    assert await process.readiness() == {}
    assert await process.health() == {}


AWAY = FakeProbe(unreachable="connection refused", reachable_seconds=0)
STANDBY = FakeElection(is_leader=False)


async def test_standby_is_ready_without_the_api_server_while_redis_has_the_answers() -> None:
    process = Process(AWAY, election=STANDBY, redis=FakeRedis(mirror=True))
    assert await process.readiness() == {}
    assert await process.degraded() == {"apiServer": "connection refused; the read API answers from Redis"}


@pytest.mark.parametrize(
    "process",
    [
        Process(AWAY, election=STANDBY),
        Process(AWAY, redis=FakeRedis(mirror=True)),
        Process(FakeProbe(unreachable="connection refused", reached=False), election=STANDBY, redis=FakeRedis(mirror=True)),
    ],
    ids=["standby without Redis", "leader", "standby that has never reached the API server"],
)
async def test_process_that_cannot_answer_without_the_api_server_is_not_ready(process: Process) -> None:
    assert await process.readiness() == {"apiServer": "connection refused"}
    assert await process.degraded() == {}
