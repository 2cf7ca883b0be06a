"""Twelve ways for Redis to be, and two more: each with what an operator is told of where it is."""

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
"""Seconds between two spoilings of everything."""
LATENCY = 0.5


@dataclass
class Trouble:
    """What Redis is like now. `before` is done once a step of that name is about to begin."""

    url: str = ""
    """Empty for none."""
    before: dict[str, Callable[[], object]] = field(default_factory=dict)


@contextmanager
def healthy(new_redis: NewRedis) -> Iterator[Trouble]:
    yield Trouble(new_redis().url)


@contextmanager
def not_configured(new_redis: NewRedis) -> Iterator[Trouble]:
    yield Trouble()


@contextmanager
def absent(new_redis: NewRedis) -> Iterator[Trouble]:
    server = new_redis()
    server.kill()
    yield Trouble(server.url)


@contextmanager
def killed_and_back(new_redis: NewRedis) -> Iterator[Trouble]:
    """Killed at work, and back, empty, while there is more to do."""
    server = new_redis()
    yield Trouble(server.url, {"change": server.kill, "suspend": server.start})


@contextmanager
def stopped(new_redis: NewRedis) -> Iterator[Trouble]:
    server = new_redis()
    yield Trouble(server.url, {"create": server.pause})


@contextmanager
def slow(new_redis: NewRedis) -> Iterator[Trouble]:
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
    yield Trouble(proxies[0].url)
    loops[0].call_soon_threadsafe(done.set)
    thread.join(timeout=60)


@contextmanager
def full(new_redis: NewRedis) -> Iterator[Trouble]:
    yield Trouble(new_redis(maxmemory="100kb").url)


@contextmanager
def read_only(new_redis: NewRedis) -> Iterator[Trouble]:
    yield Trouble(new_redis(replica_of=new_redis()).url)


@contextmanager
def wrong_password(new_redis: NewRedis) -> Iterator[Trouble]:
    server = new_redis(password="the-right-one")
    yield Trouble(server.url.replace("redis://", "redis://:not-that@"))


@contextmanager
def flushed(new_redis: NewRedis) -> Iterator[Trouble]:
    server = new_redis()
    with _again_and_again(server, lambda client: client.flushall(), every=1.0):
        yield Trouble(server.url)


@contextmanager
def garbage(new_redis: NewRedis) -> Iterator[Trouble]:
    """Bytes without sense in every value, list and hash among them."""
    server, dice = new_redis(), random.Random(5)  # noqa: S311  # the same bytes every time

    def spoil(client: redis.Redis) -> None:
        for key in client.scan_iter():
            client.set(key, dice.randbytes(dice.choice([1, 100, 100_000])), ex=600)

    with _again_and_again(server, spoil):
        yield Trouble(server.url)


@contextmanager
def stale(new_redis: NewRedis) -> Iterator[Trouble]:
    """What was first written of each object, put back again and again."""
    server = new_redis()
    first: dict[bytes, bytes] = {}

    def put_back(client: redis.Redis) -> None:
        for key in client.scan_iter():
            if (value := client.dump(key)) is not None:
                client.restore(key, 600_000, first.setdefault(key, value), replace=True)

    with _again_and_again(server, put_back):
        yield Trouble(server.url)


@contextmanager
def of_another(new_redis: NewRedis) -> Iterator[Trouble]:
    """Every object's values with its neighbour's."""
    server = new_redis()

    def swap(client: redis.Redis) -> None:
        for kind in (b"summary", b"backoff"):
            keys = sorted(client.keys(b"*:" + kind + b":*"))
            values = [client.dump(key) for key in keys]
            for key, value in zip(keys, values[1:] + values[:1], strict=True):
                if value is not None:
                    client.restore(key, 600_000, value, replace=True)

    with _again_and_again(server, swap):
        yield Trouble(server.url)


@contextmanager
def no_redis_at_all(new_redis: NewRedis) -> Iterator[Trouble]:
    """Something listens there that speaks no Redis."""
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
        yield Trouble(f"redis://127.0.0.1:{server.server_address[1]}/0")
        server.shutdown()


TROUBLES = {
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
    "speaks no Redis": no_redis_at_all,
}
"""The first is what the others are held against."""


@contextmanager
def _again_and_again(server: RedisServer, spoil: Callable[[redis.Redis], object], every: float = EVERY) -> Iterator[None]:
    """Have it done until the end. A failure of it ends the test, not only the thread."""
    done = threading.Event()
    failures: list[Exception] = []

    def work() -> None:
        try:
            while not done.wait(every):
                spoil(client)
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
