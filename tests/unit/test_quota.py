"""Which UserStorages get a place within the quota of their class, who is requeued, and that the number of others costs nothing."""

from collections import Counter
from collections.abc import Callable
from itertools import count
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from support.builders import class_object, desired_of, ready_pod, storage_object
from userstorage_operator.api.resources import USER_STORAGE_CLASSES, USER_STORAGES, Kind
from userstorage_operator.api.unstructured import Unstructured
from userstorage_operator.api.userstorage import Key
from userstorage_operator.api.userstorageclass import choose_class
from userstorage_operator.informers.caches import Caches

COUNT = 20
LIMITS = {"small": 2, "large": 4, "unlimited": None}


class QuotaScenario:
    """Caches with the classes of LIMITS, of which `small` is the default."""

    def __init__(self) -> None:
        self.requeued: list[Key] = []
        self.caches = Caches(self.requeued.append, lambda _: None)
        self.versions = count(100)
        self.granted: dict[str, tuple[str, str]] = {}
        """Name -> uid of a UserStorage that has a place, and its class."""
        for name, limit in LIMITS.items():
            self.set_class(name, limit, default=name == "small")

    def event(self, event_type: str, resource: Any, obj: Unstructured) -> None:
        meta = obj["metadata"] | {"resourceVersion": str(next(self.versions))}
        self.caches.cache(resource).event(event_type, obj | {"metadata": meta})

    def set_class(self, name: str, limit: int | None, *, default: bool = False) -> None:
        meta: Unstructured = {"generation": next(self.versions)}
        if default:
            meta["annotations"] = {"userstorage.dev/is-default-class": "true"}
        spec = {"limits": {"maxPerNamespace": limit}} if limit is not None else {}
        self.event("MODIFIED", USER_STORAGE_CLASSES, class_object(name, meta=meta, **spec))

    def remove_class(self, name: str) -> None:
        if (raw := self.caches.cache(USER_STORAGE_CLASSES).get("", name)) is not None:
            self.event("DELETED", USER_STORAGE_CLASSES, raw)

    def class_in_effect(self, raw: Unstructured) -> tuple[str, int] | None:
        """Return name and generation of the class of the UserStorage; None for the built-in one, or if it does not exist."""
        chosen = choose_class(raw["spec"].get("className"), self.caches.classes())
        return (chosen["metadata"]["name"], chosen["metadata"]["generation"]) if chosen is not None else None

    def create(self, name: str, second: int, class_name: str | None = "small") -> None:
        fields = {"className": class_name} if class_name is not None else {}
        uid = f"uid-{name}-{next(self.versions)}"
        meta = {"name": name, "uid": uid, "creationTimestamp": f"2026-01-31T10:00:{second:02}Z"}
        self.event("MODIFIED", USER_STORAGES, storage_object(name, meta=meta, **fields))

    def storage(self, name: str) -> Unstructured | None:
        return self.caches.storage(Key("users", name))

    def move(self, name: str, class_name: str | None) -> None:
        if (raw := self.storage(name)) is not None:
            self.event(
                "MODIFIED", USER_STORAGES, raw | {"spec": {"userID": name} | ({"className": class_name} if class_name else {})}
            )

    def delete(self, name: str) -> None:
        if (raw := self.storage(name)) is not None:
            self.event("DELETED", USER_STORAGES, raw)

    def set_pod(self, name: str, *, exists: bool) -> None:
        raw = self.storage(name)
        pod = self.caches.children("users", f"user-storage-{name}").pod
        if exists and raw is not None:
            self.event("MODIFIED", Kind.POD.resource, ready_pod(desired_of(raw).pod, uid=f"pod-{next(self.versions)}"))
        elif not exists and pod is not None:
            self.event("DELETED", Kind.POD.resource, pod)

    def expected(self, raw: Unstructured) -> bool:
        """Return whether the UserStorage gets a place, found by a look at all."""
        classes = list(self.caches.classes())

        def class_of(other: Unstructured) -> str | None:
            chosen = choose_class(other["spec"].get("className"), classes)
            return str(chosen["metadata"]["name"]) if chosen is not None else None

        def rank(other: Unstructured) -> tuple[bool, str, str]:
            meta = other["metadata"]
            pod = self.caches.children("users", f"user-storage-{meta['name']}").owned(Kind.POD, meta["uid"])
            has = self.granted.get(meta["name"]) == (meta["uid"], class_of(other)) or pod is not None
            return not has, meta["creationTimestamp"], meta["uid"]

        chosen = choose_class(raw["spec"].get("className"), classes)
        limit = chosen["spec"].get("limits", {}).get("maxPerNamespace") if chosen is not None else None
        if limit is None:
            return True
        mates = [other for other in self.caches.cache(USER_STORAGES).values() if class_of(other) == class_of(raw)]
        before: int = sum(rank(other) < rank(raw) for other in mates)
        return bool(before < limit)

    def reconcile(self, name: str) -> bool:
        raw = self.storage(name)
        assert raw is not None
        expected = self.expected(raw)
        assert self.caches.take_place(raw) is expected
        chosen = choose_class(raw["spec"].get("className"), self.caches.classes())
        if chosen is None or "limits" not in chosen["spec"]:
            self.granted.pop(name, None)  # if its class gets the limit again, it has no place from before
        elif expected:
            self.granted[name] = raw["metadata"]["uid"], chosen["metadata"]["name"]
        return expected


names, class_names = st.sampled_from("abcdefg"), st.sampled_from(["small", "large", "unlimited", "missing", None])
steps = st.lists(
    st.one_of(
        st.tuples(st.just("create"), names, st.integers(0, 9), class_names),
        st.tuples(st.just("move"), names, class_names),
        st.tuples(st.just("delete"), names),
        st.tuples(st.just("pod"), names, st.booleans()),
        st.tuples(st.just("limit"), st.sampled_from(list(LIMITS)), st.sampled_from([None, 1, 2, 3]), st.booleans()),
        st.tuples(st.just("remove"), st.sampled_from(list(LIMITS))),
    ),
    max_size=25,
)


LEFT_AND_CAME_BACK = [
    ("create", "a", 0, "small"),
    ("create", "b", 0, "small"),
    ("limit", "small", 1, False),
    ("move", "a", "unlimited"),
    ("move", "a", "small"),
]


LIMITED_AGAIN = [
    ("create", "b", 0, "large"),
    ("pod", "b", True),
    ("create", "a", 0, "large"),
    ("limit", "large", None, False),
    ("limit", "large", 1, False),
]
LEFT_BY_THE_DEFAULT = [
    ("create", "a", 0, None),
    ("create", "b", 1, "small"),
    ("create", "c", 2, "small"),
    ("limit", "large", None, True),
]


@given(steps)
@example(LEFT_AND_CAME_BACK)
@example(LEFT_BY_THE_DEFAULT)
@example(LIMITED_AGAIN)
@settings(max_examples=300, deadline=None)
def test_places_are_those_of_a_look_at_all_and_a_change_requeues_gainers_and_losers(taken: list[tuple[Any, ...]]) -> None:
    scenario = QuotaScenario()
    answers: dict[str, tuple[bool, tuple[str, int] | None]] = {}

    def expected(raw: Unstructured) -> tuple[bool, tuple[str, int] | None]:
        return scenario.expected(raw), scenario.class_in_effect(raw)

    for step, *arguments in taken:
        scenario.requeued.clear()
        match step:
            case "create":
                scenario.create(*arguments)
            case "move":
                scenario.move(*arguments)
            case "delete":
                scenario.delete(*arguments)
            case "pod":
                scenario.set_pod(arguments[0], exists=arguments[1])
            case "remove":
                scenario.remove_class(*arguments)
            case _:
                scenario.set_class(arguments[0], arguments[1], default=arguments[2])
        living = {raw["metadata"]["name"]: raw for raw in scenario.caches.cache(USER_STORAGES).values()}
        changed = {name for name, raw in living.items() if expected(raw) != answers.get(name)}
        requeued = {key.name for key in scenario.requeued}
        assert changed <= requeued
        answers = {name: answer for name, answer in answers.items() if name in living}
        while due := sorted(set(living) & requeued):
            for name in due:
                answers[name] = scenario.reconcile(name), scenario.class_in_effect(living[name])
            requeued = {name for name, raw in living.items() if expected(raw) != answers[name]}


def test_change_of_a_class_requeues_its_users_and_for_the_default_one_also_those_without_a_class() -> None:
    scenario = QuotaScenario()
    for number, class_name in enumerate(("small", "large", "unlimited", "missing", None)):
        scenario.create(f"u{number}", number, class_name)

    def requeued(change: Callable[[], None]) -> set[str]:
        scenario.requeued.clear()
        change()
        return {key.name for key in scenario.requeued}

    assert requeued(lambda: scenario.set_class("large", 3)) == {"u1"}
    assert requeued(lambda: scenario.set_class("small", 3, default=True)) == {"u0", "u4"}
    assert requeued(lambda: scenario.set_class("missing", None)) == {"u3"}
    assert requeued(lambda: scenario.set_class("small", 3)) == {"u0", "u4"}, "the last class is no longer the default"
    assert requeued(lambda: scenario.set_class("unlimited", None, default=True)) == {"u2", "u4"}
    assert requeued(lambda: scenario.remove_class("unlimited")) == {"u2", "u4"}
    assert requeued(lambda: scenario.remove_class("large")) == {"u1"}


def test_place_goes_to_the_oldest_and_is_kept() -> None:
    scenario = QuotaScenario()
    for number in range(COUNT):
        scenario.create(f"u{number:02}", number)
    assert [scenario.reconcile(f"u{number:02}") for number in range(COUNT)] == [True] * 2 + [False] * (COUNT - 2)
    scenario.create("older", 0)
    assert not scenario.reconcile("older")
    assert scenario.reconcile("u01")
    scenario.requeued.clear()
    scenario.delete("u01")
    assert {key.name for key in scenario.requeued} == {"older", "u01"}
    assert scenario.reconcile("older")


def work_of_a_pass(members: int, monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """Return how often the caches are read for one of so many members above the limit: its event, and its reconcile."""
    scenario = QuotaScenario()
    for number in range(members):
        scenario.create(f"u{number}", 30)
    counted: Counter[str] = Counter()
    for method in ("children", "storage", "classes"):
        whole = getattr(scenario.caches, method)

        def counting(*arguments: Any, method: str = method, whole: Any = whole) -> Any:
            counted[method] += 1
            return whole(*arguments)

        monkeypatch.setattr(scenario.caches, method, counting)
    scenario.create("late", 59)
    scenario.requeued.clear()
    raw = scenario.storage("late")
    assert raw is not None
    assert not scenario.caches.take_place(raw)
    scenario.delete("u1")
    assert len(set(scenario.requeued)) <= 2
    return counted


def test_pass_over_one_of_thousands_costs_what_one_of_five_does(monkeypatch: pytest.MonkeyPatch) -> None:
    assert work_of_a_pass(3000, monkeypatch) == work_of_a_pass(5, monkeypatch)
