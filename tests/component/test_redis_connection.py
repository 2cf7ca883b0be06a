"""The connection to a real Redis in every topology and failure: the reported kind, the bound in time, and the recovery."""

import asyncio
import contextlib
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

import pytest
from redis.asyncio import Redis

from support import redisproxy
from support.kubectl import PATIENCE
from testservers.redis import RedisServer
from userstorage_operator.redis_cache.breaker import FAILURES, State
from userstorage_operator.redis_cache.connection import CONNECTIONS, Connection, RedisUnavailable
from userstorage_operator.redis_cache.settings import RedisSettings

BOUND = 1.0  # two timeouts are 0.2. redis-py's own limit is 5 s, and several tries
TICK = 0.05
LONG_TIMEOUT = 2.0  # seconds, for tests that are not about time
NewRedis = Callable[..., RedisServer]


@contextlib.asynccontextmanager
async def bounded(seconds: float = BOUND) -> AsyncIterator[None]:
    """Fail if the block takes longer, by the ticks of a timer of the same event loop.

    A busy machine that stalls this process stalls the timer too, so that the bound does not depend on the machine's load.
    """
    ticks = 0

    async def tick() -> None:
        nonlocal ticks
        while True:
            await asyncio.sleep(TICK)
            ticks += 1

    timer = asyncio.create_task(tick())
    try:
        yield
    finally:
        timer.cancel()
        await asyncio.gather(timer, return_exceptions=True)
    assert ticks * TICK < seconds


@dataclass
class ConnectionMetrics:
    """Records the calls of the metrics."""

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
    """A connection of the operator, and its metrics."""

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

    async def spread(self) -> None:
        """Make calls over many connections. On a busy machine some may take too long, so calls succeed again before this returns."""
        await asyncio.gather(*(_kind(self.get) for _ in range(20)))
        await self.healed()

    async def failure(self, call: Callable[[], Any] | None = None) -> str:
        """Make a call that must fail within its bound. Return the kind of the failure."""
        with pytest.raises(RedisUnavailable) as caught:
            async with bounded():
                await (call or self.get)()
        return caught.value.kind

    async def opened(self) -> list[str]:
        """Make calls until the breaker is open. Return the kinds of their failures."""
        kinds = [await self.failure() for _ in range(FAILURES)]
        assert self.state is State.OPEN
        assert await self.failure() == "breaker_open"
        return kinds

    async def healed(self, value: str = "healed") -> None:
        """Wait until calls succeed, again or on a busy machine for the first time, without any other action than these calls."""
        async with asyncio.timeout(PATIENCE):
            while True:
                with contextlib.suppress(RedisUnavailable):
                    await self.set(value)
                    break
                await asyncio.sleep(0.02)
        assert self.state is State.CLOSED
        assert await self.get() == value.encode()


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
    """Write the password file, as the kubelet does when a Secret changes."""
    path.write_text(password)


def tls_files(server: RedisServer) -> dict[str, Path]:
    """Return the options for a server with TLS; none for a server without."""
    keys = server.keys
    if not server.options.tls:
        return {}
    return {"ca_file": keys / "ca.crt", "cert_file": keys / "client.crt", "key_file": keys / "client.key"}


# Topologies and logins


TOPOLOGIES = pytest.mark.parametrize(
    "options",
    [{}, {"unix_socket": True}, {"cluster": True}, {"tls": True}, {"tls": True, "cluster": True}],
    ids=lambda options: "+".join(options) or "bare",
)


@TOPOLOGIES
async def test_calls_succeed_on_each_topology(
    new_redis: NewRedis, connect: Callable[..., RedisClient], options: dict[str, Any]
) -> None:
    server = new_redis(**options)
    client = connect(server.url, **tls_files(server), timeout=LONG_TIMEOUT)
    await client.set()
    assert await client.get() == b"value"
    assert server.cli("get", "name") == "value"
    assert len(client.metrics.commands) == 2


async def test_without_a_url_no_call_is_made_or_counted() -> None:
    client = RedisClient(None)
    assert await client.failure() == "not_configured"
    assert client.metrics.kinds == []
    await client.connection.close()


async def test_database_of_the_url_is_used(redis_server: RedisServer, connect: Callable[..., RedisClient]) -> None:
    await connect(redis_server.url.removesuffix("0") + "3", timeout=LONG_TIMEOUT).set()
    assert redis_server.cli("-n", "3", "get", "name") == "value"
    assert redis_server.cli("get", "name") == ""


async def test_renewed_certificates_are_loaded(new_redis: NewRedis, connect: Callable[..., RedisClient]) -> None:
    server = new_redis(tls=True)
    client = connect(server.url, **tls_files(server), timeout=LONG_TIMEOUT)
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
        await connect(server.url, **files, timeout=LONG_TIMEOUT).get()
    assert caught.value.kind == "connection"


async def test_acl_user_logs_in_with_a_password_file(
    new_redis: NewRedis, connect: Callable[..., RedisClient], password_file: Path
) -> None:
    server = new_redis(user="operator", password="secret")
    client = connect(server.url, username="operator", password_file=password_file, timeout=LONG_TIMEOUT)
    await client.set()
    assert await client.get() == b"value"


async def test_password_in_the_url_is_used(new_redis: NewRedis, connect: Callable[..., RedisClient]) -> None:
    server = new_redis(password="secret")
    await connect(server.url.replace("://", "://:secret@"), timeout=LONG_TIMEOUT).set()


async def test_missing_permission_is_reported_and_leaves_the_breaker_closed(
    new_redis: NewRedis, connect: Callable[..., RedisClient], password_file: Path
) -> None:
    server = new_redis(user="operator", password="secret", directives={"user reader": "on >secret ~* +get"})
    client = connect(server.url, username="reader", password_file=password_file)
    for _ in range(2 * FAILURES):
        assert await client.failure(client.set) == "permission"
    assert await client.get() is None


async def test_sentinel_with_tls_leads_to_the_master(new_redis: NewRedis, connect: Callable[..., RedisClient]) -> None:
    master = new_redis(tls=True)
    sentinel = new_redis(sentinel_of=master, tls=True)
    await _until(lambda: "status=ok" in sentinel.cli("info", "sentinel"))
    await connect(sentinel.url, **tls_files(sentinel), timeout=LONG_TIMEOUT).set()
    assert master.cli("get", "name") == "value"


async def test_sentinel_leads_to_the_current_master(new_redis: NewRedis, connect: Callable[..., RedisClient]) -> None:
    master = new_redis()
    replica = new_redis(replica_of=master)
    sentinel = new_redis(sentinel_of=master)
    client = connect(sentinel.url)
    await client.healed("value")
    await _until(lambda: replica.cli("get", "name") == "value")
    await _until(lambda: "slaves=1" in sentinel.cli("info", "sentinel"))
    sentinel.cli("sentinel", "failover", "main")
    await _until(lambda: "role:master" in replica.cli("info", "replication"))
    master.kill()
    await client.healed()
    assert replica.cli("get", "name") == "healed"


# Failures


async def test_wrong_password_is_reported_until_the_file_changes(
    new_redis: NewRedis, connect: Callable[..., RedisClient], password_file: Path
) -> None:
    server = new_redis(password="other")
    client = connect(server.url, password_file=password_file)
    assert await client.opened() == ["auth"] * FAILURES
    put("other\n", password_file)
    await client.healed()


async def test_client_recovers_after_the_server_changes_its_password(
    new_redis: NewRedis, connect: Callable[..., RedisClient], password_file: Path
) -> None:
    server = new_redis(password="secret")
    client = connect(server.url, password_file=password_file)
    await client.healed()
    server.stop()
    server.options = replace(server.options, password="rotated")
    server.start()

    async def answer() -> str:
        """Return why the new server refuses: what is left of the old one may have opened the breaker."""
        while (kind := await client.failure()) in ("connection", "breaker_open"):  # noqa: ASYNC110  # the pause is all
            await asyncio.sleep(0.01)
        return kind

    assert await answer() == "auth"
    put("neither", password_file)
    assert await answer() == "auth"
    put("rotated", password_file)
    await client.healed()


async def test_refused_connection_opens_the_breaker(redis_server: RedisServer, connect: Callable[..., RedisClient]) -> None:
    redis_server.stop()
    client = connect(redis_server.url)
    assert await client.opened() == ["connection"] * FAILURES


async def test_killed_server_is_used_again_after_its_restart(
    redis_server: RedisServer, connect: Callable[..., RedisClient]
) -> None:
    client = connect(redis_server.url)
    await client.healed("value")
    redis_server.kill()
    assert await client.opened() == ["connection"] * FAILURES
    redis_server.start()
    await client.healed()
    assert client.metrics.states[:2] == ["closed", "open"]
    assert client.metrics.states[-2:] == ["half_open", "closed"]


@TOPOLOGIES
async def test_hanging_server_delays_only_a_few_calls(
    new_redis: NewRedis, connect: Callable[..., RedisClient], options: dict[str, Any]
) -> None:
    server = new_redis(**options)
    client = connect(server.url, **tls_files(server))
    await client.healed("value")
    server.pause()
    # A cluster client says of nodes that time out that it cannot connect.
    assert set(await client.opened()) <= ({"timeout", "connection"} if options.get("cluster") else {"timeout"})
    kinds = [await _kind(client.get) for _ in range(1000)]
    assert kinds.count("breaker_open") >= 990, "more than the probes went to the server"
    server.resume()
    await client.healed()


async def test_concurrent_calls_to_a_hanging_server_share_one_time_limit(
    redis_server: RedisServer, connect: Callable[..., RedisClient]
) -> None:
    client = connect(redis_server.url)
    await client.healed("value")
    redis_server.pause()
    async with bounded(2 * BOUND):
        kinds = await asyncio.gather(*(_kind(client.get) for _ in range(500)))
    assert set(kinds) <= {"timeout", "breaker_open", "exhausted"}
    assert await client.failure() == "breaker_open"
    redis_server.resume()
    await client.healed()


async def test_concurrent_calls_share_the_connections(redis_server: RedisServer, connect: Callable[..., RedisClient]) -> None:
    client = connect(redis_server.url, timeout=LONG_TIMEOUT)
    await client.set()
    assert await asyncio.gather(*(client.get() for _ in range(300))) == [b"value"] * 300
    connected = int(redis_server.cli("info", "clients").split("connected_clients:")[1].split()[0])
    assert connected <= CONNECTIONS + 1  # and that of redis-cli


async def test_loading_server_is_reported_and_used_again_after_loading(
    new_redis: NewRedis, connect: Callable[..., RedisClient]
) -> None:
    slow = {"key-load-delay": "2000", "loading-process-events-interval-bytes": "1024"}
    server = new_redis(directives=slow)
    server.cli("eval", "for i = 1, 1000 do redis.call('set', i, string.rep('x', 1024)) end", "0")
    server.cli("save")
    client = connect(server.url)
    server.kill()
    server.start()
    kinds: list[str] = []
    async with asyncio.timeout(PATIENCE):
        while "loading" not in kinds:
            kinds += [await client.failure()]
            await asyncio.sleep(0.05)
    await client.healed()


async def test_replica_serves_reads_and_reports_writes_as_readonly(
    new_redis: NewRedis, connect: Callable[..., RedisClient]
) -> None:
    replica = new_redis(replica_of=new_redis())
    client = connect(replica.url)
    for _ in range(2 * FAILURES):
        assert await client.failure(client.set) == "readonly"
    assert await client.get() is None
    replica.cli("replicaof", "no", "one")
    await client.healed()


async def test_full_server_serves_reads_and_reports_writes_as_oom(
    new_redis: NewRedis, connect: Callable[..., RedisClient]
) -> None:
    server = new_redis(maxmemory="100mb")
    client = connect(server.url)
    await client.healed("value")
    server.cli("config", "set", "maxmemory", "512kb")
    for _ in range(2 * FAILURES):
        assert await client.failure(client.set) == "oom"
    assert await client.get() == b"value"
    server.cli("config", "set", "maxmemory", "0")
    await client.healed()


async def test_server_with_too_many_clients_opens_the_breaker(new_redis: NewRedis, connect: Callable[..., RedisClient]) -> None:
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


async def test_busy_script_is_reported_and_the_server_used_again(
    redis_server: RedisServer, connect: Callable[..., RedisClient]
) -> None:
    client = connect(redis_server.url)
    await client.healed("value")
    redis_server.cli("config", "set", "busy-reply-threshold", "50")
    script = asyncio.create_task(asyncio.to_thread(_kind_of_cli, redis_server, "eval", "while true do end", "0"))
    kinds: list[str] = []
    async with asyncio.timeout(PATIENCE):
        while "busy" not in kinds:
            kinds += [await _kind(client.get)]
            await asyncio.sleep(0.01)
    redis_server.cli("script", "kill")
    await script
    await client.healed()


async def test_error_response_leaves_the_breaker_closed(redis_server: RedisServer, connect: Callable[..., RedisClient]) -> None:
    client = connect(redis_server.url)
    await client.healed("value")
    for _ in range(2 * FAILURES):
        assert await client.failure(lambda: client.connection.run("lpop", lambda redis: redis.lpop("name"))) == "response"
    assert client.state is State.CLOSED


async def test_exceptions_of_the_call_itself_pass_through(
    redis_server: RedisServer, connect: Callable[..., RedisClient]
) -> None:
    client = connect(redis_server.url)

    async def faulty(redis: Redis) -> int:
        return int(await redis.echo("no number"))

    with pytest.raises(ValueError, match="no number"):
        await client.connection.run("echo", faulty)
    await client.set()


async def test_high_latency_times_out(redis_server: RedisServer, connect: Callable[..., RedisClient]) -> None:
    async with redisproxy.running(redis_server.port) as proxy:
        client = connect(proxy.url)
        await client.healed("value")
        proxy.delay = 0.5
        assert await client.opened() == ["timeout"] * FAILURES
        proxy.heal()
        await client.healed()


async def test_stalled_connections_are_not_used_again(redis_server: RedisServer, connect: Callable[..., RedisClient]) -> None:
    async with redisproxy.running(redis_server.port) as proxy:
        client = connect(proxy.url)
        await client.spread()
        proxy.stall()
        assert await client.opened() == ["timeout"] * FAILURES
        stalled = proxy.connections
        proxy.heal()
        await client.healed()
        assert proxy.connections > stalled, "a connection that was stalled is used again"


async def test_reset_connections_are_replaced(redis_server: RedisServer, connect: Callable[..., RedisClient]) -> None:
    async with redisproxy.running(redis_server.port) as proxy:
        client = connect(proxy.url)
        await client.spread()
        proxy.reset()
        assert await client.opened() == ["connection"] * FAILURES
        proxy.heal()
        await client.healed()


async def test_cancelled_calls_return_their_connections(redis_server: RedisServer, connect: Callable[..., RedisClient]) -> None:
    client = connect(redis_server.url, timeout=LONG_TIMEOUT)
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


# Helpers


async def _until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE):
        while not await asyncio.to_thread(condition):  # noqa: ASYNC110  # a server sends no notifications
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


async def test_call_that_loses_its_cancellation_is_cancelled_nevertheless(redis_server: RedisServer) -> None:
    # redis-py loses one now and then, by asyncio.wait_for. A task that never ends would keep the process from exiting.
    connection, began = Connection(RedisSettings(redis_server.url, timeout=LONG_TIMEOUT), ConnectionMetrics()), asyncio.Event()

    async def lose(_: Redis) -> str:
        began.set()
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.sleep(LONG_TIMEOUT)
        return "answer"

    async def call_forever() -> None:
        while True:
            await connection.run("lose", lose)

    task = asyncio.create_task(call_forever())
    await began.wait()
    task.cancel()
    done, _ = await asyncio.wait([task], timeout=PATIENCE)
    await connection.close()
    assert done == {task}
    assert task.cancelled()
