"""A stand-in for a user's pod that records what reaches it, header by header."""

import threading
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass(frozen=True)
class Recorded:
    """A request as it reached the pod."""

    method: str
    path: str
    headers: list[tuple[str, str]]

    def values(self, name: str) -> list[str]:
        """Return the values of a header in all its spellings: programs that speak CGI take `_` for `-`."""
        return [value for key, value in self.headers if key.lower().replace("_", "-") == name.lower()]


class RecordingPod:
    """A server on one address of this machine. It answers every request with 200 and the name of its owner."""

    def __init__(self, owner: str, address: str, port: int) -> None:
        self.owner = owner
        self.requests: list[Recorded] = []
        self._server = ThreadingHTTPServer((address, port), self._handler())
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Stop the server."""
        self._server.shutdown()
        self._server.server_close()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        pod = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def __getattr__(self, name: str) -> Any:
                if name.startswith("do_"):
                    return self._record
                raise AttributeError(name)

            def _record(self) -> None:
                pod.requests.append(Recorded(self.command, self.path, list(self.headers.items())))
                self.rfile.read(int(self.headers.get("Content-Length") or 0))
                body = f"the pod of {pod.owner}".encode()
                self.send_response(200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  # as the base class has it
                pass

        return Handler
