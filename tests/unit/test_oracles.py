"""Each oracle of the fault matrix finds the violation that it is for, and nothing in a flawless history."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from support.faultproxy import Fault, Request, parse
from support.oracles import History, differences, masked, violations
from support.oracles.invariants import children_of_the_deleted, longest_untrue_ready, tries_per_minute, writes_to

STORAGES, PODS, POLICIES, CLAIMS = "userstorages", "pods", "networkpolicies", "persistentvolumeclaims"
LABELS = {"userstorage.dev/slug": "alice"}
PATH = "/apis/userstorage.dev/v1/namespaces/users/userstorages/alice"


class Script:
    """A history that is written down, one revision after the other."""

    def __init__(self) -> None:
        self.history = History()
        self._revision = 0

    def __call__(self, event: str, resource: str, name: str, uid: str, owner: str = "", **body: Any) -> "Script":
        self._revision += 1
        meta = {"name": name, "uid": uid, "resourceVersion": str(self._revision), **body.pop("meta", {})}
        if owner:
            meta["ownerReferences"] = [{"kind": "UserStorage", "uid": owner, "controller": True}]
        self.history.add(event, resource, {"metadata": meta, **body})
        return self


def ready(status: str) -> dict[str, Any]:
    return {"status": {"conditions": [{"type": "Ready", "status": status, "reason": "Any"}]}}


def served() -> Script:
    """Return a UserStorage with its policy, claim and pod."""
    script = Script()("ADDED", STORAGES, "alice", "a")
    script("ADDED", POLICIES, "alice", "n", "a", spec={"podSelector": {"matchLabels": LABELS}})
    script("ADDED", CLAIMS, "alice", "c")
    script("ADDED", PODS, "alice", "p", "a", meta={"labels": LABELS})
    script("MODIFIED", PODS, "alice", "p", "a", meta={"labels": LABELS}, **ready("True"))
    return script("MODIFIED", STORAGES, "alice", "a", **ready("True"))


DELETED = {"deletionTimestamp": "2026-01-01T00:00:00Z"}


def test_life_of_a_user_violates_nothing() -> None:
    script = served()("MODIFIED", STORAGES, "alice", "a", meta=DELETED)
    script("MODIFIED", PODS, "alice", "p", "a", meta={"labels": LABELS, **DELETED})
    script("DELETED", PODS, "alice", "p", "a")("DELETED", POLICIES, "alice", "n", "a")("DELETED", STORAGES, "alice", "a")
    assert violations(script.history) == []
    assert children_of_the_deleted(script.history) == []
    assert longest_untrue_ready(script.history) < 1


@pytest.mark.parametrize(
    ("happens", "found"),
    [
        (lambda script: script("ADDED", PODS, "alice-2", "p2", "a", meta={"labels": LABELS}), "2 live pods"),
        (lambda script: script("DELETED", POLICIES, "alice", "n", "a"), "no policy selects pod alice"),
        (lambda script: script("MODIFIED", CLAIMS, "alice", "c", meta=DELETED), "claim alice is deleted"),
        (lambda script: script("DELETED", CLAIMS, "alice", "c"), "claim alice is deleted"),
        (lambda script: script("DELETED", STORAGES, "alice", "a"), "its pod alice lives"),
        (
            lambda script: script("DELETED", PODS, "alice", "p", "a")("DELETED", STORAGES, "alice", "a")(
                "ADDED", "services", "alice", "s", "a"
            ),
            "created for one that is gone",
        ),
    ],
)
def test_violation_in_the_history_is_found(happens: Callable[[Script], Script], found: str) -> None:
    [violation] = violations(happens(served()).history)
    assert found in violation


def test_child_of_a_user_that_is_being_deleted_is_found() -> None:
    script = served()("MODIFIED", STORAGES, "alice", "a", meta=DELETED)("ADDED", "services", "alice", "s", "a")
    assert len(children_of_the_deleted(script.history)) == 1


def test_ready_without_a_ready_pod_is_found() -> None:
    script = served()("MODIFIED", PODS, "alice", "p", "a", meta={"labels": LABELS}, **ready("False"))
    assert longest_untrue_ready(script.history) == float("inf")
    script("MODIFIED", STORAGES, "alice", "a", **ready("False"))
    assert longest_untrue_ready(script.history) < 1


def test_deletion_is_inferred_from_a_list() -> None:
    script = served()
    script.history.replace(PODS, [], "90")
    assert [change.type for change in script.history.in_order() if change.resource == PODS] == ["ADDED", "MODIFIED", "DELETED"]


def answered(method: str, path: str, version: str = "", body: object = None, at: float = 0.0) -> Request:
    request = parse(method, path, json.dumps(body).encode() if body is not None else b"")
    request.version, request.uid, request.at, request.code = version, "a" if version else "", at, 200
    return request


@pytest.mark.parametrize(
    ("requests", "found"),
    [
        ([answered("PATCH", f"{PATH}/status", "7"), answered("PATCH", f"{PATH}/status", "7")], "changed nothing"),
        ([answered("DELETE", "/api/v1/namespaces/users/pods/alice", body={})], "no uid"),
        (
            [answered("DELETE", f"/api/v1/namespaces/users/{CLAIMS}/alice", body={"preconditions": {"uid": "c"}})],
            f"delete {CLAIMS} alice",
        ),
    ],
)
def test_violation_in_the_requests_is_found(requests: list[Request], found: str) -> None:
    [violation] = violations(served().history, requests)
    assert found in violation


def test_status_write_is_repeated_if_its_answer_was_lost() -> None:
    lost = answered("PATCH", f"{PATH}/status", "7")
    lost.lost = True
    repeated = answered("PATCH", f"{PATH}/status", "7")
    assert violations(served().history, [lost, repeated]) == []
    [violation] = violations(served().history, [lost, repeated, answered("PATCH", f"{PATH}/status", "7")])
    assert "changed nothing" in violation


def test_requests_to_foreign_objects_and_hot_loops_are_found() -> None:
    tries = [answered("PATCH", f"{PATH}?fieldManager=x", at=float(second)) for second in range(0, 120, 5)]
    assert len(writes_to(tries, ["alice"])) == len(tries)
    assert tries_per_minute(tries) == 12


@pytest.mark.parametrize(
    ("method", "path", "what", "name"),
    [
        ("GET", "/api/v1/namespaces/users/pods?watch=1", "watch pods", ""),
        ("GET", "/apis/userstorage.dev/v1/userstorages?limit=100", "list userstorages", ""),
        ("GET", "/api/v1/namespaces/users", "get namespaces", "users"),
        ("GET", f"{PATH}", "get userstorages", "alice"),
        ("PATCH", f"{PATH}/status?fieldManager=x", "patch userstorages/status", "alice"),
        ("POST", "/api/v1/namespaces/users/pods", "create pods", "bob"),
        ("DELETE", "/api/v1/namespaces/users/pods", "deletecollection pods", ""),
        ("GET", "/healthz", "list ", ""),
    ],
)
def test_request_is_recorded_with_its_verb_and_object(method: str, path: str, what: str, name: str) -> None:
    request = parse(method, path, b'{"metadata": {"name": "bob"}}')
    assert (request.what, request.name) == (what, name)


def test_fault_matches_by_verb_resource_and_name() -> None:
    creation = parse("POST", "/api/v1/namespaces/users/pods", b'{"metadata": {"name": "bob"}}')
    assert Fault(verb="create", resource="pods", name="bob").matches(creation)
    assert Fault("POST", "/pods").matches(creation)
    assert not Fault(verb="create", resource="pod").matches(creation)
    assert not Fault(name="alice").matches(creation)
    assert not Fault(subresource="status").matches(creation)


def test_end_states_differ_in_what_is_no_accident() -> None:
    def state(uid: str, port: int) -> dict[str, str]:
        raw = {"metadata": {"name": "alice", "uid": uid, "resourceVersion": uid}, "spec": {"ports": [{"port": port}]}}
        return {"Service/alice": masked(raw)}

    assert differences(state("1", 80), state("2", 80)) == []
    assert differences(state("1", 80), state("2", 81)) == ["Service/alice .spec.ports.0.port: 80 != 81"]
    assert differences(state("1", 80), {}) == ["Service/alice: only in one of both"]
