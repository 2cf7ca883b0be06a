"""TLS to Redis, with one SSL context for all connections.

redis-py creates a context for each connection. That loads the system's CA certificates every time, which blocks the event loop
for 30 ms, and trusts them in addition to the given CA.
"""

import ssl
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from redis.asyncio import Connection
from redis.asyncio.sentinel import SentinelManagedConnection

from userstorage_operator.redis_cache.settings import RedisSettings


class Tls:
    """The SSL context of all connections to Redis; loaded again when one of its files changes."""

    def __init__(self, settings: RedisSettings) -> None:
        self._ca, self._cert, self._key = settings.ca_file, settings.cert_file, settings.key_file
        self._stamp: tuple[int, ...] | None = None
        self._context: ssl.SSLContext | None = None

    def context(self) -> ssl.SSLContext:
        """Return a context that verifies the server's name and certificate, with the CAs of `ca_file` or, if unset, the system's.

        Raises OSError if a file cannot be read or is not a certificate.
        """
        stamp = tuple(_changed(path) for path in (self._ca, self._cert, self._key) if path is not None)
        if self._context is None or stamp != self._stamp:
            context = ssl.create_default_context(cafile=self._ca)
            if self._cert is not None:
                context.load_cert_chain(self._cert, self._key)
            self._context, self._stamp = context, stamp
        return self._context


class TlsConnection(Connection):
    """A connection of redis-py that uses the SSL context of `tls`."""

    def __init__(self, *, tls: Tls, **options: Any) -> None:
        super().__init__(**options)
        self._tls = tls

    def _connection_arguments(self) -> Mapping[str, Any]:
        return {**super()._connection_arguments(), "ssl": self._tls.context()}


class SentinelTlsConnection(SentinelManagedConnection, TlsConnection):
    """A TLS connection to a Redis master that Sentinel names."""


def _changed(path: Path) -> int:
    return path.stat().st_mtime_ns
