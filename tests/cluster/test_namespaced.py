"""deploy/overlays/namespaced: an operator that may and does work in the listed namespace, and nowhere else."""

import copy
import json
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from kubectl import Kubectl, eventually
from manifests.render import Object, render
from operator_process import OperatorProcess

SYSTEM = "userstorage-system"
LISTED = "team-a"
"""The namespace of the overlay."""

pytestmark = [pytest.mark.kwok]


@pytest.fixture
def account(api: Kubectl, namespace: str) -> Iterator[str]:
    """An account with all the bindings of the overlay, for the namespace of the test in place of `LISTED`. Not that of the
    operator: other tests have given that one rights everywhere.
    """
    name = f"namespaced-{uuid.uuid4().hex[:8]}"
    api.run("create", "serviceaccount", name, "-n", SYSTEM)
    bindings = [
        binding_of(each, name, namespace)
        for each in render("deploy/overlays/namespaced")
        if each["kind"].endswith("RoleBinding") and each["subjects"][0]["kind"] == "ServiceAccount"
    ]
    api.apply(*bindings)
    yield name
    api.run("delete", "-f", "-", input=json.dumps({"apiVersion": "v1", "kind": "List", "items": bindings}))
    api.run("delete", "serviceaccount", name, "-n", SYSTEM)


@pytest.fixture
def kubeconfig(api: Kubectl, account: str, tmp_path: Path) -> Path:
    token = api.run("create", "token", account, "-n", SYSTEM, "--duration=1h").stdout.strip()
    config = json.loads(api.run("config", "view", "--raw", "--minify", "-o", "json").stdout)
    config["users"] = [{"name": config["users"][0]["name"], "user": {"token": token}}]
    path = tmp_path / "kubeconfig"
    path.write_text(json.dumps(config))
    return path


def test_it_serves_the_listed_namespace_and_cannot_touch_another(
    api: Kubectl, namespace: str, account: str, kubeconfig: Path, tmp_path: Path
) -> None:
    who = f"--as=system:serviceaccount:{SYSTEM}:{account}"
    eventually(lambda: may(api, who, "create", "pods", "-n", namespace))
    for verb, resource in (
        ("list", "userstorages.userstorage.dev"),
        ("patch", "userstorages.userstorage.dev"),
        ("create", "pods"),
        ("delete", "pods"),
        ("create", "persistentvolumeclaims"),
        ("delete", "networkpolicies.networking.k8s.io"),
    ):
        assert may(api, who, verb, resource, "-n", namespace)
        assert not may(api, who, verb, resource, "-n", "default")
        assert not may(api, who, verb, resource, "--all-namespaces")

    operator = OperatorProcess(kubeconfig, tmp_path / "operator.log", f"--namespace={namespace}")
    operator.start()
    try:
        alice = {"apiVersion": "userstorage.dev/v1", "kind": "UserStorage", "spec": {"userID": "alice"}}
        api.apply({**alice, "metadata": {"name": "alice", "namespace": namespace}})
        eventually(lambda: api.phase("alice", namespace) == "Ready")
    finally:
        assert operator.stop() == 0


def binding_of(binding: Object, account: str, namespace: str) -> Object:
    made = copy.deepcopy(binding)
    made["metadata"]["name"] = f"{binding['metadata']['name']}-{account}"
    if binding["metadata"].get("namespace") == LISTED:
        made["metadata"]["namespace"] = namespace
    made["subjects"][0]["name"] = account
    return made


def may(api: Kubectl, who: str, *question: str) -> bool:
    return api.run("auth", "can-i", *question, who, check=False).stdout == "yes\n"
