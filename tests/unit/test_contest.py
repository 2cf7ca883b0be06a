"""Contests with another client: the pauses between repairs, who is named, and what never waits."""

import asyncio
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from support.builders import NOW, class_of, desired_of, served_by, settled_snapshot, storage_object
from userstorage_operator.api.names import FIELD_MANAGER, FINALIZER
from userstorage_operator.api.resources import Kind, Resource
from userstorage_operator.api.unstructured import Unstructured
from userstorage_operator.api.userstorage import Key
from userstorage_operator.informers.caches import Caches
from userstorage_operator.observed.contest import Undone, describe, last_manager
from userstorage_operator.observed.snapshot import Snapshot
from userstorage_operator.plan import planner
from userstorage_operator.plan.child import owner_reference
from userstorage_operator.plan.diff import with_owner
from userstorage_operator.reconcile.apply import Applier
from userstorage_operator.reconcile.local_state import LocalState
from userstorage_operator.reconcile.repairs import Part, Target
from userstorage_operator.status.outcome import ApplyResult


def entry(manager: str, fields: Unstructured, *, time: str = "2026-01-31T11:00:00Z") -> Unstructured:
    """Return an entry of managedFields."""
    return {"manager": manager, "operation": "Update", "time": time, "fieldsType": "FieldsV1", "fieldsV1": fields}


LABEL: Unstructured = {"f:metadata": {"f:labels": {".": {}, "f:app": {}}}}
PORTS: Unstructured = {"f:spec": {"f:ports": {'k:{"port":80,"protocol":"TCP"}': {".": {}, "f:targetPort": {}}}}}
SELECTOR: Unstructured = {"f:spec": {"f:selector": {}}}
RELABEL: Unstructured = {"metadata": {"labels": {"app": "filebrowser"}}}


@pytest.mark.parametrize(
    ("entries", "patch", "manager"),
    [
        ([entry(FIELD_MANAGER, PORTS), entry("rival", LABEL)], RELABEL, "rival"),
        ([entry("late", LABEL, time="2026-01-31T11:00:09Z"), entry("early", LABEL)], RELABEL, "late"),
        ([entry("rival", PORTS)], {"spec": {"ports": [{"port": 80}]}}, "rival"),
        ([entry("rival", SELECTOR)], {"spec": {"selector": {"app": "filebrowser", "color": None}}}, "rival"),
        ([entry(FIELD_MANAGER, LABEL)], RELABEL, None),  # an admission webhook writes in our name
        ([entry("rival", {"f:metadata": {"f:labels": {".": {}, "f:team": {}}}})], RELABEL, None),
        ([entry("rival", PORTS)], RELABEL, None),
        ([], RELABEL, None),
    ],
)
def test_manager_of_changed_field_is_found(entries: list[Unstructured], patch: Unstructured, manager: str | None) -> None:
    assert last_manager({"metadata": {"managedFields": entries}}, patch) == manager


def test_message_names_client_or_says_why_it_cannot() -> None:
    assert describe(Kind.SERVICE, Undone.CHANGED, "helm", 3) == (
        "field manager 'helm' keeps changing the Service back: it was repaired 3 times in quick succession;"
        " the next repair comes after a pause"
    )
    assert describe(Kind.NETWORK_POLICY, Undone.DELETED, None, 4) == (
        "another client keeps deleting the NetworkPolicy: it was created again 4 times in quick succession;"
        " the next creation comes after a pause; the API server does not record who deletes"
    )
    assert "managedFields does not name it" in describe(Kind.PVC, Undone.CHANGED, None, 3)


class Server:
    """An API server that carries out every write and counts them."""

    def __init__(self) -> None:
        self.writes: list[str] = []
        self.version = 1000

    def _stored(self, verb: str, resource: Resource, body: Unstructured) -> Unstructured:
        self.writes.append(f"{verb} {resource.kind}")
        self.version += 1
        meta = {"uid": f"uid-{self.version}", "resourceVersion": str(self.version), "namespace": "users"}
        return (
            {"spec": {}}
            | body
            | {"kind": resource.kind, "metadata": {"name": "user-storage-alice", **body.get("metadata", {}), **meta}}
        )

    async def get(self, *_: Any) -> Unstructured:
        return storage_object()

    async def create(self, resource: Resource, namespace: str, body: Unstructured) -> Unstructured:
        return self._stored("create", resource, body)

    async def merge_patch(
        self, resource: Resource, namespace: str | None, name: str, patch: Unstructured, subresource: str | None = None
    ) -> Unstructured:
        return self._stored("patch", resource, patch)

    async def delete(self, resource: Resource, *_: Any) -> Unstructured:
        self.writes.append(f"delete {resource.kind}")
        return {"kind": "Status"}

    async def unasked(self, *_: Any, **__: Any) -> Any:
        raise NotImplementedError

    def pages(self, *_: Any, **__: Any) -> Any:
        raise NotImplementedError

    async def json_patch(self, resource: Resource, namespace: str, name: str, patch: list[Unstructured]) -> Unstructured:
        self.writes.append(f"patch {resource.kind}")
        return storage_object()

    list_all = unasked


class Contestant:
    """The applier of one process, with a clock that a test sets."""

    def __init__(self) -> None:
        self.now = NOW
        self.server = Server()
        caches = Caches(lambda _: None, lambda _: None)
        clock = lambda: self.now  # noqa: E731
        self.state = LocalState.new(clock, caches)
        self.applier = Applier(self.server, caches, self.state)

    def reconcile(self, snapshot: Snapshot) -> ApplyResult:
        return asyncio.run(self.applier.apply(planner.plan(snapshot, self.now), snapshot, self.now))

    def written_at(self, snapshot: Snapshot, seconds: range) -> list[int]:
        """Reconcile the same snapshot, which another client restores each time, in each of `seconds`; return those with a write."""
        moments = []
        for second in seconds:
            self.now, before = NOW + timedelta(seconds=second), len(self.server.writes)
            self.reconcile(snapshot)
            moments += [second] * (len(self.server.writes) - before)
        return moments


def without(kind: Kind, raw: Unstructured | None = None) -> Snapshot:
    """Return the settled snapshot without one child."""
    snapshot = settled_snapshot(raw or storage_object())
    return snapshot.with_children(replace(snapshot.children, **{kind.field: None}))


def relabelled(kind: Kind, raw: Unstructured | None = None) -> Snapshot:
    """Return the settled snapshot with a changed label on one child."""
    snapshot = settled_snapshot(raw or storage_object())
    child = getattr(snapshot.children, kind.field)
    meta = child["metadata"] | {"labels": child["metadata"]["labels"] | {"app": "foreign"}}
    return snapshot.with_children(replace(snapshot.children, **{kind.field: child | {"metadata": meta}}))


PACED = [0, 1, 2, 5, 14, 41, 101, 161]
"""The first write is no repair; the repairs follow a second later, since each reconcile of the test comes after a second."""


@pytest.mark.parametrize("kind", [Kind.NETWORK_POLICY, Kind.SERVICE])
def test_child_deleted_each_time_is_created_after_growing_pauses(kind: Kind) -> None:
    contestant = Contestant()
    assert contestant.written_at(without(kind), range(180)) == PACED
    assert set(contestant.server.writes) == {f"create {kind.resource.kind}"}


@pytest.mark.parametrize("kind", [Kind.NETWORK_POLICY, Kind.SERVICE, Kind.PVC, Kind.POD])
def test_child_changed_each_time_is_repaired_after_growing_pauses(kind: Kind) -> None:
    contestant = Contestant()
    assert contestant.written_at(relabelled(kind), range(180)) == PACED
    assert set(contestant.server.writes) == {f"patch {kind.resource.kind}"}


def test_first_creation_and_one_repair_do_not_wait() -> None:
    contestant = Contestant()
    contestant.reconcile(without(Kind.SERVICE))
    contestant.reconcile(without(Kind.SERVICE))
    assert contestant.server.writes == ["create Service"] * 2


def test_changed_spec_does_not_wait_for_the_pause_of_a_repair() -> None:
    contestant = Contestant()
    for _ in range(3):
        contestant.reconcile(relabelled(Kind.SERVICE))
    assert contestant.server.writes == ["patch Service"] * 2
    contestant.reconcile(relabelled(Kind.SERVICE, storage_object("bob")))
    assert contestant.server.writes[2:] != []


def test_contest_is_reported_from_the_third_repair_until_its_pause_is_over() -> None:
    contestant, counts = Contestant(), []
    for second in range(30):
        contestant.now = NOW + timedelta(seconds=second)
        counts.append(len(contestant.reconcile(without(Kind.SERVICE)).contests))
    assert counts == [0] * 5 + [1] * 25
    result = contestant.reconcile(settled_snapshot(storage_object()))
    assert [contest.kind for contest in result.contests] == [Kind.SERVICE]
    assert result.plan.requeue_at == (NOW + timedelta(seconds=41),)
    contestant.now = NOW + timedelta(seconds=41)
    assert contestant.reconcile(settled_snapshot(storage_object())).contests == ()


def deleted(*finalizers: str) -> Snapshot:
    """Return the settled snapshot of a UserStorage that is being deleted, with reclaimPolicy Retain and an owner on its claim."""
    meta = {"deletionTimestamp": "2026-01-31T11:59:59Z", "finalizers": [FINALIZER, *finalizers]}
    snapshot = settled_snapshot(storage_object(meta=meta, storage={"reclaimPolicy": "Retain"}, lifecycle={}))
    claim = snapshot.children.pvc
    assert claim is not None
    owned = claim | {"metadata": claim["metadata"] | with_owner(claim, owner_reference(snapshot.storage))["metadata"]}
    return snapshot.with_children(replace(snapshot.children, pvc=owned))


def test_owner_of_retained_claim_is_removed_after_growing_pauses_while_the_pod_ends() -> None:
    contestant = Contestant()
    contestant.written_at(deleted(), range(180))
    assert contestant.server.writes.count("patch PersistentVolumeClaim") == len(PACED)


@pytest.mark.parametrize("foreground", [True, False])
def test_owner_of_retained_claim_never_waits_when_the_claim_could_be_collected(*, foreground: bool) -> None:
    snapshot = deleted("foregroundDeletion") if foreground else deleted()
    if not foreground:
        snapshot = snapshot.with_children(replace(snapshot.children, pod=None))
    contestant = Contestant()
    for _ in range(5):
        contestant.reconcile(snapshot)
    assert contestant.server.writes.count("patch PersistentVolumeClaim") == 5


def test_label_is_restored_after_growing_pauses_in_a_deletion() -> None:
    snapshot = deleted()
    policy, pod = snapshot.children.network_policy, snapshot.children.pod
    assert policy is not None
    assert pod is not None
    unlabelled = policy | {"metadata": policy["metadata"] | {"labels": {}}}
    ending = pod | {"metadata": pod["metadata"] | {"deletionTimestamp": "2026-01-31T11:59:59Z"}}
    snapshot = snapshot.with_children(replace(snapshot.children, network_policy=unlabelled, pod=ending, pvc=None))
    assert Contestant().written_at(snapshot, range(180)) == PACED


def test_finalizer_that_is_removed_each_time_is_added_after_growing_pauses() -> None:
    snapshot = settled_snapshot(storage_object(meta={"finalizers": []}))
    contestant = Contestant()
    assert contestant.written_at(snapshot, range(180)) == PACED
    assert set(contestant.server.writes) == {"patch UserStorage"}
    [contest] = contestant.reconcile(snapshot).contests
    assert contest.message.startswith("another client keeps removing the operator's finalizer from the UserStorage")


def test_nothing_is_created_while_the_finalizer_waits() -> None:
    snapshot = settled_snapshot(storage_object(meta={"finalizers": []}))
    contestant = Contestant()
    for _ in range(3):
        contestant.reconcile(snapshot)
    contestant.server.writes.clear()
    contestant.reconcile(snapshot.with_children(replace(snapshot.children, pod=None, service=None, pvc=None)))
    assert contestant.server.writes == []


@pytest.mark.parametrize("kind", [Kind.INGRESS, Kind.HTTP_ROUTE])
def test_way_in_that_is_kept_for_an_outdated_pod_is_repaired_after_growing_pauses(kind: Kind) -> None:
    cls = class_of(kind.field)
    served = served_by(cls)
    outdated = replace(served, cls=replace(cls, browser=replace(cls.browser, image="browser:2")), may_replace=False)
    contestant, moments = Contestant(), list[int]()
    for second in range(180):
        child = getattr(served.children, kind.field)
        labels = child["metadata"]["labels"] | {"app": "foreign"}
        meta = child["metadata"] | {"labels": labels, "resourceVersion": str(5000 + second)}
        snapshot = outdated.with_children(replace(served.children, **{kind.field: child | {"metadata": meta}}))
        moments += contestant.written_at(snapshot, range(second, second + 1))
    assert moments == PACED


def test_growth_does_not_wait_for_repairs_of_the_claim() -> None:
    contestant = Contestant()
    raw = storage_object(storage={"size": "20Gi"})
    grown = relabelled(Kind.PVC, storage_object())
    snapshot = replace(settled_snapshot(raw), children=grown.children)
    contestant.reconcile(relabelled(Kind.PVC))
    contestant.reconcile(relabelled(Kind.PVC))
    contestant.reconcile(snapshot)
    assert contestant.server.writes == ["patch PersistentVolumeClaim"] * 3


def test_record_of_a_size_that_the_claim_has_already_is_no_repair() -> None:
    contestant = Contestant()
    raw = storage_object(storage={"size": "10Gi"})
    snapshot = settled_snapshot(raw)
    claim = snapshot.children.pvc or {}
    shrunk = claim["metadata"]["annotations"] | {"userstorage.dev/requested-size": "20Gi"}
    recorded = snapshot.with_children(
        replace(snapshot.children, pvc=claim | {"metadata": claim["metadata"] | {"annotations": shrunk}})
    )
    contestant.reconcile(relabelled(Kind.PVC, raw))
    contestant.reconcile(recorded)
    contestant.reconcile(relabelled(Kind.PVC, raw))
    assert contestant.server.writes == ["patch PersistentVolumeClaim"] * 3
    parts = {part: contestant.state.repairs.count(Target(Key("users", "alice"), Kind.PVC, part)) for part in Part}
    assert parts == {Part.REST: 1, Part.OWNER: 0, Part.GROWTH: 0}, "one repair, of the label"


def test_no_pod_is_created_while_its_policy_waits() -> None:
    contestant = Contestant()
    snapshot = without(Kind.NETWORK_POLICY)
    no_pod = snapshot.with_children(replace(snapshot.children, pod=None))
    for _ in range(2):
        contestant.reconcile(snapshot)
    contestant.reconcile(no_pod)
    assert contestant.server.writes == ["create NetworkPolicy"] * 2
    contestant.now = NOW + timedelta(seconds=1)
    result = contestant.reconcile(replace(no_pod, claim_context=replace(no_pod.claim_context, mounts=())))
    assert contestant.server.writes[2:] == ["create NetworkPolicy", "create Pod"]
    assert result.error is None


def test_desired_is_the_goal_of_both_creation_and_repair() -> None:
    contestant = Contestant()
    contestant.reconcile(without(Kind.SERVICE))
    contestant.reconcile(relabelled(Kind.SERVICE))
    contestant.reconcile(without(Kind.SERVICE))
    assert contestant.server.writes == ["create Service", "patch Service"]
    assert desired_of(storage_object()).service is not None
