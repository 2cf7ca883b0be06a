"""A client with a closed fence writes nothing, on the real API server."""

import time
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from support.live import Live
from support.manifests import storage
from support.tls import until_connections_closed
from userstorage_operator.api.errors import NotLeader, Unavailable
from userstorage_operator.api.resources import USER_STORAGES, Kind
from userstorage_operator.kube.client import KubeClient
from userstorage_operator.kube.login import login
from userstorage_operator.runtime.metrics import Metrics


class FakeFence:
    """A fence that returns the given answers one after the other, and then always the last one."""

    def __init__(self) -> None:
        self.answers = [10.0]

    def remaining(self) -> float:
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]


@pytest.fixture
def fence() -> FakeFence:
    return FakeFence()


@pytest.fixture
async def fenced(live: Live, fence: FakeFence) -> AsyncIterator[KubeClient]:
    client = KubeClient(await login(), Metrics("test"), fence)
    yield client
    await client.close()
    await until_connections_closed()


async def test_writes_are_refused_and_reads_allowed_after_the_lease_expired(
    live: Live, fenced: KubeClient, fence: FakeFence
) -> None:
    alice = await fenced.create(USER_STORAGES, live.namespace, storage(live.namespace, {"userID": "alice"}, name="alice"))
    fence.answers = [0.0]
    bob = storage(live.namespace, {"userID": "bob"}, name="bob")
    writes: list[Callable[[], Awaitable[object]]] = [
        lambda: fenced.create(USER_STORAGES, live.namespace, bob),
        lambda: fenced.update(USER_STORAGES, live.namespace, alice | {"spec": {"userID": "alice", "replicas": 0}}),
        lambda: fenced.merge_patch(USER_STORAGES, live.namespace, "alice", {"spec": {"replicas": 0}}),
        lambda: fenced.json_patch(USER_STORAGES, live.namespace, "alice", [{"op": "remove", "path": "/spec/replicas"}]),
        lambda: fenced.delete(USER_STORAGES, live.namespace, "alice", alice["metadata"]["uid"], 0, "Background"),
    ]
    for write in writes:
        with pytest.raises(NotLeader):
            await write()
    assert await fenced.list_all(Kind.POD.resource, live.namespace)
    assert await fenced.get(USER_STORAGES, live.namespace, "alice") == alice
    assert [raw["metadata"]["name"] for raw in (await fenced.list_all(USER_STORAGES, live.namespace))[0]] == ["alice"]


@pytest.mark.parametrize("warm", [False, True], ids=["new connection", "open connection"])
async def test_write_is_not_sent_if_the_lease_expires_before_it_is_on_the_wire(
    live: Live, fenced: KubeClient, fence: FakeFence, warm: bool
) -> None:
    if warm:
        await fenced.list_all(USER_STORAGES, live.namespace)
    fence.answers = [10.0, 0.0]
    started = time.monotonic()
    with pytest.raises(Unavailable):
        await fenced.create(USER_STORAGES, live.namespace, storage(live.namespace, {"userID": "bob"}, name="bob"))
    assert time.monotonic() - started < 10, "the request was sent, and timed out with the lease as it was"
    assert not (await fenced.list_all(USER_STORAGES, live.namespace))[0]


async def test_write_that_takes_longer_than_the_lease_fails(live: Live, fenced: KubeClient, fence: FakeFence) -> None:
    fence.answers = [0.001, 10.0]
    with pytest.raises(Unavailable):
        await fenced.create(USER_STORAGES, live.namespace, storage(live.namespace, {"userID": "bob"}, name="bob"))
