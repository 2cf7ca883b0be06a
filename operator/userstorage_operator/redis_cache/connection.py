"""The connection to Redis. Every call has a time limit, and a circuit breaker keeps callers from waiting while Redis fails."""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Iterable
from typing import Protocol, TypeVar, cast

import redis
import redis.exceptions
import structlog
from redis.asyncio import Redis

from userstorage_operator.redis_cache import clients
from userstorage_operator.redis_cache.breaker import Breaker, State
from userstorage_operator.redis_cache.settings import RedisSettings

log = structlog.get_logger(__name__)

T = TypeVar("T")

CONNECTIONS = 16
"""Maximum number of connections to Redis. More would not make one event loop faster, and each costs both sides some work."""

_KINDS: tuple[tuple[type[Exception], str], ...] = (
    # The first match counts: some are subclasses of later ones.
    (redis.exceptions.AuthenticationError, "auth"),
    (redis.exceptions.AuthorizationError, "auth"),
    (redis.exceptions.NoPermissionError, "permission"),
    (redis.exceptions.BusyLoadingError, "loading"),
    (redis.exceptions.ReadOnlyError, "readonly"),
    (redis.exceptions.OutOfMemoryError, "oom"),
    (redis.exceptions.MaxConnectionsError, "exhausted"),
    (redis.exceptions.TimeoutError, "timeout"),
    (TimeoutError, "timeout"),
    (redis.exceptions.ClusterError, "connection"),
    (redis.exceptions.RedisClusterException, "connection"),
    (redis.exceptions.ConnectionError, "connection"),
    (OSError, "connection"),
    (redis.exceptions.RedisError, "response"),
)
_BUSY = "busy"
_BREAKER_OPEN = "breaker_open"
_NOT_CONFIGURED = "not_configured"

KINDS = (*dict.fromkeys(kind for _, kind in _KINDS), _BUSY, _BREAKER_OPEN)
"""The kinds of failed calls that are counted in the metrics. `not_configured` is not among them, since it is not a failure."""

_NOT_SERVING = frozenset({"timeout", "connection", "auth", "loading", _BUSY})
"""The kinds of failures that any other call would have too. Only these count as failures for the circuit breaker."""

_STALE_CONNECTIONS = frozenset({"timeout", "connection", "auth", "readonly"})
"""The kinds of failures after which the idle connections are closed: they may lead to a server that is gone, or to a former
master.
"""


class RedisUnavailable(Exception):
    """A call to Redis failed or was not made. `kind` is one of KINDS or `not_configured`; the message is for logs."""

    def __init__(self, kind: str, detail: str = "") -> None:
        super().__init__(f"{kind}: {detail}" if detail else kind)
        self.kind = kind


class RedisObserver(Protocol):
    """Receives the outcome of every call to Redis, for metrics."""

    def redis_labels(self, kinds: Iterable[str], states: Iterable[str]) -> None:
        """Say beforehand which values `redis_failed` and `redis_breaker` will get, so that all time series exist from the
        start.
        """

    def redis_answered(self, seconds: float) -> None:
        """Record the duration of a call to Redis, successful or not."""

    def redis_failed(self, kind: str) -> None:
        """Record a call to Redis that failed, or that was not made because the circuit breaker is open (`breaker_open`)."""

    def redis_breaker(self, state: str) -> None:
        """Record the current state of the circuit breaker, a value of `breaker.State`."""


class Connection:
    """Makes all calls of this process to Redis, and connects on the first. If `settings` is None, every call fails as
    `not_configured`.
    """

    def __init__(self, settings: RedisSettings | None, observer: RedisObserver) -> None:
        self._settings = settings
        self._observer = observer
        self._client: clients.Client | None = None
        self._slots = asyncio.Semaphore(CONNECTIONS)
        self._breaker = Breaker(time.monotonic, lambda: random.uniform(-1, 1))  # noqa: S311  # no secret
        self._logged_state = State.CLOSED
        self._dropping: set[asyncio.Task[None]] = set()
        observer.redis_labels(KINDS, tuple(State))
        observer.redis_breaker(State.CLOSED)

    @property
    def state(self) -> State:
        """The state of the circuit breaker."""
        return self._breaker.state

    async def run(self, operation: str, call: Callable[[Redis], Awaitable[T]]) -> T:
        """Return the result of `call`, which sends one command, pipeline or script to Redis. `operation` names the call in
        error messages.

        Once the call has a connection, it takes at most twice the timeout. While the circuit breaker is open, it fails at once.
        Raises RedisUnavailable for every failure of Redis. Other exceptions of `call` pass through.
        """
        if self._settings is None:
            raise RedisUnavailable(_NOT_CONFIGURED)
        cancelled = _cancellations()
        await self._acquire_slot(self._settings.timeout)
        try:
            era = self._breaker.admit()
            self._log_state("")
            if era is None:
                self._observer.redis_failed(_BREAKER_OPEN)
                raise RedisUnavailable(_BREAKER_OPEN)
            return await self._run(operation, call, era, self._settings)
        finally:
            self._slots.release()
            # redis-py sends with asyncio.wait_for, which before Python 3.12 loses a cancellation that arrives as it finishes.
            if _cancellations() > cancelled:
                raise asyncio.CancelledError

    async def close(self) -> None:
        """Close all connections to Redis."""
        client, self._client = self._client, None
        await asyncio.gather(*self._dropping, return_exceptions=True)
        if client is not None:
            await clients.close(client)

    async def _acquire_slot(self, timeout: float) -> None:
        try:
            async with asyncio.timeout(timeout):
                await self._slots.acquire()
        except TimeoutError:
            self._observer.redis_failed("exhausted")
            raise RedisUnavailable("exhausted", f"all {CONNECTIONS} connections are in use") from None

    async def _run(self, operation: str, call: Callable[[Redis], Awaitable[T]], era: int, settings: RedisSettings) -> T:
        if self._client is None:
            self._client = clients.connect(settings, CONNECTIONS)
        start = time.monotonic()
        try:
            # Connecting, logging in and sending the command have a timeout each. This one bounds their sum.
            async with asyncio.timeout(2 * settings.timeout):
                answer = await call(cast("Redis", self._client))  # a RedisCluster has the same methods
        except (redis.exceptions.RedisError, redis.exceptions.RedisClusterException, OSError) as error:
            raise self._failure(operation, error, era) from error
        except BaseException:
            self._breaker.abandoned(era)
            raise
        else:
            self._breaker.succeeded(era)
            return answer
        finally:
            self._observer.redis_answered(time.monotonic() - start)
            self._log_state("")

    def _failure(self, operation: str, error: Exception, era: int) -> RedisUnavailable:
        kind = _kind(error)
        self._observer.redis_failed(kind)
        if kind in _NOT_SERVING:
            self._breaker.failed(era)
        else:
            self._breaker.succeeded(era)
        if kind in _STALE_CONNECTIONS:
            self._drop_idle()
        failure = RedisUnavailable(kind, f"{operation}: {error}")
        self._log_state(str(failure))
        return failure

    def _drop_idle(self) -> None:
        """Close the idle connections in the background: closing a TLS connection waits for the server, which may hang."""
        if self._client is not None:
            task = asyncio.create_task(clients.drop_idle(self._client), name="redis-drop-idle")
            self._dropping.add(task)
            task.add_done_callback(self._dropped)

    def _dropped(self, task: asyncio.Task[None]) -> None:
        self._dropping.discard(task)
        if not task.cancelled():
            task.exception()  # marked as retrieved; the connection is closed even if closing it failed

    def _log_state(self, cause: str) -> None:
        state, before = self._breaker.state, self._logged_state
        if state is before:
            return
        self._logged_state = state
        self._observer.redis_breaker(state)
        if state is State.OPEN and before is State.CLOSED:
            log.warning("redis_unavailable", why=cause)
        elif state is State.CLOSED:
            log.info("redis_recovered")


def _cancellations() -> int:
    """Return how many cancellations of the current asyncio task were requested."""
    task = asyncio.current_task()
    return task.cancelling() if task is not None else 0


def _kind(error: Exception) -> str:
    if isinstance(error, redis.exceptions.ResponseError) and str(error).startswith("BUSY "):
        return _BUSY
    return next(kind for cause, kind in _KINDS if isinstance(error, cause))
