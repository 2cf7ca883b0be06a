"""Which UserStorage owns a host with a path: the same as by a plain comparison of all, and found without it."""

from itertools import count
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from support.builders import class_object, desired_of, storage_object, stored
from userstorage_operator.api import names
from userstorage_operator.api.resources import USER_STORAGE_CLASSES, USER_STORAGES, Kind
from userstorage_operator.api.unstructured import Unstructured
from userstorage_operator.api.userstorage import Key
from userstorage_operator.api.userstorageclass import UserStorageClass
from userstorage_operator.arbitration import host
from userstorage_operator.informers.caches import Caches
from userstorage_operator.observed.snapshot import controller_uid
from userstorage_operator.plan.exposure import HostPath, served_host, wanted_host

MANY = 1000
SHARED = {"expose": "Ingress", "hostTemplate": "files.example.org"}
CLASSES: dict[str, dict[str, Any]] = {
    "own": {"network": {"expose": "Ingress", "hostTemplate": "${slug}.example.org"}},
    "path": {"network": SHARED, "browser": {"basePath": "/u/${slug}/"}},
    "name": {"network": SHARED, "browser": {"basePath": "/u/${name}/"}},
    "below": {"network": SHARED, "browser": {"basePath": "/u/${slug}/files/"}},
    "parent": {"network": SHARED, "browser": {"basePath": "/u/"}},
    "internal": {},
}
"""With the user id `files`, class `own` gives the whole host that others share."""
PAUSED: dict[str, Any] = {"annotations": {names.ANNOTATION_PAUSED: "true"}}
DELETING: dict[str, Any] = {"deletionTimestamp": "2026-01-31T11:59:50Z"}
INVALID: dict[str, Any] = {"spec": {"storage": {"size": "many"}}}
Place = tuple[str, str, str]
"""Namespace, user id and class of a UserStorage."""


class HostScenario:
    """Caches, and the conflict that the last reconcile of each UserStorage found."""

    def __init__(self) -> None:
        self.requeued: list[Key] = []
        self.caches = Caches(self.requeued.append, lambda _: None)
        self.versions = count(1000)
        for name, spec in CLASSES.items():
            self.set_class(name, spec)
        self.conflicts: dict[Key, bool] = {}

    def version(self, obj: Unstructured, **meta: Any) -> Unstructured:
        return obj | {"metadata": obj["metadata"] | {"resourceVersion": str(next(self.versions))} | meta}

    def set_class(self, name: str, spec: dict[str, Any] | None) -> None:
        """Create or change a class; delete it if `spec` is None."""
        number = next(self.versions)
        body = class_object(name, meta={"generation": number, "resourceVersion": str(number)}, **(spec or {}))
        self.caches.cache(USER_STORAGE_CLASSES).event("MODIFIED" if spec is not None else "DELETED", body)

    def create(self, namespace: str, user_id: str, class_name: str | None, second: int = 0, name: str | None = None) -> Key:
        """Create a UserStorage, or change the class of an existing one."""
        known = self.caches.storage(Key(namespace, name or user_id))
        if known is not None:
            created = known | {"spec": known["spec"] | {"className": class_name}}
        else:
            meta = {
                "namespace": namespace,
                "name": name or user_id,
                "uid": f"uid-{next(self.versions) % 7}-{user_id}-{namespace}",
            }
            created = storage_object(
                user_id, meta=meta | {"creationTimestamp": f"2026-01-31T10:00:0{second}Z"}, className=class_name
            )
        self.caches.cache(USER_STORAGES).event("MODIFIED", self.version(created))
        return Key.of(created)

    def edit(self, key: Key, *, spec: dict[str, Any] | None = None, **meta: Any) -> None:
        """Change spec and metadata of an existing UserStorage."""
        if (raw := self.caches.storage(key)) is not None:
            self.caches.cache(USER_STORAGES).event("MODIFIED", self.version(raw | {"spec": raw["spec"] | (spec or {})}, **meta))

    def delete(self, key: Key) -> None:
        if (raw := self.caches.storage(key)) is not None:
            self.caches.cache(USER_STORAGES).event("DELETED", self.version(raw))

    def ingress(self, key: Key) -> Unstructured | None:
        raw = self.caches.storage(key)
        name = f"user-storage-{raw['spec']['userID']}" if raw is not None else ""
        return self.caches.children(key.namespace, name).ingress

    def apply(self, key: Key) -> None:
        """Do what a reconcile does: create, move or delete the Ingress."""
        raw, live = self.caches.storage(key), self.ingress(key)
        if raw is None:
            return
        place = wanted_host(raw, self.caches.classes())
        if place is None or self.conflict(key):
            if live is not None:
                self.caches.discard(Kind.INGRESS.resource, key.namespace, live["metadata"]["name"], live["metadata"]["uid"])
            return
        cls = next(cls for cls in self.caches.classes() if cls["metadata"]["name"] == raw["spec"]["className"])
        desired = desired_of(raw, UserStorageClass.parse(cls)).ingress
        assert desired is not None
        uid = live["metadata"]["uid"] if live is not None else f"uid-{next(self.versions)}"
        self.caches.put(Kind.INGRESS.resource, self.version(stored(desired), uid=uid))

    def lose(self, key: Key) -> None:
        if (live := self.ingress(key)) is not None:
            self.caches.cache(Kind.INGRESS.resource).event("DELETED", self.version(live))

    def conflict(self, key: Key) -> bool:
        """Return whether a reconcile of the UserStorage finds a conflict."""
        raw = self.caches.storage(key)
        assert raw is not None
        cls = next((cls for cls in self.caches.classes() if cls["metadata"]["name"] == raw["spec"]["className"]), None)
        return cls is not None and host.conflict(raw, UserStorageClass.parse(cls), self.caches) is not None

    def storages(self) -> list[Key]:
        return self.caches.keys()

    def reconcile(self) -> set[Key]:
        """Reconcile every requeued UserStorage, without writing. Return their keys."""
        requeued = set(self.requeued)
        self.requeued.clear()
        for key in requeued:
            self.conflicts.pop(key, None)
            if self.caches.storage(key) is not None:
                self.conflicts[key] = self.conflict(key)
        return requeued

    def expected(self) -> dict[Key, bool]:
        """Return for each UserStorage with a class whether it is in conflict, by comparing each with all that precede it."""
        ranked: list[tuple[tuple[Any, ...], Key, HostPath, bool]] = []
        wanting = set()
        for key in self.storages():
            raw = self.caches.storage(key)
            assert raw is not None
            meta = raw["metadata"]
            live = self.ingress(key)  # one that a former UserStorage of that name has left does not count
            own = live is not None and controller_uid(live) == meta["uid"]
            served = served_host(live) if live is not None and own else None
            place = wanted = wanted_host(raw, self.caches.classes())
            if wanted is not None:
                wanting.add(key)
            if served is not None and (wanted is None or "annotations" in meta or "deletionTimestamp" in meta):
                place = served
            if place is None:
                continue
            on_host = served is not None and served.host == place.host
            second = place != wanted if place == served else not on_host
            ranked.append(((served != place, second, meta["creationTimestamp"], meta["uid"]), key, place, True))
            if served is not None and not overlap(served, place):
                ranked.append(((False, True, meta["creationTimestamp"], f"{meta['uid']}/0"), key, served, False))
        owners: list[HostPath] = []
        taken = set()
        for _, key, place, is_main in sorted(ranked, key=lambda entry: entry[0]):
            if not any(overlap(owner, place) for owner in owners):
                owners.append(place)
            elif is_main and key in wanting:
                taken.add(key)
        return {key: key in taken for key in self.storages()}


def overlap(one: HostPath, other: HostPath) -> bool:
    return one.host == other.host and (one.path.startswith(other.path) or other.path.startswith(one.path))


NAMESPACES, USERS = ("blue", "green"), ("alice", "files", "u")
Step = tuple[str, str, str, str | None, int]
steps = st.tuples(
    st.sampled_from(
        ["create", "create", "create", "delete", "apply", "apply", "apply", "lose", "unclass", "class", "move", "edit"]
    ),
    st.sampled_from(NAMESPACES),
    st.sampled_from(USERS),
    st.sampled_from([*CLASSES, None]),
    st.integers(0, 2),
)


def take(scenario: HostScenario, step: Step) -> None:
    action, namespace, user, class_name, second = step
    key = Key(namespace, user)
    match action:
        case "create":
            scenario.create(namespace, user, class_name, second)
        case "delete":
            scenario.delete(key)
        case "apply":
            scenario.apply(key)
        case "lose":
            scenario.lose(key)
        case "edit":
            scenario.edit(key, **(PAUSED, DELETING, INVALID)[second])
        case "unclass" if class_name is not None:
            scenario.set_class(class_name, None)
        case "class" if class_name is not None:
            scenario.set_class(class_name, CLASSES[class_name])
        case "move" if class_name is not None:
            scenario.set_class(class_name, {"network": SHARED, "browser": {"basePath": ("/", "/u/", "/u/${slug}/x/")[second]}})


@settings(max_examples=400)
@given(history=st.lists(steps, max_size=25))
def test_host_conflicts_are_those_of_a_comparison_of_all_and_each_change_requeues(history: list[Step]) -> None:
    scenario = HostScenario()
    for step in history:
        take(scenario, step)
        scenario.reconcile()
        assert scenario.conflicts == scenario.expected(), step


@settings(max_examples=200)
@given(history=st.lists(steps, max_size=25))
def test_no_two_owners_of_a_host_have_overlapping_paths(history: list[Step]) -> None:
    scenario = HostScenario()
    for step in history:
        take(scenario, step)
        index = scenario.caches._hosts
        owned = list(index._owners)
        for place in owned:
            assert [other for other in owned if other.host == place.host and other.path.startswith(place.path)] == [place]


def test_deleted_storages_leave_nothing_in_the_index() -> None:
    scenario = HostScenario()
    for namespace in NAMESPACES:
        for user, class_name in (("alice", "path"), ("alice", "own"), ("files", "own"), ("u", "below")):
            scenario.apply(scenario.create(namespace, user, class_name))
    for key in scenario.storages():
        scenario.lose(key)
        scenario.delete(key)
    index = scenario.caches._hosts
    assert (index._claims, index._owners) == ({}, {})
    for ranked in (index._wanting, index._first_within, index._owners_within):
        assert (ranked._claimants, ranked._rank_of, ranked._name_of) == ({}, {}, {})


def test_two_paths_of_one_host_are_no_conflict_and_nested_ones_are() -> None:
    scenario = HostScenario()
    first = scenario.create("blue", "alice", "path")
    scenario.create("blue", "al", "path", 1)  # /u/al/ is no prefix of /u/alice/
    same = scenario.create("green", "alice", "path", 1)
    nested = scenario.create("red", "alice", "below", 2)
    whole = scenario.create("red", "files", "own", 2)
    above = scenario.create("red", "u", "parent", 2)
    scenario.reconcile()
    assert {key for key, conflict in scenario.conflicts.items() if conflict} == {same, nested, whole, above}
    scenario.delete(first)
    assert same in scenario.reconcile()
    assert {key for key, conflict in scenario.conflicts.items() if conflict} == {nested, whole, above}


def test_storage_that_waits_for_a_whole_host_keeps_no_later_user_from_it() -> None:
    scenario = HostScenario()
    scenario.apply(scenario.create("blue", "alice", "path", 1))
    whole = scenario.create("red", "files", "own", 0)
    late = scenario.create("blue", "bob", "path", 2)
    scenario.reconcile()
    assert (scenario.conflicts[whole], scenario.conflicts[late]) == (True, False)


def test_only_the_owner_of_a_user_id_has_a_host() -> None:
    scenario = HostScenario()
    first = scenario.create("blue", "alice", "own", 0)
    second = scenario.create("blue", "alice", "path", 1, name="second")
    waits = scenario.create("green", "alice", "path", 2)
    scenario.reconcile()
    assert not scenario.conflicts[waits], "the second of blue has no host while the first owns the user id"
    scenario.delete(first)
    assert waits in scenario.reconcile()
    assert scenario.conflicts[waits]
    scenario.delete(second)
    assert waits in scenario.reconcile()
    assert not scenario.conflicts[waits]


def test_users_keep_their_host_while_the_path_of_their_class_changes() -> None:
    scenario = HostScenario()
    scenario.apply(scenario.create("blue", "alice", "path", 1))
    whole = scenario.create("red", "files", "own", 0)
    scenario.set_class("path", {"network": SHARED, "browser": {"basePath": "/files/${slug}/"}})
    scenario.reconcile()
    assert scenario.conflicts == {Key("blue", "alice"): False, whole: True}


@pytest.mark.parametrize("class_name", ["path", "own"])
def test_host_stays_claimed_while_class_is_missing(class_name: str) -> None:
    scenario = HostScenario()
    scenario.apply(scenario.create("blue", "files", class_name))
    scenario.set_class(class_name, None)
    scenario.set_class("second", CLASSES[class_name])
    waits = scenario.create("green", "files", "second")
    scenario.reconcile()
    assert scenario.conflicts[waits]
    scenario.lose(Key("blue", "files"))
    assert waits in scenario.reconcile()
    assert not scenario.conflicts[waits]


@pytest.mark.parametrize("edit", [PAUSED, DELETING, INVALID], ids=["paused", "deleting", "invalid"])
@pytest.mark.parametrize("moved", [{"spec": {"className": "own"}}, {"spec": {"className": "internal"}}, {}])
def test_place_of_an_ingress_that_no_reconcile_moves_stays_claimed(edit: dict[str, Any], moved: dict[str, Any]) -> None:
    scenario = HostScenario()
    alice, late = scenario.create("blue", "alice", "path"), scenario.create("green", "alice", "path", 1)
    scenario.apply(alice)
    scenario.edit(alice, **edit)
    scenario.edit(alice, **moved)
    scenario.reconcile()
    assert (scenario.conflict(alice), scenario.conflict(late)) == (False, True)
    scenario.lose(alice)
    scenario.edit(alice, spec={"className": "internal"})
    assert late in scenario.reconcile()
    assert not scenario.conflicts[late]


def test_place_of_an_ingress_that_waits_with_its_pod_stays_claimed() -> None:
    scenario = HostScenario()
    alice, late = scenario.create("blue", "alice", "own"), scenario.create("green", "alice", "own", 1)
    scenario.apply(alice)
    moved = scenario.create("blue", "alice", "path")
    same = scenario.create("red", "alice", "path", 2)
    scenario.reconcile()
    assert scenario.conflicts == {alice: False, late: True, same: True}, "the former place and the new one"
    scenario.apply(moved)
    assert late in scenario.reconcile()
    assert (scenario.conflict(late), scenario.conflict(same)) == (False, True)


@pytest.mark.parametrize("edit", [{}, PAUSED, DELETING], ids=["none", "paused", "deleting"])
def test_an_edited_ingress_takes_no_place_from_its_owner(edit: dict[str, Any]) -> None:
    scenario = HostScenario()
    alice, bob = scenario.create("blue", "alice", "path"), scenario.create("green", "bob", "path", 1)
    scenario.apply(alice)
    scenario.apply(bob)
    scenario.edit(alice, **edit)
    live, of_bob = scenario.ingress(alice), scenario.ingress(bob)
    assert live is not None
    assert of_bob is not None
    [ours], [theirs] = live["spec"]["rules"], of_bob["spec"]["rules"]
    path = ours["http"]["paths"][0] | {"path": theirs["http"]["paths"][0]["path"]}
    edited = live | {"spec": live["spec"] | {"rules": [theirs | {"http": {"paths": [path]}}]}}
    scenario.caches.cache(Kind.INGRESS.resource).event("MODIFIED", scenario.version(edited))
    assert not scenario.conflict(bob)


def test_an_event_of_one_of_many_users_of_a_host_requeues_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    scenario = HostScenario()
    for number in range(MANY):
        scenario.create("blue", f"user-{number:05}", "path", 1)
    whole = scenario.create("red", "files", "own", 2)
    scenario.reconcile()
    assert [key for key, conflict in scenario.conflicts.items() if conflict] == [whole]
    visited = 0
    rank = host._prefixes

    def counted(place: HostPath) -> Any:
        nonlocal visited
        visited += 1
        return rank(place)

    monkeypatch.setattr(host, "_prefixes", counted)
    some = Key("blue", "user-00042")
    for change in (
        lambda: scenario.apply(some),
        lambda: scenario.lose(some),
        lambda: scenario.create("red", "files", "internal"),
        lambda: scenario.create("red", "files", "own"),
        lambda: scenario.conflict(whole),
        lambda: scenario.delete(some),
        lambda: scenario.delete(whole),
    ):
        visited = 0
        change()
        assert visited <= 20
        assert scenario.reconcile() <= {some, whole}
