"""Raw objects for unit tests, as the API server sends them."""

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from userstorage_operator import browsers
from userstorage_operator.api.names import FINALIZER
from userstorage_operator.api.unstructured import Unstructured
from userstorage_operator.api.userstorage import UserStorage
from userstorage_operator.api.userstorageclass import BUILT_IN, Allowed, UserStorageClass
from userstorage_operator.observed.claim_usage import ClaimContext
from userstorage_operator.observed.snapshot import Children, Snapshot
from userstorage_operator.plan.builders import Desired, build
from userstorage_operator.plan.diff import without_absent

NOW = datetime(2026, 1, 31, 12, 0, 0, tzinfo=UTC)
CREATED = "2026-01-31T11:59:00Z"
UID = "0b5f8c3e-0000-4000-8000-000000000001"


def storage_object(user_id: str = "alice", *, meta: Unstructured | None = None, **spec: Any) -> Unstructured:
    """Return a raw UserStorage that has the operator's finalizer."""
    metadata = {
        "name": "alice",
        "namespace": "users",
        "uid": UID,
        "generation": 3,
        "resourceVersion": "100",
        "creationTimestamp": CREATED,
        "finalizers": [FINALIZER],
    }
    return {
        "apiVersion": "userstorage.dev/v1",
        "kind": "UserStorage",
        "metadata": metadata | (meta or {}),
        "spec": {"userID": user_id, **spec},
    }


def class_object(name: str = "standard", *, meta: Unstructured | None = None, **spec: Any) -> Unstructured:
    """Return a raw UserStorageClass."""
    metadata = {"name": name, "uid": f"uid-{name}", "generation": 1, "creationTimestamp": CREATED}
    return {"kind": "UserStorageClass", "metadata": metadata | (meta or {}), "spec": spec}


def filebrowser_class(**spec: Any) -> UserStorageClass:
    """Return a class for File Browser, whose pod has an init container."""
    return UserStorageClass.parse(class_object(browser={"flavor": "FileBrowser"}, **spec))


def dufs_class(**spec: Any) -> UserStorageClass:
    """Return a class of flavor Dufs with the acknowledgement that it requires."""
    fields: dict[str, Any] = {
        "browser": {"flavor": "Dufs"},
        "auth": {"mode": "None", "acknowledgeUnauthenticated": True},
    }
    return UserStorageClass.parse(class_object(**(fields | spec)))


ALLOWING = replace(
    BUILT_IN, allowed=Allowed(pod_metadata=("team", "tier", "note", "app", "userId"), node_selector=("disk",), tolerations=())
)
"""The built-in class, if it let its users set these keys."""


def desired_of(raw: Unstructured, cls: UserStorageClass = BUILT_IN) -> Desired:
    """Return the desired children of `raw`."""
    storage = UserStorage.parse(raw)
    return build(storage, cls, browsers.render(storage, cls))


def stored(child: Unstructured, **meta: Any) -> Unstructured:
    """Return a desired child as the API server returns it after creation."""
    created = without_absent(child)
    server = {"uid": f"uid-{child['kind']}", "resourceVersion": "101", "creationTimestamp": CREATED}
    return created | {"metadata": created["metadata"] | server | meta}


def ready_pod(child: Unstructured, **meta: Any) -> Unstructured:
    """Return a desired pod that is running and ready."""
    conditions = [{"type": "Ready", "status": "True", "lastTransitionTime": "2026-01-31T11:59:30Z"}]
    return stored(child, **meta) | {"status": {"phase": "Running", "conditions": conditions}}


def bound_claim(child: Unstructured, **meta: Any) -> Unstructured:
    """Return a desired claim that is bound to a volume."""
    return stored(child, **meta) | {"status": {"phase": "Bound", "capacity": {"storage": "10Gi"}}}


def snapshot_of(raw: Unstructured, cls: UserStorageClass | None = BUILT_IN, **children: Unstructured | None) -> Snapshot:
    """Return the snapshot with these children, and with no pod of another controller on the claim."""
    return Snapshot(UserStorage.parse(raw), cls, Children(**children), claim_context=ClaimContext(mounts=()))


def settled_snapshot(raw: Unstructured, cls: UserStorageClass = BUILT_IN) -> Snapshot:
    """Return a snapshot in which all children are as desired and ready."""
    desired = desired_of(raw, cls)
    assert desired.network_policy is not None
    assert desired.pvc is not None
    return snapshot_of(
        raw,
        cls,
        network_policy=stored(desired.network_policy),
        pvc=bound_claim(desired.pvc),
        service=stored(desired.service),
        pod=ready_pod(desired.pod),
    )


EXPOSE: dict[str, Any] = {
    "ingress": {"expose": "Ingress", "hostTemplate": "${slug}.example.org"},
    "http_route": {"expose": "Gateway", "hostTemplate": "${slug}.example.org", "gateway": {"name": "g"}},
}


def class_of(kind: str, **browser: Any) -> UserStorageClass:
    """Return a class whose users are reached through an `ingress` or `http_route`."""
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
