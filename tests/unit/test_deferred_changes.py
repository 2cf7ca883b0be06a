"""Class changes that are deferred until the pod is replaced."""

from dataclasses import replace
from typing import Any

import pytest

from support.builders import NOW, UID, class_object, desired_of, settled_snapshot, snapshot_of, storage_object, stored
from userstorage_operator.api.unstructured import Unstructured
from userstorage_operator.api.userstorageclass import UserStorageClass
from userstorage_operator.observed.snapshot import Snapshot
from userstorage_operator.plan.deferred_changes import current_claim_size, keep_current_endpoint, served_path
from userstorage_operator.plan.steps import Plan
from userstorage_operator.status.network_ready import url
from userstorage_operator.status.outcome import Outcome
from userstorage_operator.status.report import report

EXPOSE: dict[str, Any] = {
    "ingress": {"expose": "Ingress", "hostTemplate": "${slug}.example.org"},
    "http_route": {"expose": "Gateway", "hostTemplate": "${slug}.example.org", "gatewayName": "g"},
}


def class_of(kind: str, **browser: Any) -> UserStorageClass:
    return UserStorageClass.parse(class_object(network=EXPOSE[kind], browser=browser))


def served_by(cls: UserStorageClass) -> Snapshot:
    """Return a snapshot in which every child is as the class wants it."""
    raw, snapshot = storage_object(), settled_snapshot(storage_object())
    desired = desired_of(raw, cls)
    children = {
        field: stored(child)
        for field in ("network_policy", "service", "pod", "ingress", "http_route")
        if (child := getattr(desired, field))
    }
    return replace(snapshot, cls=cls).with_children(replace(snapshot.children, **children))


@pytest.mark.parametrize("kind", EXPOSE)
def test_outdated_pod_keeps_its_port_and_route(kind: str) -> None:
    snapshot = served_by(class_of(kind))
    newer = desired_of(storage_object(), class_of(kind, port=9999, basePath="/files/"))
    kept, before = keep_current_endpoint(newer, snapshot), desired_of(storage_object(), class_of(kind))
    assert kept.network_policy == before.network_policy
    assert getattr(kept, kind) == getattr(before, kind) != getattr(newer, kind)
    assert kept.pod == newer.pod


@pytest.mark.parametrize("kind", EXPOSE)
def test_changed_host_and_allowed_sources_apply_before_pod_is_replaced(kind: str) -> None:
    snapshot = served_by(class_of(kind))
    network = EXPOSE[kind] | {
        "hostTemplate": "${slug}.example.com",
        "allowedFrom": [{"podSelector": {"matchLabels": {"a": "b"}}}],
    }
    newer = desired_of(storage_object(), UserStorageClass.parse(class_object(network=network)))
    kept = keep_current_endpoint(newer, snapshot)
    assert kept.network_policy == newer.network_policy
    assert getattr(kept, kind) == getattr(newer, kind)


def test_class_change_applies_at_once_if_ingress_is_missing_or_foreign() -> None:
    snapshot = served_by(class_of("ingress"))
    newer = desired_of(storage_object(), class_of("ingress", basePath="/files/"))
    assert keep_current_endpoint(newer, snapshot.with_children(replace(snapshot.children, ingress=None, pod=None))) == newer
    foreign = stored(desired_of(storage_object(), class_of("ingress")).ingress or {}, ownerReferences=[])
    assert (
        keep_current_endpoint(newer, snapshot.with_children(replace(snapshot.children, ingress=foreign))).ingress
        == newer.ingress
    )


def test_cluster_internal_url_uses_base_path_of_pod() -> None:
    plain = UserStorageClass.parse(class_object(browser={"basePath": "/a/"}))
    newer = UserStorageClass.parse(class_object(browser={"basePath": "/b/"}))
    snapshot = served_by(plain)
    assert served_path(snapshot) == "/a/"
    assert url(snapshot, newer).endswith(".svc/a/")
    assert url(snapshot.with_children(replace(snapshot.children, pod=None)), newer).endswith(".svc/b/")


@pytest.mark.parametrize("forged", ["", "@example.org/", ".example.org/", ":80@example.org"])
def test_forged_base_path_annotation_of_pod_does_not_change_host_of_url(forged: str) -> None:
    cls = class_of("ingress", basePath="/a/")
    snapshot = served_by(cls)
    pod = snapshot.children.pod
    assert pod is not None
    edited = pod | {"metadata": pod["metadata"] | {"annotations": {"userstorage.dev/base-path": forged}}}
    snapshot = snapshot.with_children(replace(snapshot.children, pod=edited, ingress=None))
    assert url(snapshot, cls) == "http://user-storage-alice.users.svc/a/"


def test_missing_class_keeps_url_and_network_ready() -> None:
    snapshot = served_by(UserStorageClass.parse(class_object(network={"policy": "None"})))
    snapshot = replace(snapshot, cls=None).with_children(replace(snapshot.children, network_policy=None))
    status = report(Outcome(snapshot, None, Plan(), None, NOW), {"url": "http://former.example.org/"})
    assert status["url"] == "http://former.example.org/"
    [network] = [entry for entry in status["conditions"] if entry["type"] == "NetworkReady"]
    assert network["status"] == "True"
    assert "NetworkPolicy" not in network["message"]


@pytest.mark.parametrize(
    ("claim", "spec", "granted"),
    [
        ({"annotations": {"userstorage.dev/user-id": "alice"}}, {}, "10Gi"),
        ({"annotations": {}}, {}, None),
        ({"annotations": {"userstorage.dev/user-id": "alice"}}, {"storage": {"claimName": "shared"}}, None),
    ],
)
def test_current_claim_size_is_that_of_the_users_own_claim(
    claim: Unstructured, spec: Unstructured, granted: str | None
) -> None:
    live = {"metadata": {"uid": UID, **claim}, "spec": {"resources": {"requests": {"storage": "10Gi"}}}}
    assert current_claim_size(snapshot_of(storage_object(**spec), pvc=live)) == granted
    assert current_claim_size(snapshot_of(storage_object(**spec))) is None
