"""Lists in pages that fit into memory, however large the objects are that tenants create."""

import asyncio
from collections.abc import AsyncIterator, Iterable
from typing import Any

import orjson
import pytest
from aiohttp import web
from kubernetes.aio.client import Configuration

from userstorage_operator.api.errors import ClusterError, Unavailable
from userstorage_operator.api.resources import USER_STORAGES, Kind
from userstorage_operator.api.unstructured import Unstructured
from userstorage_operator.informers.informer import relist
from userstorage_operator.informers.object_cache import Listing, ObjectCache
from userstorage_operator.kube import transport
from userstorage_operator.kube.client import KubeClient, NoopObserver


class Lists:
    """An API server with `count` objects, each of about `size` bytes. It notes the pages that it was asked for."""

    def __init__(self) -> None:
        self.count = 0
        self.size = 100
        self.expired_below = 0
        """Pages after the first with a smaller limit have expired."""
        self.limits: list[int] = []
        self.at_once = self.most_at_once = 0
        self.port = 0
        self.body: bytes | None = None
        """The response to each list in place of the objects."""

    async def answer(self, request: web.Request) -> web.Response:
        if self.body is not None:
            return web.Response(body=self.body, content_type="application/json")
        first, limit = int(request.query.get("continue") or 0), int(request.query["limit"])
        self.limits.append(limit)
        if first and limit < self.expired_below:
            return web.json_response({"kind": "Status", "message": "expired", "code": 410}, status=410)
        self.at_once += 1
        self.most_at_once = max(self.at_once, self.most_at_once)
        last = min(self.count, first + limit)
        items = [{"metadata": self._meta(number), "note": "x" * self.size} for number in range(first, last)]
        meta = {"resourceVersion": "9000"} | ({"continue": str(last)} if last < self.count else {})
        await asyncio.sleep(0.01)
        self.at_once -= 1
        return web.Response(body=orjson.dumps({"metadata": meta, "items": items}), content_type="application/json")

    @staticmethod
    def _meta(number: int) -> dict[str, str]:
        return {"namespace": "n", "name": f"o{number}", "uid": f"{number}", "resourceVersion": f"{number + 1}"}


@pytest.fixture
async def lists() -> AsyncIterator[Lists]:
    found, app = Lists(), web.Application()
    app.router.add_get("/{path:.*}", found.answer)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    found.port = runner.addresses[0][1]
    yield found
    await runner.cleanup()


@pytest.fixture
async def client(lists: Lists) -> AsyncIterator[KubeClient]:
    found = KubeClient(Configuration(host=f"http://127.0.0.1:{lists.port}"), NoopObserver())
    yield found
    await found.close()


async def pages_of(client: KubeClient) -> list[list[str]]:
    return [[raw["metadata"]["name"] for raw in page] async for page, _ in client.list_pages(USER_STORAGES, None)]


async def test_objects_that_are_large_come_in_pages_of_few(lists: Lists, client: KubeClient) -> None:
    lists.count, lists.size = 60, 400_000
    pages = await pages_of(client)
    assert [name for page in pages for name in page] == [f"o{number}" for number in range(60)]
    assert max(map(len, pages)) * lists.size < transport._PAGE_BYTES
    assert len(lists.limits) < 3 * len(pages)


async def test_object_that_is_larger_than_a_page_is_listed(
    lists: Lists, client: KubeClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transport, "_PAGE_BYTES", 1000)
    lists.count, lists.size = 3, 2000
    assert await pages_of(client) == [["o0"], ["o1"], ["o2"]]


async def test_small_objects_come_in_full_pages(lists: Lists, client: KubeClient) -> None:
    lists.count = 250
    assert [len(page) for page in await pages_of(client)] == [100, 100, 50]
    assert lists.limits == [100, 100, 100]


async def test_few_pages_are_received_at_the_same_time(lists: Lists, client: KubeClient) -> None:
    lists.count = 300
    caches = [ObjectCache(lambda _: None) for _ in range(8)]
    await asyncio.gather(*(relist(client, Kind.POD.resource, None, "", cache) for cache in caches))
    assert [len(cache) for cache in caches] == [300] * 8
    assert 1 <= lists.most_at_once <= 2


async def test_list_that_expires_is_started_again_with_larger_pages(lists: Lists, client: KubeClient) -> None:
    lists.count, lists.expired_below = 1500, 300
    cache = ObjectCache(lambda _: None)
    assert await relist(client, USER_STORAGES, None, "", cache) == "9000"
    assert lists.limits == [100, 100, 300, 300, 300, 300, 300]
    assert len(cache) == 1500
    lists.expired_below = 2000
    with pytest.raises(ClusterError):
        await relist(client, USER_STORAGES, None, "", cache)
    assert lists.limits[-6:] == [100, 100, 300, 300, 1000, 1000]


async def test_no_page_stays_in_memory_while_the_next_one_is_awaited(lists: Lists, client: KubeClient) -> None:
    lists.count = 300
    seen: list[list[Any]] = []

    class Noting(ObjectCache):
        def add_page(self, listing: Listing, objects: Iterable[Unstructured], resource_version: str) -> None:
            assert not any(seen)
            assert isinstance(objects, list)
            seen.append(objects)
            super().add_page(listing, objects, resource_version)

    await relist(client, USER_STORAGES, None, "", Noting(lambda _: None))
    assert len(seen) == 3


async def test_object_in_a_version_that_the_reader_has_is_not_decoded(lists: Lists, client: KubeClient) -> None:
    lists.count = 3
    versions = {"o0": 1, "o1": 1}
    pages = [page async for page, _ in client.list_pages(USER_STORAGES, None, known=lambda _, name: versions.get(name))]
    assert [sorted(raw["metadata"]) for page in pages for raw in page] == [
        ["name", "namespace", "resourceVersion"],
        ["name", "namespace", "resourceVersion", "uid"],
        ["name", "namespace", "resourceVersion", "uid"],
    ]


async def test_second_list_leaves_what_the_first_has_put_into_the_cache(lists: Lists, client: KubeClient) -> None:
    lists.count = 3
    changed: list[str] = []
    cache = ObjectCache(lambda raw: changed.append(raw["metadata"]["name"]))
    await relist(client, USER_STORAGES, None, "", cache)
    before = [cache.get("n", f"o{number}") for number in range(3)]
    await relist(client, USER_STORAGES, None, "", cache)
    assert [cache.get("n", f"o{number}") for number in range(3)] == before
    assert changed == ["o0", "o1", "o2"]


def test_object_that_was_removed_after_its_page_came_stays_removed() -> None:
    cache, listing = ObjectCache(lambda _: None), Listing()
    cache.put({"metadata": {"namespace": "n", "name": "o", "uid": "1", "resourceVersion": "5"}})
    cache.discard("n", "o", "1")
    cache.add_page(listing, [{"metadata": {"namespace": "n", "name": "o", "resourceVersion": "5"}}], "9")
    cache.finish_list(listing, "9")
    assert cache.get("n", "o") is None


@pytest.mark.parametrize(
    "body", [b"", b"{}", b"<html>", b'{"metadata":{},"items":[]}', b'{"metadata":{"resourceVersion":"1"},"items":[{}]}']
)
async def test_response_that_is_no_list_is_an_error(lists: Lists, client: KubeClient, body: bytes) -> None:
    lists.body = body
    with pytest.raises(Unavailable):
        await pages_of(client)
