"""Whether kopf's watches are alive, derived from its requests."""

from types import SimpleNamespace
from typing import Any, cast

import pytest
from yarl import URL

from userstorage_operator.informers.watch_liveness import WatchLiveness

PATH = "/apis/userstorage.dev/v1/userstorages"


class Stream:
    """A response whose body has not ended."""

    def __init__(self, status: int = 200) -> None:
        self.status = status
        self.closed = False
        self.content = SimpleNamespace(is_eof=lambda: False, exception=lambda: None)


class Kopf:
    """Requests like those of kopf, at times that the test sets."""

    def __init__(self, *paths: str) -> None:
        self.now = 0.0
        self.liveness = WatchLiveness(paths or (PATH,), lambda: self.now)

    async def ask(self, answer: Stream | Exception, path: str = PATH, query: str = "watch=true") -> Any:
        async def handler(_: Any) -> Any:
            if isinstance(answer, Exception):
                raise answer
            return answer

        request = cast("Any", SimpleNamespace(url=URL(f"https://api{path}?{query}")))
        return await self.liveness.middleware(request, handler)


async def test_age_before_the_first_watch_is_the_time_since_the_start() -> None:
    kopf = Kopf()
    kopf.now = 3
    assert (kopf.liveness.age(), kopf.liveness.failing) == (3, False)
    await kopf.ask(Stream(), query="limit=500")
    assert kopf.liveness.age() == 3


async def test_age_is_zero_while_a_watch_is_open_and_grows_after_it_breaks() -> None:
    kopf, stream = Kopf(), Stream()
    await kopf.ask(stream)
    kopf.now = 100
    assert kopf.liveness.age() == 0
    stream.closed = True
    kopf.now = 101
    with pytest.raises(OSError, match="unreachable"):
        await kopf.ask(OSError("unreachable"))
    kopf.now = 105
    assert (kopf.liveness.age(), kopf.liveness.failing) == (4, True)
    await kopf.ask(Stream(503))
    assert (kopf.liveness.age(), kopf.liveness.failing) == (4, True)
    await kopf.ask(Stream(), query="limit=500")
    assert (kopf.liveness.age(), kopf.liveness.failing) == (4, True), "a list that succeeds proves no watch"
    await kopf.ask(Stream())
    assert (kopf.liveness.age(), kopf.liveness.failing) == (0, False)


async def test_the_age_is_that_of_the_worst_watch_and_ignores_other_requests() -> None:
    kopf = Kopf("/a", "/b")
    await kopf.ask(Stream(), "/a")
    await kopf.ask(Stream(503), "/c")
    kopf.now = 7
    assert (kopf.liveness.age(), kopf.liveness.failing) == (7, False)
    await kopf.ask(Stream(), "/b")
    assert kopf.liveness.age() == 0
