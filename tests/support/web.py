"""HTTP as a client of the file browsers speaks it: straight to the server, whatever proxies the environment names."""

import http.client
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

ANSWER_SECONDS = 20.0
PATIENCE_SECONDS = 90.0
"""A Service leads to a new pod some moments after the pod is ready."""


@dataclass(frozen=True)
class Response:
    """What a server said."""

    code: int
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


class Web:
    """A server at one path. `origin` is asked anew before each try: it can move when a pod is replaced."""

    def __init__(self, origin: Callable[[], str], base: str) -> None:
        self._origin = origin
        self._base = base

    def request(self, method: str, path: str, body: bytes | None = None, headers: Mapping[str, str] | None = None) -> Response:
        """Any answer is one, 500 included; only a server that cannot be reached is asked again."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while True:
            try:
                return send_request(self._origin(), method, self._base + path, body, headers or {})
            except OSError:
                if time.monotonic() > deadline:
                    raise
            time.sleep(0.2)


def send_request(origin: str, method: str, path: str, body: bytes | None, headers: Mapping[str, str]) -> Response:
    """One request. OSError where nobody answers."""
    connection = http.client.HTTPConnection(origin, timeout=ANSWER_SECONDS)
    try:
        connection.request(method, path, body=body, headers=dict(headers))
        response = connection.getresponse()
        return Response(response.status, response.read())
    except http.client.HTTPException as error:
        raise ConnectionError(repr(error)) from error
    finally:
        connection.close()
