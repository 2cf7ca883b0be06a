"""The newest version of each object wins, whatever its source."""

from typing import Any

from support.caches import put_list
from userstorage_operator.api.names import ANNOTATION_DEFAULT_CLASS, ANNOTATION_PAUSED, ANNOTATION_RESTARTED_AT
from userstorage_operator.api.resources import USER_STORAGES, Kind
from userstorage_operator.informers.object_cache import ObjectCache
from userstorage_operator.observed.kept import keep


def obj(
    version: int, name: str = "a", *, namespace: str = "n", uid: str = "1", generation: int = 1, **meta: Any
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


def test_annotation_that_people_set_is_reported_from_the_response_to_our_own_write() -> None:
    for annotation in (ANNOTATION_PAUSED, ANNOTATION_RESTARTED_AT, ANNOTATION_DEFAULT_CLASS):
        recorder = Recorder()
        recorder.cache.event("ADDED", obj(5))
        recorder.cache.put(obj(7, annotations={annotation: "true"}))
        assert recorder.changes == ["5", "7"], annotation


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
    put_list(recorder.cache, [], "10")
    assert recorder.cache.get("n", "old") is None
    assert recorder.cache.get("n", "new") is not None
    assert recorder.changes == ["5", "5"]


def test_a_list_older_than_a_deletion_does_not_restore_the_object() -> None:
    recorder = Recorder()
    recorder.cache.event("ADDED", obj(5))
    recorder.cache.event("DELETED", obj(8))
    put_list(recorder.cache, [obj(5)], "6")
    assert recorder.cache.get("n", "a") is None
    put_list(recorder.cache, [obj(9, uid="2")], "9")
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
    put_list(recorder.cache, [], "10", "n")
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


def test_change_of_what_is_not_kept_moves_the_version_only() -> None:
    changes: list[str] = []
    cache = ObjectCache(lambda raw: changes.append(raw["metadata"]["resourceVersion"]), keep=keep(USER_STORAGES))
    versions: list[Any] = []
    cache.add_event_handler(lambda _, raw: versions.append(raw and raw["metadata"]["resourceVersion"]))
    first, second, third = (obj(version, annotations={"note": f"{version}" * 100_000}) for version in (5, 6, 7))
    cache.event("ADDED", first)
    cache.event("MODIFIED", second)
    assert cache.get("n", "a") == obj(6)
    put_list(cache, [third], "9")
    assert cache.get("n", "a") == obj(7)
    cache.event("MODIFIED", obj(8, generation=2))
    assert (changes, versions) == (["5", "8"], ["5", "6", "7", "8"])


def test_objects_that_are_none_of_ours_leave_no_trace() -> None:
    cache = ObjectCache(lambda _: None, keep=keep(Kind.SERVICE.resource))
    cache.event("ADDED", obj(5, "forged"))
    cache.event("DELETED", obj(6, "forged"))
    put_list(cache, [obj(7, "forged"), obj(8, "user-storage-alice")], "9")
    cache.put(obj(10, "forged"))
    assert cache.keys() == [("n", "user-storage-alice")]
    assert cache.newest_version() == 8


def test_parsed_objects_are_those_that_were_stored() -> None:
    cache = ObjectCache(lambda _: None)
    for number in range(1, 2000):
        cache.event("ADDED", obj(number, f"user-{number}", uid=f"uid-{number}"))
    assert [cache.get("n", f"user-{number}") for number in (1, 1000, 1999)] == [
        obj(number, f"user-{number}", uid=f"uid-{number}") for number in (1, 1000, 1999)
    ]
    assert [raw["metadata"]["uid"] for raw in cache.values()] == [f"uid-{number}" for number in range(1, 2000)]
