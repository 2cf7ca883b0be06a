"""The connection to a real Redis, in every form and in every trouble: what is said, how long it takes, and that it heals."""

import asyncio
import contextlib
import shutil
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

import pytest
from redis.asyncio import Redis

from support import redisproxy
from testservers.redis import RedisServer
from userstorage_operator.redis_cache.breaker import FAILURES, State
from userstorage_operator.redis_cache.connection import CONNECTIONS, Connection, RedisUnavailable
from userstorage_operator.redis_cache.settings import RedisSettings

BOUND = 1.0  # two time-outs are 0.2; the rest is for a busy machine. redis-py's own limit is 5 s, and several tries
PATIENT = 2.0  # the time-out where time is not what the test is about
NewRedis = Callable[..., RedisServer]


@dataclass
class ConnectionMetrics:
    """What metrics are told."""

    kinds: list[str] = field(default_factory=list)
    states: list[str] = field(default_factory=list)
    commands: list[float] = field(default_factory=list)

    def redis_labels(self, kinds: Iterable[str], states: Iterable[str]) -> None:
        pass

    def redis_answered(self, seconds: float) -> None:
        self.commands.append(seconds)

    def redis_failed(self, kind: str) -> None:
        self.kinds.append(kind)

    def redis_breaker(self, state: str) -> None:
        self.states.append(state)


class RedisClient:
    """A connection as the operator has it, and what it tells."""

    def __init__(self, settings: RedisSettings | None) -> None:
        self.metrics = ConnectionMetrics()
        self.connection = Connection(settings, self.metrics)

    @property
    def state(self) -> State:
        return self.connection.state

    async def get(self, key: str = "name") -> bytes | None:
        return await self.connection.run("get", lambda redis: cast("Awaitable[bytes | None]", redis.get(key)))

    async def set(self, value: str = "value", key: str = "name") -> None:
        await self.connection.run("set", lambda redis: redis.set(key, value))

    async def trouble(self, call: Callable[[], Any] | None = None) -> str:
        """The kind of trouble that a call has, within its bound."""
        start = time.monotonic()
        with pytest.raises(RedisUnavailable) as caught:
            await (call or self.get)()
        assert time.monotonic() - start < BOUND
        return caught.value.kind

    async def opened(self) -> list[str]:
        """The kinds of trouble until the breaker is open, none of which takes longer than its bound."""
        kinds = [await self.trouble() for _ in range(FAILURES)]
        assert self.state is State.OPEN
        assert await self.trouble() == "breaker_open"
        return kinds

    async def healed(self, seconds: float = 10.0) -> None:
        """By itself, with nothing but the calls of its user."""
        async with asyncio.timeout(seconds):
            while True:
                with contextlib.suppress(RedisUnavailable):
                    await self.set("healed")
                    break
                await asyncio.sleep(0.02)
        assert self.state is State.CLOSED
        assert await self.get() == b"healed"


@pytest.fixture
async def connect() -> AsyncIterator[Callable[..., RedisClient]]:
    clients: list[RedisClient] = []

    def make(url: str, **options: Any) -> RedisClient:
        clients.append(RedisClient(RedisSettings(url, **options)))
        return clients[-1]

    yield make
    for client in clients:
        await client.connection.close()


@pytest.fixture
def password_file(tmp_path: Path) -> Path:
    path = tmp_path / "password"
    put("secret\n", path)
    return path


def put(password: str, path: Path) -> None:
    """As a mounted Secret changes."""
    path.write_text(password)


def tls_files(server: RedisServer) -> dict[str, Path]:
    """The options for a server of TLS, none for another."""
    keys = server.keys
    if not server.options.tls:
        return {}
    return {"ca_file": keys / "ca.crt", "cert_file": keys / "client.crt", "key_file": keys / "client.key"}


# Forms


FORMS = pytest.mark.parametrize(
    "options",
    [{}, {"unix_socket": True}, {"cluster": True}, {"tls": True}, {"tls": True, "cluster": True}],
    ids=lambda options: "+".join(options) or "bare",
)


@FORMS
async def test_each_form_of_url(new_redis: NewRedis, connect: Callable[..., RedisClient], options: dict[str, Any]) -> None:
    server = new_redis(**options)
    client = connect(server.url, **tls_files(server), timeout=PATIENT)
    await client.set()
    assert await client.get() == b"value"
    assert server.cli("get", "name") == "value"
    assert len(client.metrics.commands) == 2


async def test_without_a_url_nothing_is_tried_and_nothing_counted() -> None:
    client = RedisClient(None)
    assert await client.trouble() == "not_configured"
    assert client.metrics.kinds == []
    await client.connection.close()


async def test_a_database_of_its_own(redis_server: RedisServer, connect: Callable[..., RedisClient]) -> None:
    await connect(redis_server.url.removesuffix("0") + "3").set()
    assert redis_server.cli("-n", "3", "get", "name") == "value"
    assert redis_server.cli("get", "name") == ""


async def test_certificates_that_are_renewed(new_redis: NewRedis, connect: Callable[..., RedisClient]) -> None:
    server = new_redis(tls=True)
    client = connect(server.url, **tls_files(server), timeout=PATIENT)
    await client.set()
    server.stop()
    shutil.rmtree(server.keys)
    server.start()  # with another authority
    await client.healed()


@pytest.mark.parametrize("missing", [{"cert_file", "key_file"}, {"ca_file"}], ids=["client certificate", "authority"])
async def test_tls_without_the_right_files_is_refused(
    new_redis: NewRedis, connect: Callable[..., RedisClient], missing: set[str]
) -> None:
    server = new_redis(tls=True)
    files = {name: path for name, path in tls_files(server).items() if name not in missing}
    with pytest.raises(RedisUnavailable) as caught:
        await connect(server.url, **files, timeout=PATIENT).get()
    assert caught.value.kind == "connection"


async def test_an_acl_user(new_redis: NewRedis, connect: Callable[..., RedisClient], password_file: Path) -> None:
    server = new_redis(user="operator", password="secret")
    client = connect(server.url, username="operator", password_file=password_file)
    await client.set()
    assert await client.get() == b"value"


async def test_a_password_in_the_url(new_redis: NewRedis, connect: Callable[..., RedisClient]) -> None:
    server = new_redis(password="secret")
    await connect(server.url.replace("://", "://:secret@")).set()


async def test_what_the_user_may_not_do_is_told_and_the_rest_goes_on(
    new_redis: NewRedis, connect: Callable[..., RedisClient], password_file: Path
) -> None:
    server = new_redis(user="operator", password="secret", directives={"user reader": "on >secret ~* +get"})
    client = connect(server.url, username="reader", password_file=password_file)
    for _ in range(2 * FAILURES):
        assert await client.trouble(client.set) == "permission"
    assert await client.get() is None


async def test_a_sentinel_of_tls(new_redis: NewRedis, connect: Callable[..., RedisClient]) -> None:
    master = new_redis(tls=True)
    sentinel = new_redis(sentinel_of=master, tls=True)
    await _until(lambda: "status=ok" in sentinel.cli("info", "sentinel"), 15)
    await connect(sentinel.url, **tls_files(sentinel), timeout=PATIENT).set()
    assert master.cli("get", "name") == "value"


async def test_a_sentinel_leads_to_the_master_of_the_day(new_redis: NewRedis, connect: Callable[..., RedisClient]) -> None:
    master = new_redis()
    replica = new_redis(replica_of=master)
    sentinel = new_redis(sentinel_of=master)
    client = connect(sentinel.url)
    await client.set()
    await _until(lambda: replica.cli("get", "name") == "value")
    await _until(lambda: "slaves=1" in sentinel.cli("info", "sentinel"), 15)
    sentinel.cli("sentinel", "failover", "main")
    await _until(lambda: "role:master" in replica.cli("info", "replication"), 15)
    master.kill()
    await client.healed(20)
    assert replica.cli("get", "name") == "healed"


# Trouble


async def test_a_wrong_password_and_a_rotated_one(
    new_redis: NewRedis, connect: Callable[..., RedisClient], password_file: Path
) -> None:
    server = new_redis(password="other")
    client = connect(server.url, password_file=password_file)
    assert await client.opened() == ["auth"] * FAILURES
    put("other\n", password_file)
    await client.healed()


async def test_a_server_that_restarts_with_another_password(
    new_redis: NewRedis, connect: Callable[..., RedisClient], password_file: Path
) -> None:
    server = new_redis(password="secret")
    client = connect(server.url, password_file=password_file)
    await client.healed()
    server.stop()
    server.options = replace(server.options, password="rotated")
    server.start()
    while (kind := await client.trouble()) == "connection":  # what is left of the old server
        pass
    assert kind == "auth"
    put("neither", password_file)
    assert await client.trouble() == "auth"
    put("rotated", password_file)
    await client.healed()


async def test_no_server(redis_server: RedisServer, connect: Callable[..., RedisClient]) -> None:
    redis_server.stop()
    client = connect(redis_server.url)
    assert await client.opened() == ["connection"] * FAILURES


async def test_a_killed_server_that_comes_back(redis_server: RedisServer, connect: Callable[..., RedisClient]) -> None:
    client = connect(redis_server.url)
    await client.set()
    redis_server.kill()
    assert await client.opened() == ["connection"] * FAILURES
    redis_server.start()
    await client.healed()
    assert client.metrics.states[:2] == ["closed", "open"]
    assert client.metrics.states[-2:] == ["half_open", "closed"]


@FORMS
async def test_a_stopped_server_costs_time_once_and_not_per_request(
    new_redis: NewRedis, connect: Callable[..., RedisClient], options: dict[str, Any]
) -> None:
    server = new_redis(**options)
    client = connect(server.url, **tls_files(server))
    await client.set()
    server.pause()
    # A cluster client says of nodes that time out that it cannot connect.
    assert set(await client.opened()) <= ({"timeout", "connection"} if options.get("cluster") else {"timeout"})
    kinds = [await _kind(client.get) for _ in range(1000)]
    assert kinds.count("breaker_open") >= 990, "more than the probes went to the server"
    server.resume()
    await client.healed()


async def test_many_at_once_on_a_stopped_server_wait_no_longer_than_one(
    redis_server: RedisServer, connect: Callable[..., RedisClient]
) -> None:
    client = connect(redis_server.url)
    await client.set()
    redis_server.pause()
    start = time.monotonic()
    kinds = await asyncio.gather(*(_kind(client.get) for _ in range(500)))
    assert time.monotonic() - start < 2 * BOUND
    assert set(kinds) <= {"timeout", "breaker_open", "exhausted"}
    assert await client.trouble() == "breaker_open"
    redis_server.resume()
    await client.healed()


async def test_more_at_once_than_there_are_connections(redis_server: RedisServer, connect: Callable[..., RedisClient]) -> None:
    client = connect(redis_server.url, timeout=PATIENT)
    await client.set()
    assert await asyncio.gather(*(client.get() for _ in range(300))) == [b"value"] * 300
    connected = int(redis_server.cli("info", "clients").split("connected_clients:")[1].split()[0])
    assert connected <= CONNECTIONS + 1  # and that of redis-cli


async def test_a_server_that_loads(new_redis: NewRedis, connect: Callable[..., RedisClient]) -> None:
    slow = {"key-load-delay": "2000", "loading-process-events-interval-bytes": "1024"}
    server = new_redis(directives=slow)
    server.cli("eval", "for i = 1, 1000 do redis.call('set', i, string.rep('x', 1024)) end", "0")
    server.cli("save")
    client = connect(server.url)
    server.kill()
    server.start()
    kinds: list[str] = []
    async with asyncio.timeout(10):
        while "loading" not in kinds:
            kinds += [await client.trouble()]
            await asyncio.sleep(0.05)
    await client.healed(20)


async def test_a_replica_serves_reads_and_tells_of_writes(new_redis: NewRedis, connect: Callable[..., RedisClient]) -> None:
    replica = new_redis(replica_of=new_redis())
    client = connect(replica.url)
    for _ in range(2 * FAILURES):
        assert await client.trouble(client.set) == "readonly"
    assert await client.get() is None
    replica.cli("replicaof", "no", "one")
    await client.healed()


async def test_a_full_server_serves_reads_and_tells_of_writes(new_redis: NewRedis, connect: Callable[..., RedisClient]) -> None:
    server = new_redis(maxmemory="100mb")
    client = connect(server.url)
    await client.set()
    server.cli("config", "set", "maxmemory", "512kb")
    for _ in range(2 * FAILURES):
        assert await client.trouble(client.set) == "oom"
    assert await client.get() == b"value"
    server.cli("config", "set", "maxmemory", "0")
    await client.healed()


async def test_too_many_clients(new_redis: NewRedis, connect: Callable[..., RedisClient]) -> None:
    server = new_redis()
    taken = [await asyncio.open_connection("127.0.0.1", server.port) for _ in range(2)]
    for reader, writer in taken:
        writer.write(b"PING\r\n")
        assert await reader.readline() == b"+PONG\r\n"
    server.cli("config", "set", "maxclients", "2")
    client = connect(server.url)
    assert await client.opened() == ["connection"] * FAILURES
    for _, writer in taken:
        writer.close()
        await writer.wait_closed()
    await client.healed()


async def test_a_busy_script(redis_server: RedisServer, connect: Callable[..., RedisClient]) -> None:
    client = connect(redis_server.url)
    await client.set()
    redis_server.cli("config", "set", "busy-reply-threshold", "50")
    script = asyncio.create_task(asyncio.to_thread(_kind_of_cli, redis_server, "eval", "while true do end", "0"))
    kinds: list[str] = []
    async with asyncio.timeout(10):
        while "busy" not in kinds:
            kinds += [await _kind(client.get)]
            await asyncio.sleep(0.01)
    redis_server.cli("script", "kill")
    await script
    await client.healed()


async def test_a_wrong_command_says_nothing_about_the_server(
    redis_server: RedisServer, connect: Callable[..., RedisClient]
) -> None:
    client = connect(redis_server.url)
    await client.set()
    for _ in range(2 * FAILURES):
        assert await client.trouble(lambda: client.connection.run("lpop", lambda redis: redis.lpop("name"))) == "response"
    assert client.state is State.CLOSED


async def test_a_fault_of_the_caller_passes_through(redis_server: RedisServer, connect: Callable[..., RedisClient]) -> None:
    client = connect(redis_server.url)

    async def faulty(redis: Redis) -> int:
        return int(await redis.echo("no number"))

    with pytest.raises(ValueError, match="no number"):
        await client.connection.run("echo", faulty)
    await client.set()


async def test_half_a_second_of_latency(redis_server: RedisServer, connect: Callable[..., RedisClient]) -> None:
    async with redisproxy.running(redis_server.port) as proxy:
        client = connect(proxy.url)
        await client.set()
        proxy.delay = 0.5
        assert await client.opened() == ["timeout"] * FAILURES
        proxy.heal()
        await client.healed()


async def test_a_network_that_swallows_everything(redis_server: RedisServer, connect: Callable[..., RedisClient]) -> None:
    async with redisproxy.running(redis_server.port) as proxy:
        client = connect(proxy.url)
        await asyncio.gather(*(_kind(client.get) for _ in range(20)))
        proxy.stall()
        assert await client.opened() == ["timeout"] * FAILURES
        stalled = proxy.connections
        proxy.heal()
        await client.healed(3)
        assert proxy.connections > stalled, "a connection that was stalled is used again"


async def test_connections_that_are_reset(redis_server: RedisServer, connect: Callable[..., RedisClient]) -> None:
    async with redisproxy.running(redis_server.port) as proxy:
        client = connect(proxy.url)
        await asyncio.gather(*(_kind(client.get) for _ in range(20)))
        proxy.reset()
        assert await client.opened() == ["connection"] * FAILURES
        proxy.heal()
        await client.healed()


async def test_cancelled_calls_leave_no_connection_taken(
    redis_server: RedisServer, connect: Callable[..., RedisClient]
) -> None:
    client = connect(redis_server.url, timeout=PATIENT)
    await client.set()

    async def pipeline(redis: Redis) -> Any:
        async with redis.pipeline(transaction=True) as steps:
            steps.get("name")
            steps.incr("count")
            return await steps.execute()

    for step in range(200):
        task = asyncio.create_task(client.connection.run("pipeline", pipeline))
        for _ in range(step % 8):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    assert client.state is State.CLOSED
    for _ in range(2):
        kinds = await asyncio.gather(*(_kind(client.get) for _ in range(CONNECTIONS)))
    assert kinds == ["none"] * CONNECTIONS


# What else is asked of the machine


async def _until(condition: Callable[[], bool], seconds: float = 10.0) -> None:
    async with asyncio.timeout(seconds):
        while not await asyncio.to_thread(condition):  # noqa: ASYNC110  # a server tells nobody
            await asyncio.sleep(0.05)


async def _kind(call: Callable[[], Any]) -> str:
    try:
        await call()
    except RedisUnavailable as error:
        return error.kind
    return "none"


def _kind_of_cli(server: RedisServer, *arguments: str) -> None:
    with contextlib.suppress(Exception):
        server.cli(*arguments)


async def test_a_call_that_loses_its_cancellation_is_cancelled_all_the_same(redis_server: RedisServer) -> None:
    """As redis-py does by asyncio.wait_for, now and then: a task that goes on for ever would keep the process from its end."""
    connection, began = Connection(RedisSettings(redis_server.url, timeout=PATIENT), ConnectionMetrics()), asyncio.Event()

    async def lose(_: Redis) -> str:
        began.set()
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.sleep(PATIENT)
        return "answer"

    async def for_ever() -> None:
        while True:
            await connection.run("lose", lose)

    task = asyncio.create_task(for_ever())
    await began.wait()
    task.cancel()
    done, _ = await asyncio.wait([task], timeout=PATIENT)
    await connection.close()
    assert done == {task}
    assert task.cancelled()
