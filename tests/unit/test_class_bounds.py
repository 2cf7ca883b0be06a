"""What a UserStorage may add to its pod, and what its class sets: labels, annotations and placement."""

from typing import Any

import pytest

from support.builders import class_object, desired_of, storage_object
from userstorage_operator.api.errors import InvalidSpec
from userstorage_operator.api.userstorage import UserStorage
from userstorage_operator.api.userstorageclass import BUILT_IN, UserStorageClass

CONTROL_PLANE = "node-role.kubernetes.io/control-plane"
REAL_KEYS = [
    "iam.amazonaws.com/role",
    "vault.hashicorp.com/agent-inject",
    "dapr.io/enabled",
    "sidecar.opentelemetry.io/inject",
    "karpenter.sh/do-not-disrupt",
    "azure.workload.identity/use",
    "kueue.x-k8s.io/queue-name",
    "aadpodidbinding",
    "pre.hook.backup.velero.io/command",
    "k8s.ovn.org/routing-namespaces",
    "io.kubernetes.cri-o.Devices",
    "sidecar.istio.io/inject",
    "component",
]
"""Keys that other programs act on (case C21, hardening 10)."""


def class_of(**spec: Any) -> UserStorageClass:
    return UserStorageClass.parse(class_object(**spec))


def refusal(cls: UserStorageClass, **spec: Any) -> InvalidSpec:
    with pytest.raises(InvalidSpec) as refused:
        desired_of(storage_object(**spec), cls)
    return refused.value


@pytest.mark.parametrize("part", ["labels", "annotations"])
@pytest.mark.parametrize("key", REAL_KEYS)
def test_pod_metadata_key_is_refused_unless_the_class_allows_it(part: str, key: str) -> None:
    spec: dict[str, Any] = {"podMetadata": {part: {key: "true"}}}
    error = refusal(class_of(podMetadata={"allowed": ["team", "example.org/"]}), **spec)
    assert (error.reason, error.message) == (
        "NotAllowedByClass",
        f"spec.podMetadata.{part}: {key!r} not allowed by class 'standard' (podMetadata.allowed)",
    )
    assert "the built-in class, which allows no key" in refusal(BUILT_IN, **spec).message
    metadata = desired_of(storage_object(**spec), class_of(podMetadata={"allowed": [key]})).pod["metadata"]
    assert metadata[part][key] == "true"


def test_prefix_allows_keys_below_it_only() -> None:
    cls = class_of(podMetadata={"allowed": ["example.org/", "team"]})
    desired_of(storage_object(podMetadata={"labels": {"example.org/team": "a", "team": "b"}}), cls)
    for key in ("sub.example.org/team", "example.org", "example.organic/team", "teams"):
        assert repr(key) in refusal(cls, podMetadata={"annotations": {key: "a"}}).message


def test_keys_of_the_operator_are_never_allowed() -> None:
    cls = class_of(podMetadata={"allowed": ["userstorage.dev/", "userstorage.dev/class"]})
    assert "'userstorage.dev/class'" in refusal(cls, podMetadata={"annotations": {"userstorage.dev/class": "other"}}).message


def test_class_wins_over_user_and_operator_over_both() -> None:
    own = {"labels": {"tier": "gold", "team": "a", "app": "x"}, "annotations": {"note": "mine", "team": "a"}}
    of_class = {"labels": {"tier": "free", "app": "y"}, "annotations": {"note": "ours", "scrape": "true"}}
    cls = class_of(podMetadata=of_class | {"allowed": ["tier", "team", "app", "note"]})
    metadata = desired_of(storage_object(podMetadata=own), cls).pod["metadata"]
    assert {key: metadata["labels"][key] for key in ("tier", "team", "app")} == {
        "tier": "free",
        "team": "a",
        "app": "filebrowser",
    }
    found = {key: metadata["annotations"][key] for key in ("note", "team", "scrape")}
    assert found == {"note": "ours", "team": "a", "scrape": "true"}


def test_node_is_named_only_if_the_class_allows_the_label() -> None:
    spec: dict[str, Any] = {"scheduling": {"nodeSelector": {"kubernetes.io/hostname": "gpu-1"}}}
    assert refusal(BUILT_IN, **spec).reason == "NotAllowedByClass"
    message = "spec.scheduling.nodeSelector: 'kubernetes.io/hostname' not allowed by class 'standard' (scheduling.allowed.nodeSelector)"
    assert refusal(class_of(scheduling={"allowed": {"nodeSelector": ["pool"]}}), **spec).message == message
    allowing = class_of(scheduling={"allowed": {"nodeSelector": ["kubernetes.io/hostname"]}})
    assert desired_of(storage_object(**spec), allowing).pod["spec"]["nodeSelector"] == {"kubernetes.io/hostname": "gpu-1"}


@pytest.mark.parametrize(
    "toleration",
    [
        {"operator": "Exists"},
        {"key": "", "operator": "Exists"},
        {"key": CONTROL_PLANE, "operator": "Exists"},
        {"key": "dedicated"},
    ],
)
def test_taint_is_tolerated_only_if_the_class_allows_its_key(toleration: dict[str, Any]) -> None:
    allowed = {"nodeSelector": [CONTROL_PLANE], "tolerations": ["", CONTROL_PLANE, "spot"]}  # an older CRD may have let it in
    assert (
        "spec.scheduling.tolerations: "
        in refusal(class_of(scheduling={"allowed": allowed}), scheduling={"tolerations": [toleration]}).message
    )
    assert (
        CONTROL_PLANE
        in refusal(class_of(scheduling={"allowed": allowed}), scheduling={"nodeSelector": {CONTROL_PLANE: ""}}).message
    )


def test_user_adds_to_the_placement_of_the_class_and_removes_nothing() -> None:
    users, spot = {"key": "users", "operator": "Exists"}, {"key": "spot", "operator": "Exists"}
    cls = class_of(
        scheduling={
            "nodeSelector": {"pool": "users"},
            "tolerations": [users],
            "allowed": {"nodeSelector": ["pool", "zone"], "tolerations": ["spot", "users"]},
        }
    )
    own = {"nodeSelector": {"pool": "gpu", "zone": "a"}, "tolerations": [spot, users]}
    spec = desired_of(storage_object(scheduling=own), cls).pod["spec"]
    assert (spec["nodeSelector"], spec["tolerations"]) == ({"pool": "users", "zone": "a"}, [users, spot])
    empty: list[dict[str, Any]] = [{}, {"nodeSelector": {}, "tolerations": []}]
    for nothing in empty:
        spec = desired_of(storage_object(scheduling=nothing), cls).pod["spec"]
        assert (spec["nodeSelector"], spec["tolerations"]) == ({"pool": "users"}, [users])


@pytest.mark.parametrize(
    ("field", "spec"),
    [
        ("spec.podMetadata.labels.team", {"podMetadata": {"labels": {"team": 7}}}),
        ("spec.podMetadata: labels and annotations have 4097 bytes", {"podMetadata": {"annotations": {"a": "x" * 4096}}}),
        ("spec.scheduling.nodeSelector.zone", {"scheduling": {"nodeSelector": {"zone": {}}}}),
        ("spec.scheduling.tolerations", {"scheduling": {"tolerations": ["spot"]}}),
    ],
)
def test_value_that_the_schema_should_have_refused_names_its_field(field: str, spec: dict[str, Any]) -> None:
    with pytest.raises(InvalidSpec, match=field):
        UserStorage.parse(storage_object(**spec))


@pytest.mark.parametrize("section", ["podMetadata", "scheduling"])
def test_allowed_list_of_a_class_must_hold_text(section: str) -> None:
    allowed: Any = [1] if section == "podMetadata" else {"tolerations": [1]}
    with pytest.raises(InvalidSpec, match=rf"class spec\.{section}\.allowed"):
        class_of(**{section: {"allowed": allowed}})
