"""TLS to Redis. redis-py's own makes a context for each connection, which takes the authorities of the system every time
(30 ms in which nothing else runs) and trusts them beside the one it is given.
"""

import ssl
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from redis.asyncio import Connection
from redis.asyncio.sentinel import SentinelManagedConnection

from userstorage_operator.redis_cache.settings import RedisSettings


class Tls:
    """The context of all connections, made anew when a file of it has changed."""

    def __init__(self, settings: RedisSettings) -> None:
        self._ca, self._cert, self._key = settings.ca_file, settings.cert_file, settings.key_file
        self._stamp: tuple[int, ...] | None = None
        self._context: ssl.SSLContext | None = None

    def context(self) -> ssl.SSLContext:
        """Checks the server's name and who signed it: the authorities of `ca_file` alone, or else those of the system.
        OSError where a file cannot be read or is no certificate.
        """
        stamp = tuple(_changed(path) for path in (self._ca, self._cert, self._key) if path is not None)
        if self._context is None or stamp != self._stamp:
            context = ssl.create_default_context(cafile=self._ca)
            if self._cert is not None:
                context.load_cert_chain(self._cert, self._key)
            self._context, self._stamp = context, stamp
        return self._context


class TlsConnection(Connection):
    """A connection of redis-py with that context."""

    def __init__(self, *, tls: Tls, **options: Any) -> None:
        super().__init__(**options)
        self._tls = tls

    def _connection_arguments(self) -> Mapping[str, Any]:
        return {**super()._connection_arguments(), "ssl": self._tls.context()}


class SentinelTlsConnection(SentinelManagedConnection, TlsConnection):
    """The same, to a master that Sentinel names."""


def _changed(path: Path) -> int:
    return path.stat().st_mtime_ns
