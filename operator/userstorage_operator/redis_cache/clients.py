"""redis-py's clients, set up so that none waits long, none retries, and credentials may change under them."""

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
    """Reads the password anew for each connection: whoever rotates it only writes the file."""

    path: Path
    username: str

    def get_credentials(self) -> tuple[str] | tuple[str, str]:
        """What AUTH is sent with. AuthenticationError where the file cannot be read."""
        try:
            password = self.path.read_text(encoding="utf-8").rstrip("\r\n")
        except (OSError, UnicodeDecodeError) as error:
            raise AuthenticationError(f"--redis-password-file: {self.path}: {type(error).__name__}") from error
        return (self.username, password) if self.username else (password,)

    async def get_credentials_async(self) -> tuple[str] | tuple[str, str]:
        """The same; a small local file."""
        return self.get_credentials()


def connect(settings: RedisSettings, connections: int) -> Client:
    """A client with at most that many connections (to each node of a cluster), none of them made yet."""
    place = settings.target
    limits: dict[str, Any] = {
        "socket_timeout": settings.timeout,
        "socket_connect_timeout": settings.timeout,
        # By default redis-py tries thrice or more, with pauses.
        "retry": Retry(NoBackoff(), 0),
        "health_check_interval": 0,
        # RESP3 and the introduction of the library would each cost every new connection a round trip.
        "protocol": 2,
        "driver_info": None,
    }
    options = {**limits, **_login(settings), "max_connections": connections}
    match place.topology:
        case Topology.CLUSTER:
            return _cluster(settings, options)
        case Topology.SENTINEL:
            return _master(settings, limits, options | {"db": place.database})
        case Topology.SINGLE:
            return _single(settings, options | {"db": place.database})


def _single(settings: RedisSettings, options: dict[str, Any]) -> Redis:
    place = settings.target
    if place.path:
        return Redis.from_pool(ConnectionPool(connection_class=UnixDomainSocketConnection, path=place.path, **options))
    (host, port), *_ = place.hosts
    own: dict[str, Any] = {"connection_class": TlsConnection, "tls": Tls(settings)} if place.tls else {}
    return Redis.from_pool(ConnectionPool(host=host, port=port, **own, **options))


def _master(settings: RedisSettings, limits: dict[str, Any], options: dict[str, Any]) -> Redis:
    """The master that Sentinel names. The sentinels are asked without credentials, which are those of the master."""
    place, tls = settings.target, Tls(settings)
    own: dict[str, Any] = {"connection_class": TlsConnection, "tls": tls} if place.tls else {}
    sentinel: Any = Sentinel([], **options)  # type: ignore[no-untyped-call]
    sentinel.sentinels = [Redis.from_pool(ConnectionPool(host=host, port=port, **limits, **own)) for host, port in place.hosts]
    managed = {"connection_class": SentinelTlsConnection, "tls": tls} if place.tls else {}
    master: Redis = sentinel.master_for(place.service, **managed)
    return master


def _cluster(settings: RedisSettings, options: dict[str, Any]) -> RedisCluster:
    nodes = [ClusterNode(host, port) for host, port in settings.target.hosts]
    # Where nobody serves a slot, the other slots are still served.
    cluster = RedisCluster(startup_nodes=nodes, require_full_coverage=False, **options)
    if settings.target.tls:
        tls = Tls(settings)
        # Nodes that are found later are made from these; it takes no class of connections otherwise.
        cluster.connection_kwargs |= {"connection_class": TlsConnection, "tls": tls}
        for node in cluster.nodes_manager.startup_nodes.values():
            node.connection_class = TlsConnection
            node.connection_kwargs["tls"] = tls
    return cluster


async def drop_idle(client: Client) -> None:
    """End the connections that nobody uses at the moment: they may lead to where nobody answers any more."""
    if isinstance(client, RedisCluster):
        await client.aclose()
    else:
        await client.connection_pool.disconnect(inuse_connections=False)


async def close(client: Client) -> None:
    """End all connections."""
    await client.aclose()
    if not isinstance(client, RedisCluster) and isinstance(client.connection_pool, SentinelConnectionPool):
        await client.connection_pool.sentinel_manager.aclose()


def _login(settings: RedisSettings) -> dict[str, Any]:
    username = settings.username or settings.target.username
    if settings.password_file is not None:
        return {"credential_provider": PasswordFile(settings.password_file, username)}
    return {"username": username or None, "password": settings.target.password or None}
