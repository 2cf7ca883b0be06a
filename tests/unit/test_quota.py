"""Whether a class is full, without looking at everybody where it cannot be."""

import pytest

from support.builders import storage_object
from userstorage_operator.api.resources import USER_STORAGE_CLASSES, USER_STORAGES
from userstorage_operator.api.unstructured import Unstructured
from userstorage_operator.api.userstorage import Key
from userstorage_operator.arbitration import quota
from userstorage_operator.arbitration.reservations import Reservations
from userstorage_operator.informers.caches import Caches

COUNT = 20


def user(number: int) -> Unstructured:
    meta = {"name": f"user-{number}", "uid": f"uid-{number:02}", "resourceVersion": str(number + 1)}
    return storage_object(f"user-{number}", meta=meta) | {"spec": {"userID": f"user-{number}", "className": "small"}}


@pytest.fixture
def views() -> Caches:
    views = Caches(lambda _: None, lambda _: None)
    meta = {"name": "small", "uid": "uid-small", "resourceVersion": "1", "generation": 1}
    views.cache(USER_STORAGE_CLASSES).event("ADDED", {"metadata": meta, "spec": {}})
    for number in range(COUNT):
        views.cache(USER_STORAGES).event("ADDED", user(number))
    return views


def test_the_oldest_are_let_in_and_who_was_let_in_stays(views: Caches) -> None:
    places = Reservations()
    full = [quota.exceeded(user(number), "small", 5, views, places) for number in range(COUNT)]
    assert full == [False] * 5 + [True] * (COUNT - 5)
    places.reserve(Key("users", f"user-{COUNT - 1}"), "small")
    assert not quota.exceeded(user(COUNT - 1), "small", 5, views, places)
    assert quota.exceeded(user(4), "small", 5, views, places)


def test_where_all_have_room_nobody_is_looked_at(views: Caches, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(views, "children", None)
    assert not quota.exceeded(user(COUNT - 1), "small", COUNT, views, Reservations())
