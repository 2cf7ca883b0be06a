"""The kubelets themselves, asked past the API server with a token that is good for nothing else (docs/decisions/0010)."""

import asyncio
import ssl
import time
from ipaddress import ip_address

import aiohttp
import orjson

from userstorage_operator.api.errors import Unavailable
from userstorage_operator.api.names import FIELD_MANAGER
from userstorage_operator.api.unstructured import Unstructured
from userstorage_operator.kube.client import KubeClient
from userstorage_operator.kube.errors import error_from

ACCOUNT = "userstorage-volume-stats"
_PORT = 10250
_TIMEOUT = aiohttp.ClientTimeout(total=10)
_LARGEST = 8 << 20
"""Bytes: several times what a node with hundreds of pods tells."""
_TOKEN_SECONDS = 600
"""The least that the API server gives."""
_UNAUTHORIZED = 401


class Kubelets:
    """Satisfies `reconcile.volume_looks.Kubelets`. Nodes see the token of an account that may read their statistics, and never
    that of the operator: with that one, whoever has a node would have the operator's rights in every namespace.
    """

    def __init__(self, client: KubeClient, namespace: str, *, verify: bool) -> None:
        """`namespace` has the account. Without `verify`, any certificate will do."""
        self._client = client
        self._namespace = namespace
        self._verify = verify
        self._token = ""
        self._tls = ssl.create_default_context()
        self._good_until = 0.0
        self._asking = asyncio.Lock()

    async def summary(self, address: str) -> Unstructured:
        """The answer to `/stats/summary`. Raises a ClusterError."""
        headers = {"Authorization": f"Bearer {await self._current_token()}", "User-Agent": FIELD_MANAGER}
        try:
            host = f"[{address}]" if ip_address(address).version == 6 else address
            async with (
                aiohttp.ClientSession(timeout=_TIMEOUT, headers=headers) as session,
                session.get(f"https://{host}:{_PORT}/stats/summary", ssl=self._tls, allow_redirects=False) as response,
            ):
                body = await _read(response)
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
            raise Unavailable(0, f"no answer from the kubelet at {address}: {type(error).__name__} {error}".strip()) from error
        if response.status == _UNAUTHORIZED:
            self._good_until = 0.0
        if response.status != 200:
            raise error_from(response.status, body, response.headers)
        try:
            summary: Unstructured = orjson.loads(body)
        except orjson.JSONDecodeError as error:
            raise Unavailable(0, f"the kubelet at {address} does not answer in JSON") from error
        return summary

    async def _current_token(self) -> str:
        async with self._asking:
            now = time.monotonic()
            if now >= self._good_until:
                self._token = await self._client.request_token(self._namespace, ACCOUNT, _TOKEN_SECONDS)
                self._tls = _tls(self._client.authority, verify=self._verify)
                self._good_until = now + _TOKEN_SECONDS * 0.8
            return self._token


def _tls(authority: str | None, *, verify: bool) -> ssl.SSLContext:
    """By the authority of the API server, which is that of kubelets wherever their certificates are asked for there."""
    context = ssl.create_default_context(cafile=authority)
    if not verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


async def _read(response: aiohttp.ClientResponse) -> bytes:
    """The whole body. Raises ValueError for one that has no end."""
    body = bytearray()
    async for chunk in response.content.iter_any():
        body += chunk
        if len(body) > _LARGEST:
            raise ValueError(f"more than {_LARGEST} bytes")
    return bytes(body)
