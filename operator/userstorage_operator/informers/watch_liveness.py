"""Whether the watches that kopf keeps are alive, seen from below: kopf itself does not tell."""

import time
from collections.abc import Callable, Iterable

from aiohttp import ClientHandlerType, ClientRequest, ClientResponse


class WatchLiveness:
    """Of one resource. Looks on as kopf's client asks for `paths` (URL paths of lists), and remembers the stream of each."""

    def __init__(self, paths: Iterable[str], clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._streams: dict[str, ClientResponse | None] = dict.fromkeys(paths)
        self._alive_until = dict.fromkeys(self._streams, clock())
        self._failing: set[str] = set()

    async def look_on(self, request: ClientRequest, handler: ClientHandlerType) -> ClientResponse:
        """Middleware for the client session that kopf is given."""
        path = request.url.path
        if path not in self._streams:
            return await handler(request)
        if self._streams[path] is not None:  # kopf waits 0.1 s between two streams, and 70 s for a word in one
            self._alive_until[path] = self._clock()
            self._streams[path] = None
        try:
            response = await handler(request)
        except Exception:
            self._failing.add(path)
            raise
        if response.status >= 400:
            self._failing.add(path)
        elif "watch" in request.url.query:  # a list alone shows no watch: it is asked for again before each try of one
            self._failing.discard(path)
            self._streams[path] = response
        return response

    def age(self) -> float:
        """Seconds since all of the watches were last alive together; 0 while they are."""
        now = self._clock()
        return max(0.0 if _open(stream) else now - self._alive_until[path] for path, stream in self._streams.items())

    @property
    def failing(self) -> bool:
        """Whether the last try of some watch failed."""
        return bool(self._failing)


def _open(stream: ClientResponse | None) -> bool:
    return stream is not None and not (stream.closed or stream.content.is_eof() or stream.content.exception())
