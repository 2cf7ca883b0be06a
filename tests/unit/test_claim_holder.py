"""Which UserStorage holds a claim, and which ones are requeued when that changes."""

from support.builders import desired_of, ready_pod, storage_object
from userstorage_operator.api.names import FINALIZER
from userstorage_operator.api.resources import USER_STORAGES, Kind
from userstorage_operator.api.unstructured import Unstructured
from userstorage_operator.api.userstorage import Key, UserStorage
from userstorage_operator.arbitration import claim as claims
from userstorage_operator.arbitration.reservations import Reservations
from userstorage_operator.informers.caches import Caches


def user(name: str, created: str, claim: str | None = "photos", **meta: object) -> Unstructured:
    times = {"creationTimestamp": f"2026-01-31T{created}:00Z"}
    storage = {"claimName": claim} if claim is not None else {}
    return storage_object(name, meta={"name": name, "uid": f"uid-{name}"} | times | meta, storage=storage)


FIRST, SECOND = user("first", "10:00"), user("second", "11:00")
DELETED = {"deletionTimestamp": "2026-01-31T12:00:00Z"}


def caches_of(*storages: Unstructured, pods: tuple[Unstructured, ...] = (), requeued: list[str] | None = None) -> Caches:
    caches = Caches(lambda key: requeued.append(key.name) if requeued is not None else None, lambda _: None)
    caches.cache(USER_STORAGES).replace(storages, "200")
    caches.cache(Kind.POD.resource).replace([ready_pod(desired_of(raw).pod) for raw in pods], "200")
    return caches


def holder_before(raw: Unstructured, caches: Caches, reservations: Reservations | None = None) -> str | None:
    return claims.holder(raw, UserStorage.parse(raw), caches, reservations or Reservations())


def test_the_oldest_holds_the_claim() -> None:
    caches = caches_of(SECOND, FIRST)
    assert (holder_before(FIRST, caches), holder_before(SECOND, caches)) == (None, "first")


def test_a_pod_on_the_claim_comes_before_age() -> None:
    caches = caches_of(FIRST, SECOND, pods=(SECOND,))
    assert (holder_before(FIRST, caches), holder_before(SECOND, caches)) == ("second", None)


def test_a_reservation_comes_before_age_until_it_is_released() -> None:
    requeued: list[str] = []
    caches = caches_of(FIRST, SECOND, requeued=requeued)
    reservations = Reservations(caches.claim_released)
    reservations.reserve(Key("users", "second"), "photos")
    assert (holder_before(FIRST, caches, reservations), holder_before(SECOND, caches, reservations)) == ("second", None)
    requeued.clear()
    reservations.release(Key("users", "second"))
    assert requeued == ["first"]
    assert holder_before(FIRST, caches, reservations) is None


def test_a_new_storage_requeues_the_others_on_the_same_claim() -> None:
    requeued: list[str] = []
    caches = caches_of(SECOND, user("third", "09:00", claim="music"), requeued=requeued)
    requeued.clear()
    caches.cache(USER_STORAGES).event("ADDED", user("first", "10:00", resourceVersion="201"))
    assert set(requeued) == {"first", "second"}


def test_the_older_of_two_that_mount_the_claim_holds_it() -> None:
    caches = caches_of(FIRST, SECOND, pods=(FIRST, SECOND))
    assert (holder_before(FIRST, caches), holder_before(SECOND, caches)) == (None, "first")


def test_the_user_that_the_claim_was_created_for_comes_before_age() -> None:
    alice, guest = user("alice", "11:00", claim=None), user("guest", "10:00", claim="user-storage-alice")
    caches = caches_of(alice, guest)
    assert (holder_before(alice, caches), holder_before(guest, caches)) == (None, "alice")
    assert holder_before(alice, caches_of(alice, guest, pods=(guest,))) == "guest"


def test_a_deleted_user_storage_holds_the_claim_until_its_pod_is_gone() -> None:
    deleting = user("first", "10:00", **DELETED)
    released = user("first", "10:00", **DELETED, finalizers=["example.com/backup"])
    assert holder_before(SECOND, caches_of(deleting, SECOND)) == "first"
    assert holder_before(SECOND, caches_of(released, SECOND, pods=(released,))) == "first"
    assert holder_before(SECOND, caches_of(released, SECOND)) is None


def test_storages_of_other_claims_other_namespaces_or_the_same_user_do_not_hold_the_claim() -> None:
    elsewhere = user("first", "10:00", namespace="others")
    again = user("again", "10:00")
    again["spec"]["userID"] = "second"
    assert holder_before(SECOND, caches_of(SECOND, elsewhere, again, user("third", "09:00", claim="music"))) is None


def test_a_user_storage_that_can_have_no_pod_does_not_hold_the_claim() -> None:
    # Of the three UserStorages of bob one owns the user id, and its files are on another claim.
    bob = {"userID": "bob"}
    incumbent = user("bob", "09:00", claim=None)
    losers = [user(name, created) | {"spec": bob | {"storage": {"claimName": "photos"}}} for name, created in
              (("bob2", "09:30"), ("bob3", "09:45"))]  # fmt: skip
    assert holder_before(SECOND, caches_of(incumbent, *losers, SECOND)) is None
    assert holder_before(SECOND, caches_of(*losers, SECOND)) == "bob2"
    assert holder_before(SECOND, caches_of(incumbent, *losers, SECOND, pods=(losers[1],))) == "bob3"


def test_the_next_is_requeued_when_the_holder_loses_its_finalizer_and_when_it_is_gone() -> None:
    requeued: list[str] = []
    caches = caches_of(FIRST, SECOND, requeued=requeued)
    cache = caches.cache(USER_STORAGES)
    requeued.clear()
    released = user("first", "10:00", **DELETED, finalizers=["example.com/backup"], resourceVersion="201")
    assert FINALIZER not in released["metadata"]["finalizers"]
    cache.event("MODIFIED", released)
    assert "second" in requeued
    requeued.clear()
    cache.event("DELETED", user("first", "10:00", **DELETED, resourceVersion="202"))
    assert "second" in requeued
