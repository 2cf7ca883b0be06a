"""A gate against a real API server: users that change, keys, outages, floods and logs.

docs/gate.md has the table of threats; a test about one names it in its docstring.
"""

import contextlib
import http.client
import json
import os
import socket
import subprocess
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from localcluster.addresses import free_port
from support import faultproxy
from support.faultproxy import FaultProxy
from support.gate_process import KEY, NEXT_KEY, WAITING, GateDoor, GateProcess, Reply, Users, basic, gate_for, gate_in_thread
from support.kubectl import COMMAND_TIMEOUT, PATIENCE, Kubectl, eventually
from support.operator_process import PROGRAM
from userstorage_operator import gate_app
from userstorage_operator.kube import client

DIALECTS = tuple(WAITING)


@pytest.fixture
def gate(api: Kubectl, users: Users, tmp_path: Path) -> Iterator[GateProcess]:
    """A gate that knows alice and bob."""
    users.create("alice")
    users.create("bob")
    with gate_for(api.kubeconfig, tmp_path, f"--namespace={users.namespace}") as gate:
        yield gate


def rss(gate: GateProcess) -> int:
    """Return the resident memory of the gate in bytes."""
    status = Path(f"/proc/{gate.pid}/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0]) * 1024


def test_two_owners_of_one_host_are_refused_until_one_has_lost_it(gate: GateProcess, users: Users) -> None:
    """T9: two classes make one host for two owners; a tenant edits the host of an own Ingress."""
    template = f"al${{name}}.{users.namespace}.example.org"
    host = users.host("alice")
    with users.class_with_hosts("twin", template) as twin:
        users.create("ice", "mallory", class_name=twin)
        eventually(lambda: gate.ask("ext-authz", "alice", host).status == 403)
        assert gate.ask("ext-authz", "mallory", host).status == 403
        assert "Ambiguous" in {line["reason"] for line in gate.logged("gate_denied")}
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


def test_host_that_changes_hands_belongs_to_the_new_owner(gate: GateProcess, users: Users) -> None:
    """T10: the answer always names the owner whom the table knows, so that the pod of another refuses it."""
    template = f"al${{name}}.{users.namespace}.example.org"
    host = users.host("alice")
    with users.class_with_hosts("twin", template) as twin:
        users.delete("alice")
        users.create("ice", "heir", class_name=twin)
        eventually(lambda: gate.ask("ext-authz", "heir", host).status == 200)
        assert gate.ask("ext-authz", "heir", host).headers.get_all("X-Forwarded-User") == ["heir"]
        assert gate.ask("ext-authz", "alice", host).status == 403


def test_change_of_class_waits_for_the_operator(gate: GateProcess, users: Users) -> None:
    """T9: a tenant who names another class gets no host before the operator has decided who has it."""
    template = f"moved-${{name}}.{users.namespace}.example.org"
    with users.class_with_hosts("moved", template) as twin:
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


def test_keys_are_rotated_without_a_refusal(
    api: Kubectl, users: Users, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """T11: an old, a third and no key get 401; during a rotation no question is refused."""
    monkeypatch.setenv("KUBECONFIG", str(api.kubeconfig))
    monkeypatch.setattr(gate_app, "_KEY_PERIOD", 0.5)  # a minute
    users.create("alice")
    with gate_in_thread(tmp_path, namespaces=(users.namespace,)) as gate:
        rotate_keys(gate, users)


def rotate_keys(gate: GateDoor, users: Users) -> None:
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
        eventually(lambda: gate.logged("gate_keys_unreadable"))
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


@contextlib.contextmanager
def events(users: Users) -> Iterator[None]:
    """Change alice and a class several times a second during the block: the API server sends a bookmark only once a minute."""
    done = threading.Event()

    def change() -> None:
        while not done.wait(0.2):
            users.touch()

    changing = threading.Thread(target=change)
    changing.start()
    try:
        yield
    finally:
        done.set()
        changing.join()


@pytest.fixture
def proxy(api: Kubectl, tmp_path: Path) -> Iterator[FaultProxy]:
    with faultproxy.running(api.kubeconfig, tmp_path) as proxy:
        yield proxy


def test_silent_watch_closes_the_door_after_max_age(
    users: Users, proxy: FaultProxy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """T12: while the API server is away, owners come in until --max-age; then all are refused, until it is back."""
    monkeypatch.setenv("KUBECONFIG", str(proxy.kubeconfig))
    for module in (client, gate_app):
        monkeypatch.setattr(module, "WATCH_SILENCE", 10)  # 70 s, as bookmarks come once a minute
    users.create("alice")
    users.create("bob")
    host = users.host("alice")
    with gate_in_thread(tmp_path, namespaces=(users.namespace,), max_age=20) as gate:
        with events(users):
            eventually(lambda: gate.ask("ext-authz", "alice", host).status == 200)
            assert gate.ask("ext-authz", "bob", host).status == 403
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
        with events(users):
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
        eventually(lambda: gate.logged("watch_failed"))
        assert gate.ask("ext-authz", "alice", host).status == 200
        assert gate.ask("ext-authz", "bob", host).status == 403
        proxy.fail()
        with events(users):
            eventually(lambda: len(gate.logged("watch_resumed")) >= 2)


def test_door_is_shut_before_the_table_is_complete(users: Users, proxy: FaultProxy, tmp_path: Path) -> None:
    """T12: a gate that has never heard of the cluster does not listen."""
    proxy.fail(faultproxy.Fault("GET", "userstorageclasses", 403))
    gate = GateProcess(proxy.kubeconfig, tmp_path, f"--namespace={users.namespace}")
    gate.launch()
    try:
        eventually(lambda: gate.logged("watch_failed"))
        assert not gate.is_ready()
        assert gate.fetch("/health") is not None
        with pytest.raises(ConnectionRefusedError):
            gate.ask("ext-authz", "alice", users.host("alice"))
        proxy.fail()
        eventually(gate.is_ready)
    finally:
        assert gate.stop() == 0


def test_gate_that_stops_gives_each_connection_one_more_answer_as_of_now(
    api: Kubectl, users: Users, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """T10: what changes until then is in force."""
    monkeypatch.setenv("KUBECONFIG", str(api.kubeconfig))
    monkeypatch.setattr(gate_app, "_DRAIN", PATIENCE)  # ten seconds
    users.create("alice")

    def ask(connection: http.client.HTTPConnection, user: str) -> tuple[int, str | None]:
        headers = dict([("Host", users.host(user)), basic(user)])
        connection.request("GET", "/v1/authorize/ext-authz/", headers=headers)
        response = connection.getresponse()
        response.read()
        return response.status, response.headers["Connection"]

    with ThreadPoolExecutor() as pool, contextlib.ExitStack() as stack:
        gate = stack.enter_context(gate_in_thread(tmp_path, namespaces=(users.namespace,)))
        before, after = (http.client.HTTPConnection("127.0.0.1", gate.port, timeout=PATIENCE) for _ in range(2))
        for connection in (before, after):
            assert ask(connection, "alice") == (200, None)
        assert ask(before, "bob") == (403, None)
        stopped = pool.submit(stack.pop_all().close)
        eventually(lambda: not gate.is_ready())
        assert ask(before, "alice") == (200, "close")
        users.create("bob")
        eventually(lambda: "userstorage_gate_rows 2.0" in (gate.fetch("/metrics") or ""))
        assert ask(after, "bob") in ((429, "close"), (200, "close"))
        stopped.result(PATIENCE)


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
    assert len(gate.logged("gate_denied")) < 100
    assert rss(gate) - before < 32 * 1024 * 1024


def test_user_names_cannot_fill_the_log(gate: GateProcess, users: Users) -> None:
    """T15: even who has a key cannot cause more than a thousand lines a minute."""
    for number in range(1500):
        assert gate.ask("ext-authz", f"user-{number}", users.host("alice")).status == 403
    assert 1000 <= len(gate.logged("gate_denied")) <= 2000


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
    [admitted] = gate.logged("gate_admitted")
    assert (admitted["namespace"], admitted["name"], admitted["user_id"]) == (users.namespace, "alice", "alice")
    denied = {line["user_id"]: line for line in gate.logged("gate_denied")}
    assert {user: line["reason"] for user, line in denied.items()} == {"bob": "NotOwner", "Alice": "NotOwner"}
    assert denied["Alice"]["hint"] == "differs in case"
    assert len(gate.logged("gate_denied")) == 2


def test_metrics_count_decisions_and_rows(gate: GateProcess, users: Users) -> None:
    gate.ask("ext-authz", "alice", users.host("alice"))
    gate.ask("auth-request", "bob", users.host("alice"))
    metrics = gate.fetch("/metrics") or ""
    assert 'userstorage_gate_decisions_total{decision="admitted",dialect="ext-authz",reason="Admitted"} 1.0' in metrics
    assert 'userstorage_gate_decisions_total{decision="refused",dialect="auth-request",reason="NotOwner"} 1.0' in metrics
    assert "userstorage_gate_rows 2.0" in metrics
    assert 'userstorage_gate_duration_seconds_count{dialect="ext-authz"} 1.0' in metrics
    assert json.loads(gate.fetch("/ready") or "")["role"] == "gate"
