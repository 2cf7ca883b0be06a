"""Settings of the connection to Redis: the URL, and the files with password, certificates and keys."""

import re
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from urllib.parse import SplitResult, unquote, urlsplit

from userstorage_operator.api.errors import OperatorError

_PORT = 6379
_SENTINEL_PORT = 26379
_SHORTEST_KEY = 16
_DATABASE = re.compile(r"[0-9]{1,4}")
_CLUSTER_NAME = re.compile(r"[-.]*[A-Za-z0-9][-.A-Za-z0-9]*")
_FORMS = "redis://, rediss://, unix://, redis+sentinel:// or redis+cluster://"


class Topology(Enum):
    """The kind of Redis deployment to which a URL leads."""

    SINGLE = "single"
    SENTINEL = "sentinel"
    CLUSTER = "cluster"


_SCHEMES = {
    "redis": (Topology.SINGLE, False),
    "rediss": (Topology.SINGLE, True),
    "redis+sentinel": (Topology.SENTINEL, False),
    "rediss+sentinel": (Topology.SENTINEL, True),
    "redis+cluster": (Topology.CLUSTER, False),
    "rediss+cluster": (Topology.CLUSTER, True),
}
"""URL scheme -> topology, and whether the connection uses TLS."""


class BadRedisSettings(OperatorError):
    """A setting of the connection to Redis is wrong. The message names the command line flag and never contains a password."""

    reason = "BadRedisSettings"


@dataclass(frozen=True, slots=True)
class RedisTarget:
    """A parsed `--redis-url`. Either `path` (of a unix socket) or `hosts` is set. `service` is the name that Sentinel has for
    the master.
    """

    topology: Topology
    hosts: tuple[tuple[str, int], ...] = ()
    path: str = ""
    tls: bool = False
    database: int = 0
    service: str = ""
    username: str = ""
    password: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True)
class RedisSettings:
    """Settings of the connection to Redis. A change of the password file or of a TLS file takes effect with the next new
    connection.

    The constructor raises BadRedisSettings for a malformed URL, an unreadable file, or settings that contradict each other.
    """

    url: str = field(repr=False)
    """`redis://`, `rediss://`, `unix://`, `redis+sentinel://host:port,host:port/service/db`, `redis+cluster://host:port,…`;
    the last two with `rediss+` for TLS."""
    cluster_name: str = "default"
    """Name of the Kubernetes cluster in the Redis keys, so that several Kubernetes clusters can share a Redis."""
    username: str = ""
    """The Redis ACL user; empty for the user `default`."""
    password_file: Path | None = None
    ca_file: Path | None = None
    """File with the CA certificates that may sign the server's certificate; None for those of the system."""
    cert_file: Path | None = None
    key_file: Path | None = None
    signing_key_file: Path | None = None
    """File with the signing key of the seals, the same for all replicas. If None, seals detect damage, but no forgery."""
    timeout: float = 0.1
    """Maximum seconds for connecting to Redis, and for each response."""
    target: RedisTarget = field(init=False, repr=False)
    """The parsed `url`."""

    def __post_init__(self) -> None:
        target = parse(self.url)
        object.__setattr__(self, "target", target)
        files = {"password": self.password_file, "ca": self.ca_file, "cert": self.cert_file, "key": self.key_file}
        for name, path in files.items():
            if path is not None:
                _check_readable(f"--redis-{name}-file", path)
            if path is not None and name != "password" and not target.tls:
                raise BadRedisSettings(f"--redis-{name}-file: --redis-url does not use TLS; use rediss:// instead of redis://")
        self.signing_key()
        if (self.cert_file is None) != (self.key_file is None):
            missing = "cert" if self.cert_file is None else "key"
            raise BadRedisSettings(f"--redis-{missing}-file: a client certificate needs --redis-cert-file and --redis-key-file")
        if target.password and self.password_file is not None:
            raise BadRedisSettings("--redis-password-file: --redis-url has a password already")
        if target.username and self.username:
            raise BadRedisSettings("--redis-username: --redis-url has a user already")
        has_password = bool(target.password) or self.password_file is not None
        if (self.username or target.username) and not has_password:
            raise BadRedisSettings("--redis-password-file: a Redis user needs a password")
        if _CLUSTER_NAME.fullmatch(self.cluster_name) is None:
            raise BadRedisSettings(f"--cluster-name: {self.cluster_name!r}: letters, digits, dots and dashes only")

    def signing_key(self) -> bytes:
        """Return the key that signs the values in Redis; empty if none is set. Raises BadRedisSettings if its file is
        unreadable, or the key is too short.
        """
        if self.signing_key_file is None:
            return b""
        _check_readable("--redis-signing-key-file", self.signing_key_file)
        key = self.signing_key_file.read_bytes().strip()
        if len(key) < _SHORTEST_KEY:
            raise BadRedisSettings(
                f"--redis-signing-key-file: {self.signing_key_file}: the key must have at least {_SHORTEST_KEY} bytes"
            )
        return key


def parse(url: str) -> RedisTarget:
    """Parse the URL of `--redis-url`. Raises BadRedisSettings if it is malformed."""
    try:
        parts = urlsplit(url)
    except ValueError:
        raise _bad("not a valid URL") from None
    if parts.query or parts.fragment:
        raise _bad("query and fragment are not supported; use the other --redis-… flags")
    if parts.scheme == "unix":
        if parts.netloc or not parts.path.startswith("/"):
            raise _bad("unix:// needs an absolute path, such as unix:///run/redis.sock")
        return RedisTarget(Topology.SINGLE, path=unquote(parts.path))
    if parts.scheme not in _SCHEMES:
        raise _bad(f"unknown scheme; must be {_FORMS}")
    topology, tls = _SCHEMES[parts.scheme]
    login, _, rest = parts.netloc.rpartition("@")
    username, _, password = (unquote(part) for part in login.partition(":"))
    port = _SENTINEL_PORT if topology is Topology.SENTINEL else _PORT
    hosts = tuple(_host(host, port) for host in rest.split(","))
    if topology is Topology.SINGLE and len(hosts) > 1:
        raise _bad("several hosts need redis+sentinel:// or redis+cluster://")
    service, database = _path(parts, topology)
    return RedisTarget(topology, hosts, "", tls, database, service, username, password)


def _path(parts: SplitResult, topology: Topology) -> tuple[str, int]:
    """Return the name of the Sentinel master (else "") and the database number, both from the path of the URL. Raises
    BadRedisSettings if the path is malformed.
    """
    names = [unquote(name) for name in parts.path.strip("/").split("/") if name]
    service = ""
    if topology is Topology.SENTINEL:
        if not names:
            raise _bad("the name of the master is missing: redis+sentinel://host:port/name")
        service = names.pop(0)
    if len(names) > 1:
        raise _bad("the path has too many segments")
    if names and _DATABASE.fullmatch(names[0]) is None:
        raise _bad(f"the database must be a number, not {names[0]!r}")
    database = int(names[0]) if names else 0
    if topology is Topology.CLUSTER and database:
        raise _bad("a Redis cluster has only database 0")
    return service, database


def _host(text: str, default_port: int) -> tuple[str, int]:
    try:
        parts = urlsplit(f"//{text}")
        name, port = parts.hostname, parts.port
    except ValueError:
        name, port = None, None
    if not name:
        raise _bad("a host is missing, or its port is not a number from 0 to 65535")
    return name, default_port if port is None else port


def _check_readable(flag: str, path: Path) -> None:
    try:
        path.open("rb").close()
    except OSError as error:
        raise BadRedisSettings(f"{flag}: {path}: {error.strerror}") from None


def _bad(detail: str) -> BadRedisSettings:
    return BadRedisSettings(f"--redis-url: {detail}")
