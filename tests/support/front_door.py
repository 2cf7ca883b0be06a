"""alice and bob, a gate and a login: what every gateway of the tests stands in front of."""

import http.client
import secrets
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit

import yaml

from conftest import ROOT
from support.gate_process import KEY, GateProcess
from support.https import Headers
from support.kubectl import PATIENCE
from support.users import NamespaceUsers
from testservers.frontdoor import DOMAIN, Gateway, Login, Pods

EXAMPLES = ROOT / "examples/gateways"
USERS = ("alice", "bob")
COOKIE = "_oauth2_proxy"
CLASS: dict[str, Any] = yaml.safe_load((EXAMPLES / "userstorageclass.yaml").read_text())["spec"]
CANARY = f"canary-{secrets.token_hex(8)}".encode()
"""A text in alice's files and in their names."""


def host(user: str) -> str:
    """Return the host of a user."""
    return f"{user}.files.{DOMAIN}"


class FrontDoor:
    """The pods of alice and bob, the gate and the login; gateways come and go. All files are in `directory`."""

    def __init__(self, users: NamespaceUsers, directory: Path) -> None:
        self.users = users
        self.directory = directory
        directory.mkdir(parents=True, exist_ok=True)
        self.gate = GateProcess(users.kubectl.kubeconfig, directory)
        self.login = Login(EXAMPLES, directory / "login", f"http://127.0.0.1:{self.gate.port}", KEY)
        self.sessions: dict[str, str] = {}

    def start(self) -> "FrontDoor":
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
