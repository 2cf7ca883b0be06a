"""What fails health, and what must not."""

from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, cast

import pytest

from userstorage_operator.health import HealthChecks
from userstorage_operator.runtime.http import Check


@dataclass
class World:
    stuck: float = 0
    blind: float = 0
    late: float = 0
    answering: float = 1000
    silent: str | None = None
    missing: str | None = None
    leads: bool = True
    unlisted: tuple[str, ...] = ()
    unwatched: frozenset[str] = frozenset()
    trouble: str | None = None
    names: list[str] = field(default_factory=lambda: ["pods"])

    def vitals(self) -> HealthChecks:
        probe = SimpleNamespace(silent=self.silent, missing=self.missing, answering_for=lambda: self.answering)
        informers = [
            SimpleNamespace(resource=SimpleNamespace(plural=name), stuck_for=lambda: self.blind) for name in self.names
        ]
        leading = SimpleNamespace(
            pools=(SimpleNamespace(stuck_for=lambda: 0.0), SimpleNamespace(stuck_for=lambda: self.stuck)),
            informers=informers,
            failing_watches=lambda: self.unwatched,
            not_synced=lambda: iter(self.unlisted),
        )
        loop = SimpleNamespace(late_for=lambda: self.late)
        store = SimpleNamespace(degradation=self.trouble)
        parts: Any = (probe, loop, SimpleNamespace(is_leader=self.leads), leading, store)
        return HealthChecks(*cast("tuple[Any, Any, Any, Any, Any]", parts))


async def wrong(checks: Any) -> dict[str, str]:
    asked: dict[str, Check] = dict(checks)
    return {name: problem for name, check in asked.items() if (problem := await check()) is not None}


async def test_a_process_that_is_well() -> None:
    vitals = World().vitals()
    assert [await wrong(checks) for checks in (vitals.health, vitals.readiness, vitals.degrading)] == [{}, {}, {}]


@pytest.mark.parametrize(
    ("world", "name"),
    [(World(stuck=46), "workers"), (World(blind=121), "watches"), (World(late=61), "loop")],
    ids=["frozen", "blind", "crawling"],
)
async def test_health_fails_where_a_restart_helps(world: World, name: str) -> None:
    assert list(await wrong(world.vitals().health)) == [name]
    assert await wrong(world.vitals().readiness) == {}


@pytest.mark.parametrize(
    "world", [World(stuck=100, answering=0), World(blind=500, answering=0), World(stuck=100, answering=20)]
)
async def test_health_bears_an_api_server_that_does_not_answer_or_just_began_to(world: World) -> None:
    assert await wrong(world.vitals().health) == {}


@pytest.mark.parametrize(
    ("world", "told"),
    [
        (World(silent="connection refused", answering=0), {"apiServer": "connection refused"}),
        (World(missing="not served: userstorages"), {"definitions": "not served: userstorages"}),
        (World(unlisted=("pods in b", "pods in a")), {"lists": "not listed yet: pods in a, pods in b"}),
        (World(unlisted=tuple("abcdefg")), {"lists": "not listed yet: a, b, c, d, e and 2 more"}),
        (World(unlisted=("pods",), leads=False), {}),
    ],
    ids=["no API server", "no definitions", "no lists", "many lists", "standing by"],
)
async def test_readiness_names_what_fails(world: World, told: dict[str, str]) -> None:
    assert await wrong(world.vitals().readiness) == told
    assert await wrong(world.vitals().health) == {}


async def test_a_watch_that_is_tried_again_only_degrades() -> None:
    vitals = World(unwatched=frozenset({"services", "pods"})).vitals()
    assert await wrong(vitals.readiness) == {}
    assert await wrong(vitals.degrading) == {"watches": "not watched at the moment, only swept: pods, services"}
