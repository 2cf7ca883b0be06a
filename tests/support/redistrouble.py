"""Fourteen conditions of Redis, most of them faults, for the tests that compare the operator's work under each."""

import asyncio
import contextlib
import random
import socketserver
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field

import redis

from support import redisproxy
from testservers.redis import RedisServer

NewRedis = Callable[..., RedisServer]
EVERY = 0.3
"""Seconds between two corruptions of all values."""
LATENCY = 0.5


@dataclass
class RedisCondition:
    """A condition of Redis. `before` maps steps of the workload to actions to run before them."""

    url: str = ""
    """URL for the operator; empty if Redis is not configured."""
    before: dict[str, Callable[[], object]] = field(default_factory=dict)


@contextmanager
def healthy(new_redis: NewRedis) -> Iterator[RedisCondition]:
    yield RedisCondition(new_redis().url)


@contextmanager
def not_configured(new_redis: NewRedis) -> Iterator[RedisCondition]:
    yield RedisCondition()


@contextmanager
def absent(new_redis: NewRedis) -> Iterator[RedisCondition]:
    server = new_redis()
    server.kill()
    yield RedisCondition(server.url)


@contextmanager
def killed_and_back(new_redis: NewRedis) -> Iterator[RedisCondition]:
    """Kill Redis during the workload; start it again, empty, before a later step."""
    server = new_redis()
    yield RedisCondition(server.url, {"change": server.kill, "suspend": server.start})


@contextmanager
def stopped(new_redis: NewRedis) -> Iterator[RedisCondition]:
    server = new_redis()
    yield RedisCondition(server.url, {"create": server.pause})


@contextmanager
def slow(new_redis: NewRedis) -> Iterator[RedisCondition]:
    ready, done = threading.Event(), asyncio.Event()
    proxies: list[redisproxy.RedisProxy] = []
    loops: list[asyncio.AbstractEventLoop] = []
    port = new_redis().port

    async def serve() -> None:
        loops.append(asyncio.get_running_loop())
        async with redisproxy.running(port) as proxy:
            proxy.delay = LATENCY
            proxies.append(proxy)
            ready.set()
            await done.wait()

    thread = threading.Thread(target=asyncio.run, args=(serve(),), daemon=True)
    thread.start()
    assert ready.wait(timeout=60)
    yield RedisCondition(proxies[0].url)
    loops[0].call_soon_threadsafe(done.set)
    thread.join(timeout=60)


@contextmanager
def full(new_redis: NewRedis) -> Iterator[RedisCondition]:
    yield RedisCondition(new_redis(maxmemory="100kb").url)


@contextmanager
def read_only(new_redis: NewRedis) -> Iterator[RedisCondition]:
    yield RedisCondition(new_redis(replica_of=new_redis()).url)


@contextmanager
def wrong_password(new_redis: NewRedis) -> Iterator[RedisCondition]:
    server = new_redis(password="the-right-one")
    yield RedisCondition(server.url.replace("redis://", "redis://:not-that@"))


@contextmanager
def flushed(new_redis: NewRedis) -> Iterator[RedisCondition]:
    server = new_redis()
    with _repeatedly(server, lambda client: client.flushall(), every=1.0):
        yield RedisCondition(server.url)


@contextmanager
def garbage(new_redis: NewRedis) -> Iterator[RedisCondition]:
    """Overwrite every key, whatever its type, with random bytes, again and again."""
    server, dice = new_redis(), random.Random(5)  # noqa: S311  # the same bytes every time

    def corrupt(client: redis.Redis) -> None:
        for key in client.scan_iter():
            client.set(key, dice.randbytes(dice.choice([1, 100, 100_000])), ex=600)

    with _repeatedly(server, corrupt):
        yield RedisCondition(server.url)


@contextmanager
def stale(new_redis: NewRedis) -> Iterator[RedisCondition]:
    """Restore the first value of each key, again and again."""
    server = new_redis()
    first: dict[bytes, bytes] = {}

    def restore_first(client: redis.Redis) -> None:
        for key in client.scan_iter():
            if (value := client.dump(key)) is not None:
                client.restore(key, 600_000, first.setdefault(key, value), replace=True)

    with _repeatedly(server, restore_first):
        yield RedisCondition(server.url)


@contextmanager
def of_another(new_redis: NewRedis) -> Iterator[RedisCondition]:
    """Exchange the values of different objects, again and again."""
    server = new_redis()

    def swap(client: redis.Redis) -> None:
        for kind in (b"summary", b"backoff"):
            keys = sorted(client.keys(b"*:" + kind + b":*"))
            values = [client.dump(key) for key in keys]
            for key, value in zip(keys, values[1:] + values[:1], strict=True):
                if value is not None:
                    client.restore(key, 600_000, value, replace=True)

    with _repeatedly(server, swap):
        yield RedisCondition(server.url)


@contextmanager
def not_redis(new_redis: NewRedis) -> Iterator[RedisCondition]:
    """Run a server that does not speak the Redis protocol."""
    dice = random.Random(5)  # noqa: S311  # the same bytes every time

    class BabbleHandler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            with contextlib.suppress(OSError):
                while self.request.recv(65536):
                    self.request.sendall(dice.randbytes(200))

    class BabblingServer(socketserver.ThreadingTCPServer):
        daemon_threads = True

    with BabblingServer(("127.0.0.1", 0), BabbleHandler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield RedisCondition(f"redis://127.0.0.1:{server.server_address[1]}/0")
        server.shutdown()


CONDITIONS = {
    "healthy": healthy,
    "absent": absent,
    "killed -9 and back": killed_and_back,
    "SIGSTOP": stopped,
    "500 ms latency": slow,
    "OOM, noeviction": full,
    "READONLY": read_only,
    "wrong password": wrong_password,
    "FLUSHALL every second": flushed,
    "garbage bytes": garbage,
    "stale values": stale,
    "another object's values": of_another,
    "no --redis-url": not_configured,
    "speaks no Redis": not_redis,
}
"""Name -> condition. The first is the baseline of the others."""


@contextmanager
def _repeatedly(server: RedisServer, corrupt: Callable[[redis.Redis], object], every: float = EVERY) -> Iterator[None]:
    """Run `corrupt` every few seconds in a thread. If it fails, the test fails."""
    done = threading.Event()
    failures: list[Exception] = []

    def work() -> None:
        try:
            while not done.wait(every):
                corrupt(client)
        except redis.RedisError as error:
            failures.append(error)

    with ExitStack() as stack:
        client = stack.enter_context(redis.Redis(host="127.0.0.1", port=server.port))
        thread = threading.Thread(target=work, daemon=True)
        thread.start()
        try:
            yield
        finally:
            done.set()
            thread.join(timeout=60)
    assert not failures, failures
