"""The gate as a process, against a real API server: what each gateway is answered, and what attacks get.

docs/gate.md has the table of threats; a test about one names it in its docstring.
"""

import contextlib
import json
import os
import socket
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from localcluster.addresses import free_port
from support import faultproxy
from support.faultproxy import FaultProxy
from support.gate_process import KEY, NAVIGATION, NEXT_KEY, WAITING, GateProcess, Reply, Users, basic, gate_for
from support.kubectl import COMMAND_TIMEOUT, PATIENCE, Kubectl, eventually
from support.logschema import check_line
from support.operator_process import PROGRAM

DIALECTS = tuple(WAITING)


@pytest.fixture
def users(api: Kubectl, namespace: str) -> Iterator[Users]:
    users = Users(api, namespace)
    users.create_classes()
    yield users
    users.delete_classes()


@pytest.fixture
def gate(api: Kubectl, users: Users, tmp_path: Path) -> Iterator[GateProcess]:
    """A gate that knows alice and bob."""
    users.create("alice")
    users.create("bob")
    with gate_for(api.kubeconfig, tmp_path, f"--namespace={users.namespace}") as gate:
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
    users.report("alice", ready=False, message="<script>alert(1)</script>")
    host = users.host("alice")
    waiting = eventually(lambda: (reply := gate.ask(dialect, "alice", host, ("Accept", "text/html"))).status != 200 and reply)
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
    users.report("alice")
    eventually(lambda: gate.ask(dialect, "alice", host).status == 200)


def test_named_form_believes_no_host(gate: GateProcess, users: Users) -> None:
    users.create("carol", class_name=users.inside)
    prefix = f"/v1/of/{users.namespace}/carol/authorize"
    lying = (("Host", users.host("alice")), ("X-Forwarded-Host", users.host("alice")))
    for path in (f"{prefix}/{dialect}" for dialect in DIALECTS):
        eventually(lambda path=path: gate.send(path, *lying, basic("carol")).status == 200)  # type: ignore[misc]
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
    users.create("dora", ready=False)
    host = ("Host", users.host("dora"))
    page = eventually(lambda: (reply := gate.send("/v1/door/auth-request", host, basic("dora"))).status == 503 and reply)
    assert page
    assert page.headers["Refresh"] == "2"
    assert gate.send("/v1/door/auth-request", host, basic("alice")).status == 403
    named = gate.send(f"/v1/of/{users.namespace}/dora/door/auth-request", ("Host", "x"), basic("dora"))
    assert named.status == 503


def logged(gate: GateProcess, event: str) -> list[dict[str, str]]:
    """Return the log lines of an event."""
    return [line for line in map(check_line, gate.log.read_text().splitlines()) if line["event"] == event]


def rss(gate: GateProcess) -> int:
    """Return the resident memory of the gate in bytes."""
    status = Path(f"/proc/{gate.pid}/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0]) * 1024


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
    users.create("carol", class_name=users.one_host)
    users.create("dave", class_name=users.one_host)
    host = users.shared_host
    for dialect in DIALECTS:
        eventually(lambda dialect=dialect: gate.ask(dialect, "dave", host, uri="/u/dave/").status == 200)  # type: ignore[misc]
        admitted = gate.ask(dialect, "carol", host, uri="/u/carol/a%20b?x=/../")
        assert (admitted.status, admitted.headers["X-Files-User"]) == (200, "carol")
        for uri in (
            "/u/dave/",
            "/",
            "/u/carol/../dave/",
            "/u/carol/%2e%2e/dave/",
            "/u/carol/..%2fdave/",
            "/u/carol//",
            "/u/%63arol/",
        ):
            assert gate.ask(dialect, "carol", host, uri=uri).status == 403, uri


def test_two_owners_of_one_host_are_refused_until_one_has_lost_it(gate: GateProcess, users: Users, api: Kubectl) -> None:
    """T9: two classes make one host for two owners; a tenant edits the host of an own Ingress."""
    twin = f"twin-{users.namespace}"
    spec = {"network": {"expose": "Ingress", "hostTemplate": f"al${{name}}.{users.namespace}.example.org"}}
    api.apply({"apiVersion": "userstorage.dev/v1", "kind": "UserStorageClass", "metadata": {"name": twin}, "spec": spec})
    host = users.host("alice")
    try:
        users.create("ice", "mallory", class_name=twin)
        eventually(lambda: gate.ask("ext-authz", "alice", host).status == 403)
        assert gate.ask("ext-authz", "mallory", host).status == 403
        assert "Ambiguous" in {line["reason"] for line in logged(gate, "gate_denied")}
        users.report("ice", network="HostConflict")
        eventually(lambda: gate.ask("ext-authz", "alice", host).status == 200)
        assert gate.ask("ext-authz", "mallory", host).status == 403
        # status.url follows an edited Ingress for a moment.
        users.report("ice", network="HostConflict")
        users.patch("ice", {"status": {"url": f"https://{host}/"}}, status=True)
        users.patch("bob", {"status": {"url": f"https://{host}/"}}, status=True)
        eventually(lambda: gate.ask("ext-authz", "bob", users.host("bob")).status == 403)
        assert gate.ask("ext-authz", "mallory", host).status == 403
        assert gate.ask("ext-authz", "bob", host).status == 403
        assert gate.ask("ext-authz", "alice", host).status == 200
    finally:
        api.run("delete", "usc", twin)


def test_host_that_changes_hands_belongs_to_the_new_owner(gate: GateProcess, users: Users, api: Kubectl) -> None:
    """T10: the answer always names the owner whom the table knows, so that the pod of another refuses it."""
    twin = f"next-{users.namespace}"
    spec = {"network": {"expose": "Ingress", "hostTemplate": f"al${{name}}.{users.namespace}.example.org"}}
    api.apply({"apiVersion": "userstorage.dev/v1", "kind": "UserStorageClass", "metadata": {"name": twin}, "spec": spec})
    host = users.host("alice")
    try:
        users.delete("alice")
        users.create("ice", "heir", class_name=twin)
        eventually(lambda: gate.ask("ext-authz", "heir", host).status == 200)
        assert gate.ask("ext-authz", "heir", host).headers.get_all("X-Forwarded-User") == ["heir"]
        assert gate.ask("ext-authz", "alice", host).status == 403
    finally:
        api.run("delete", "usc", twin)


def test_change_of_class_waits_for_the_operator(gate: GateProcess, users: Users, api: Kubectl) -> None:
    """T9: a tenant who names another class gets no host before the operator has decided who has it."""
    twin = f"moved-{users.namespace}"
    spec = {"network": {"expose": "Ingress", "hostTemplate": f"moved-${{name}}.{users.namespace}.example.org"}}
    api.apply({"apiVersion": "userstorage.dev/v1", "kind": "UserStorageClass", "metadata": {"name": twin}, "spec": spec})
    try:
        users.patch("bob", {"status": {"url": f"https://{users.host('bob')}/"}}, status=True)
        users.patch("bob", {"spec": {"className": twin}})
        users.patch("alice", {"spec": {"className": twin}})  # its status has no address
        eventually(lambda: gate.ask("ext-authz", "alice", users.host("alice")).status == 403)
        assert gate.ask("ext-authz", "bob", users.host("bob")).status == 200
        for user in ("alice", "bob"):
            assert gate.ask("ext-authz", user, users.host(f"moved-{user}")).status == 403
        users.report("bob")
        users.patch("bob", {"status": {"url": f"https://{users.host('moved-bob')}/"}}, status=True)
        eventually(lambda: gate.ask("ext-authz", "bob", users.host("moved-bob")).status == 200)
        assert gate.ask("ext-authz", "bob", users.host("bob")).status == 403
    finally:
        api.run("delete", "usc", twin)


def test_keys_are_rotated_without_a_refusal(gate: GateProcess, users: Users) -> None:
    """T11: an old, a third and no key get 401; during a rotation no question is refused."""
    host, third = users.host("alice"), "canary-third-0123456789abcdefghijklmnop"
    refused: list[Reply] = []
    done = threading.Event()

    def ask_all_the_time() -> None:
        while not done.wait(0.02):
            if (reply := gate.ask("ext-authz", "alice", host, key=NEXT_KEY)).status != 200:
                refused.append(reply)

    asking = threading.Thread(target=ask_all_the_time)
    asking.start()
    try:
        assert gate.ask("ext-authz", "alice", host, key=third).status == 401
        gate.key_file.write_text(f"{NEXT_KEY}\n{third}\n{KEY}\n")
        eventually(lambda: gate.ask("ext-authz", "alice", host, key=third).status == 200)
        assert gate.ask("ext-authz", "alice", host, key=KEY).status == 401  # the third line of the file
        gate.key_file.write_text("")
        eventually(lambda: logged(gate, "gate_keys_unreadable"))
        assert gate.ask("ext-authz", "alice", host, key=third).status == 200
    finally:
        done.set()
        asking.join()
    assert refused == []


@pytest.mark.parametrize(
    "content", [None, "", "\n", "short", "with a space and more than 32 characters", "a:colon-and-more-than-32-characters"]
)
def test_gate_does_not_start_without_a_key(api: Kubectl, tmp_path: Path, content: str | None) -> None:
    """T11."""
    keys = tmp_path / "keys"
    if content is not None:
        keys.write_text(content)
    done = subprocess.run(
        [PROGRAM, "gate", f"--key-file={keys}", f"--port={free_port()}", "--http-port=0"],
        env={**os.environ, "KUBECONFIG": str(api.kubeconfig)},
        capture_output=True,
        text=True,
        check=False,
        timeout=COMMAND_TIMEOUT,
    )
    assert done.returncode == 1
    assert "--key-file" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.fixture
def proxy(api: Kubectl, tmp_path: Path) -> Iterator[FaultProxy]:
    with faultproxy.running(api.kubeconfig, tmp_path) as proxy:
        yield proxy


def test_silent_watch_closes_the_door_after_max_age(users: Users, proxy: FaultProxy, tmp_path: Path) -> None:
    """T12: while the API server is away, owners come in until --max-age; then all are refused, until it is back."""
    users.create("alice")
    users.create("bob")
    host = users.host("alice")
    with gate_for(proxy.kubeconfig, tmp_path, f"--namespace={users.namespace}", "--max-age=75s") as gate:
        assert gate.ask("ext-authz", "alice", host).status == 200
        proxy.cut_off = True
        proxy.hang_up()
        assert gate.ask("ext-authz", "alice", host).status == 200
        assert gate.ask("ext-authz", "bob", host).status == 403
        eventually(lambda: not gate.is_ready())
        eventually(lambda: gate.ask("ext-authz", "alice", host).reason == "Stale")
        for user in ("alice", "bob"):
            assert gate.ask("ext-authz", user, host).status == 403
        assert gate.ask("ext-authz", "bob", host).reason == "Forbidden"
        proxy.cut_off = False
        proxy.hang_up()
        eventually(lambda: gate.ask("ext-authz", "alice", host).status == 200)
        eventually(gate.is_ready)
        assert gate.ask("ext-authz", "bob", host).status == 403


def test_refused_watch_is_reported_and_owners_come_in(users: Users, proxy: FaultProxy, tmp_path: Path) -> None:
    """T12: an API server that answers with errors."""
    users.create("alice")
    host = users.host("alice")
    with gate_for(proxy.kubeconfig, tmp_path, f"--namespace={users.namespace}") as gate:
        proxy.fail(faultproxy.Fault("GET", ".*", 500))
        proxy.hang_up()
        eventually(lambda: logged(gate, "watch_failed"))
        assert gate.ask("ext-authz", "alice", host).status == 200
        assert gate.ask("ext-authz", "bob", host).status == 403
        proxy.fail()
        eventually(lambda: len(logged(gate, "watch_resumed")) >= 2)


def test_door_is_shut_before_the_table_is_complete(users: Users, proxy: FaultProxy, tmp_path: Path) -> None:
    """T12: a gate that has never heard of the cluster does not listen."""
    proxy.fail(faultproxy.Fault("GET", "userstorageclasses", 403))
    gate = GateProcess(proxy.kubeconfig, tmp_path, f"--namespace={users.namespace}")
    gate.launch()
    try:
        eventually(lambda: logged(gate, "watch_failed"))
        assert not gate.is_ready()
        assert gate.fetch("/health") is not None
        with pytest.raises(ConnectionRefusedError):
            gate.ask("ext-authz", "alice", users.host("alice"))
        proxy.fail()
        eventually(gate.is_ready)
    finally:
        assert gate.stop() == 0


def test_strangers_cannot_fill_memory_or_log(gate: GateProcess, users: Users) -> None:
    """T15: floods of bad questions, huge and endless headers; meanwhile owners are admitted."""
    host = users.host("alice")
    assert gate.ask("ext-authz", "alice", host).status == 200
    before = rss(gate)
    slow = [socket.create_connection(("127.0.0.1", gate.port)) for _ in range(200)]
    try:
        for connection in slow:
            connection.sendall(b"GET /v1/authorize/ext-authz/ HTTP/1.1\r\nHost: x\r\nX: ")
        for number in range(1000):
            assert gate.ask("ext-authz", "bob", f"host-{number}.example.org").status == 403
            assert gate.ask("ext-authz", "bob", host, uri=f"/{number}").status == 403
            assert gate.ask("forward-auth", f"user-{number}", host, key=f"wrong-{number}").status == 401
            if number % 100 == 0:
                assert gate.ask("ext-authz", "alice", host).status == 200
    finally:
        for connection in slow:
            connection.close()
    for size in (33, 64, 1024):
        with contextlib.suppress(ConnectionError):  # the gate may close while the client still sends
            huge = gate.send("/v1/authorize/ext-authz/", ("Host", host), basic("alice"), ("X-Large", "a" * size * 1024))
            assert huge.status in (400, 431)
    assert gate.ask("ext-authz", "alice", host, ("Cookie", "a" * 12 * 1024)).status == 200
    assert len(logged(gate, "gate_denied")) < 100
    assert rss(gate) - before < 32 * 1024 * 1024


def test_user_names_cannot_fill_the_log(gate: GateProcess, users: Users) -> None:
    """T15: even who has a key cannot cause more than a thousand lines a minute."""
    for number in range(1500):
        assert gate.ask("ext-authz", f"user-{number}", users.host("alice")).status == 403
    assert 1000 <= len(logged(gate, "gate_denied")) <= 2000


def test_no_secret_is_repeated(gate: GateProcess, users: Users) -> None:
    """T17: keys, cookies, tokens and queries are in no log, metric or page."""
    users.report("bob", ready=False)
    secrets = ["canary-cookie", "canary-token", "canary-query", KEY, NEXT_KEY, "canary-wrong", basic("alice")[1].split()[1]]
    client = [
        ("Cookie", "_oauth2_proxy=canary-cookie"),
        ("X-Auth-Request-Access-Token", "canary-token"),
        ("Accept", "text/html"),
    ]
    bodies = ""
    for dialect in DIALECTS:
        for user, host, key in (
            ("alice", users.host("alice"), KEY),
            ("alice", users.host("bob"), KEY),
            ("alice", f"{users.host('alice')}@canary-token", KEY),
            ("alice", "nobody.example.org", NEXT_KEY),
            ("alice", users.host("alice"), "canary-wrong"),
            ("bob", users.host("bob"), KEY),
        ):
            reply = gate.ask(dialect, user, host, *client, uri="/x?token=canary-query", key=key)
            bodies += f"{reply.headers}{reply.body}"
    metrics = gate.fetch("/metrics")
    assert metrics is not None
    assert "userstorage_gate_decisions_total" in metrics
    everything = bodies + metrics + gate.log.read_text()
    assert [secret for secret in secrets if secret in everything] == []
    for word in ("alice", "bob", users.namespace, "example.org"):
        assert word not in metrics


def test_refusals_and_admissions_are_logged_once(gate: GateProcess, users: Users) -> None:
    host = users.host("alice")
    for _ in range(5):
        gate.ask("ext-authz", "alice", host)
        gate.ask("ext-authz", "bob", host)
        gate.ask("ext-authz", "Alice", host)
    [admitted] = logged(gate, "gate_admitted")
    assert (admitted["namespace"], admitted["name"], admitted["user_id"]) == (users.namespace, "alice", "alice")
    denied = {line["user_id"]: line for line in logged(gate, "gate_denied")}
    assert {user: line["reason"] for user, line in denied.items()} == {"bob": "NotOwner", "Alice": "NotOwner"}
    assert denied["Alice"]["hint"] == "differs in case"
    assert len(logged(gate, "gate_denied")) == 2


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


def test_metrics_count_decisions_and_rows(gate: GateProcess, users: Users) -> None:
    gate.ask("ext-authz", "alice", users.host("alice"))
    gate.ask("auth-request", "bob", users.host("alice"))
    metrics = gate.fetch("/metrics") or ""
    assert 'userstorage_gate_decisions_total{decision="admitted",dialect="ext-authz",reason="Admitted"} 1.0' in metrics
    assert 'userstorage_gate_decisions_total{decision="refused",dialect="auth-request",reason="NotOwner"} 1.0' in metrics
    assert "userstorage_gate_rows 2.0" in metrics
    assert 'userstorage_gate_duration_seconds_count{dialect="ext-authz"} 1.0' in metrics
    assert json.loads(gate.fetch("/ready") or "")["role"] == "gate"
