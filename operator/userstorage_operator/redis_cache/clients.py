"""Creates clients of redis-py, with short timeouts, without retries, and with credentials that may change at run time."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from redis.asyncio import ConnectionPool, Redis, RedisCluster, Sentinel, UnixDomainSocketConnection
from redis.asyncio.cluster import ClusterNode
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import SentinelConnectionPool
from redis.backoff import NoBackoff
from redis.credentials import CredentialProvider
from redis.exceptions import AuthenticationError

from userstorage_operator.redis_cache.settings import RedisSettings, Topology
from userstorage_operator.redis_cache.tls import SentinelTlsConnection, Tls, TlsConnection

Client = Redis | RedisCluster


@dataclass(frozen=True, slots=True)
class PasswordFile(CredentialProvider):
    """Reads the password from a file for each new connection, so a new password only has to be written to the file."""

    path: Path
    username: str

    def get_credentials(self) -> tuple[str] | tuple[str, str]:
        """Return the arguments of the Redis command AUTH. Raises AuthenticationError if the file cannot be read."""
        try:
            password = self.path.read_text(encoding="utf-8").rstrip("\r\n")
        except (OSError, UnicodeDecodeError) as error:
            raise AuthenticationError(f"--redis-password-file: {self.path}: {type(error).__name__}") from error
        return (self.username, password) if self.username else (password,)

    async def get_credentials_async(self) -> tuple[str] | tuple[str, str]:
        """Return the arguments of the Redis command AUTH. Blocks the event loop for a moment: the file is small and local."""
        return self.get_credentials()


def connect(settings: RedisSettings, connections: int) -> Client:
    """Return a Redis client with at most `connections` connections, in a Redis Cluster for each node. It connects on first use."""
    target = settings.target
    limits: dict[str, Any] = {
        "socket_timeout": settings.timeout,
        "socket_connect_timeout": settings.timeout,
        # By default redis-py tries three times or more, with pauses.
        "retry": Retry(NoBackoff(), 0),
        "health_check_interval": 0,
        # Protocol 3 and `driver_info` (sending the name of the library) would each cost every new connection a round trip.
        "protocol": 2,
        "driver_info": None,
    }
    options = {**limits, **_login(settings), "max_connections": connections}
    match target.topology:
        case Topology.CLUSTER:
            return _cluster(settings, options)
        case Topology.SENTINEL:
            return _master(settings, limits, options | {"db": target.database})
        case Topology.SINGLE:
            return _single(settings, options | {"db": target.database})


def _single(settings: RedisSettings, options: dict[str, Any]) -> Redis:
    target = settings.target
    if target.path:
        return Redis.from_pool(ConnectionPool(connection_class=UnixDomainSocketConnection, path=target.path, **options))
    (host, port), *_ = target.hosts
    own: dict[str, Any] = {"connection_class": TlsConnection, "tls": Tls(settings)} if target.tls else {}
    return Redis.from_pool(ConnectionPool(host=host, port=port, **own, **options))


def _master(settings: RedisSettings, limits: dict[str, Any], options: dict[str, Any]) -> Redis:
    """Return a client of the Redis master that Sentinel names. The credentials are sent to the master only, not to Sentinel."""
    target, tls = settings.target, Tls(settings)
    own: dict[str, Any] = {"connection_class": TlsConnection, "tls": tls} if target.tls else {}
    sentinel: Any = Sentinel([], **options)  # type: ignore[no-untyped-call]
    sentinel.sentinels = [Redis.from_pool(ConnectionPool(host=host, port=port, **limits, **own)) for host, port in target.hosts]
    managed = {"connection_class": SentinelTlsConnection, "tls": tls} if target.tls else {}
    master: Redis = sentinel.master_for(target.service, **managed)
    return master


def _cluster(settings: RedisSettings, options: dict[str, Any]) -> RedisCluster:
    nodes = [ClusterNode(host, port) for host, port in settings.target.hosts]
    # If no node serves a slot, the other slots are still served.
    cluster = RedisCluster(startup_nodes=nodes, require_full_coverage=False, **options)
    if settings.target.tls:
        tls = Tls(settings)
        # RedisCluster has no parameter for the connection class. It passes these arguments to the nodes that it discovers.
        cluster.connection_kwargs |= {"connection_class": TlsConnection, "tls": tls}
        for node in cluster.nodes_manager.startup_nodes.values():
            node.connection_class = TlsConnection
            node.connection_kwargs["tls"] = tls
    return cluster


async def drop_idle(client: Client) -> None:
    """Close the client's connections that are not in use: they may lead to a server that no longer answers."""
    if isinstance(client, RedisCluster):
        await client.aclose()
    else:
        await client.connection_pool.disconnect(inuse_connections=False)


async def close(client: Client) -> None:
    """Close all connections of the client, also those to Sentinel."""
    await client.aclose()
    if not isinstance(client, RedisCluster) and isinstance(client.connection_pool, SentinelConnectionPool):
        await client.connection_pool.sentinel_manager.aclose()


def _login(settings: RedisSettings) -> dict[str, Any]:
    username = settings.username or settings.target.username
    if settings.password_file is not None:
        return {"credential_provider": PasswordFile(settings.password_file, username)}
    return {"username": username or None, "password": settings.target.password or None}
