"""`kubectl userstorage uninstall` against a real API server: what it refuses, and that it then changes nothing.

A whole uninstallation is in tests/cluster/test_uninstall.py.
"""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from support.backend import account
from support.kubectl import Kubectl, eventually
from support.plugin import Plugin

pytestmark = pytest.mark.kwok
KINDS = "crd,clusterrole,clusterrolebinding,validatingadmissionpolicy,userstorages,namespaces"


@pytest.fixture
def plugin(api: Kubectl, namespace: str) -> Plugin:
    return Plugin(api.kubeconfig, namespace)


@pytest.fixture
def alice(api: Kubectl, namespace: str) -> str:
    metadata = {"name": "alice", "namespace": namespace}
    api.apply({"apiVersion": "userstorage.dev/v1", "kind": "UserStorage", "metadata": metadata, "spec": {"userID": "alice"}})
    return f"{namespace}/alice"


def ours(api: Kubectl) -> dict[str, Any]:
    found = json.loads(api.run("get", KINDS, "--all-namespaces", "-o", "json").stdout)["items"]
    return {raw["metadata"]["uid"]: "deletionTimestamp" in raw["metadata"] for raw in found}


@pytest.mark.parametrize("options", [(), ("--yes",)])
def test_uninstall_refuses_while_there_are_user_storages(
    api: Kubectl, plugin: Plugin, alice: str, options: tuple[str, ...]
) -> None:
    before = ours(api)
    refused = plugin.anywhere("uninstall", *options)
    assert refused.returncode == 1
    assert "--delete-userstorages deletes them too" in refused.stderr
    shown = refused.stderr if options else refused.stdout
    assert "deleted: customresourcedefinition.apiextensions.k8s.io/userstorages.userstorage.dev" in shown
    assert "deleted: clusterrole.rbac.authorization.k8s.io/userstorage-edit" in shown
    assert ("dry run" in refused.stderr) == (not options)
    assert ours(api) == before


def test_dry_run_changes_nothing_and_says_what_goes(api: Kubectl, plugin: Plugin, alice: str) -> None:
    before = ours(api)
    shown = plugin.anywhere("uninstall", "--delete-userstorages")
    assert (shown.returncode, shown.stderr) == (0, "dry run; --yes does it:\n")
    first, *_, crd = [line for line in shown.stdout.splitlines() if "UserStorage" in line or "definition" in line]
    assert first.startswith("deleted first, with their pods: ")
    assert crd.endswith("/userstorages.userstorage.dev, with all objects of its kind")
    assert ours(api) == before


def test_uninstall_in_a_wrong_namespace_names_the_right_one(api: Kubectl, plugin: Plugin) -> None:
    before = ours(api)
    refused = plugin.anywhere("uninstall", "--delete-userstorages", "--yes", "--operator-namespace=default")
    assert refused.returncode == 1
    assert refused.stderr == "error: --operator-namespace default: the operator is installed in 'userstorage-system'\n"
    assert ours(api) == before


def test_missing_rights_are_named_before_anything_changes(api: Kubectl, namespace: str, alice: str, tmp_path: Path) -> None:
    config = yaml.safe_load(api.kubeconfig.read_text())
    token = account(api, namespace, "reader")
    config["users"] = [{"name": user["name"], "user": {"token": token}} for user in config["users"]]
    path = tmp_path / "reader"
    path.write_text(yaml.safe_dump(config))
    plugin = Plugin(path, namespace)
    options = ("uninstall", "--delete-userstorages", "--yes")
    refused = plugin.anywhere(*options)
    assert refused.returncode == 3
    assert 'cannot list resource "mutatingadmissionpolicybindings"' in refused.stderr
    subject, name = f"--serviceaccount={namespace}:reader", f"{namespace}-reads-all"
    api.run("create", "clusterrole", name, "--verb=get,list", "--resource=*.*")
    api.run("create", "clusterrolebinding", name, f"--clusterrole={name}", subject)
    try:
        eventually(lambda: "cannot list" not in plugin.anywhere(*options).stderr)
        before = ours(api)
        refused = plugin.anywhere(*options)
        assert ours(api) == before
    finally:
        api.run("delete", "clusterrole,clusterrolebinding", name)
    assert refused.returncode == 3
    error = refused.stderr.splitlines()[-1]
    assert error.startswith("error: you may not ")
    assert error.endswith("nothing was changed, ask a cluster admin")
    for right in (
        "deletecollection userstorages.userstorage.dev in all namespaces",
        "delete customresourcedefinitions.apiextensions.k8s.io",
        "delete serviceaccounts in userstorage-system",
    ):
        assert right in error
    assert "list" not in error
