"""Whether kopf's watches are alive, derived from its HTTP requests: kopf itself does not report it."""

import time
from collections.abc import Callable, Iterable

from aiohttp import ClientHandlerType, ClientRequest, ClientResponse


class WatchLiveness:
    """Liveness of the watches of one resource: one watch for each of `paths`, the URL paths of its lists.

    It tracks the requests of kopf's client for these paths, and the open stream of each.
    """

    def __init__(self, paths: Iterable[str], clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._streams: dict[str, ClientResponse | None] = dict.fromkeys(paths)
        self._alive_until = dict.fromkeys(self._streams, clock())
        self._failing: set[str] = set()

    async def middleware(self, request: ClientRequest, handler: ClientHandlerType) -> ClientResponse:
        """Send a request of kopf, and record how it went: an aiohttp client middleware in the session that kopf gets."""
        path = request.url.path
        if path not in self._streams:
            return await handler(request)
        if self._streams[path] is not None:  # kopf pauses 0.1 s between two streams, and waits up to 70 s for data in one
            self._alive_until[path] = self._clock()
            self._streams[path] = None
        try:
            response = await handler(request)
        except Exception:
            self._failing.add(path)
            raise
        if response.status >= 400:
            self._failing.add(path)
        elif "watch" in request.url.query:  # not after a list: kopf lists before each attempt to watch
            self._failing.discard(path)
            self._streams[path] = response
        return response

    def age(self) -> float:
        """Return for how many seconds the watch that is interrupted for longest has been so; 0 while all watches are open."""
        now = self._clock()
        return max(0.0 if _open(stream) else now - self._alive_until[path] for path, stream in self._streams.items())

    @property
    def failing(self) -> bool:
        """Whether any of the watches failed at its last attempt, and has not been opened since."""
        return bool(self._failing)


def _open(stream: ClientResponse | None) -> bool:
    return stream is not None and not (stream.closed or stream.content.is_eof() or stream.content.exception())
