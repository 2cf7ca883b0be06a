"""Requests the usage of volumes directly from kubelets, with a token that permits nothing else (docs/decisions/0010)."""

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
_BODY_MAX = 8 << 20
"""Maximum size of a kubelet's response in bytes: several times that of a node with hundreds of pods."""
_TOKEN_SECONDS = 600
"""Lifetime of the token: the shortest that the API server grants."""
_UNAUTHORIZED = 401


class Kubelets:
    """Implements `reconcile.volume_stats_collector.Kubelets`.

    Nodes get the token of the service account ACCOUNT, which may only read node statistics. They never get the operator's own
    token: with it, an attacker on a node would have the operator's rights in every namespace.
    """

    def __init__(self, client: KubeClient, namespace: str, *, verify: bool) -> None:
        """`namespace` is the namespace of the service account ACCOUNT. If `verify` is false, any certificate of a kubelet is
        accepted.
        """
        self._client = client
        self._namespace = namespace
        self._verify = verify
        self._token = ""
        self._tls = ssl.create_default_context()
        self._token_valid_until = 0.0
        self._token_lock = asyncio.Lock()

    async def summary(self, address: str) -> Unstructured:
        """Return the JSON object that the kubelet at the IP address `address` serves at `/stats/summary`. Raises a
        ClusterError.
        """
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
            self._token_valid_until = 0.0
        if response.status != 200:
            raise error_from(response.status, body, response.headers)
        try:
            summary: Unstructured = orjson.loads(body)
        except orjson.JSONDecodeError as error:
            raise Unavailable(0, f"the kubelet at {address} does not answer in JSON") from error
        return summary

    async def _current_token(self) -> str:
        async with self._token_lock:
            now = time.monotonic()
            if now >= self._token_valid_until:
                self._token = await self._client.request_token(self._namespace, ACCOUNT, _TOKEN_SECONDS)
                self._tls = _tls(self._client.ca_file, verify=self._verify)
                self._token_valid_until = now + _TOKEN_SECONDS * 0.8
            return self._token


def _tls(ca_file: str | None, *, verify: bool) -> ssl.SSLContext:
    """Return a TLS context that trusts the API server's CA in `ca_file`: the same CA signs the certificates that kubelets
    request. If `verify` is false, the context accepts any certificate.
    """
    context = ssl.create_default_context(cafile=ca_file)
    if not verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


async def _read(response: aiohttp.ClientResponse) -> bytes:
    """Return the whole response body. Raises ValueError if it is larger than _BODY_MAX."""
    body = bytearray()
    async for chunk in response.content.iter_any():
        body += chunk
        if len(body) > _BODY_MAX:
            raise ValueError(f"more than {_BODY_MAX} bytes")
    return bytes(body)
