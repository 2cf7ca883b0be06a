"""Uploads and downloads a user's files, by HTTP PUT and GET."""

import time
import urllib.error
import urllib.request
from collections.abc import Callable
from typing import TypeVar

from localcluster import ClusterError

T = TypeVar("T")

_REQUEST_TIMEOUT = 3.0
_RETRY_SECONDS = 20.0
"""Seconds for which requests are retried: a Service routes to a new pod only some moments after the pod is ready."""

# No proxy: the cluster is on this machine, even if the environment names a proxy.
_OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def upload(url: str, content: bytes) -> None:
    """Write `content` to the file at `url`. Raises ClusterError if the server refuses the request or does not answer."""
    _retry(url, lambda: _request("PUT", url, content))


def download(url: str) -> str:
    """Return the content of the file at `url`. Raises ClusterError if the server refuses the request or does not answer."""
    return _retry(url, lambda: _request("GET", url, None)).decode()


def _request(method: str, url: str, body: bytes | None) -> bytes:
    request = urllib.request.Request(url, data=body, method=method)  # noqa: S310  # the URL is one of the demo's cluster
    with _OPENER.open(request, timeout=_REQUEST_TIMEOUT) as response:
        content: bytes = response.read()
        return content


def _retry(url: str, call: Callable[[], T]) -> T:
    deadline = time.monotonic() + _RETRY_SECONDS
    while True:
        try:
            return call()
        except urllib.error.HTTPError as error:
            raise ClusterError(f"{url}: {error}") from error
        except OSError as error:
            if time.monotonic() > deadline:
                raise ClusterError(f"{url}: {error}") from error
        time.sleep(0.2)
