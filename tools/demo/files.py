"""Files of a user, over HTTP, as Dufs takes and gives them."""

import time
import urllib.error
import urllib.request
from collections.abc import Callable
from typing import TypeVar

from localcluster import ClusterError

T = TypeVar("T")

_ANSWER_SECONDS = 3.0
_PATIENCE_SECONDS = 20.0
"""A Service leads to a new pod some moments after the pod is ready."""

# Without proxies: the cluster is on this machine, whatever the environment says.
_OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def upload(url: str, content: str) -> None:
    """Write a file. ClusterError where the server does not take it."""
    _patiently(url, lambda: _request("PUT", url, content.encode()))


def download(url: str) -> str:
    """Read a file. ClusterError where the server does not give it."""
    return _patiently(url, lambda: _request("GET", url, None)).decode()


def _request(method: str, url: str, body: bytes | None) -> bytes:
    request = urllib.request.Request(url, data=body, method=method)  # noqa: S310  # the URL is one of our own cluster's
    with _OPENER.open(request, timeout=_ANSWER_SECONDS) as answer:
        content: bytes = answer.read()
        return content


def _patiently(url: str, call: Callable[[], T]) -> T:
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while True:
        try:
            return call()
        except urllib.error.HTTPError as error:
            raise ClusterError(f"{url}: {error}") from error
        except OSError as error:
            if time.monotonic() > deadline:
                raise ClusterError(f"{url}: {error}") from error
        time.sleep(0.2)
