"""Whose claim it is, and who is asked again when that changes."""

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
GOING = {"deletionTimestamp": "2026-01-31T12:00:00Z"}


def views_of(*storages: Unstructured, pods: tuple[Unstructured, ...] = (), asked: list[str] | None = None) -> Caches:
    views = Caches(lambda key: asked.append(key.name) if asked is not None else None, lambda _: None)
    views.cache(USER_STORAGES).replace(storages, "200")
    views.cache(Kind.POD.resource).replace([ready_pod(desired_of(raw).pod) for raw in pods], "200")
    return views


def user_before(raw: Unstructured, views: Caches, book: Reservations | None = None) -> str | None:
    return claims.holder(raw, UserStorage.parse(raw), views, book or Reservations())


def test_the_oldest_has_the_claim() -> None:
    views = views_of(SECOND, FIRST)
    assert (user_before(FIRST, views), user_before(SECOND, views)) == (None, "first")


def test_one_that_mounts_it_has_it_before_the_oldest() -> None:
    views = views_of(FIRST, SECOND, pods=(SECOND,))
    assert (user_before(FIRST, views), user_before(SECOND, views)) == ("second", None)


def test_one_whose_pod_is_on_its_way_has_it_until_there_will_be_none() -> None:
    asked: list[str] = []
    views = views_of(FIRST, SECOND, asked=asked)
    book = Reservations(views.claim_released)
    book.reserve(Key("users", "second"), "photos")
    assert (user_before(FIRST, views, book), user_before(SECOND, views, book)) == ("second", None)
    asked.clear()
    book.release(Key("users", "second"))
    assert asked == ["first"]
    assert user_before(FIRST, views, book) is None


def test_those_who_share_it_are_asked_when_one_comes() -> None:
    asked: list[str] = []
    views = views_of(SECOND, user("third", "09:00", claim="music"), asked=asked)
    asked.clear()
    views.cache(USER_STORAGES).event("ADDED", user("first", "10:00", resourceVersion="201"))
    assert set(asked) == {"first", "second"}


def test_of_two_that_mount_it_one_has_it() -> None:
    views = views_of(FIRST, SECOND, pods=(FIRST, SECOND))
    assert (user_before(FIRST, views), user_before(SECOND, views)) == (None, "first")


def test_a_claim_of_a_live_user_is_that_users() -> None:
    alice, guest = user("alice", "11:00", claim=None), user("guest", "10:00", claim="user-storage-alice")
    views = views_of(alice, guest)
    assert (user_before(alice, views), user_before(guest, views)) == (None, "alice")
    assert user_before(alice, views_of(alice, guest, pods=(guest,))) == "guest"


def test_one_that_goes_has_it_until_its_pod_is_gone() -> None:
    going = user("first", "10:00", **GOING)
    released = user("first", "10:00", **GOING, finalizers=["example.com/backup"])
    assert user_before(SECOND, views_of(going, SECOND)) == "first"
    assert user_before(SECOND, views_of(released, SECOND, pods=(released,))) == "first"
    assert user_before(SECOND, views_of(released, SECOND)) is None


def test_other_claims_other_namespaces_and_the_same_user_do_not_count() -> None:
    elsewhere = user("first", "10:00", namespace="others")
    again = user("again", "10:00")
    again["spec"]["userID"] = "second"
    assert user_before(SECOND, views_of(SECOND, elsewhere, again, user("third", "09:00", claim="music"))) is None


def test_one_that_can_have_no_pod_keeps_nobody_from_the_claim() -> None:
    """Of the three objects of bob one comes first, and that one's files are elsewhere."""
    bob = {"userID": "bob"}
    incumbent = user("bob", "09:00", claim=None)
    losers = [user(name, created) | {"spec": bob | {"storage": {"claimName": "photos"}}} for name, created in
              (("bob2", "09:30"), ("bob3", "09:45"))]  # fmt: skip
    assert user_before(SECOND, views_of(incumbent, *losers, SECOND)) is None
    assert user_before(SECOND, views_of(*losers, SECOND)) == "bob2"
    assert user_before(SECOND, views_of(incumbent, *losers, SECOND, pods=(losers[1],))) == "bob3"


def test_the_next_is_asked_when_the_first_lets_go_and_when_it_is_gone() -> None:
    asked: list[str] = []
    views = views_of(FIRST, SECOND, asked=asked)
    cache = views.cache(USER_STORAGES)
    asked.clear()
    released = user("first", "10:00", **GOING, finalizers=["example.com/backup"], resourceVersion="201")
    assert FINALIZER not in released["metadata"]["finalizers"]
    cache.event("MODIFIED", released)
    assert "second" in asked
    asked.clear()
    cache.event("DELETED", user("first", "10:00", **GOING, resourceVersion="202"))
    assert "second" in asked
