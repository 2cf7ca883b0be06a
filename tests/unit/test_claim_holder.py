"""Which UserStorage holds a claim, and which ones are requeued when that changes."""

from typing import Any, ClassVar

from support.builders import desired_of, ready_pod, storage_object
from support.caches import put_list
from userstorage_operator.api.names import FINALIZER
from userstorage_operator.api.resources import USER_STORAGES, Kind
from userstorage_operator.api.unstructured import Unstructured
from userstorage_operator.api.userstorage import Key, UserStorage
from userstorage_operator.arbitration import claim as claims
from userstorage_operator.informers.caches import Caches
from userstorage_operator.observed.claim_usage import ClaimUse


def user(
    name: str, created: str, claim: str | None = "photos", storage: Unstructured | None = None, **meta: Any
) -> Unstructured:
    times = {"creationTimestamp": f"2026-01-31T{created}:00Z"}
    storage = ({"claimName": claim} if claim is not None else {}) | (storage or {})
    return storage_object(name, meta={"name": name, "uid": f"uid-{name}"} | times | meta, storage=storage)


FIRST, SECOND = user("first", "10:00"), user("second", "11:00")
DELETED: dict[str, Any] = {"deletionTimestamp": "2026-01-31T12:00:00Z"}


def caches_of(*storages: Unstructured, pods: tuple[Unstructured, ...] = (), requeued: list[str] | None = None) -> Caches:
    caches = Caches(lambda key: requeued.append(key.name) if requeued is not None else None, lambda _: None)
    put_list(caches.cache(USER_STORAGES), storages, "200")
    put_list(caches.cache(Kind.POD.resource), [ready_pod(desired_of(raw).pod) for raw in pods], "200")
    return caches


def claim_of(share: str | None, *modes: str) -> Unstructured:
    labels = {"userstorage.dev/shareable": share} if share is not None else {}
    meta = {"name": "photos", "namespace": "users", "uid": "uid-photos", "resourceVersion": "300", "labels": labels}
    return {"metadata": meta, "spec": {"accessModes": list(modes)}}


FOR_ONE = claim_of("true", "ReadWriteMany")
SHARED = claim_of("Directories", "ReadWriteMany")


def holder_before(
    raw: Unstructured,
    caches: Caches,
    reservations: claims.ClaimReservations | None = None,
    claim: Unstructured | None = FOR_ONE,
) -> str | None:
    found = claims.holder(raw, UserStorage.parse(raw), claim, caches, reservations or claims.ClaimReservations(caches))
    return found.name if found is not None else None


def test_the_oldest_holds_the_claim() -> None:
    caches = caches_of(SECOND, FIRST)
    assert (holder_before(FIRST, caches), holder_before(SECOND, caches)) == (None, "first")


def test_a_pod_on_the_claim_comes_before_age() -> None:
    caches = caches_of(FIRST, SECOND, pods=(SECOND,))
    assert (holder_before(FIRST, caches), holder_before(SECOND, caches)) == ("second", None)


def test_a_reservation_comes_before_age_until_it_is_released() -> None:
    requeued: list[str] = []
    caches = caches_of(FIRST, SECOND, requeued=requeued)
    reservations = claims.ClaimReservations(caches)
    reservations.reserve(Key("users", "second"), ClaimUse("photos"))
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


def test_storages_of_other_claims_or_namespaces_or_of_same_user_do_not_hold_the_claim() -> None:
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


def test_next_claimant_is_requeued_when_holder_loses_its_finalizer() -> None:
    requeued: list[str] = []
    caches = caches_of(FIRST, SECOND, requeued=requeued)
    requeued.clear()
    released = user("first", "10:00", **DELETED, finalizers=["example.com/backup"], resourceVersion="201")
    assert FINALIZER not in released["metadata"]["finalizers"]
    caches.cache(USER_STORAGES).event("MODIFIED", released)
    assert "second" in requeued
    assert holder_before(SECOND, caches) is None


def test_next_claimant_is_requeued_when_holder_is_gone() -> None:
    requeued: list[str] = []
    caches = caches_of(FIRST, SECOND, requeued=requeued)
    requeued.clear()
    caches.cache(USER_STORAGES).event("DELETED", user("first", "10:00", resourceVersion="201"))
    assert "second" in requeued
    assert holder_before(SECOND, caches) is None


def directory_user(name: str, created: str, sub_path: str | None, **storage: object) -> Unstructured:
    return user(name, created, storage=({"subPath": sub_path} if sub_path is not None else {}) | storage)


ALICE = directory_user("alice", "10:00", "${slug}")
BOB = directory_user("bob", "11:00", "${slug}")


def test_directories_of_a_shared_claim_are_held_one_by_one() -> None:
    caches = caches_of(ALICE, BOB)
    assert [holder_before(raw, caches, claim=SHARED) for raw in (ALICE, BOB)] == [None, None]
    assert [holder_before(raw, caches) for raw in (ALICE, BOB)] == [None, "alice"]
    exclusive = claim_of("Directories", "ReadWriteOnce")
    assert [holder_before(raw, caches, claim=exclusive) for raw in (ALICE, BOB)] == [None, "alice"]


def test_a_directory_contains_those_below_it() -> None:
    for taken, sub_path in (
        ("a", "a"),
        ("a", "A"),
        ("a", "A/b"),
        ("A/b", "a"),
        ("a", "a/b"),
        ("a/b", "a"),
        ("a", None),
        (None, "a"),
        (None, None),
    ):
        first, second = directory_user("first", "10:00", taken), directory_user("second", "11:00", sub_path)
        assert holder_before(second, caches_of(first, second), claim=SHARED) == "first", (taken, sub_path)
    for sub_path in ("b", "ab", "b/a"):
        first, second = directory_user("first", "10:00", "a"), directory_user("second", "11:00", sub_path)
        assert holder_before(second, caches_of(first, second), claim=SHARED) is None, sub_path


def test_only_readers_share_a_directory() -> None:
    for modes, expected in (((True, True), None), ((True, False), "first"), ((False, True), "first")):
        first = directory_user("first", "10:00", "public", readOnly=modes[0])
        second = directory_user("second", "11:00", "public", readOnly=modes[1])
        assert holder_before(second, caches_of(first, second), claim=SHARED) == expected


def test_withdrawn_consent_ends_no_pod() -> None:
    carol = directory_user("carol", "09:00", "${slug}")
    caches = caches_of(ALICE, BOB, carol, pods=(ALICE, BOB))
    for claim in (FOR_ONE, claim_of(None, "ReadWriteMany"), None):
        assert [holder_before(raw, caches, claim=claim) for raw in (ALICE, BOB)] == [None, None]
    assert holder_before(carol, caches) == "alice"


def test_new_directory_is_held_by_the_pod_that_mounts_it() -> None:
    # Alice moves into bob's directory: her pod still mounts her own, so bob is the one who has it.
    caches = caches_of(ALICE, BOB, pods=(ALICE, BOB))
    moved = directory_user("alice", "10:00", "bob", resourceVersion="250")
    caches.cache(USER_STORAGES).event("MODIFIED", moved)
    assert (holder_before(moved, caches, claim=SHARED), holder_before(BOB, caches, claim=SHARED)) == ("bob", None)
    newcomer = directory_user("newcomer", "08:00", "alice", resourceVersion="251")
    caches.cache(USER_STORAGES).event("ADDED", newcomer)
    assert holder_before(newcomer, caches, claim=SHARED) == "alice"


def test_older_storage_above_is_not_starved_by_directories_below() -> None:
    # Alice holds a directory; the root waits for her, and those who come after the root wait for the root.
    root, late = directory_user("root", "11:00", None), directory_user("late", "12:00", "late")
    caches = caches_of(ALICE, root, late, pods=(ALICE,))
    assert [holder_before(raw, caches, claim=SHARED) for raw in (ALICE, root, late)] == [None, "alice", "root"]


def test_label_requeues_all_storages_of_the_claim() -> None:
    requeued: list[str] = []
    caches = caches_of(ALICE, BOB, user("elsewhere", "09:00", claim="music"), requeued=requeued)
    for version, claim in enumerate((SHARED, FOR_ONE), start=400):
        requeued.clear()
        caches.shared_claims.event("MODIFIED", claim | {"metadata": claim["metadata"] | {"resourceVersion": str(version)}})
        assert sorted(requeued) == ["alice", "bob"]
    requeued.clear()
    annotated = FOR_ONE["metadata"] | {"resourceVersion": "500", "annotations": {"by": "hand"}}
    caches.shared_claims.event("MODIFIED", FOR_ONE | {"metadata": annotated})
    assert requeued == []
    caches.shared_claims.event("DELETED", FOR_ONE | {"metadata": FOR_ONE["metadata"] | {"resourceVersion": "501"}})
    assert sorted(requeued) == ["alice", "bob"]


class CountingString(str):
    """Text that counts how often it is compared, as part of a rank or of a key."""

    __slots__ = ()
    comparisons: ClassVar[int] = 0

    def __lt__(self, other: str) -> bool:
        CountingString.comparisons += 1
        return str.__lt__(self, other)

    def __eq__(self, other: object) -> bool:
        CountingString.comparisons += 1
        return str.__eq__(self, other)

    __hash__ = str.__hash__


def test_a_reconcile_costs_as_much_with_5000_users_of_a_claim_as_with_5() -> None:
    # Counted, not timed: how often the ranks and user ids of others are looked at.
    for claim, sub_path in ((SHARED, "${slug}"), (SHARED, "same"), (FOR_ONE, "${slug}")):
        costs = []
        for number in (5, 5000):
            storages = [directory_user(f"user-{index:04}", "10:00", sub_path) for index in range(number)]
            for raw in storages:
                raw["spec"]["userID"] = CountingString(raw["spec"]["userID"])
                raw["metadata"]["creationTimestamp"] = CountingString("2026-01-31T10:00:00Z")
            caches = caches_of(*storages)
            caches.shared_claims.event("ADDED", claim)
            reservations = claims.ClaimReservations(caches)
            CountingString.comparisons = 0
            for raw in (storages[0], storages[-1]):
                holder_before(raw, caches, reservations, claim)
            costs.append(CountingString.comparisons)
        assert costs[1] <= costs[0] + 10, (claim, sub_path, costs)
