"""The newest of each object, whoever brings it."""

from typing import Any

from userstorage_operator.api.resources import USER_STORAGES
from userstorage_operator.informers.object_cache import ObjectCache


def obj(
    version: int, name: str = "a", *, namespace: str = "n", uid: str = "1", generation: int = 1, **meta: str
) -> dict[str, Any]:
    known = {"namespace": namespace, "name": name, "uid": uid, "resourceVersion": str(version), "generation": generation}
    return {"metadata": known | meta}


class Recorder:
    def __init__(self) -> None:
        self.changes: list[str] = []
        self.cache = ObjectCache(lambda changed: self.changes.append(changed["metadata"]["resourceVersion"]))


def test_an_event_older_than_the_answer_to_our_own_write_changes_nothing() -> None:
    seen = Recorder()
    seen.cache.put(obj(5))
    seen.cache.event("MODIFIED", obj(4))
    seen.cache.event("MODIFIED", obj(5))
    assert seen.changes == []
    assert seen.cache.get("n", "a") == obj(5)


def test_what_others_did_is_seen_even_where_the_answer_to_our_own_write_tells_it_first() -> None:
    seen = Recorder()
    seen.cache.event("ADDED", obj(5))
    seen.cache.put(obj(7, generation=2))
    assert seen.changes == ["5", "7"]
    seen.cache.put(obj(9, generation=2, deletionTimestamp="now"))
    assert seen.changes == ["5", "7", "9"]
    seen.cache.put(obj(11, generation=2, deletionTimestamp="now"))
    assert seen.changes == ["5", "7", "9"]


def test_a_finalizer_that_was_taken_away_is_seen_in_the_answer_to_our_own_write() -> None:
    seen = Recorder()
    kept = obj(5)
    kept["metadata"]["finalizers"] = ["ours"]
    seen.cache.event("ADDED", kept)
    seen.cache.put(obj(7))  # a status that was under way meanwhile
    assert seen.changes == ["5", "7"]


def test_what_a_full_list_lacks_is_gone_unless_it_came_later() -> None:
    seen = Recorder()
    seen.cache.event("ADDED", obj(5, "old"))
    seen.cache.put(obj(20, "new"))
    seen.cache.replace([], "10")
    assert seen.cache.get("n", "old") is None
    assert seen.cache.get("n", "new") is not None
    assert seen.changes == ["5", "5"]


def test_a_list_made_before_a_deletion_does_not_bring_the_dead_back() -> None:
    seen = Recorder()
    seen.cache.event("ADDED", obj(5))
    seen.cache.event("DELETED", obj(8))
    seen.cache.replace([obj(5)], "6")
    assert seen.cache.get("n", "a") is None
    seen.cache.replace([obj(9, uid="2")], "9")
    assert seen.cache.get("n", "a") == obj(9, uid="2")


def test_an_answer_that_comes_after_the_event_of_the_deletion_makes_no_ghost() -> None:
    seen = Recorder()
    seen.cache.event("ADDED", obj(5))
    seen.cache.event("DELETED", obj(7, deletionTimestamp="now"))
    seen.cache.put(obj(6, deletionTimestamp="now"))
    assert seen.cache.get("n", "a") is None
    seen.cache.put(obj(8, uid="2"))
    assert seen.cache.get("n", "a") is not None


def test_an_event_of_a_list_that_was_behind_brings_no_dead_back() -> None:
    seen = Recorder()
    seen.cache.event("ADDED", obj(5))
    seen.cache.event("DELETED", obj(8))
    seen.cache.event("ADDED", obj(5))
    assert seen.cache.get("n", "a") is None
    assert seen.changes == ["5", "8"]


def test_whoever_is_gone_is_told_even_where_only_another_of_its_name_shows_it() -> None:
    told: list[tuple[str, str | None]] = []

    def changed(raw: dict[str, Any]) -> None:
        here = cache.get("n", "a")
        told.append((raw["metadata"]["uid"], here["metadata"]["uid"] if here else None))

    cache = ObjectCache(changed)
    cache.event("ADDED", obj(5))
    cache.event("MODIFIED", obj(7, uid="2"))
    cache.put(obj(9, uid="3"))
    assert told == [("1", "1"), ("1", None), ("2", "2"), ("2", None), ("3", "3")]


def test_what_is_discarded_is_told() -> None:
    seen = Recorder()
    seen.cache.event("ADDED", obj(5))
    seen.cache.discard("n", "a", "1")
    assert seen.changes == ["5", "5"]


def test_a_list_of_one_namespace_says_nothing_of_others() -> None:
    seen = Recorder()
    seen.cache.event("ADDED", obj(5, namespace="other"))
    seen.cache.replace([], "10", "n")
    assert seen.cache.get("other", "a") is not None
    assert list(seen.cache.namespaces_not_synced(["n", "other"])) == ["other"]


def test_only_the_very_object_is_discarded() -> None:
    seen = Recorder()
    seen.cache.put(obj(5, uid="2"))
    seen.cache.discard("n", "a", "1")
    assert seen.cache.get("n", "a") is not None
    seen.cache.discard("n", "a", "2")
    assert seen.cache.get("n", "a") is None


def test_the_objects_of_a_namespace_are_those_that_are_there_now() -> None:
    cache = Recorder().cache
    for number, namespace in enumerate(("n", "m", "n")):
        cache.event("ADDED", obj(number + 1, str(number), namespace=namespace))

    def names(namespace: str) -> list[str]:
        return [found["metadata"]["name"] for found in cache.in_namespace(namespace)]

    assert (names("n"), names("m"), names("o"), len(cache)) == (["0", "2"], ["1"], [], 3)
    cache.event("DELETED", obj(4, "0"))
    cache.discard("m", "1", "1")
    assert (names("n"), names("m"), len(cache), len(list(cache.values()))) == (["2"], [], 1, 1)


def test_what_a_tenant_may_fill_and_nobody_reads_is_not_kept() -> None:
    cache = ObjectCache(lambda _: None, transform=USER_STORAGES.transform)
    full: dict[str, Any] = {"annotations": {"note": "x" * 100_000}, "managedFields": [{"manager": "kubectl"}]}
    first, second, third = ({"metadata": obj(version)["metadata"] | full} for version in (5, 6, 7))
    cache.put(first)
    assert cache.get("n", "a") == obj(5)
    cache.event("MODIFIED", second)
    assert cache.get("n", "a") == obj(6)
    cache.replace([third], "9")
    assert cache.get("n", "a") == obj(7)
