from typing import Any

import pytest

from support.builders import class_object, desired_of, storage_object, stored
from userstorage_operator.api.resources import USER_STORAGE_CLASSES, Kind
from userstorage_operator.api.unstructured import Unstructured
from userstorage_operator.api.userstorage import Key
from userstorage_operator.api.userstorageclass import UserStorageClass
from userstorage_operator.arbitration.host import HostIndex
from userstorage_operator.arbitration.user_id import UserIDIndex
from userstorage_operator.informers.caches import Caches

EXPOSED = {"expose": "Ingress", "hostTemplate": "${slug}.example.org"}
HERE, THERE = {"user_id": "here"}, {"user_id": "there"}
OTHER_PATH = {"user_id": "here", "className": "below"}
NO_HOST = {"user_id": "here", "className": "internal"}
ONE, OTHER = Key("blue", "alice"), Key("green", "alice")


class Owners(UserIDIndex):
    """Of user ids: all but those in `losers`."""

    losers: frozenset[Key] = frozenset()

    def is_owner(self, raw: Unstructured) -> bool:
        return Key.of(raw) not in self.losers


@pytest.fixture
def owners() -> Owners:
    caches = Caches(lambda _: None, lambda _: None)
    for number, (name, spec) in enumerate(
        {"root": {"network": EXPOSED}, "below": {"network": EXPOSED, "browser": {"basePath": "/u/"}}, "internal": {}}.items()
    ):
        caches.cache(USER_STORAGE_CLASSES).event("ADDED", class_object(name, meta={"resourceVersion": str(number + 1)}, **spec))
    return Owners(caches)


@pytest.fixture
def index(owners: Owners) -> HostIndex:
    return HostIndex(owners._lister, owners)


def storage(key: Key, *, user_id: str, **spec: Any) -> Unstructured:
    meta = {"namespace": key.namespace, "name": key.name, "uid": str(key)}
    return storage_object(user_id, meta=meta, **{"className": "root"} | spec)


def update(index: HostIndex, key: Key, wanted: dict[str, Any], *, exists: bool = True) -> set[Key]:
    return index.update(storage(key, **wanted), exists=exists)


def test_update_returns_the_other_storages_of_the_old_and_the_new_host(index: HostIndex) -> None:
    assert update(index, ONE, HERE) == set()
    assert update(index, OTHER, HERE) == {ONE}
    assert update(index, OTHER, HERE) == set()
    assert index.affected_keys(ONE) == {OTHER}
    assert update(index, ONE, THERE) == {OTHER}
    assert index.affected_keys(OTHER) == set()
    assert update(index, OTHER, NO_HOST) == set()
    assert update(index, OTHER, OTHER_PATH) == set()
    assert index.affected_keys(ONE) == set()


def test_a_deleted_storage_leaves_nothing_in_the_index(index: HostIndex) -> None:
    for wanted in (HERE, THERE, NO_HOST, HERE):
        update(index, ONE, wanted)
    update(index, ONE, HERE, exists=False)
    assert (index._host_of, index._keys_of) == ({}, {})


def test_only_the_owner_of_a_user_id_gets_a_host(index: HostIndex, owners: Owners) -> None:
    update(index, ONE, HERE)
    owners.losers = frozenset({OTHER})
    assert update(index, OTHER, HERE) == set()
    owners.losers = frozenset({ONE})
    assert update(index, OTHER, HERE) == {ONE}
    assert update(index, ONE, HERE) == {OTHER}
    assert index.affected_keys(OTHER) == set()


@pytest.mark.parametrize("wanted", [{"className": "gone"}, {"className": None}])
def test_host_stays_claimed_while_class_is_missing(index: HostIndex, wanted: dict[str, Any]) -> None:
    caches = index._lister
    assert isinstance(caches, Caches)
    ingress = desired_of(storage(ONE, **HERE), UserStorageClass.parse(class_object(network=EXPOSED))).ingress
    assert ingress is not None
    caches.cache(Kind.INGRESS.resource).event("ADDED", stored(ingress))
    assert update(index, OTHER, HERE) == set()
    assert update(index, ONE, HERE | wanted) == {OTHER}
    caches.cache(Kind.INGRESS.resource).event("DELETED", stored(ingress, resourceVersion="102"))
    assert update(index, ONE, HERE | wanted) == {OTHER}
    assert index.affected_keys(ONE) == set()
