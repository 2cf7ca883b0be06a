"""What a gate answers to each question, from the host, the path and the headers. All tests share it and its users.

docs/gate.md has the table of threats; a test about one names it in its docstring.
"""

import secrets
import socket
from collections.abc import Iterator

import pytest

from support.apiproxy import ApiProxy, new_namespace
from support.gate_process import NAVIGATION, NEXT_KEY, WAITING, GateProcess, Users, basic, gate_for
from support.kubectl import PATIENCE, Kubectl, eventually

DIALECTS = tuple(WAITING)


@pytest.fixture(scope="module")
def users(api_proxy: ApiProxy) -> Iterator[Users]:
    """alice, bob and dora have a host each, and dora waits; carol has no host; erin and frank share one."""
    with new_namespace(api_proxy) as namespace:
        users = Users(api_proxy, namespace)
        with users.classes():
            for name in ("alice", "bob"):
                users.create(name)
            users.create("carol", class_name=users.inside)
            users.create("dora", ready=False)
            for name in ("erin", "frank"):
                users.create(name, class_name=users.one_host)
            yield users


@pytest.fixture(scope="module")
def gate(api: Kubectl, users: Users, tmp_path_factory: pytest.TempPathFactory) -> Iterator[GateProcess]:
    """One gate that knows them, for all tests."""
    with gate_for(api.kubeconfig, tmp_path_factory.mktemp("gate"), f"--namespace={users.namespace}") as gate:
        yield gate


@pytest.mark.parametrize("dialect", DIALECTS)
def test_only_the_owner_is_admitted(gate: GateProcess, users: Users, dialect: str) -> None:
    alice, bob = users.host("alice"), users.host("bob")
    for user, host in (("alice", alice), ("bob", bob)):
        admitted = gate.ask(dialect, user, host)
        assert admitted.status == 200
        assert admitted.headers.get_all("X-Forwarded-User") == [user]
        assert admitted.headers["Cache-Control"] == "no-store"
    for user, host in (("bob", alice), ("alice", bob), ("ALICE", alice), ("alice ", alice), ("carol", alice)):
        for method in ("GET", "PUT", "DELETE", "PROPFIND", "OPTIONS"):
            refused = gate.ask(dialect, user, host, method=method)
            assert (refused.status, refused.reason, refused.headers["X-Forwarded-User"]) == (403, "Forbidden", None)


@pytest.mark.parametrize("dialect", DIALECTS)
def test_owner_waits_until_ready(gate: GateProcess, users: Users, dialect: str) -> None:
    name = f"late-{secrets.token_hex(4)}"
    users.create(name)
    host = users.host(name)
    eventually(lambda: gate.ask(dialect, name, host).status == 200)
    users.report(name, ready=False, message="<script>alert(1)</script>")
    waiting = eventually(lambda: (reply := gate.ask(dialect, name, host, ("Accept", "text/html"))).status != 200 and reply)
    assert waiting
    assert (waiting.status, waiting.headers["X-Userstorage-State"], waiting.headers["Retry-After"]) == (
        WAITING[dialect],
        "waking",
        "2",
    )
    assert "&lt;script&gt;" in waiting.body
    assert "<script" not in waiting.body
    assert len(waiting.body) < 4096
    assert gate.ask(dialect, "bob", host).status == 403
    users.report(name)
    eventually(lambda: gate.ask(dialect, name, host).status == 200)


def test_named_form_believes_no_host(gate: GateProcess, users: Users) -> None:
    prefix = f"/v1/of/{users.namespace}/carol/authorize"
    lying = (("Host", users.host("alice")), ("X-Forwarded-Host", users.host("alice")))
    for path in (f"{prefix}/{dialect}" for dialect in DIALECTS):
        assert gate.send(path, *lying, basic("carol")).status == 200
        assert gate.send(path, *lying, basic("alice")).status == 403
    climbing = gate.send(f"{prefix}/ext-authz/../../../alice/authorize/ext-authz", ("Host", "x"), basic("alice"))
    assert climbing.status == 403
    assert gate.send(f"/v1/of/{users.namespace}/nobody/authorize/ext-authz/", ("Host", "x"), basic("carol")).status == 403


def test_either_key_proves_and_nothing_else(gate: GateProcess, users: Users) -> None:
    host = users.host("alice")
    assert gate.ask("ext-authz", "alice", host, key=NEXT_KEY).status == 200
    for header in (("Authorization", "Bearer x"), basic("alice", "wrong"), basic("alice", ""), ("X-Forwarded-User", "alice")):
        refused = gate.send("/v1/authorize/ext-authz/", ("Host", host), header, *NAVIGATION)
        assert (refused.status, refused.reason) == (401, "NoProof")
    refused = gate.ask("ext-authz", "", host)
    assert (refused.status, refused.reason) == (401, "NoIdentity")


def test_waiting_page_of_nginx(gate: GateProcess, users: Users) -> None:
    host = ("Host", users.host("dora"))
    page = gate.send("/v1/door/auth-request", host, basic("dora"))
    assert (page.status, page.headers["Refresh"]) == (503, "2")
    assert gate.send("/v1/door/auth-request", host, basic("alice")).status == 403
    named = gate.send(f"/v1/of/{users.namespace}/dora/door/auth-request", ("Host", "x"), basic("dora"))
    assert named.status == 503


@pytest.mark.parametrize("dialect", DIALECTS)
def test_odd_hosts_are_read_as_one_host_or_refused(gate: GateProcess, users: Users, dialect: str) -> None:
    """T6: each spelling is decided for the host that a gateway routes by, or refused."""
    alice, bob = users.host("alice"), users.host("bob")
    for same in (alice.upper(), f"{alice}.", f"{alice}:443", f"{alice.title()}.:8443"):
        assert gate.ask(dialect, "alice", same).status == 200, same
        assert gate.ask(dialect, "bob", same).status == 403, same
    odd = [f"{alice}@{bob}", f"{bob}@{alice}", f"{alice}..", "[::1]", f"{alice}, {bob}", f"{alice} {bob}", f"{alice}/", ""]
    odd += [f"{alice}:443:80", f"{alice}%00", "älice.example.org", "xn--lice-moa.example.org", f"{alice}#{bob}"]
    for host in odd:
        for user in ("alice", "bob"):
            assert gate.ask(dialect, user, host).status in (400, 403), host


def test_host_has_exactly_one_source(gate: GateProcess, users: Users) -> None:
    """T6, T7: two lines of the header are refused, and headers of another dialect are not read."""
    alice, bob = users.host("alice"), users.host("bob")
    proof = basic("bob")
    for hosts in ((alice, bob), (bob, alice), (bob, bob)):
        doubled = [("Host", host) for host in hosts]
        assert gate.send("/v1/authorize/auth-request", *doubled, proof).status in (400, 403)
        forwarded = [("X-Forwarded-Host", host) for host in hosts]
        assert gate.send("/v1/authorize/forward-auth", ("Host", "gate"), *forwarded, proof).status == 403
    assert gate.send("/v1/authorize/forward-auth", ("Host", bob), proof).status == 403
    assert gate.send("/v1/authorize/auth-request", proof).status in (400, 403)
    others = [("X-Forwarded-Host", bob), ("Forwarded", f"host={bob}"), ("X-Original-Host", bob), ("X-Host", bob), ("Path", "/")]
    others += [("X-Original-URL", f"https://{bob}/"), ("X-HTTP-Method-Override", "GET"), ("X-Forwarded-User", "alice")]
    for dialect in ("auth-request", "ext-authz"):
        assert gate.ask(dialect, "bob", alice, *others).status == 403
        assert gate.ask(dialect, "alice", alice, *others).headers.get_all("X-Forwarded-User") == ["alice"]
    absolute = gate.send(f"http://{bob}/v1/authorize/auth-request", ("Host", alice), proof)
    assert absolute.status == 404


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/../",
        "/../../v1/authorize/auth-request",
        "/%2e%2e/%2e%2e/v1/of/{namespace}/bob/authorize/ext-authz/",
        "/../../of/{namespace}/bob/authorize/ext-authz/",
        "/..%2f..%2fof%2f{namespace}%2fbob%2fauthorize%2fext-authz",
        "//v1/of/{namespace}/bob/authorize/ext-authz",
        "/\\..\\..\\of\\{namespace}\\bob",
        "/;/../of/{namespace}/bob/authorize/ext-authz",
        "/%00",
        "/v1/of/{namespace}/bob/authorize/ext-authz/",
        "/v1/door/auth-request",
        "/ping",
        "/ready",
        "/robots.txt",
        "/peer/v1/activity",
        "/?/v1/of/{namespace}/bob/authorize/ext-authz",
        "?x",
    ],
)
def test_path_of_the_client_chooses_nothing(gate: GateProcess, users: Users, path: str) -> None:
    """T8: where the gateway appends the client's path, the host alone decides."""
    path = path.format(namespace=users.namespace)
    alice = users.host("alice")
    assert gate.ask("ext-authz", "bob", alice, uri=path).status == 403
    admitted = gate.ask("ext-authz", "alice", alice, uri=path)
    assert (admitted.status, admitted.headers["X-Forwarded-User"]) == (200, "alice")
    named = f"/v1/of/{users.namespace}/alice/authorize/ext-authz{path}"
    assert gate.send(named, ("Host", users.host("bob")), basic("bob")).status == 403


def test_nothing_else_is_served_at_the_door(gate: GateProcess, users: Users) -> None:
    """T8: there is no 200 at any other path, for any dialect."""
    host = ("Host", users.host("alice"))
    for path in (
        "/",
        "/health",
        "/ready",
        "/metrics",
        "/v1",
        "/v1/authorize",
        "/v1/authorize/",
        "/v1/authorize/none/",
        "/v1/authorize/auth-request/",
        "/v1/authorize/auth-request?x",
        "/v1/authorize/forward-auth/x",
        "/v1/authorize/ext-authzx",
        "/v1/authorize/ext-authz%2fx",
        "/V1/authorize/ext-authz/",
        "//v1/authorize/ext-authz/",
        "/x/../v1/authorize/ext-authz/",
        "/v1/of/x/authorize/ext-authz/",
        "/v1/door/ext-authz",
    ):
        assert gate.send(path, host, ("X-Forwarded-Host", host[1]), basic("alice")).status == 404, path


def test_shared_host_is_divided_by_base_path(gate: GateProcess, users: Users) -> None:
    host = users.shared_host
    for dialect in DIALECTS:
        assert gate.ask(dialect, "frank", host, uri="/u/frank/").status == 200
        admitted = gate.ask(dialect, "erin", host, uri="/u/erin/a%20b?x=/../")
        assert (admitted.status, admitted.headers["X-Files-User"]) == (200, "erin")
        for uri in (
            "/u/frank/",
            "/",
            "/u/erin/../frank/",
            "/u/erin/%2e%2e/frank/",
            "/u/erin/..%2ffrank/",
            "/u/erin//",
            "/u/%65rin/",
        ):
            assert gate.ask(dialect, "erin", host, uri=uri).status == 403, uri


def test_upgrade_of_the_connection_is_answered_like_any_request(gate: GateProcess, users: Users) -> None:
    websocket = (
        ("Connection", "Upgrade"),
        ("Upgrade", "websocket"),
        ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="),
        ("Sec-WebSocket-Version", "13"),
    )
    for dialect in DIALECTS:
        assert gate.ask(dialect, "alice", users.host("alice"), *websocket).status == 200
        assert gate.ask(dialect, "bob", users.host("alice"), *websocket).status == 403


def test_body_of_a_question_is_ignored(gate: GateProcess, users: Users) -> None:
    for user, status in (("alice", 200), ("bob", 403)):
        with socket.create_connection(("127.0.0.1", gate.port), timeout=PATIENCE) as connection:
            name, value = basic(user)
            head = f"POST /v1/authorize/ext-authz/ HTTP/1.1\r\nHost: {users.host('alice')}\r\n{name}: {value}\r\n"
            connection.sendall(f"{head}Content-Length: 1000000\r\n\r\npart".encode())
            assert connection.recv(100).startswith(f"HTTP/1.1 {status}".encode())
