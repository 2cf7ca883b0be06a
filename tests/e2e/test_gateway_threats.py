"""Forged hosts, paths and headers at nginx, Caddy and Envoy, in front of stand-ins that record what reaches a user's pod.

docs/gateways.md has the table of the threats T1 to T17.
"""

import json
from collections import Counter
from collections.abc import Callable, Iterator
from urllib.parse import urlsplit

import pytest

from localcluster.addresses import free_port
from support.front_door import USERS, FrontDoor, host
from support.gate_process import GateProcess
from support.gateway_answers import ALICES, AUTHORITY_CODES, HOST_CODES
from support.https import Answer, Headers, encoded, exchange, exchange_http2, send
from support.recording_pod import RecordingPod
from testservers.frontdoor import GATEWAYS, Pods
from testservers.gateways import Envoy

HEADER = "X-Forwarded-User"
ALICE, BOB = host("alice"), host("bob")


class Attack:
    """A gateway in front of recording pods, for requests with the login of any user."""

    def __init__(self, front_door: FrontDoor[GateProcess], name: str) -> None:
        self.front_door = front_door
        port = free_port()
        addresses = {user: f"127.0.77.{number}" for number, user in enumerate(USERS, 1)}
        self.pods = [RecordingPod(user, address, port) for user, address in addresses.items()]
        self.answers = Counter[str]()
        self.gateway = front_door.gateway(name, Pods(addresses, port))

    def stop(self) -> None:
        """Stop the gateway and the pods."""
        self.gateway.stop()
        for pod in self.pods:
            pod.stop()

    def send(self, user: str, request: bytes, name: str = ALICE) -> tuple[Answer, str]:
        """Send these bytes, and return the answer and whose pod was reached, if any.

        Fails if that is another user's pod, or if the pod got another name, or the name twice.
        """
        return self._judge(user, lambda: exchange(self.gateway.port, request, name))

    def send_http2(self, user: str, headers: Headers, name: str = ALICE) -> tuple[Answer, str]:
        """Send a request of HTTP/2 as `send` does."""
        return self._judge(user, lambda: exchange_http2(self.gateway.port, headers, name))

    def _judge(self, user: str, request: Callable[[], Answer]) -> tuple[Answer, str]:
        for pod in self.pods:
            pod.requests.clear()
        answer = request()
        self.answers[f"{user or 'no login'} {answer.code}"] += 1
        reached = [pod for pod in self.pods if pod.requests]
        for pod in reached:
            assert pod.owner == user, f"{user or 'no user'} reached the pod of {pod.owner}: {pod.requests}"
            for recorded in pod.requests:
                assert recorded.values(HEADER) in ([user], []), recorded
                assert recorded.values("Authorization") == []
                assert recorded.values("X-Userstorage-Token") == []
        assert answer.code != 200 or reached, f"200 from elsewhere than a pod: {answer}"
        return answer, reached[0].owner if reached else ""

    def session(self, user: str) -> list[tuple[str, str]]:
        """Return the headers of a user's login; none for the user ''."""
        return list(self.front_door.session(user)) if user else []


@pytest.fixture(scope="module", params=GATEWAYS)
def attack(request: pytest.FixtureRequest, front_door: FrontDoor[GateProcess]) -> Iterator[Attack]:
    if request.param != GATEWAYS[0] and not request.config.getoption("--all-gateways"):
        pytest.skip("forged requests at Caddy and Envoy take minutes: make test-gateways")
    started = Attack(front_door, request.param)
    yield started
    started.stop()


@pytest.fixture(autouse=True)
def recorded(request: pytest.FixtureRequest, answers: Counter[str]) -> Iterator[None]:
    """Count the answers of each test."""
    yield
    for attack in getattr(request.node, "funcargs", {}).values():
        if isinstance(attack, Attack):
            answers.update(attack.answers)
            attack.answers.clear()


NAMES: dict[str, Headers] = {
    "as documented": [(HEADER, "alice")],
    "in lower case": [("x-forwarded-user", "alice")],
    "with underscores": [("X_Forwarded_User", "alice")],
    "in part with underscores": [("x-forwarded_user", "alice")],
    "with dots": [("X.Forwarded.User", "alice")],
    "twice": [(HEADER, "alice"), (HEADER, "alice")],
    "twice, own first": [(HEADER, "bob"), (HEADER, "alice")],
    "with a tab": [(HEADER, "\talice")],
    "with a space before the colon": [("X-Forwarded-User ", "alice")],
    "in a folded line": [(HEADER, "bob\r\n alice")],
    "in other letters": [(HEADER, "älice")],
    "with 8 KiB": [(HEADER, "alice" + "x" * 8000)],
    "empty": [(HEADER, "")],
}


@pytest.mark.parametrize("spelling", NAMES)
def test_name_in_a_header_of_the_client_has_no_effect(attack: Attack, spelling: str) -> None:
    for user in ("", "alice", "bob"):
        for there in (ALICE, BOB):
            headers = [*attack.session(user), *NAMES[spelling]]
            answer, reached = attack.send(user, encoded("GET", there, "/", headers), there)
            assert bool(reached) == (answer.code == 200)
            if reached:
                [pod] = [pod for pod in attack.pods if pod.requests]
                assert pod.requests[-1].values(HEADER) == [user]


CREDENTIALS: list[Headers] = [
    [("Authorization", "Basic YWxpY2U6Z3Vlc3M=")],
    [("Authorization", "Basic YWxpY2U6")],
    [("Authorization", "Bearer alice")],
    [("Authorization", "Bearer eyJhbGciOiJub25lIn0.eyJzdWIiOiJhbGljZSIsImVtYWlsIjoiYWxpY2UifQ.")],
    [("Proxy-Authorization", "Basic YWxpY2U6Z3Vlc3M=")],
    [("X-Userstorage-Token", "alice"), ("X-Userstorage-State", "ready"), ("X-Userstorage-Reason", "Admitted")],
    [("X-Forwarded-Email", "alice"), ("X-Forwarded-Preferred-Username", "alice"), ("X-Forwarded-Groups", "alice")],
    [("X-Auth-Request-User", "alice"), ("Remote-User", "alice")],
    [("Cookie", "_oauth2_proxy=alice|1795808192|AAAA")],
    [("X-Forwarded-For", "127.0.0.1"), ("X-Real-IP", "127.0.0.1"), ("Forwarded", "for=127.0.0.1;host=alice")],
]


@pytest.mark.parametrize("number", range(len(CREDENTIALS)))
def test_forged_credentials_are_no_login(attack: Attack, number: int) -> None:
    answer, reached = attack.send("", encoded("GET", ALICE, "/", CREDENTIALS[number]))
    assert (answer.code, reached) in [(302, ""), (401, "")], answer
    answer, reached = attack.send("bob", encoded("GET", ALICE, "/", [*attack.session("bob"), *CREDENTIALS[number]]))
    assert (answer.code, reached) in [(403, ""), (302, ""), (401, "")], answer
    answer, reached = attack.send("bob", encoded("GET", BOB, "/", [*attack.session("bob"), *CREDENTIALS[number]]), BOB)
    assert (answer.code, reached) in [(200, "bob"), (302, ""), (401, "")], answer


@pytest.mark.parametrize(
    "named", [HEADER, "Authorization", "Cookie", "Host", "X-Forwarded-Host", "X-Original-URI", "Accept", "X-Forwarded-For"]
)
def test_connection_header_does_not_change_the_user(attack: Attack, named: str) -> None:
    for value in (named, f"close, {named}", f"keep-alive, {named.lower()}", f"Upgrade, {named}"):
        for user in ("", "bob"):
            headers = [*attack.session(user), ("Connection", value), (HEADER, "alice")]
            answer, reached = attack.send(user, encoded("GET", ALICE, "/", headers))
            assert not reached
            assert answer.code in (0, 302, 400, 401, 403), answer
        answer, reached = attack.send("alice", encoded("GET", ALICE, "/", [*attack.session("alice"), ("Connection", value)]))
        assert bool(reached) == (answer.code == 200)


HOSTS: dict[str, bytes] = {
    "as it is": f"GET / HTTP/1.1\r\nHost: {ALICE}\r\n".encode(),
    "in capitals": f"GET / HTTP/1.1\r\nHost: {ALICE.upper()}\r\n".encode(),
    "with the port": f"GET / HTTP/1.1\r\nHost: {ALICE}:443\r\n".encode(),
    "with another port": f"GET / HTTP/1.1\r\nHost: {ALICE}:8443\r\n".encode(),
    "with no number as port": f"GET / HTTP/1.1\r\nHost: {ALICE}:x\r\n".encode(),
    "with a dot at the end": f"GET / HTTP/1.1\r\nHost: {ALICE}.\r\n".encode(),
    "with two dots at the end": f"GET / HTTP/1.1\r\nHost: {ALICE}..\r\n".encode(),
    "with a dot and a port": f"GET / HTTP/1.1\r\nHost: {ALICE}.:443\r\n".encode(),
    "before an @": f"GET / HTTP/1.1\r\nHost: {ALICE}@evil.example\r\n".encode(),
    "after an @": f"GET / HTTP/1.1\r\nHost: evil@{ALICE}\r\n".encode(),
    "with a list": f"GET / HTTP/1.1\r\nHost: {ALICE}, {BOB}\r\n".encode(),
    "with a tab": f"GET / HTTP/1.1\r\nHost:\t{ALICE}\t\r\n".encode(),
    "with a space inside": f"GET / HTTP/1.1\r\nHost: {ALICE} x\r\n".encode(),
    "with a percent sign": f"GET / HTTP/1.1\r\nHost: {ALICE.replace('.', '%2e', 1)}\r\n".encode(),
    "with a path": f"GET / HTTP/1.1\r\nHost: {ALICE}/x\r\n".encode(),
    "with a backslash": f"GET / HTTP/1.1\r\nHost: {ALICE}\\x\r\n".encode(),
    "in other letters": "GET / HTTP/1.1\r\nHost: älice.files.example.org\r\n".encode(),
    "in Punycode": b"GET / HTTP/1.1\r\nHost: xn--lice-koa.files.example.org\r\n",
    "of a label more": f"GET / HTTP/1.1\r\nHost: x.{ALICE}\r\n".encode(),
    "of a label less": b"GET / HTTP/1.1\r\nHost: files.example.org\r\n",
    "IPv6": b"GET / HTTP/1.1\r\nHost: [::1]:443\r\n",
    "IPv4": b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n",
    "empty": b"GET / HTTP/1.1\r\nHost: \r\n",
    "missing": b"GET / HTTP/1.1\r\n",
    "missing, HTTP/1.0": b"GET / HTTP/1.0\r\n",
    "twice": f"GET / HTTP/1.1\r\nHost: {BOB}\r\nHost: {ALICE}\r\n".encode(),
    "twice the same": f"GET / HTTP/1.1\r\nHost: {ALICE}\r\nHost: {ALICE}\r\n".encode(),
    "absolute line, other Host": f"GET https://{ALICE}/ HTTP/1.1\r\nHost: {BOB}\r\n".encode(),
    "other absolute line": f"GET https://{BOB}/ HTTP/1.1\r\nHost: {ALICE}\r\n".encode(),
    "absolute line of http": f"GET http://{ALICE}/ HTTP/1.1\r\nHost: {ALICE}\r\n".encode(),
    "absolute line with a user": f"GET https://{BOB}@{ALICE}/ HTTP/1.1\r\nHost: {BOB}\r\n".encode(),
}
"""Ways to write alice's host -> the first lines of a request."""


@pytest.mark.parametrize("way", HOSTS)
def test_host_is_that_of_the_pod(attack: Attack, way: str) -> None:
    for user in ("", "alice", "bob"):
        cookie = "".join(f"{name}: {value}\r\n" for name, value in attack.session(user))
        for name in (ALICE, BOB):
            request = HOSTS[way] + f"{cookie}Connection: close\r\n\r\n".encode()
            answer, reached = attack.send(user, request, name)
            expected = HOST_CODES[way][GATEWAYS.index(attack.gateway.name)]
            if user == "alice":
                assert (answer.code, reached == "alice") == (expected, expected == ALICES)
            else:
                assert answer.code in (expected, 302, 401, 403) or reached == user


AUTHORITIES: dict[str, Headers] = {
    "as it is": [(":authority", ALICE)],
    "in capitals": [(":authority", ALICE.upper())],
    "with a dot at the end": [(":authority", f"{ALICE}.")],
    "before an @": [(":authority", f"{ALICE}@evil.example")],
    "after an @": [(":authority", f"evil@{ALICE}")],
    "with another Host": [(":authority", ALICE), ("host", BOB)],
    "in Host only": [("host", ALICE)],
    "in Host, another before": [(":authority", BOB), ("host", ALICE)],
    "twice": [(":authority", BOB), (":authority", ALICE)],
    "twice in Host": [("host", BOB), ("host", ALICE)],
    "missing": [],
}


@pytest.mark.parametrize("way", AUTHORITIES)
def test_host_of_http2_is_that_of_the_pod(attack: Attack, way: str) -> None:
    if attack.gateway.name == "nginx":
        pytest.skip("the example for nginx has no HTTP/2")
    pseudo = [entry for entry in AUTHORITIES[way] if entry[0].startswith(":")]
    others = [entry for entry in AUTHORITIES[way] if not entry[0].startswith(":")]
    for user in ("", "alice", "bob"):
        cookie = [(name.lower(), value) for name, value in attack.session(user)]
        for name in (ALICE, BOB):
            headers = [(":method", "GET"), (":scheme", "https"), (":path", "/"), *pseudo, *others, *cookie]
            answer, reached = attack.send_http2(user, headers, name)
            expected = AUTHORITY_CODES[way][GATEWAYS[1:].index(attack.gateway.name)]
            if user == "alice":
                assert (answer.code, reached == "alice") == (expected, expected == ALICES)
            else:
                assert answer.code in (expected, 302, 401, 403) or reached == user


FORWARDED: list[Headers] = [
    [("X-Forwarded-Host", ALICE)],
    [("X-Forwarded-Host", f"{ALICE}, {BOB}")],
    [("X-Forwarded-Host", f"{BOB}, {ALICE}")],
    [("X-Forwarded-Host", ALICE), ("X-Forwarded-Host", BOB)],
    [("X-Forwarded-Server", ALICE), ("X-Host", ALICE), ("X-Original-Host", ALICE)],
    [("Forwarded", f"for=127.0.0.1;host={ALICE};proto=https")],
    [("X-Forwarded-Uri", f"https://{ALICE}/")],
    [("X-Forwarded-Uri", "/v1/authorize/auth-request")],
    [("X-Forwarded-Uri", "/oauth2/auth")],
    [("X-Original-URI", "/"), ("X-Original-URL", f"https://{ALICE}/"), ("X-Rewrite-URL", "/ping")],
    [("Path", "/"), ("Method", "GET"), ("X-Original-Method", "OPTIONS"), ("X-Forwarded-Method", "OPTIONS")],
    [("X-HTTP-Method-Override", "OPTIONS"), ("X-HTTP-Method", "OPTIONS"), ("X-Method-Override", "DELETE")],
    [("X-Auth-Request-Redirect", "https://evil.example/")],
]


@pytest.mark.parametrize("number", range(len(FORWARDED)))
def test_forwarded_headers_of_the_client_are_not_read(attack: Attack, number: int) -> None:
    headers = FORWARDED[number]
    answer, reached = attack.send("", encoded("GET", ALICE, "/", headers))
    assert answer.code in (302, 401), answer
    assert b"evil.example" not in answer
    answer, reached = attack.send("bob", encoded("GET", ALICE, "/", [*attack.session("bob"), *headers]))
    assert (answer.code, reached) == (403, ""), answer
    answer, reached = attack.send("bob", encoded("GET", BOB, "/", [*attack.session("bob"), *headers]), BOB)
    assert (answer.code, reached) == (200, "bob"), answer
    answer, reached = attack.send("alice", encoded("GET", ALICE, "/", [*attack.session("alice"), *headers]))
    assert (answer.code, reached) == (200, "alice"), answer


OTHER_SITES: list[tuple[str, Headers]] = [
    ("POST", [("Sec-Fetch-Site", "same-site"), ("Sec-Fetch-Mode", "navigate"), ("Sec-Fetch-Dest", "document")]),
    ("POST", [("Sec-Fetch-Site", "cross-site"), ("Sec-Fetch-Mode", "no-cors"), ("Sec-Fetch-Dest", "empty")]),
    ("GET", [("Sec-Fetch-Site", "same-site"), ("Sec-Fetch-Mode", "no-cors"), ("Sec-Fetch-Dest", "image")]),
    ("GET", [("Sec-Fetch-Site", "same-site"), ("Sec-Fetch-Mode", "cors"), ("Origin", f"https://{BOB}")]),
    (
        "GET",
        [("Sec-Fetch-Site", "same-site"), ("Sec-Fetch-Mode", "websocket"), ("Connection", "Upgrade"), ("Upgrade", "websocket")],
    ),
    ("DELETE", [("Sec-Fetch-Site", "same-site"), ("Sec-Fetch-Mode", "cors")]),
]
"""Requests that a page at another host of the domain makes the browser of alice send, with her cookie."""


@pytest.mark.parametrize("number", range(len(OTHER_SITES)))
def test_request_of_another_site_is_refused(attack: Attack, number: int) -> None:
    method, headers = OTHER_SITES[number]
    answer, reached = attack.send("alice", encoded(method, ALICE, "/", [*attack.session("alice"), *headers]))
    assert (answer.code, reached) == (403, "")
    same = [("Sec-Fetch-Site", "same-origin") if name == "Sec-Fetch-Site" else (name, value) for name, value in headers]
    answer, reached = attack.send("alice", encoded(method, ALICE, "/", [*attack.session("alice"), *same]))
    assert (answer.code, reached) == (200, "alice")


def test_link_on_another_site_leads_to_the_files(attack: Attack) -> None:
    link = [("Sec-Fetch-Site", "cross-site"), ("Sec-Fetch-Mode", "navigate"), ("Sec-Fetch-Dest", "document")]
    answer, reached = attack.send("alice", encoded("GET", ALICE, "/", [*attack.session("alice"), *link]))
    assert (answer.code, reached) == (200, "alice")


PATHS = [
    "/../",
    "/../../../../",
    "/%2e%2e/%2e%2e/%2e%2e/%2e%2e/ping",
    "/..%2f..%2f..%2f..%2fping",
    "/../../../ping",
    "/../../../robots.txt",
    "/../../../oauth2/auth",
    "/../../of/users/alice/authorize/ext-authz",
    "/../../../v1/of/users/bob/authorize/ext-authz",
    "/%2e%2e/%2e%2e/of/users/bob/authorize/ext-authz",
    "//",
    "//evil.example/",
    "///../../ping",
    "/\\..\\..\\ping",
    "/;/../../ping",
    "/a;b=c",
    "/%00",
    "/%",
    "/%zz",
    "/./.",
    "/v1/of/users/alice/authorize/ext-authz",
    "/v1/of/users/bob/authorize/auth-request",
    "/v1/authorize/forward-auth",
    "/v1/door/auth-request",
    "/ping",
    "/ready",
    "/robots.txt",
    "/oauth2/auth",
    "/oauth2/sign_out",
    "/oauth2/userinfo",
    "/oauth2/static/css/bulma.min.css",
    "/peer/v1/activity",
    "/metrics",
    "/_userstorage/authorize",
    "/_userstorage/authorize/x",
    "/?rd=https://evil.example/",
    "/?allowed_groups=nobody",
    "/#x",
]


def never_past_the_gate(attack: Attack, path: str) -> None:
    for user in ("", "bob"):
        for method in ("GET", "POST", "OPTIONS"):
            answer, reached = attack.send(user, encoded(method, ALICE, path, attack.session(user)))
            assert not reached
            assert answer.code in (0, 301, 302, 307, 308, 400, 401, 403, 404, 405), (user, answer)
            assert "evil" not in urlsplit(str(answer.headers.get("Location", ""))).netloc
    answer, reached = attack.send("bob", encoded("GET", BOB, path, attack.session("bob")), BOB)
    assert bool(reached) == (answer.code == 200)


@pytest.mark.parametrize("path", PATHS)
def test_path_leads_nowhere_past_the_gate(attack: Attack, path: str) -> None:
    never_past_the_gate(attack, path)


@pytest.fixture(scope="module", params=["envoy"])
def raw_paths(request: pytest.FixtureRequest, front_door: FrontDoor[GateProcess]) -> Iterator[Attack]:
    """An Envoy that appends paths to its question as the client wrote them."""
    if not request.config.getoption("--all-gateways"):
        pytest.skip("an Envoy that does not normalize paths: make test-gateways")
    started = Attack(front_door, request.param)
    try:
        envoy = started.gateway.server
        assert isinstance(envoy, Envoy)
        config = json.loads((envoy.directory / "bootstrap.json").read_text())
        [chain] = config["static_resources"]["listeners"][0]["filter_chains"]
        manager = chain["filters"][0]["typed_config"]
        manager |= {"normalize_path": False, "merge_slashes": False, "path_with_escaped_slashes_action": "KEEP_UNCHANGED"}
        envoy.stop()
        envoy.start(config)
        yield started
    finally:
        started.stop()


@pytest.mark.parametrize("path", PATHS)
def test_path_that_is_not_normalized_leads_nowhere_past_the_gate(raw_paths: Attack, path: str) -> None:
    never_past_the_gate(raw_paths, path)


def test_login_leads_back_to_the_hosts_of_users_only(attack: Attack) -> None:
    for target in (
        "https://evil.example/",
        "//evil.example/",
        f"https://{ALICE}.evil.example/",
        f"https://evil.example/@{ALICE}",
    ):
        for header in ([], [("X-Auth-Request-Redirect", target)]):
            answer = send(attack.gateway.port, "GET", "auth.example.org", f"/oauth2/start?rd={target}", header)
            assert answer.code == 302, answer
            assert b"evil.example" not in answer, answer.headers["Location"]
