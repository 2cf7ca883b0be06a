"""The gate's account has exactly the rights that it uses, and the gate asks the API server nothing besides (T16)."""

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from conftest import ROOT
from support.gate_process import GateProcess, Users
from support.kubectl import Kubectl, eventually
from support.operator_account import SYSTEM, Login, log_in, requests
from support.rights import Right, allowed, granted, rights_of

pytestmark = [pytest.mark.kwok]

ACCOUNT = f"system:serviceaccount:{SYSTEM}:userstorage-gate"
QUESTIONS = 500
SELF_REVIEWS = (("authorization", "accessreview"), ("authorization", "rulesreview"), ("authentication", "review"))


@pytest.fixture
def login(api: Kubectl, tmp_path: Path) -> Iterator[Login]:
    """A login of the gate's account, with the rights that deploy/gate grants."""
    rights = str(ROOT / "deploy/gate/rights.yaml")
    api.run("apply", "-f", rights)
    eventually(lambda: api.run("auth", "can-i", "watch", "us", "-A", f"--as={ACCOUNT}", check=False).returncode == 0)
    yield log_in(api, tmp_path, "userstorage-gate")
    api.run("delete", "--ignore-not-found", "-f", rights)


def test_every_granted_right_is_used_and_nothing_else_is_asked(
    api: Kubectl, users: Users, login: Login, tmp_path: Path
) -> None:
    rights = granted(api, ACCOUNT, "userstorage-gate")
    assert len(rights) == 4
    for number in range(3):
        users.create(f"user-{number}")
    gate = GateProcess(login.kubeconfig, tmp_path)
    gate.start()
    try:
        before = [request.verb for request in requests(api, login.credential)]
        for number in range(QUESTIONS):
            asked, asking = number % 3, number % 4
            status = gate.ask("ext-authz", f"user-{asking}", users.host(f"user-{asked}")).status
            assert status == (200 if asked == asking else 403)
        users.patch("user-1", {"spec": {"replicas": 0}})
        users.delete("user-2")
        eventually(lambda: gate.ask("ext-authz", "user-2", users.host("user-2")).status == 403)
        assert [request.verb for request in requests(api, login.credential)] == before
    finally:
        gate.stop()

    def used() -> set[Right]:
        return {Right(request.group, request.resource, request.verb) for request in requests(api, login.credential)}

    with contextlib.suppress(
        AssertionError
    ):  # the audit log has a watch after its end; the next assertion shows what is missing
        eventually(lambda: used() == rights)
    assert used() == rights
    assert not [request for request in requests(api, login.credential) if request.forbidden or request.is_write]


def test_gate_of_one_namespace_needs_rights_in_it_and_on_classes_only(
    api: Kubectl, users: Users, login: Login, tmp_path: Path
) -> None:
    api.delete("clusterrolebinding", "userstorage-gate")
    granted_there = ["--clusterrole=userstorage-gate", f"--serviceaccount={SYSTEM}:userstorage-gate"]
    api.run("create", "rolebinding", "userstorage-gate", *granted_there, "-n", users.namespace)

    def may_watch(*scope: str) -> bool:
        return api.run("auth", "can-i", "watch", "us", *scope, f"--as={ACCOUNT}", check=False).returncode == 0

    eventually(lambda: may_watch("-n", users.namespace) and not may_watch("-A"))
    users.create("alice")
    gate = GateProcess(login.kubeconfig, tmp_path, f"--namespace={users.namespace}")
    gate.start()
    try:
        assert gate.ask("ext-authz", "alice", users.host("alice")).status == 200
    finally:
        gate.stop()
    assert not [request for request in requests(api, login.credential) if request.forbidden]


def test_account_of_the_gate_reads_no_secret_and_writes_nothing(api: Kubectl, login: Login) -> None:
    questions = [
        {"namespace": "default", "group": group, "resource": resource, "subresource": subresource, "verb": verb}
        for group, resource, subresource in (
            ("", "secrets", ""),
            ("", "pods", ""),
            ("", "pods", "exec"),
            ("", "serviceaccounts", "token"),
            ("userstorage.dev", "userstorages", "status"),
        )
        for verb in ("get", "list", "watch", "create", "update", "patch", "delete")
    ]
    questions += [
        {"namespace": "default", "group": "userstorage.dev", "resource": resource, "subresource": "", "verb": verb}
        for resource in ("userstorages", "userstorageclasses")
        for verb in ("create", "update", "patch", "delete", "deletecollection", "use")
    ]
    assert not any(allowed(api, ACCOUNT, questions))


def test_account_of_the_gate_has_no_right_that_is_not_granted_to_it(api: Kubectl, login: Login) -> None:
    # Every account may ask what it may do itself, and read classes.
    everyones = {Right(f"{group}.k8s.io", f"selfsubject{resource}s", "create") for group, resource in SELF_REVIEWS}
    everyones |= {Right("userstorage.dev", "userstorageclasses", verb) for verb in ("get", "list", "watch")}
    for namespace in ("default", "kube-system", SYSTEM):
        review = {"apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectRulesReview", "spec": {"namespace": namespace}}
        # Validation would list CRDs, which the account may not.
        command = ("create", "--validate=false", "-f", "-", "-o", "json")
        asked = Kubectl(login.kubeconfig).run(*command, input=json.dumps(review))
        status = json.loads(asked.stdout)["status"]
        assert not status["incomplete"]
        assert set(rights_of(status["resourceRules"])) == granted(api, ACCOUNT, "userstorage-gate") | everyones
