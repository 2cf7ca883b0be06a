"""What `uninstall` deletes and keeps, as a decision."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from kubectl_userstorage import uninstallation
from kubectl_userstorage.api import DEPLOYMENTS, FINALIZER, USER_STORAGES
from kubectl_userstorage.uninstallation import CLUSTER_BINDINGS, Found, Item

NOW = datetime(2026, 1, 1, tzinfo=UTC)
OWNER = {"kind": "UserStorage", "name": "alice", "controller": True}
OTHER = {"kind": "Team", "name": "a"}


def named(name: str, namespace: str = "team-a", **meta: Any) -> dict[str, Any]:
    return {"metadata": {"name": name, "namespace": namespace, "uid": "1", "resourceVersion": "7", **meta}}


def storage(name: str, **spec: Any) -> dict[str, Any]:
    return named(name) | {"spec": {"userID": name, "storage": spec}}


def found(**fields: Any) -> Found:
    nothing: dict[str, Any] = {"storages": [], "claims": [], "setters": [], "workloads": [], "rest": []}
    return Found(**{**nothing, "namespace": None, "namespace_kept": "it does not exist", **fields})


def test_summary_names_what_goes_and_which_files_stay() -> None:
    storages = [
        storage("alice"),
        storage("bob", reclaimPolicy="Delete"),
        storage("carol", reclaimPolicy="Delete", claimName="x"),
    ]
    claims = [named(f"user-storage-{name}") for name in ("alice", "bob")] + [named("x")]
    deployment = Item(DEPLOYMENTS, named("userstorage-operator", "s"))
    assert list(
        uninstallation.summary(
            found(storages=storages, claims=claims, workloads=[deployment], namespace=named("s"), namespace_kept="")
        )
    ) == [
        "deleted first, with their pods: 3 UserStorages: team-a/alice, team-a/bob, team-a/carol",
        "deleted with their files, by reclaimPolicy Delete: 1 claim: team-a/user-storage-bob",
        "deleted: deployment.apps/userstorage-operator",
        "deleted: namespace/s, with all that is left in it",
        "kept: 2 claims: team-a/user-storage-alice, team-a/x",
    ]


def test_summary_of_nothing_says_so_and_many_names_are_cut() -> None:
    assert list(uninstallation.summary(found())) == ["nothing of UserStorage is installed"]
    line = uninstallation.names("claim", map(str, range(12)))
    assert line == "12 claims: 0, 1, 2, 3, 4, 5, 6, 7, 8, 9 and 2 more"


def test_namespace_with_a_claim_or_of_the_platform_is_kept() -> None:
    ours = named("s", labels={"app.kubernetes.io/name": "userstorage-operator"})
    assert uninstallation.why_kept(ours, []) == ""
    assert uninstallation.why_kept(ours, [named("files")]) == "there are claims in it"
    assert uninstallation.why_kept(named("s"), []) == "no manifest of the operator made it"
    kept = found(workloads=[Item(DEPLOYMENTS, named("userstorage-operator", "s"))], namespace=ours, namespace_kept="so")
    assert list(uninstallation.summary(kept))[-1] == "kept: namespace/s: so"


def test_installation_in_another_namespace_is_noticed() -> None:
    subject = {"kind": "ServiceAccount", "name": "userstorage-operator", "namespace": "storage"}
    binding = Item(CLUSTER_BINDINGS, named("userstorage-operator") | {"subjects": [subject]})
    assert uninstallation.other_namespace([binding], "userstorage-system") == "storage"
    assert uninstallation.other_namespace([binding], "storage") is None


def test_releases_of_helm_are_found_by_their_annotation() -> None:
    item = Item(DEPLOYMENTS, named("userstorage-operator", annotations={"meta.helm.sh/release-name": "files"}))
    assert uninstallation.helm_releases([item, item, Item(DEPLOYMENTS, named("x"))]) == ["files"]


def test_rights_are_asked_for_once_and_say_where() -> None:
    deployment = Item(DEPLOYMENTS, named("userstorage-operator", "s"))
    needed = [str(right) for right in uninstallation.rights(found(storages=[storage("a")], workloads=[deployment] * 2), "s")]
    assert needed.count("delete deployments.apps in s") == 1
    assert "deletecollection userstorages.userstorage.dev in all namespaces" in needed
    assert "list pods in all namespaces" in needed
    assert not [right for right in map(str, uninstallation.rights(found(), "s")) if USER_STORAGES.plural in right]


@pytest.mark.parametrize(("holder", "silent", "is_led"), [("pod-1", 5, True), ("pod-1", 16, False), ("", 0, False)])
def test_operator_leads_while_it_renews_the_lease(holder: str, silent: int, is_led: bool) -> None:
    renewed = (NOW - timedelta(seconds=silent)).isoformat()
    lease = {"spec": {"holderIdentity": holder, "renewTime": renewed, "leaseDurationSeconds": 15}}
    assert uninstallation.is_led(lease, NOW) is is_led
    assert not uninstallation.is_led(None, NOW)


def test_release_leaves_finalizers_and_owners_of_others() -> None:
    held = named("p", finalizers=["example.org/backup", FINALIZER], ownerReferences=[OWNER, OTHER])
    patch = {"uid": "1", "resourceVersion": "7", "finalizers": ["example.org/backup"]}
    assert uninstallation.release_patch(held) == {"metadata": {**patch, "ownerReferences": [OTHER]}}
    held["metadata"]["deletionTimestamp"] = "now"
    assert uninstallation.release_patch(held) == {"metadata": {**patch, "ownerReferences": [OWNER, OTHER]}}
    assert uninstallation.release_patch(named("p", finalizers=["example.org/backup"], ownerReferences=[OTHER])) is None
    assert uninstallation.is_owned(held)
    assert not uninstallation.is_owned(named("p", ownerReferences=[OTHER]))
