"""An HTTP client for the file browsers; it connects directly and ignores the proxy settings of the environment."""

import http.client
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from support.kubectl import PATIENCE

RESPONSE_SECONDS = 20.0
"""Seconds for one try: a connection to the address of a replaced pod may hang; `Web.request` then tries the next address."""


@dataclass(frozen=True)
class Response:
    """A server's response."""

    code: int
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


class Web:
    """A server at one base path. `address` returns host:port and is called before each try: it can change with the pod."""

    def __init__(self, address: Callable[[], str], base: str) -> None:
        self._address = address
        self._base = base

    def request(self, method: str, path: str, body: bytes | None = None, headers: Mapping[str, str] | None = None) -> Response:
        """Send a request and return any response, 500 included; retry only if the server cannot be reached.

        A Service leads to a new pod only some time after the pod is ready.
        """
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                return send_request(self._address(), method, self._base + path, body, headers or {})
            except OSError:
                if time.monotonic() > deadline:
                    raise
            time.sleep(0.2)


def send_request(address: str, method: str, path: str, body: bytes | None, headers: Mapping[str, str]) -> Response:
    """Send one request. Raises OSError if the server does not respond."""
    connection = http.client.HTTPConnection(address, timeout=RESPONSE_SECONDS)
    try:
        connection.request(method, path, body=body, headers=dict(headers))
        response = connection.getresponse()
        return Response(response.status, response.read())
    except http.client.HTTPException as error:
        raise ConnectionError(repr(error)) from error
    finally:
        connection.close()
