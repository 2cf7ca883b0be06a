"""Whether the quota of a class is exceeded, without a scan if it cannot be."""

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
def caches() -> Caches:
    caches = Caches(lambda _: None, lambda _: None)
    meta = {"name": "small", "uid": "uid-small", "resourceVersion": "1", "generation": 1}
    caches.cache(USER_STORAGE_CLASSES).event("ADDED", {"metadata": meta, "spec": {}})
    for number in range(COUNT):
        caches.cache(USER_STORAGES).event("ADDED", user(number))
    return caches


def test_quota_goes_to_the_oldest_users_but_a_reserved_place_is_kept(caches: Caches) -> None:
    reservations = Reservations()
    exceeded = [quota.exceeded(user(number), "small", 5, caches, reservations) for number in range(COUNT)]
    assert exceeded == [False] * 5 + [True] * (COUNT - 5)
    reservations.reserve(Key("users", f"user-{COUNT - 1}"), "small")
    assert not quota.exceeded(user(COUNT - 1), "small", 5, caches, reservations)
    assert quota.exceeded(user(4), "small", 5, caches, reservations)


def test_a_namespace_within_the_quota_is_not_scanned(caches: Caches, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(caches, "children", None)
    assert not quota.exceeded(user(COUNT - 1), "small", COUNT, caches, Reservations())
