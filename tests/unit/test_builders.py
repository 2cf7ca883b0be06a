import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from support.builders import ALLOWING, class_object, desired_of, dufs_class, filebrowser_class, storage_object
from userstorage_operator.api import names
from userstorage_operator.api.errors import InvalidSpec
from userstorage_operator.api.userstorageclass import UserStorageClass
from userstorage_operator.plan.diff import without_absent

LABELS = st.dictionaries(st.sampled_from(["team", "app", "userId"]), st.text("abc", max_size=5))


def test_pod_hash_ignores_fields_that_need_no_new_pod() -> None:
    one = desired_of(storage_object(lifecycle={"startTimeout": "5m"}))
    other = desired_of(storage_object(lifecycle={"startTimeout": "9m", "deletionTimeout": "1h"}, replicas=0))
    assert one.pod_hash == other.pod_hash


def test_pod_hash_covers_fields_that_need_new_pod() -> None:
    changes: list[dict[str, Any]] = [
        {},
        {"storage": {"readOnly": True}},
        {"lifecycle": {"terminationGracePeriodSeconds": 5}},
        {"scheduling": {"nodeSelector": {"disk": "ssd"}}},
    ]
    hashes = {desired_of(storage_object(**spec), ALLOWING).pod_hash for spec in changes}
    assert len(hashes) == len(changes)


@given(LABELS, LABELS)
def test_operator_labels_override_pod_metadata(labels: dict[str, str], annotations: dict[str, str]) -> None:
    pod = desired_of(storage_object(podMetadata={"labels": labels, "annotations": annotations}), ALLOWING).pod
    assert pod["metadata"]["labels"]["app"] == "filebrowser"
    assert pod["metadata"]["labels"]["userId"] == "alice"
    assert pod["metadata"]["labels"][names.LABEL_MANAGED_BY] == names.MANAGED_BY
    assert pod["metadata"]["labels"][names.LABEL_RECOMMENDED_MANAGED_BY] == names.MANAGED_BY


def test_building_twice_gives_equal_and_independent_objects() -> None:
    raw = storage_object()
    text = json.dumps(raw)
    one, other = desired_of(raw), desired_of(raw)
    assert one == other
    one.pod["metadata"]["labels"]["app"] = "changed"
    assert other.pod["metadata"]["labels"]["app"] == "filebrowser"
    assert json.dumps(raw) == text


@pytest.mark.parametrize("policy", ["Retain", "Delete"])
def test_claim_is_created_without_owner(policy: str) -> None:
    claim = desired_of(storage_object(storage={"reclaimPolicy": policy})).pvc
    assert claim is not None
    assert "ownerReferences" not in claim["metadata"]


def test_network_policy_admits_only_gateway_namespaces_by_default() -> None:
    policy = desired_of(storage_object()).network_policy
    assert policy is not None
    assert policy["spec"]["policyTypes"] == ["Ingress", "Egress"]
    assert "egress" not in without_absent(policy)["spec"]
    [rule] = policy["spec"]["ingress"]
    assert rule["from"] == [{"namespaceSelector": {"matchLabels": {"userstorage.dev/gateway": "true"}}}]


def test_class_sets_allowed_sources_or_disables_network_policy() -> None:
    peer = {"podSelector": {"matchLabels": {"app": "gateway"}}}
    policy = desired_of(storage_object(), dufs_class(network={"allowedFrom": [peer]})).network_policy
    assert policy is not None
    assert policy["spec"]["ingress"][0]["from"] == [peer]
    assert desired_of(storage_object(), dufs_class(network={"policy": "None"})).network_policy is None


def test_pod_has_no_token_and_cannot_be_root() -> None:
    spec = desired_of(storage_object(), filebrowser_class()).pod["spec"]
    assert spec["automountServiceAccountToken"] is False
    assert spec["securityContext"]["runAsNonRoot"] is True
    for container in [*spec["containers"], *spec["initContainers"]]:
        assert container["securityContext"]["readOnlyRootFilesystem"] is True
        assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
        assert container["securityContext"]["allowPrivilegeEscalation"] is False


def test_termination_message_falls_back_to_logs() -> None:
    spec = desired_of(storage_object(), filebrowser_class()).pod["spec"]
    policies = [container["terminationMessagePolicy"] for container in [*spec["containers"], *spec["initContainers"]]]
    assert policies == ["FallbackToLogsOnError"] * 2


def test_variables_in_base_path_are_expanded() -> None:
    cls = dufs_class(browser={"flavor": "Dufs", "basePath": "/u/${namespace}/${slug}/"})
    args = desired_of(storage_object(), cls).pod["spec"]["containers"][0]["args"]
    assert "--path-prefix=/u/users/alice/" in args


def test_claim_size_defaults_to_class() -> None:
    cls = UserStorageClass.parse(class_object(storage={"defaultSize": "3Gi"}))
    for spec, size in (({}, "3Gi"), ({"storage": {"size": "7Gi"}}, "7Gi"), ({"storage": {"size": 1073741824}}, "1073741824")):
        claim = desired_of(storage_object(**spec), cls).pvc
        assert claim is not None
        assert claim["spec"]["resources"]["requests"]["storage"] == size


def test_size_above_class_maximum_is_refused() -> None:
    cls = UserStorageClass.parse(class_object(storage={"maxSize": "20Gi"}))
    desired_of(storage_object(storage={"size": "20Gi"}), cls)
    with pytest.raises(InvalidSpec, match=r"spec.storage.size: 21Gi exceeds storage.maxSize 20Gi"):
        desired_of(storage_object(storage={"size": "21Gi"}), cls)


LABELS = st.dictionaries(st.sampled_from("abc"), st.sampled_from(["", "x"]), max_size=2)
REQUIREMENTS = st.lists(
    st.fixed_dictionaries(
        {"key": st.just("a"), "operator": st.sampled_from(["In", "Exists"])},
        optional={"values": st.lists(st.sampled_from(["", "x"]), max_size=2)},
    ),
    max_size=2,
)
SELECTORS = st.fixed_dictionaries({}, optional={"matchLabels": LABELS, "matchExpressions": REQUIREMENTS})
BLOCKS = st.fixed_dictionaries(
    {"cidr": st.just("10.0.0.0/8")}, optional={"except": st.lists(st.just("10.1.0.0/16"), max_size=2)}
)
PEERS = st.one_of(
    st.fixed_dictionaries({"ipBlock": BLOCKS}),
    st.fixed_dictionaries({"podSelector": SELECTORS}, optional={"namespaceSelector": SELECTORS}),
    st.fixed_dictionaries({"namespaceSelector": SELECTORS}),
)


def stored_selector(selector: dict[str, Any]) -> dict[str, Any]:
    """Return a LabelSelector as Kubernetes' Go type writes it: both fields, and `values`, are `omitempty`."""
    requirements = [
        {"key": given["key"], "operator": given["operator"]} | ({"values": given["values"]} if given.get("values") else {})
        for given in selector.get("matchExpressions", [])
    ]
    labels = {"matchLabels": selector["matchLabels"]} if selector.get("matchLabels") else {}
    return labels | ({"matchExpressions": requirements} if requirements else {})


def stored_peer(peer: dict[str, Any]) -> dict[str, Any]:
    """Return a NetworkPolicyPeer as Kubernetes' Go type writes it: its selectors are pointers, so an empty one stays."""
    if "ipBlock" in peer:
        block = peer["ipBlock"]
        return {"ipBlock": {"cidr": block["cidr"]} | ({"except": block["except"]} if block.get("except") else {})}
    return {field: stored_selector(selector) for field, selector in peer.items()}


@given(st.lists(PEERS, min_size=1, max_size=3))
def test_network_policy_peers_are_built_as_the_api_server_stores_them(peers: list[dict[str, Any]]) -> None:
    policy = desired_of(storage_object(), dufs_class(network={"allowedFrom": peers})).network_policy
    assert policy is not None
    assert policy["spec"]["ingress"][0]["from"] == [stored_peer(peer) for peer in peers]


def test_file_browser_without_proxy_has_no_administrator() -> None:
    auth = {"mode": "None", "acknowledgeUnauthenticated": True}
    permissions = {"delete": False, "share": False}
    cls = UserStorageClass.parse(class_object(browser={"flavor": "FileBrowser", "permissions": permissions}, auth=auth))
    [init] = desired_of(storage_object(storage={"readOnly": True}), cls).pod["spec"]["initContainers"]
    command = " ".join(init["command"])
    assert "users add" in command
    for permission in ("create", "modify", "rename", "delete", "share", "execute"):
        assert f"--perm.{permission}=false" in command
