"""A state machine of the whole reconcile on an API server in memory: tenants, opponents, kubelet, garbage collector, lost and late
events, stale lists, and a kill before and after any write, in any order. See tests/model/invariants.py for what must hold.

A failure prints the steps. Run more with `make test-model`.
"""

import asyncio
import json
import random
from datetime import timedelta
from functools import cache, partial
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule, run_state_machine_as_test

from model.invariants import OPPONENT, Watchdog, picture
from support.memory_api import FOREIGN_UID, MemoryAPI, key_of
from support.memory_operator import OWN, Killed, MemoryOperator, Trouble, conflict, kill, not_available
from userstorage_operator.api import names
from userstorage_operator.api.resources import USER_STORAGE_CLASSES, USER_STORAGES, Kind, Resource
from userstorage_operator.api.timestamps import format_time
from userstorage_operator.api.unstructured import Unstructured
from userstorage_operator.api.userstorage import Key
from userstorage_operator.observed.snapshot import controller, is_labelled, is_terminating

NAMESPACE = "users"
FEW = 300
USERS = {"alice": "alice", "bob": "bob", "twin": "alice"}
"""Name of a UserStorage -> its user id: the twin wants the id of alice."""
SPECS: list[Unstructured] = [
    {"replicas": 0},
    {"replicas": 1},
    {"className": "exposing"},
    {"className": "plain"},
    {"storage": {"reclaimPolicy": "Delete"}},
    {"storage": {"reclaimPolicy": "Retain"}},
    {"storage": {"size": "2Gi"}},
    {"lifecycle": {"terminationGracePeriodSeconds": 5}},
]
CLASS_SPECS: list[Unstructured] = [
    {"browser": {"port": 8080}},
    {"browser": {"port": 9090}},
    {"podMetadata": {"labels": {"team": "a"}}},
    {"podMetadata": {"labels": None}},
    {"network": {"expose": "ClusterIP"}},
    {"network": {"expose": "Ingress", "hostTemplate": "${slug}.example.org"}},
    {"network": {"policy": "None"}},
    {"network": {"policy": "Managed"}},
    {"rollout": {"maxUnavailable": 1}},
]
KINDS = [Kind.NETWORK_POLICY, Kind.PVC, Kind.SERVICE, Kind.POD, Kind.INGRESS]
WATCHED: list[Resource] = [*OWN, *(kind.resource for kind in KINDS)]
ANY_USER = st.sampled_from(["alice", "alice", "bob", "twin"])
ANY_KIND = st.sampled_from(KINDS)
OTHER_OWNER = {"apiVersion": "example.org/v1", "kind": "Other", "name": "other", "uid": FOREIGN_UID, "controller": True}
DEEDS: dict[str, Unstructured] = {
    "unlabel": {"labels": {names.LABEL_MANAGED_BY: None}},
    "relabel": {"labels": {names.LABEL_SLUG: "other", names.LABEL_RECOMMENDED_MANAGED_BY: "other"}},
    "note": {"labels": {OPPONENT: "x"}, "annotations": {OPPONENT: "x"}},
    "orphan": {"ownerReferences": None},
    "seize": {"ownerReferences": [OTHER_OWNER]},
}
"""What an opponent does to the metadata of a child."""
EDITS: dict[Kind, Unstructured] = {
    Kind.POD: {"spec": {"containers": [{"name": "filebrowser", "image": "evil"}]}},
    Kind.NETWORK_POLICY: {"spec": {"ingress": [{}]}},
    Kind.SERVICE: {"spec": {"selector": {"app": "evil"}}},
}
"""What an opponent does to the spec of a child."""
MOSTLY = st.sampled_from([True, True, False])
NTH_WRITE = st.sampled_from([1, 1, 1, 2, 2, 3, 4, 5, 6])
MANY = 1000


def child_key(user: str) -> tuple[str, str]:
    return NAMESPACE, names.child_name(USERS[user])


def new_world() -> MemoryAPI:
    """Return an API server with two classes."""
    api = MemoryAPI()
    for name, network in (
        ("plain", {"expose": "ClusterIP"}),
        ("exposing", {"expose": "Ingress", "hostTemplate": "${slug}.x.org"}),
    ):
        spec = {"network": network, "rollout": {"maxUnavailable": "100%"}}
        api.create(USER_STORAGE_CLASSES, None, {"metadata": {"name": name}, "spec": spec}, "admin")
    return api


class World:
    """An API server and an operator, and how they come to rest."""

    def __init__(self, api: MemoryAPI, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.api = api
        self.watchdog = Watchdog(api)
        self.operator: MemoryOperator | None = None
        self.missed_events = False
        """Whether a watch has lost events without noticing: only a sweep repairs that."""
        self.unlabelled_in_deletion = False
        """Whether a terminating child has lost our label: to a watch this looks like its end, and only a list of now finds it."""

    def start(self, stale_by: int = 0) -> MemoryOperator:
        self.operator = MemoryOperator(self.api, self.loop)
        # The first list shows what no watch would; after an old list, the watch brings the same events once more.
        self.missed_events = stale_by > 0 and (self.missed_events or self.unlabelled_in_deletion)
        self.watchdog.caches = self.operator.caches
        self.operator.start(stale_by)
        return self.operator

    def work(self, operator: MemoryOperator) -> None:
        """Deliver all events and reconcile until nothing is left to do at this moment."""
        for _ in range(MANY):
            for resource in WATCHED:
                operator.deliver(resource, MANY)
            operator.wake()
            if not operator.queue:
                return
            for key in list(operator.queue):
                operator.reconcile(key)
        raise AssertionError("the operator never comes to rest: it reconciles again and again")

    def settle(self) -> None:
        """Let all programs of the cluster do their work until nothing changes any more."""
        operator = self.operator or self.start()
        if self.missed_events:
            operator.sweep()
        quiet = 0
        for _ in range(60):
            before = self.api.version, self.watchdog.writes
            self.work(operator)
            self.api.start_pods()
            self.api.end_pods()
            self.api.collect_garbage()
            self.api.bind_claims()
            self.work(operator)
            self.api.now = max([self.api.now + timedelta(seconds=61), *operator.due.values()])
            quiet = quiet + 1 if before == (self.api.version, self.watchdog.writes) else 0
            if quiet == 3:
                return
        raise AssertionError(f"no end of writes: {self.api.changes[USER_STORAGES][-2:]}")


@cache
def fresh(storage: str, classes: str) -> dict[str, str]:
    """Return the picture of the children that a new cluster has for this UserStorage (JSON) and these classes (JSON)."""
    loop = asyncio.new_event_loop()
    try:
        world = World(new_world(), loop)
        for name, spec in json.loads(classes).items():
            known = world.api.get(USER_STORAGE_CLASSES, None, name)
            world.api._update(USER_STORAGE_CLASSES, known, known | {"spec": spec}, "admin")
        raw = json.loads(storage)
        world.api.create(USER_STORAGES, NAMESPACE, raw, "tenant")
        world.settle()
        return picture(world.api, world.api.get(USER_STORAGES, NAMESPACE, raw["metadata"]["name"]))
    finally:
        loop.close()


def wanted(user: str, spec: Unstructured) -> Unstructured:
    """Return a UserStorage with all fields that the schema fills in and the model changes."""
    storage = {"readOnly": False, "reclaimPolicy": "Retain", "size": "1Gi"} | spec.get("storage", {})
    spec = {"userID": USERS[user], "replicas": 1, "className": "plain"} | spec | {"storage": storage}
    return {"metadata": {"name": user}, "spec": spec}


@cache
def _served() -> MemoryAPI:
    loop = asyncio.new_event_loop()
    try:
        world = World(new_world(), loop)
        world.api.create(USER_STORAGES, NAMESPACE, wanted("alice", {}), "tenant")
        world.settle()
        return world.api
    finally:
        loop.close()


def served() -> MemoryAPI:
    """Return an API server on which alice is served: where most of what can go wrong starts."""
    return _served().copy()


def shows_no_origin(child: Unstructured) -> bool:
    """Whether the child has lost its owner and both labels of the operator: from then on it is like one of another program."""
    recommended = (child["metadata"].get("labels") or {}).get(names.LABEL_RECOMMENDED_MANAGED_BY)
    return controller(child) is None and not is_labelled(child) and recommended != names.MANAGED_BY


class ReconcilerMachine(RuleBasedStateMachine):
    """Everything that can happen around the reconciler. Each rule is one thing that one program does."""

    loop: asyncio.AbstractEventLoop

    def __init__(self) -> None:
        super().__init__()
        self.world = World(served(), self.loop)
        self.api = self.world.api
        self.key = Key(NAMESPACE, "alice")
        """The key that is being reconciled."""
        self.world.start()

    # Tenants and administrators

    @rule(user=ANY_USER, spec=st.sampled_from(SPECS))
    def create(self, user: str, spec: Unstructured) -> None:
        if self.api.find(USER_STORAGES, NAMESPACE, user) is None:
            self.api.create(USER_STORAGES, NAMESPACE, wanted(user, spec), "tenant")

    @rule(user=ANY_USER, spec=st.sampled_from(SPECS))
    def change(self, user: str, spec: Unstructured) -> None:
        if self.api.find(USER_STORAGES, NAMESPACE, user) is not None:
            self.api.merge_patch(USER_STORAGES, NAMESPACE, user, {"spec": spec}, "tenant")

    @rule(
        user=ANY_USER,
        annotation=st.sampled_from([names.ANNOTATION_RESTARTED_AT, names.ANNOTATION_PAUSED]),
        value=st.integers(0, 2),
    )
    def annotate(self, user: str, annotation: str, value: int) -> None:
        if self.api.find(USER_STORAGES, NAMESPACE, user) is not None:
            text = (
                f"2026-02-0{value + 1}T00:00:00Z"
                if annotation == names.ANNOTATION_RESTARTED_AT
                else ("true", None, None)[value]
            )
            self.api.merge_patch(USER_STORAGES, NAMESPACE, user, {"metadata": {"annotations": {annotation: text}}}, "tenant")

    @rule(user=ANY_USER, propagation=st.sampled_from(["Background", "Foreground", "Orphan"]))
    def delete(self, user: str, propagation: str) -> None:
        if self.api.find(USER_STORAGES, NAMESPACE, user) is not None:
            self.api.delete(USER_STORAGES, NAMESPACE, user, "tenant", propagation=propagation)

    @rule(name=st.sampled_from(["plain", "exposing"]), spec=st.sampled_from(CLASS_SPECS))
    def change_class(self, name: str, spec: Unstructured) -> None:
        self.api.merge_patch(USER_STORAGE_CLASSES, None, name, {"spec": spec}, "admin")

    # Opponents

    @rule(
        user=ANY_USER, kind=ANY_KIND, deed=st.sampled_from(["delete", "unlabel", "relabel", "edit", "orphan", "seize", "note"])
    )
    def oppose(self, user: str, kind: Kind, deed: str) -> None:
        child = self.api.find(kind.resource, *child_key(user))
        if child is None or child["metadata"]["uid"] in self.world.watchdog.foreign or (deed, kind) == ("seize", Kind.PVC):
            return
        if deed == "delete":
            self.api.delete(kind.resource, *child_key(user), "opponent", grace_period=30)
            return
        if deed == "seize":
            self.world.watchdog.foreign.add(child["metadata"]["uid"])
        if deed == "unlabel" and is_terminating(child):
            self.world.missed_events = self.world.unlabelled_in_deletion = True
        patch = EDITS.get(kind, {}) if deed == "edit" else {"metadata": DEEDS[deed]}
        after = self.api.merge_patch(kind.resource, *child_key(user), patch, "opponent")
        if kind is not Kind.PVC and shows_no_origin(after):
            self.world.watchdog.foreign.add(after["metadata"]["uid"])

    @rule(user=ANY_USER, kind=ANY_KIND, labelled=st.booleans())
    def squat(self, user: str, kind: Kind, labelled: bool) -> None:
        """Take the name of a child for an object of another program, which may look like ours."""
        if self.api.find(kind.resource, *child_key(user)) is not None:
            return
        meta: Unstructured = {"name": child_key(user)[1], "ownerReferences": [OTHER_OWNER]}
        if labelled:
            meta["labels"] = {names.LABEL_MANAGED_BY: names.MANAGED_BY, names.LABEL_SLUG: USERS[user]}
        specs: dict[Kind, Unstructured] = {
            Kind.PVC: {"resources": {"requests": {"storage": "1Gi"}}, "accessModes": ["ReadWriteOnce"]},
            Kind.POD: {"containers": [{"name": "other", "image": "other"}]},
            Kind.NETWORK_POLICY: {"podSelector": {"matchLabels": {"a": "b"}}},
        }
        found = self.api.create(kind.resource, NAMESPACE, {"metadata": meta, "spec": specs.get(kind, {})}, "other")
        self.world.watchdog.foreign.add(found["metadata"]["uid"])

    @rule(user=ANY_USER)
    def strip_finalizer(self, user: str) -> None:
        if (storage := self.api.find(USER_STORAGES, NAMESPACE, user)) is not None:
            left = [name for name in storage["metadata"].get("finalizers", ()) if name != names.FINALIZER]
            self.api.merge_patch(USER_STORAGES, NAMESPACE, user, {"metadata": {"finalizers": left or None}}, "opponent")

    # The rest of the cluster

    @rule(deed=st.sampled_from(["start_pods", "end_pods", "bind_claims", "collect_garbage"]))
    def cluster(self, deed: str) -> None:
        getattr(self.api, deed)()

    @rule(user=ANY_USER, phase=st.sampled_from(["Failed", "Succeeded", "unready"]))
    def pod_fails(self, user: str, phase: str) -> None:
        pod = self.api.find(Kind.POD.resource, *child_key(user))
        if pod is not None and pod["metadata"]["uid"] in self.api.running:
            conditions = [{"type": "Ready", "status": "False", "lastTransitionTime": format_time(self.api.now)}]
            containers = [entry | {"ready": False} for entry in pod["status"]["containerStatuses"]]
            conditions.append({"type": "ContainersReady", "status": "False"})
            status: Unstructured = {"conditions": conditions, "containerStatuses": containers}
            if phase != "unready":
                status["phase"] = phase
            self.api.put_status(Kind.POD.resource, pod, "kubelet", **status)

    @rule(seconds=st.sampled_from([1, 6, 61, 400]))
    def wait(self, seconds: int) -> None:
        self.api.now += timedelta(seconds=seconds)

    # Watches and lists

    @rule(resource=st.sampled_from(WATCHED), events=st.integers(1, 3))
    @precondition(lambda self: self.world.operator is not None)
    def deliver(self, resource: Resource, events: int) -> None:
        self._operator().deliver(resource, events)

    @rule(resource=st.sampled_from(WATCHED), relists=st.booleans(), stale_by=st.sampled_from([0, 0, 3, 20]))
    @precondition(lambda self: self.world.operator is not None)
    def lose_events(self, resource: Resource, relists: bool, stale_by: int) -> None:
        """Lose what a watch has not delivered; with `relists` it notices, and lists again, perhaps from a server that lags."""
        if relists:
            self._operator().client.list_version = max(0, self.api.version - stale_by)
            self._operator().relist(resource)
            self._operator().client.list_version = None
        else:
            self._operator().miss(resource)
            self.world.missed_events = True

    @rule(stale_by=st.sampled_from([0, 0, 10]))
    @precondition(lambda self: self.world.operator is not None)
    def sweep(self, stale_by: int) -> None:
        self._operator().sweep(stale_by)
        self.world.missed_events = stale_by > 0  # an old list shows again what is gone, and no watch corrects it

    # The operator

    @rule(stale_by=st.sampled_from([0, 0, 5, 30]))
    def restart(self, stale_by: int) -> None:
        self.world.start(stale_by)

    @rule(number=st.integers(0, 2), informed=st.booleans())
    @precondition(lambda self: self.world.operator is not None)
    def reconcile(self, number: int, informed: bool) -> None:
        """Reconcile one of the keys that wait; if `informed`, after all events were delivered."""
        self._reconcile(number, informed=informed)

    @rule(number=st.integers(0, 2), informed=MOSTLY, at=NTH_WRITE, after=st.booleans())
    @precondition(lambda self: self.world.operator is not None)
    def reconcile_killed(self, number: int, informed: bool, at: int, after: bool) -> None:
        """Reconcile; the process is killed before the `at`-th write, or after the server has carried it out."""
        self._reconcile(number, informed=informed, trouble=Trouble(at, kill, after=after))

    @rule(number=st.integers(0, 2), informed=MOSTLY, at=NTH_WRITE, after=st.booleans(), conflicts=st.booleans())
    @precondition(lambda self: self.world.operator is not None)
    def reconcile_refused(self, number: int, informed: bool, at: int, after: bool, conflicts: bool) -> None:
        """Reconcile; the `at`-th write is refused, or its answer is lost (`after`)."""
        act = conflict if conflicts and not after else not_available
        self._reconcile(number, informed=informed, trouble=Trouble(at, act, after=after))

    @rule(
        number=st.integers(0, 2),
        informed=MOSTLY,
        at=NTH_WRITE,
        after=st.booleans(),
        what=st.sampled_from(["other key", "delete", "recreate", "suspend", "pod", "policy"]),
    )
    @precondition(lambda self: self.world.operator is not None)
    def reconcile_raced(self, number: int, informed: bool, at: int, after: bool, what: str) -> None:
        """Reconcile; something else happens before or after the `at`-th write."""
        self._reconcile(number, informed=informed, trouble=Trouble(at, partial(self._meanwhile, what), after=after))

    def _reconcile(self, number: int, *, informed: bool, trouble: Trouble | None = None) -> None:
        operator = self._operator()
        if informed:
            for resource in WATCHED:
                operator.deliver(resource, MANY)
        operator.wake()
        waiting = list(operator.queue)
        if not waiting:
            return
        self.key = waiting[number % len(waiting)]
        try:
            operator.reconcile(self.key, trouble)
        except Killed:
            self.world.operator = None
        finally:
            self.world.watchdog.disturbed = False

    async def _meanwhile(self, what: str) -> None:
        operator, name = self._operator(), self.key.name
        if what == "other key":
            for other in [key for key in operator.queue if key not in operator.running][:1]:
                await operator.process(other)
            return
        self.world.watchdog.disturbed = True
        if what == "delete":
            self.delete(name, "Background")
        elif what == "recreate":
            self.delete(name, "Background")
            self.strip_finalizer(name)
            self.create(name, {})
        elif what == "suspend":
            self.change(name, {"replicas": 0})
        else:
            self.oppose(name, Kind.POD if what == "pod" else Kind.NETWORK_POLICY, "delete")

    def _operator(self) -> MemoryOperator:
        assert self.world.operator is not None
        return self.world.operator

    # The end

    def teardown(self) -> None:
        """Let the opponents leave. Then everything must be as if each UserStorage had just been created, and nothing is written."""
        self._leave()
        self.world.settle()
        for storage in self.api.of(USER_STORAGES).values():
            self._check_end(storage)
        self._check_gone()
        before = self.world.watchdog.writes
        operator = self._operator()
        operator.sweep()
        self.world.work(operator)
        assert self.world.watchdog.writes == before, "writes in steady state"

    def _leave(self) -> None:
        """Remove the objects of other programs, and go on with what is paused. No watch shows the end of what lacks our label."""
        foreign = self.world.watchdog.foreign
        for kind in Kind:
            for child in list(self.api.of(kind.resource).values()):
                if child["metadata"]["uid"] in foreign:
                    self.world.watchdog.released_by_force.add(child["metadata"]["uid"])
                    self.world.missed_events |= not is_labelled(child)
                    self.api.remove(kind.resource, child)
        for storage in list(self.api.of(USER_STORAGES).values()):
            self.annotate(storage["metadata"]["name"], names.ANNOTATION_PAUSED, 1)

    def _check_end(self, storage: Unstructured) -> None:
        meta, spec, status = storage["metadata"], storage["spec"], storage["status"]
        assert "deletionTimestamp" not in meta, f"the deletion does not end: {storage}"
        twins = [other for other in self.api.of(USER_STORAGES).values() if other["spec"]["userID"] == spec["userID"]]
        assert status["observedGeneration"] == meta["generation"], "the status is about an earlier generation"
        ready = next(entry for entry in status["conditions"] if entry["type"] == "Ready")
        found = picture(self.api, storage)
        if len(twins) == 2 and not found:
            assert ready["reason"] == "UserIDConflict", f"{ready['reason']}: {ready['message']}"
            return
        claim = self.api.find(Kind.PVC.resource, NAMESPACE, names.child_name(spec["userID"]))
        if claim is not None and "deletionTimestamp" in claim["metadata"]:
            return  # its pod is kept, whatever the spec asks for
        assert (ready["status"] == "True") == (spec["replicas"] == 1), f"{ready['reason']}: {ready['message']}"
        classes = {cls["metadata"]["name"]: cls["spec"] for cls in self.api.of(USER_STORAGE_CLASSES).values()}
        annotations = {key: text for key, text in meta.get("annotations", {}).items() if key == names.ANNOTATION_RESTARTED_AT}
        new = {"metadata": {"name": meta["name"], "annotations": annotations}, "spec": spec}
        assert found == fresh(json.dumps(new, sort_keys=True), json.dumps(classes, sort_keys=True))

    def _check_gone(self) -> None:
        """Assert that no pod of the operator is left over, and nothing is stuck in deletion."""
        owners = {storage["metadata"]["uid"] for storage in self.api.of(USER_STORAGES).values()}
        for kind in Kind:
            for child in self.api.of(kind.resource).values():
                protected = kind is Kind.PVC or (
                    kind is Kind.NETWORK_POLICY and key_of(child) in self.api.of(Kind.POD.resource)
                )
                assert protected or "deletionTimestamp" not in child["metadata"], f"stuck in deletion: {child['metadata']}"
                gone = [owner for owner in child["metadata"].get("ownerReferences", ()) if owner["uid"] not in owners]
                assert not gone or protected, f"left over: {child['metadata']}"


@pytest.mark.timeout(1800)
def test_every_history_ends_as_a_fresh_apply(pytestconfig: pytest.Config, loop: asyncio.AbstractEventLoop, shard: int) -> None:
    examples: int = pytestconfig.getoption("--model-examples")
    chosen = settings(
        max_examples=examples // 4 if examples else FEW,
        stateful_step_count=20,
        deadline=None,
        derandomize=not examples,
        database=None,
        print_blob=False,
        phases=[Phase.generate] if pytestconfig.getoption("--model-first") else [Phase.generate, Phase.shrink],
        suppress_health_check=list(HealthCheck),
    )
    machine: Any = type(f"Machine{shard}", (ReconcilerMachine,), {"loop": loop})
    if examples:
        seed(random.randrange(2**32))(machine)  # noqa: S311  # not for secrets
    run_state_machine_as_test(machine, settings=chosen)
