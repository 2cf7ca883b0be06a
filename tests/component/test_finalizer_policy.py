"""deploy/finalizer on the real API server: new UserStorages have the finalizer before the operator sees them."""

from collections.abc import AsyncIterator
from datetime import timedelta

import pytest

from component.test_interrupted import WRITES_TO_READY, is_gone, is_ready, reconcile_until
from conftest import ROOT
from support.kubectl import Kubectl
from support.live import Live
from userstorage_operator.api.errors import Unavailable
from userstorage_operator.api.names import FINALIZER
from userstorage_operator.api.resources import USER_STORAGES
from userstorage_operator.status import requeue

pytestmark = [pytest.mark.kwok, pytest.mark.usefixtures("_policy")]

FOREIGN = "example.com/backup"


@pytest.fixture
async def _policy(live: Live, api: Kubectl) -> AsyncIterator[None]:
    """Apply the policy, and wait until it is in force; at the end, until it is not: users of the next test would never be gone."""
    api.run("apply", "-k", str(ROOT / "deploy/finalizer"))

    async def is_in_force() -> bool:
        try:
            return await finalizers(live, "probe", []) == [FINALIZER]
        except Unavailable:  # the part of the API server that evaluates policies does not know a new CRD yet
            return False

    async def is_without_effect() -> bool:
        return not await finalizers(live, "probe", [])

    await live.until(is_in_force)
    yield
    api.run("delete", "-k", str(ROOT / "deploy/finalizer"))
    await live.until(is_without_effect)


async def finalizers(live: Live, name: str, given: list[str]) -> list[str]:
    """Create a UserStorage with these finalizers, delete it again, and return the ones with which it was stored."""
    body = {"apiVersion": USER_STORAGES.api_version, "kind": USER_STORAGES.kind, "spec": {"userID": name}}
    meta = {"name": name, "finalizers": given}
    stored = (await live.client.create(USER_STORAGES, live.namespace, body | {"metadata": meta}))["metadata"]
    await live.client.merge_patch(USER_STORAGES, live.namespace, name, {"metadata": {"finalizers": None}})
    await live.client.delete(USER_STORAGES, live.namespace, name, stored["uid"], 0, "Background")
    found: list[str] = stored.get("finalizers", [])
    return found


async def test_finalizer_is_added_to_those_of_others_and_not_twice(live: Live) -> None:
    assert await finalizers(live, "bob", [FOREIGN]) == [FOREIGN, FINALIZER]
    assert await finalizers(live, "carol", [FINALIZER, FOREIGN]) == [FINALIZER, FOREIGN]


async def test_operator_is_spared_one_write_and_deletes_as_ever(live: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(requeue, "REPORT_DELAY", timedelta(minutes=5))
    await live.create()
    assert await reconcile_until(live, lambda: is_ready(live)) == WRITES_TO_READY - 1
    await live.delete(USER_STORAGES, "alice")
    assert await reconcile_until(live, lambda: is_gone(live)) == 3  # pod, finalizer of the policy, finalizer


async def test_finalizer_that_was_removed_is_set_again(live: Live) -> None:
    await live.create()
    await live.client.merge_patch(USER_STORAGES, live.namespace, "alice", {"metadata": {"finalizers": None}})
    await reconcile_until(live, lambda: is_ready(live))
    assert (await live.get() or {})["metadata"]["finalizers"] == [FINALIZER]
