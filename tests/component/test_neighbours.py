"""The thousands of one tenant do not hold up the one UserStorage of another tenant (F59 of the fault matrix)."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from support.inprocess import serving
from support.kubectl import Kubectl
from support.live import Live, condition_of
from userstorage_operator import manager
from userstorage_operator.api.resources import USER_STORAGES
from userstorage_operator.api.userstorage import Key
from userstorage_operator.config import Config
from userstorage_operator.reconcile.reconciler import Reconciler
from userstorage_operator.runtime.worker import Result

pytestmark = [pytest.mark.kwok]

CROWD = 150
AT_ONCE = 16


class RecordingReconciler(Reconciler):
    """Records the order of the reconciles."""

    order: list[Key]

    async def reconcile(self, key: Key, failures: int) -> Result:
        self.order.append(key)
        return await super().reconcile(key, failures)


@pytest.fixture
def order(monkeypatch: pytest.MonkeyPatch) -> list[Key]:
    """The keys of all reconciles, in order."""
    RecordingReconciler.order = []
    monkeypatch.setattr(manager, "Reconciler", RecordingReconciler)
    return RecordingReconciler.order


@pytest.fixture
async def neighbour(api: Kubectl, live: Live) -> AsyncIterator[Live]:
    """The namespace of another tenant."""
    name = f"{live.namespace}-b"
    api.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
    neighbour = Live(live.client, name)
    yield neighbour
    await neighbour.release_all()
    api.delete("namespace", name)


@pytest.mark.parametrize("shared", ["claim", "user id"])
async def test_user_of_another_tenant_is_served_before_the_backlog_of_a_crowd(
    live: Live, neighbour: Live, order: list[Key], shared: str
) -> None:
    await neighbour.until_pods_are_admitted()
    limit = asyncio.Semaphore(AT_ONCE)

    async def create(number: int) -> None:
        async with limit:
            if shared == "claim":
                await live.create(f"crowd-{number}", storage={"claimName": "missing"})
            else:
                await live.create(f"crowd-{number}", user_id="one")

    await asyncio.gather(*map(create, range(CROWD)))
    await neighbour.create("bob")
    config = Config(namespaces=(live.namespace, neighbour.namespace), http_port=0, sweep_period=3600)
    with serving(config) as metrics:
        await neighbour.until_ready("bob")
        first = order.index(Key(neighbour.namespace, "bob"))
        assert first < CROWD / 10, f"{first} others were reconciled before"

        async def all_reported() -> bool:
            objects, _ = await live.client.list_all(USER_STORAGES, live.namespace)
            conflicts = [condition_of(raw, "Ready")[1] == "UserIDConflict" for raw in objects]
            waits = [condition_of(raw, "StorageReady")[1] == "ClaimNotFound" for raw in objects]
            return sum(waits) == CROWD if shared == "claim" else sum(conflicts) == CROWD - 1

        await live.until(all_reported)
        claims_read = metrics.requests["get", "persistentvolumeclaims"]
    assert claims_read < CROWD, "a claim that does not exist is asked for once for all"
