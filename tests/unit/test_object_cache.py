"""The newest version of each object wins, whatever its source."""

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


def test_an_event_older_than_the_response_to_our_own_write_changes_nothing() -> None:
    recorder = Recorder()
    recorder.cache.put(obj(5))
    recorder.cache.event("MODIFIED", obj(4))
    recorder.cache.event("MODIFIED", obj(5))
    assert recorder.changes == []
    assert recorder.cache.get("n", "a") == obj(5)


def test_a_change_by_another_client_is_reported_even_if_our_write_response_shows_it() -> None:
    recorder = Recorder()
    recorder.cache.event("ADDED", obj(5))
    recorder.cache.put(obj(7, generation=2))
    assert recorder.changes == ["5", "7"]
    recorder.cache.put(obj(9, generation=2, deletionTimestamp="now"))
    assert recorder.changes == ["5", "7", "9"]
    recorder.cache.put(obj(11, generation=2, deletionTimestamp="now"))
    assert recorder.changes == ["5", "7", "9"]


def test_a_removed_finalizer_is_reported_from_the_response_to_our_own_write() -> None:
    recorder = Recorder()
    kept = obj(5)
    kept["metadata"]["finalizers"] = ["ours"]
    recorder.cache.event("ADDED", kept)
    recorder.cache.put(obj(7))  # of a status patch that was in flight
    assert recorder.changes == ["5", "7"]


def test_an_object_missing_from_a_full_list_is_removed_unless_it_is_newer() -> None:
    recorder = Recorder()
    recorder.cache.event("ADDED", obj(5, "old"))
    recorder.cache.put(obj(20, "new"))
    recorder.cache.replace([], "10")
    assert recorder.cache.get("n", "old") is None
    assert recorder.cache.get("n", "new") is not None
    assert recorder.changes == ["5", "5"]


def test_a_list_older_than_a_deletion_does_not_restore_the_object() -> None:
    recorder = Recorder()
    recorder.cache.event("ADDED", obj(5))
    recorder.cache.event("DELETED", obj(8))
    recorder.cache.replace([obj(5)], "6")
    assert recorder.cache.get("n", "a") is None
    recorder.cache.replace([obj(9, uid="2")], "9")
    assert recorder.cache.get("n", "a") == obj(9, uid="2")


def test_a_response_after_the_deletion_event_does_not_restore_the_object() -> None:
    recorder = Recorder()
    recorder.cache.event("ADDED", obj(5))
    recorder.cache.event("DELETED", obj(7, deletionTimestamp="now"))
    recorder.cache.put(obj(6, deletionTimestamp="now"))
    assert recorder.cache.get("n", "a") is None
    recorder.cache.put(obj(8, uid="2"))
    assert recorder.cache.get("n", "a") is not None


def test_an_event_from_a_stale_list_does_not_restore_a_deleted_object() -> None:
    recorder = Recorder()
    recorder.cache.event("ADDED", obj(5))
    recorder.cache.event("DELETED", obj(8))
    recorder.cache.event("ADDED", obj(5))
    assert recorder.cache.get("n", "a") is None
    assert recorder.changes == ["5", "8"]


def test_a_missed_deletion_is_reported_when_another_object_has_the_name() -> None:
    reported: list[tuple[str, str | None]] = []

    def changed(raw: dict[str, Any]) -> None:
        cached = cache.get("n", "a")
        reported.append((raw["metadata"]["uid"], cached["metadata"]["uid"] if cached else None))

    cache = ObjectCache(changed)
    cache.event("ADDED", obj(5))
    cache.event("MODIFIED", obj(7, uid="2"))
    cache.put(obj(9, uid="3"))
    assert reported == [("1", "1"), ("1", None), ("2", "2"), ("2", None), ("3", "3")]


def test_discarding_an_object_reports_a_change() -> None:
    recorder = Recorder()
    recorder.cache.event("ADDED", obj(5))
    recorder.cache.discard("n", "a", "1")
    assert recorder.changes == ["5", "5"]


def test_a_list_of_one_namespace_keeps_the_objects_of_others() -> None:
    recorder = Recorder()
    recorder.cache.event("ADDED", obj(5, namespace="other"))
    recorder.cache.replace([], "10", "n")
    assert recorder.cache.get("other", "a") is not None
    assert list(recorder.cache.namespaces_not_synced(["n", "other"])) == ["other"]


def test_discard_keeps_an_object_of_the_same_name_with_another_uid() -> None:
    recorder = Recorder()
    recorder.cache.put(obj(5, uid="2"))
    recorder.cache.discard("n", "a", "1")
    assert recorder.cache.get("n", "a") is not None
    recorder.cache.discard("n", "a", "2")
    assert recorder.cache.get("n", "a") is None


def test_in_namespace_returns_the_current_objects_of_that_namespace() -> None:
    cache = Recorder().cache
    for number, namespace in enumerate(("n", "m", "n")):
        cache.event("ADDED", obj(number + 1, str(number), namespace=namespace))

    def names(namespace: str) -> list[str]:
        return [found["metadata"]["name"] for found in cache.in_namespace(namespace)]

    assert (names("n"), names("m"), names("o"), len(cache)) == (["0", "2"], ["1"], [], 3)
    cache.event("DELETED", obj(4, "0"))
    cache.discard("m", "1", "1")
    assert (names("n"), names("m"), len(cache), len(list(cache.values()))) == (["2"], [], 1, 1)


def test_unread_fields_that_a_tenant_can_fill_are_not_kept() -> None:
    cache = ObjectCache(lambda _: None, transform=USER_STORAGES.transform)
    full: dict[str, Any] = {"annotations": {"note": "x" * 100_000}, "managedFields": [{"manager": "kubectl"}]}
    first, second, third = ({"metadata": obj(version)["metadata"] | full} for version in (5, 6, 7))
    cache.put(first)
    assert cache.get("n", "a") == obj(5)
    cache.event("MODIFIED", second)
    assert cache.get("n", "a") == obj(6)
    cache.replace([third], "9")
    assert cache.get("n", "a") == obj(7)
