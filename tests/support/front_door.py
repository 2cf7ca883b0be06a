"""alice and bob, a gate and a login: what every gateway of the tests stands in front of."""

import http.client
import os
import secrets
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, Protocol, Self, TypeVar
from urllib.parse import urlencode, urlsplit

import yaml

from conftest import ROOT
from support.gate_process import KEY
from support.https import Answer, Headers, send
from support.kubectl import PATIENCE
from support.users import NamespaceUsers
from testservers.frontdoor import DOMAIN, Gateway, Login, Pods

EXAMPLES = ROOT / "examples/gateways"
USERS = ("alice", "bob")
COOKIE = "_oauth2_proxy"
CLASS: dict[str, Any] = yaml.safe_load((EXAMPLES / "userstorageclass.yaml").read_text())["spec"]
CANARY = f"canary-{secrets.token_hex(8)}".encode()
"""A text in alice's files and in their names."""
SECRET = b"a secret of alice: " + CANARY
NAME = f"named-{CANARY.decode()[::-1]}.txt"
"""A name in the listing of alice. An answer to a request for that very name may repeat it, as a login does."""
WEBSOCKET = [
    ("Upgrade", "websocket"),
    ("Connection", "Upgrade"),
    ("Sec-WebSocket-Version", "13"),
    ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="),
]
NAVIGATION = [("Accept", "text/html"), ("Sec-Fetch-Mode", "navigate"), ("Sec-Fetch-Site", "none")]


@dataclass(frozen=True)
class Operation:
    """A request at alice's host."""

    method: str
    path: str
    headers: Headers = ()
    body: bytes | None = None


WORK = (
    Operation("PUT", "/work.txt", body=SECRET),
    Operation("PROPFIND", "/", [("Depth", "1")]),
    Operation("GET", "/work.txt"),
    Operation("DELETE", "/work.txt"),
)
"""What alice does again and again: she uploads, lists, downloads and deletes. The file NAME is there, too."""
INTRUSIONS = (
    Operation("GET", "/", NAVIGATION),
    Operation("PROPFIND", "/", [("Depth", "1")]),
    Operation("GET", f"/{NAME}", [("Range", "bytes=2-7")]),
    Operation("GET", "/", WEBSOCKET),
    Operation("PUT", f"/{NAME}", body=b"changed"),
    Operation("DELETE", f"/{NAME}"),
)
"""What bob tries at her host."""


class Gate(Protocol):
    """A gate that can be started."""

    @property
    def url(self) -> str:
        """The URL of its door."""

    def start(self) -> None:
        """Start it, and wait until its door is open."""

    def stop(self) -> object:
        """Stop it."""


G = TypeVar("G", bound=Gate)


def host(user: str) -> str:
    """Return the host of a user."""
    return f"{user}.files.{DOMAIN}"


class FrontDoor(Generic[G]):
    """The pods of alice and bob, the gate and the login; gateways come and go. All files are in `directory`."""

    def __init__(self, users: NamespaceUsers, directory: Path, gate: G) -> None:
        self.users = users
        self.directory = directory
        self.gate = gate
        self.login = Login(EXAMPLES, directory / "login", gate.url, KEY)
        self.sessions: dict[str, str] = {}

    def start(self) -> Self:
        """Create alice and bob, start gate and login, log both in, and return this object."""
        name = self.users.create_class(CLASS)
        for user in USERS:
            self.users.apply_user(user, name)
        self.login.start(list(USERS))
        for user in USERS:
            self.users.until_ready(user)
            self.users.web(user).request("GET", "")  # waits until the Service leads to the pod
        self.gate.start()
        self.sessions = {user: log_in(self.login, user) for user in USERS}
        return self

    def stop(self) -> None:
        """Stop gate and login."""
        self.login.stop()
        self.gate.stop()

    def pods(self) -> Pods:
        """Return the addresses of the users' Services."""
        return Pods({user: self.users.address(user).partition(":")[0] for user in USERS})

    def gateway(self, name: str, pods: Pods) -> Gateway:
        """Start a gateway in front of these pods, and return it."""
        return Gateway(name, EXAMPLES, self.directory / f"{name}-{secrets.token_hex(4)}").start(self.login.proxy, pods)

    def session(self, user: str) -> Headers:
        """Return the header of a user's login."""
        return [("Cookie", f"{COOKIE}={self.sessions[user]}")]

    def visit(self, pool: ThreadPoolExecutor, gateway: Gateway) -> tuple[list[Answer], list[Answer]]:
        """Have alice do her WORK, and meanwhile bob his INTRUSIONS. Return the answers to each of them."""
        intrusions = pool.map(lambda operation: self._ask(gateway, "bob", operation), INTRUSIONS)
        return [self._ask(gateway, "alice", operation) for operation in WORK], list(intrusions)

    def _ask(self, gateway: Gateway, user: str, asked: Operation) -> Answer:
        headers = [*self.session(user), *asked.headers]
        return send(gateway.port, asked.method, host("alice"), asked.path, headers, asked.body)

    def place(self, name: str, content: bytes) -> None:
        """Write a file of alice, past the gateway and the pod."""
        path = self.users.volume("alice") / name
        path.write_bytes(content)
        os.chown(path, 1000, 1000)


def leaks(answer: Answer, path: str) -> bool:
    """Whether the answer to a request for that path has a byte of alice's files or of their names."""
    return CANARY in answer or (NAME not in path and NAME.encode() in answer)


def assert_served(answers: Sequence[Answer]) -> None:
    """Fail unless alice's WORK was done."""
    assert [answer.code // 100 for answer in answers] == [2] * len(WORK), answers
    _, listed, downloaded, _ = answers
    assert NAME.encode() in listed.body
    assert downloaded.body == SECRET


def assert_refused(answers: Sequence[Answer], *codes: int) -> None:
    """Fail unless each of bob's INTRUSIONS was answered with one of these codes, without a byte of alice."""
    for operation, answer in zip(INTRUSIONS, answers, strict=True):
        assert answer.code in codes, (operation, answer)
        assert not leaks(answer, operation.path), (operation, answer)


def log_in(login: Login, user: str) -> str:
    """Log in at the provider as a browser does, and return the cookie of oauth2-proxy."""
    start = _get(login.proxy.address, "/oauth2/start")
    provider = urlsplit(str(start.headers["Location"]))
    connection = http.client.HTTPConnection(login.provider.address, timeout=PATIENCE)
    form = urlencode({"sub": f"id-of-{user}"})
    kind = {"Content-Type": "application/x-www-form-urlencoded"}
    connection.request("POST", f"{provider.path}?{provider.query}", form, kind)
    back = urlsplit(str(connection.getresponse().headers["Location"]))
    connection.close()
    mine = "; ".join(str(cookie).partition(";")[0] for cookie in start.headers.get_all("Set-Cookie", []))
    done = _get(login.proxy.address, f"{back.path}?{back.query}", {"Cookie": mine})
    cookies = dict(str(cookie).partition(";")[0].split("=", 1) for cookie in done.headers.get_all("Set-Cookie", []))
    return cookies[COOKIE]


def _get(address: str, path: str, headers: dict[str, str] | None = None) -> http.client.HTTPResponse:
    connection = http.client.HTTPConnection(address, timeout=PATIENCE)
    connection.request("GET", path, headers={"Host": f"auth.{DOMAIN}", **(headers or {})})
    response = connection.getresponse()
    response.read()
    connection.close()
    return response
