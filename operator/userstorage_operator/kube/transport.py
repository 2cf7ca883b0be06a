"""The connections to the API server: sends single requests, logs in again after a 401, and compares the clocks."""

import asyncio
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from functools import lru_cache
from typing import Any, TypeVar
from urllib.parse import urlencode

import aiohttp
import msgspec
import orjson
import structlog
from aiohttp.abc import AbstractStreamWriter
from aiohttp.connector import Connection
from kubernetes.aio.client import Configuration
from kubernetes.aio.client.rest import RESTClientObject

from userstorage_operator.api.errors import ClusterError, OperatorError, Unavailable
from userstorage_operator.api.names import FIELD_MANAGER
from userstorage_operator.kube.errors import error_from
from userstorage_operator.kube.login import login
from userstorage_operator.kube.write_gate import Fence

_Decoded = TypeVar("_Decoded")
log = structlog.get_logger(__name__)

REQUEST_TIMEOUT = 10.0
"""Seconds for one request, from connecting to the last byte of the response."""
_CLOCK_TOLERANCE = timedelta(seconds=5)
"""Difference between two clocks that is ignored, and time after which the date in a response may be outdated."""
_UNAUTHORIZED = 401
_PAGE_BYTES = 8 << 20
"""Maximum size of a page of a list that has more than one object: tenants can make each more than a megabyte large."""
_READ_BUFFER = 2**21
"""Bytes of a response that are read ahead; a watch event can be larger than aiohttp's default."""


class PageTooLarge(ClusterError):
    """A page of a list has more than 8 MiB."""


class Transport:
    """One connection pool, with one login at a time."""

    def __init__(self, configuration: Configuration, fence: Fence) -> None:
        self._configuration = configuration
        self._fence = fence
        self._session = _session(configuration, fence)
        self._login_lock = asyncio.Lock()
        self._clock_offset = timedelta()

    @property
    def ca_file(self) -> str | None:
        """Path of the file with the CA certificates for the API server; None for those of the system."""
        path: str | None = self._configuration.ssl_ca_cert
        return path

    def now(self) -> datetime:
        """Return the time of the API server, as its last response shows it: times in objects are by that clock.

        If the clock of this machine differs by less than a few seconds, it is right, as responses have whole seconds only.
        """
        return _local_time() + self._clock_offset

    async def close(self) -> None:
        """Close all connections to the API server."""
        await self._session.close()

    async def request(
        self,
        decode: Callable[[bytes], _Decoded],
        method: str,
        path: str,
        query: Mapping[str, str],
        body: Any,
        content_type: str,
        timeout: float = REQUEST_TIMEOUT,
    ) -> _Decoded:
        """Send a request and return the response, decoded by `decode`. Raises a ClusterError if the status code is 400 or more, or
        if there is no response within `timeout` seconds; PageTooLarge for such a page of a list.
        """
        limit = aiohttp.ClientTimeout(total=timeout)
        configuration = self._configuration
        response = await self._send(method, path, query, body, content_type, limit)
        try:
            payload = await (_read_page(response) if int(query.get("limit", 1)) > 1 else response.read())
            if response.status >= 400:
                raise error_from(response.status, payload, response.headers)
            return decode(payload)
        except (aiohttp.ClientError, TimeoutError, orjson.JSONDecodeError, msgspec.DecodeError) as error:
            raise unreachable(error) from error
        finally:
            if response.status == _UNAUTHORIZED:
                await self._renew_login(configuration)

    async def stream(self, path: str, query: Mapping[str, str], timeout: aiohttp.ClientTimeout) -> aiohttp.ClientResponse:
        """Send a GET request and return the response, whose body the caller reads and closes. Raises a ClusterError if the status
        code is 400 or more, or if there is no response.
        """
        configuration = self._configuration
        response = await self._send("GET", path, query, None, "application/json", timeout)
        if response.status < 400:
            return response
        try:
            raise error_from(response.status, await response.read(), response.headers)
        except (aiohttp.ClientError, TimeoutError) as error:
            raise unreachable(error) from error
        finally:
            response.close()
            if response.status == _UNAUTHORIZED:
                await self._renew_login(configuration)

    async def _renew_login(self, rejected: Configuration) -> None:
        """Log in again, because the API server has rejected the login `rejected`: a credential has expired or was rotated. This
        does not repeat the failed request; its caller may.
        """
        async with self._login_lock:
            if self._configuration is not rejected:
                return  # another request has logged in meanwhile
            try:
                fresh = await login()
            except OperatorError as error:
                log.warning("login_failed", error_kind=error.reason, error=error.message)
                return
            log.info("logged_in_again")
            old, self._session, self._configuration = self._session, _session(fresh, self._fence), fresh
            await old.close()

    async def _send(
        self, method: str, path: str, query: Mapping[str, str], body: Any, content_type: str, timeout: aiohttp.ClientTimeout
    ) -> aiohttp.ClientResponse:
        headers = {"Content-Type": content_type}
        if token := await self._configuration.get_api_key_with_prefix("BearerToken", "authorization"):
            headers["Authorization"] = token
        url = self._configuration.host + path + (f"?{urlencode(query)}" if query else "")
        sent = time.monotonic()
        try:
            response = await self._session.request(
                method,
                url,
                headers=headers,
                data=orjson.dumps(body) if body is not None else None,
                timeout=timeout,
                server_hostname=self._configuration.tls_server_name,
            )
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise unreachable(error) from error
        if time.monotonic() - sent < _CLOCK_TOLERANCE.total_seconds():
            self._note_time(response.headers.get("Date"))
        return response

    def _note_time(self, date: str | None) -> None:
        """Compare the clocks. `date` is the header Date of a response that has just arrived."""
        try:
            offset = _parse_date(date) - _local_time() if date is not None else timedelta()
        except (TypeError, ValueError):
            return
        self._clock_offset = offset if abs(offset) > _CLOCK_TOLERANCE else timedelta()


async def _read_page(response: aiohttp.ClientResponse) -> bytes:
    """Return the body. Raises PageTooLarge, and closes the connection, if it has more than _PAGE_BYTES."""
    chunks, size = list[bytes](), 0
    async for chunk in response.content.iter_any():
        chunks.append(chunk)
        size += len(chunk)
        if size > _PAGE_BYTES:
            response.close()
            raise PageTooLarge(response.status, f"a page of a list has more than {_PAGE_BYTES} bytes")
    return b"".join(chunks)


def _local_time() -> datetime:
    return datetime.now(UTC)


@lru_cache(maxsize=1)  # it has whole seconds: most responses repeat it
def _parse_date(date: str) -> datetime:
    return parsedate_to_datetime(date)


def _session(configuration: Configuration, fence: Fence) -> aiohttp.ClientSession:
    """Return a connection pool that checks the fence once more right before it sends a write. Much time may have passed since
    the first check: for connecting, for the TLS handshake, or because the whole process was suspended. A process that is suspended
    in the microseconds between this check and the system call sends this one write when it resumes.

    The pool is aiohttp's own: that of the kubernetes client costs some 100 µs of CPU more for each write.
    """

    class Fenced(aiohttp.ClientRequest):
        async def write_bytes(self, writer: AbstractStreamWriter, conn: Connection, content_length: int | None = None) -> None:
            if fence.remaining():
                await super().write_bytes(writer, conn, content_length)
            else:
                conn.close()  # headers are sent together with the body: nothing has been sent yet

    return aiohttp.ClientSession(
        # No limit: every watch holds a connection for good.
        connector=aiohttp.TCPConnector(limit=0, ssl=RESTClientObject(configuration).ssl_context),
        headers={"Accept": "application/json", "User-Agent": FIELD_MANAGER},
        proxy=configuration.proxy,
        request_class=Fenced,
        read_bufsize=_READ_BUFFER,
    )


def unreachable(error: Exception) -> Unavailable:
    """Return the error for a request that got no response, or not all of it."""
    return Unavailable(0, f"no answer from the API server: {type(error).__name__} {error}".strip())
