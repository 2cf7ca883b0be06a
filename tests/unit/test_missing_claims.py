"""The requests for claims that specs name and that do not exist: bounded, however many UserStorages name however many of them."""

import asyncio
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Any

import pytest

from support.builders import NOW, storage_object
from userstorage_operator.api.errors import NotFound
from userstorage_operator.api.resources import USER_STORAGES, Resource
from userstorage_operator.api.unstructured import Unstructured
from userstorage_operator.api.userstorage import Key
from userstorage_operator.informers.caches import Caches
from userstorage_operator.plan.planner import plan
from userstorage_operator.reconcile import missing_claims
from userstorage_operator.reconcile.local_state import LocalState
from userstorage_operator.reconcile.missing_claims import MissingClaims
from userstorage_operator.reconcile.observe import observe

MANY = 1000
CLAIM: Unstructured = {
    "metadata": {"name": "x", "namespace": "users", "uid": "uid-x", "resourceVersion": "300"},
    "spec": {"accessModes": ["ReadWriteMany"], "resources": {"requests": {"storage": "3Gi"}}},
}


class NamespaceWithoutClaims:
    """A namespace with UserStorages that name claims, and its operator, on a clock that only `run` moves."""

    def __init__(self, *claims: str) -> None:
        self.now = NOW
        self.claims: dict[str, Unstructured] = {}
        self.asked: list[tuple[datetime, str]] = []
        self.caches = Caches(lambda key: self.due.update({key.name: self.now}), lambda _: None)
        self.due: dict[str, datetime] = {}
        clock = lambda: self.now  # noqa: E731
        self.state = LocalState.new(clock, self.caches)
        for number, claim in enumerate(claims):
            meta = {"name": f"u{number}", "uid": f"uid-{number}", "resourceVersion": str(number + 1)}
            self.caches.cache(USER_STORAGES).event(
                "ADDED", storage_object(f"u{number}", meta=meta, storage={"claimName": claim})
            )

    async def get(self, _: Resource, __: str | None, name: str) -> Unstructured:
        self.asked.append((self.now, name))
        if name not in self.claims:
            raise NotFound(404, "not found")
        return self.claims[name]

    async def unasked(self, *_: Any, **__: Any) -> Any:
        raise NotImplementedError

    def pages(self, *_: Any, **__: Any) -> Any:
        raise NotImplementedError

    list_all = create = merge_patch = json_patch = delete = unasked

    def run(self, duration: timedelta, *, sweeps: bool = False) -> None:
        """Reconcile each UserStorage when it is due, and all every five minutes if `sweeps`."""
        asyncio.run(self._run(duration, sweeps))

    async def _run(self, duration: timedelta, sweeps: bool) -> None:
        end = self.now + duration
        while self.now < end:
            if sweeps and (self.now - NOW) % timedelta(minutes=5) == timedelta():
                known = self.caches.keys()
                self.due.update({key.name: self.now for key in known})
            for name in [name for name, at in self.due.items() if at <= self.now]:
                del self.due[name]
                await self.reconcile(name)
            self.now += timedelta(seconds=1)

    async def reconcile(self, name: str) -> None:
        seen = await observe(Key("users", name), self.caches, self, self.state)
        assert seen is not None
        planned = plan(seen, self.now)
        self.state.record_hold(seen.storage.meta, planned.hold, self.now)
        if planned.requeue_at:
            self.due[name] = min(planned.requeue_at)

    def requests(self, since: timedelta = timedelta()) -> int:
        return sum(at >= NOW + since for at, _ in self.asked)


def test_one_missing_claim_is_asked_for_once_for_all_that_name_it() -> None:
    few, many = NamespaceWithoutClaims("x"), NamespaceWithoutClaims(*["x"] * 300)
    for namespace in (few, many):
        namespace.run(timedelta(minutes=6), sweeps=True)
    assert few.requests() > 5
    pauses = [later - sooner for (sooner, _), (later, _) in pairwise(many.asked)]
    assert min(pauses) >= timedelta(seconds=7)


def test_many_missing_claims_are_asked_for_at_a_bounded_rate(monkeypatch: pytest.MonkeyPatch) -> None:
    # A tenth of the thousand claims that would reach the real rate.
    monkeypatch.setattr(missing_claims, "_PER_SECOND", 1)
    namespace = NamespaceWithoutClaims(*(f"x{number}" for number in range(MANY // 10)))
    namespace.run(timedelta(minutes=11), sweeps=True)
    assert len({name for _, name in namespace.asked}) == MANY // 10
    assert namespace.requests(since=timedelta(seconds=1)) <= 660


def test_claims_missing_in_one_namespace_delay_no_other_one() -> None:
    now = NOW
    missing = MissingClaims(lambda: now)
    missing.record("other", "x", missing=True)
    for number in range(MANY):
        missing.record("users", f"x{number}", missing=True)
    assert missing.pause("users") > 10 * missing.pause("other")
    now += timedelta(seconds=8)
    assert (missing.is_missing("other", "x"), missing.is_missing("users", "x0")) == (False, True)
    now += timedelta(minutes=11)
    missing.record("other", "x", missing=False)
    assert len(missing) == 0, "what is not asked for any more is forgotten"


def test_labelled_claim_is_asked_for_at_once_although_it_was_missing() -> None:
    namespace = NamespaceWithoutClaims("x")
    namespace.run(timedelta(seconds=3))
    labelled = CLAIM | {"metadata": CLAIM["metadata"] | {"labels": {"userstorage.dev/shareable": "true"}}}
    namespace.claims["x"] = labelled
    namespace.caches.shared_claims.event("ADDED", labelled)
    namespace.run(timedelta(seconds=1))
    assert [at - NOW for at, _ in namespace.asked] == [timedelta(), timedelta(seconds=3)]
