"""What is watched, as the read API asks for it."""

from support.builders import storage_object
from userstorage_operator.api.resources import USER_STORAGES
from userstorage_operator.api.unstructured import Unstructured
from userstorage_operator.api.userstorage import Key
from userstorage_operator.informers.caches import Caches
from userstorage_operator.informers.reader import CacheReader
from userstorage_operator.informers.watch_liveness import WatchLiveness
from userstorage_operator.readmodel.query import Aged, Query
from userstorage_operator.readmodel.summary import summary


def named(name: str, version: int, user: str = "alice", namespace: str = "users", **meta: str) -> Unstructured:
    known = {"name": name, "namespace": namespace, "uid": f"uid-{name}", "resourceVersion": str(version)}
    return storage_object(user, meta=known | meta)


class Watched:
    def __init__(self) -> None:
        self.views = Caches(lambda _: None, lambda _: None)
        self.cache = self.views.cache(USER_STORAGES)
        self.directory = CacheReader(self.views, WatchLiveness(["/"], lambda: 0.0))

    async def names(self, **query: object) -> list[str]:
        told = await self.directory.page(Query(**query))  # type: ignore[arg-type]  # the fields of Query
        return [item["name"] for item in told.value.summaries]


async def test_the_newest_is_told_whoever_brought_it() -> None:
    watched, key = Watched(), Key("users", "a")
    for take_in, raw in (
        (lambda raw: watched.cache.event("ADDED", raw), named("a", 1)),
        (watched.cache.put, named("a", 2) | {"status": {"phase": "Ready"}}),
        (lambda raw: watched.cache.event("MODIFIED", raw), named("a", 3)),
        (lambda raw: watched.cache.event("MODIFIED", raw), named("a", 4, uid="made anew")),
    ):
        take_in(raw)
        assert await watched.directory.one(key) == Aged(summary(raw), 0.0)
    watched.cache.event("DELETED", named("a", 5, uid="made anew"))
    assert await watched.directory.one(key) == Aged(None, 0.0)
    assert await watched.names() == []


async def test_pages_are_in_order_and_by_user() -> None:
    watched = Watched()
    watched.cache.replace([named("b", 1, "bob"), named("a", 2), named("c", 3, namespace="other")], "3")
    assert await watched.names() == ["c", "a", "b"]
    assert await watched.names(user="alice") == ["c", "a"]
    assert await watched.names(user="alice", namespace="users") == ["a"]
    assert await watched.names(after=Key("users", "a")) == ["b"]
    watched.cache.replace([named("a", 5, "bob", uid="made anew")], "6")
    assert await watched.names(user="alice") == []
    assert await watched.names(user="bob") == ["a"]
