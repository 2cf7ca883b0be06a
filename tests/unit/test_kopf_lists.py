"""kopf's lists return nothing: the full list goes into the cache, which then also shows what is missing."""

import asyncio
import json
from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any, cast

import aiohttp
import pytest
from yarl import URL

from userstorage_operator.api.errors import ClusterError, Unavailable
from userstorage_operator.api.resources import USER_STORAGES, Resource
from userstorage_operator.api.unstructured import Unstructured
from userstorage_operator.informers import kopf_lists
from userstorage_operator.informers.kopf_lists import KopfLists
from userstorage_operator.informers.object_cache import ObjectCache

PATH = USER_STORAGES.path()
ALICE = {"metadata": {"namespace": "n", "name": "alice", "uid": "1", "resourceVersion": "5"}}


class Kopf:
    """Requests like those of kopf, and an API server whose newest version is `latest`."""

    def __init__(self) -> None:
        self.latest = 100
        self.listed: list[ClusterError | list[Unstructured]] = []
        self.lists = 0
        self.body: Any = None
        self.response: Any = None
        self.cache = ObjectCache(lambda _: None)
        self.middleware = KopfLists(self, USER_STORAGES, (None,), self.cache)

    async def list_pages(
        self, resource: Resource, namespace: str | None, selector: str = "", *, size: int = 100, known: Any = None
    ) -> AsyncIterator[tuple[list[Any], str]]:
        self.lists += 1
        answer = self.listed.pop(0) if self.listed else []
        if isinstance(answer, ClusterError):
            raise answer
        yield answer, str(self.latest)

    async def latest_version(self, resource: Resource, namespace: str | None) -> int:
        if not self.latest:
            raise Unavailable(0, "no answer")
        return self.latest

    async def current(self, resource: Resource, namespace: str | None, name: str) -> Unstructured:
        raise NotImplementedError

    def watch(self, *_: Any) -> AsyncIterator[Unstructured]:
        raise NotImplementedError

    async def send(self, query: str, status: int = 200) -> dict[str, str]:
        """Return the query that reaches the API server, which answers with `status`."""
        request = cast("Any", SimpleNamespace(url=URL(f"https://api{PATH}?{query}")))

        async def handler(_: Any) -> Any:
            return SimpleNamespace(status=status, close=lambda: None, content=self.body)

        self.response = await self.middleware.middleware(request, handler)
        return dict(request.url.query)

    async def until_listed(self, times: int) -> None:
        running = asyncio.create_task(self.middleware.run())
        async with asyncio.timeout(10):
            while self.lists < times:  # noqa: ASYNC110  # there is no event to wait for
                await asyncio.sleep(0.01)
        await asyncio.sleep(0.05)
        running.cancel()
        assert self.lists == times


async def test_kopf_lists_nothing_and_the_cache_gets_the_full_list(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kopf_lists, "_RETRY", 0.01)
    kopf = Kopf()
    kopf.cache.event("ADDED", ALICE)
    kopf.listed = [Unavailable(503, "later"), []]
    assert await kopf.send("limit=500") == {"fieldSelector": "metadata.name=-"}
    await kopf.until_listed(2)
    assert len(kopf.cache) == 0, "alice vanished while the watch was interrupted"
    assert await kopf.send("watch=true&resourceVersion=100") == {"watch": "true", "resourceVersion": "100"}


async def test_watch_resumes_from_its_version_unless_that_is_in_the_future() -> None:
    kopf = Kopf()
    assert (await kopf.send("watch=true&resourceVersion=90"))["resourceVersion"] == "90"
    kopf.latest = 40
    assert (await kopf.send("watch=true&resourceVersion=90"))["resourceVersion"] == "40"
    await kopf.until_listed(1)


@pytest.mark.parametrize("status", [400, 404, 410])
async def test_statuses_on_which_kopf_would_exit_lead_to_a_retry_and_a_new_list(status: int) -> None:
    kopf = Kopf()
    for query in ("", "watch=true&resourceVersion=90"):
        with pytest.raises(aiohttp.ClientConnectionError):
            await kopf.send(query, status)
    assert (await kopf.send("watch=true&resourceVersion=90"))["resourceVersion"] == "100"
    await kopf.until_listed(1)


async def test_unreachable_server_is_an_error_that_kopf_retries() -> None:
    kopf = Kopf()
    kopf.latest = 0
    with pytest.raises(aiohttp.ClientConnectionError):
        await kopf.send("watch=true&resourceVersion=90")


class Body:
    """The body of a watch response, in the given chunks."""

    def __init__(self, *chunks: bytes) -> None:
        self.chunks = chunks

    async def iter_chunked(self, _: int) -> AsyncIterator[bytes]:
        for chunk in self.chunks:
            yield chunk

    def is_eof(self) -> bool:
        return True


EXPIRED = b'{"type":"ERROR","object":{"code":410}}\n'
BOOKMARK = b'{"type":"BOOKMARK","object":{"metadata":{"resourceVersion":"9"}}}\n'


@pytest.mark.parametrize(
    ("chunks", "seen", "resumed_from"),
    [
        ((BOOKMARK[:15], BOOKMARK[15:] + EXPIRED), BOOKMARK + EXPIRED, "90"),
        ((BOOKMARK + b'{"type":"ERR', b'OR","object":{"code":500}}\n' + BOOKMARK), BOOKMARK, "100"),
        ((b'{"type":"ERROR","object":{}}\n',), b"", "100"),
        ((BOOKMARK + b'{"cut',), BOOKMARK + b'{"cut', "90"),
        ((b"no JSON\n" + BOOKMARK,), b"no JSON\n" + BOOKMARK, "90"),
    ],
)
async def test_error_in_a_watch_ends_the_watch_and_not_kopf(chunks: tuple[bytes, ...], seen: bytes, resumed_from: str) -> None:
    kopf = Kopf()
    kopf.body = Body(*chunks)
    await kopf.send("watch=true&resourceVersion=90")
    assert kopf.response.content.is_eof()
    assert b"".join([part async for part in kopf.response.content.iter_chunked(1024)]) == seen
    assert (await kopf.send("watch=true&resourceVersion=90"))["resourceVersion"] == resumed_from


async def test_kopf_gets_a_bookmark_in_place_of_what_the_cache_knows() -> None:
    def event(kind: str, name: str, version: str) -> dict[str, Any]:
        meta = {"namespace": "n", "name": name, "uid": name, "resourceVersion": version}
        return {"type": kind, "object": {"apiVersion": "v1", "kind": "K", "metadata": meta}}

    kopf = Kopf()
    kopf.cache.put(event("MODIFIED", "alice", "7")["object"])  # the response to our own write
    sent = [event("ADDED", "alice", "5"), event("MODIFIED", "alice", "7"), event("MODIFIED", "alice", "8")]
    sent += [event("ADDED", "bob", "9"), event("DELETED", "alice", "10")]
    kopf.body = Body(b"".join(json.dumps(each).encode() + b"\n" for each in sent))
    await kopf.send("watch=true&resourceVersion=4")
    seen = b"".join([part async for part in kopf.response.content.iter_chunked(1024)]).splitlines()
    bookmarks = [{"apiVersion": "v1", "kind": "K", "metadata": {"resourceVersion": version}} for version in ("5", "7")]
    assert [json.loads(line) for line in seen] == [{"type": "BOOKMARK", "object": each} for each in bookmarks] + sent[2:]
