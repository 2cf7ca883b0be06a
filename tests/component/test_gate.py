"""The gate as a process, against a real API server: what each gateway is answered, and what attacks get (docs/gate.md)."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from support.gate_process import NAVIGATION, NEXT_KEY, WAITING, GateProcess, Users, basic, gate_for
from support.kubectl import Kubectl, eventually

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
