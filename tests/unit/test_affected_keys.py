"""An event wakes those whose answer it changes, and next to nobody else."""

from itertools import count
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from support.builders import desired_of, ready_pod, storage_object
from userstorage_operator.api.names import FINALIZER, child_name
from userstorage_operator.api.resources import USER_STORAGES, Kind
from userstorage_operator.api.unstructured import Unstructured
from userstorage_operator.api.userstorage import Key, UserStorage
from userstorage_operator.arbitration import claim, user_id
from userstorage_operator.arbitration.reservations import Reservations
from userstorage_operator.informers.caches import Caches
from userstorage_operator.observed.snapshot import controller_uid

MANY = 300
KINDS = (Kind.NETWORK_POLICY, Kind.POD)
Answer = tuple[str | None, str | None]
"""Who of the same user comes first, and who comes first with the claim; None for oneself."""


class World:
    """Views, and what each UserStorage was told when it was last asked."""

    def __init__(self) -> None:
        self.woken: list[Key] = []
        self.views = Caches(self.woken.append, lambda _: None)
        self.versions = count(1000)
        self.told: dict[Key, Answer] = {}

    def version(self, obj: Unstructured, **meta: Any) -> Unstructured:
        """The object with changes of its metadata; None for what is to be absent."""
        changed = obj["metadata"] | {"resourceVersion": str(next(self.versions))} | meta
        return obj | {"metadata": {key: value for key, value in changed.items() if value is not None}}

    def event(self, what: str, kind: Kind | None, obj: Unstructured) -> None:
        self.views.cache(kind.resource if kind is not None else USER_STORAGES).event(what, obj)

    def create(self, name: str, user: str, claim: str | None = None, second: int = 0) -> None:
        number = next(self.versions)
        meta = {"name": name, "uid": f"uid-{number % 7}-{number}", "creationTimestamp": f"2026-01-31T10:00:0{second}Z"}
        storage = {"claimName": claim} if claim is not None else {}
        made = storage_object(user, meta=meta | {"finalizers": [FINALIZER]}, storage=storage)
        self.event("ADDED", None, self.version(made))

    def answer(self, raw: Unstructured) -> Answer:
        children = self.views.children("users", child_name(raw["spec"]["userID"]))
        if (first := user_id.conflict(raw, children, self.views)) is not None:
            return first, None
        return None, claim.holder(raw, UserStorage.parse(raw), self.views, Reservations())

    def storages(self) -> dict[str, Unstructured]:
        return {raw["metadata"]["name"]: raw for raw in self.views.in_namespace("users")}

    def child(self, kind: Kind, user: str) -> Unstructured | None:
        found: Unstructured | None = self.views.cache(kind.resource).get("users", child_name(user))
        return found

    def ask(self) -> set[Key]:
        """Everybody who was woken; who that was."""
        asked = set(self.woken)
        self.woken.clear()
        for key in asked:
            self.told.pop(key, None)
            if (raw := self.views.storage(key)) is not None:
                self.told[key] = self.answer(raw)
        return asked


NAMES, USERS = ("a", "b", "c"), ("alice", "bob")
Step = tuple[str, int, str, str, str | None, int]
steps = st.tuples(
    st.sampled_from(["create", "create", "begin", "release", "gone", "edit", "make", "make", "disown", "lose", "discard"]),
    st.integers(0, 5),
    st.sampled_from(NAMES),
    st.sampled_from(USERS),
    st.sampled_from([None, "photos", "user-storage-alice"]),
    st.integers(0, 1),
)


def take(world: World, step: Step) -> None:
    """One thing that happens, to one of those that are there."""
    what, number, name, user, claim, second = step
    storages = list(world.storages().values())
    children = [(kind, child) for kind in KINDS for user in USERS if (child := world.child(kind, user)) is not None]
    if what == "create":
        world.create(name, user, claim, second)  # where there was one, its end was missed
    elif what == "make":
        for raw in storages:
            # Nothing is made for one that goes: the actor makes sure of that.
            if "deletionTimestamp" not in raw["metadata"] and world.answer(raw) == (None, None):
                make(world, KINDS[number % len(KINDS)], raw)
    elif what in ("disown", "lose", "discard"):
        if children:
            change_child(world, what, *children[number % len(children)])
    elif storages:
        change_storage(world, what, storages[number % len(storages)])


def change_storage(world: World, what: str, raw: Unstructured) -> None:
    going = "deletionTimestamp" in raw["metadata"]
    match what:
        case "begin" if not going:
            finalizers = [*raw["metadata"]["finalizers"], "example.org/backup"]
            world.event("MODIFIED", None, world.version(raw, deletionTimestamp="2026-01-31T11:00:00Z", finalizers=finalizers))
        case "release" if going:
            world.event("MODIFIED", None, world.version(raw, finalizers=["example.org/backup"]))
        case "gone":
            world.event("DELETED", None, world.version(raw))
        case "edit":
            world.event("MODIFIED", None, world.version(raw, annotations={"edited": "true"}))


def change_child(world: World, what: str, kind: Kind, child: Unstructured) -> None:
    match what:
        case "disown" if kind is not Kind.POD:
            world.event("MODIFIED", kind, world.version(child, ownerReferences=None))
        case "lose":
            world.event("DELETED", kind, world.version(child))
        case "discard":
            world.views.discard(kind.resource, "users", child["metadata"]["name"], child["metadata"]["uid"])


def make(world: World, kind: Kind, raw: Unstructured) -> None:
    """As a pass does: only where there is none, and the answer comes before the event."""
    if world.child(kind, raw["spec"]["userID"]) is None:
        wanted = getattr(desired_of(raw), kind.field)
        made = ready_pod(wanted) if kind is Kind.POD else wanted
        world.views.put(kind.resource, world.version(made, uid=f"uid-{next(world.versions)}"))


@settings(max_examples=500)
@given(happening=st.lists(steps, max_size=25))
def test_whose_answer_changes_is_asked_again(happening: list[Step]) -> None:
    world = World()
    for step in happening:
        take(world, step)
        world.ask()
        staying = [raw for raw in world.storages().values() if "deletionTimestamp" not in raw["metadata"]]
        assert world.told.keys() == {Key.of(raw) for raw in world.storages().values()}
        for raw in staying:  # on the answer of one that goes nothing depends
            assert world.told[Key.of(raw)] == world.answer(raw), step


def many(world: World, *, same_user: bool) -> list[str]:
    """So many of one user, or on one claim, the first of them with its pod."""
    for number in range(MANY):
        world.create(f"user-{number:03}", "alice" if same_user else f"user-{number:03}", None if same_user else "photos")
    world.ask()
    first = next(raw for raw in world.storages().values() if world.answer(raw) == (None, None))
    for kind in (Kind.NETWORK_POLICY, Kind.SERVICE, Kind.POD):
        make(world, kind, first)
    world.ask()
    others = [name for name in world.storages() if name != first["metadata"]["name"]]
    return [first["metadata"]["name"], *others]


def test_of_many_who_share_a_user_or_a_claim_an_event_wakes_one() -> None:
    for same_user in (True, False):
        world = World()
        first, loser, another, *_ = many(world, same_user=same_user)
        user = world.storages()[first]["spec"]["userID"]
        pod = world.child(Kind.POD, user)
        assert pod is not None
        world.event("MODIFIED", Kind.POD, world.version(pod, annotations={"by": "hand"}))
        assert world.woken == [Key("users", first)]
        world.ask()
        world.event("MODIFIED", None, world.version(world.storages()[first], annotations={"by": "hand"}))
        assert world.woken == [Key("users", first)]
        world.ask()
        world.create("late", "alice" if same_user else "late", None if same_user else "photos", second=5)
        assert set(world.woken) == {Key("users", "late")}
        world.ask()
        for name in (loser, another):
            world.event("DELETED", None, world.version(world.storages()[name]))
            assert set(world.woken) <= {Key("users", name), Key("users", first)}
            world.ask()


def test_a_child_without_an_owner_wakes_whoever_comes_first() -> None:
    world = World()
    first, *_ = many(world, same_user=True)
    for kind in (Kind.NETWORK_POLICY, Kind.SERVICE, Kind.POD):
        child = world.child(kind, "alice")
        assert child is not None
        assert controller_uid(child) is not None
        world.event("MODIFIED", kind, world.version(child, ownerReferences=None))
        assert Key("users", first) in world.woken
        world.ask()
    claim = desired_of(world.storages()[first]).pvc
    assert claim is not None
    world.event("ADDED", Kind.PVC, world.version(claim, uid="uid-claim"))
    assert len(world.ask()) == 1


def test_who_waits_for_a_pod_on_the_claim_is_asked_when_it_is_gone() -> None:
    for end in ("of the pod", "of its UserStorage"):
        world = World()
        world.create("late", "bob", "photos", second=1)
        make(world, Kind.POD, world.storages()["late"])
        world.create("early", "alice", "photos", second=0)
        world.ask()
        assert world.told[Key("users", "early")] == (None, "late")
        pod = world.child(Kind.POD, "bob")
        assert pod is not None
        if end == "of the pod":
            world.event("DELETED", Kind.POD, world.version(pod))
        else:
            world.event("DELETED", None, world.version(world.storages()["late"]))
        assert Key("users", "early") in world.ask()
        assert world.told[Key("users", "early")] == (None, None)


def test_one_that_is_only_its_users_second_leads_nobody() -> None:
    """In front of the line for the claim, but the files of its user are elsewhere."""
    world = World()
    world.create("elsewhere", "alice", second=0)
    for second, (name, user) in enumerate((("second", "alice"), ("has", "bob"), ("waits", "carol")), start=1):
        world.create(name, user, "photos", second)
    world.ask()
    assert world.told[Key("users", "waits")] == (None, "has")
    world.event("DELETED", None, world.version(world.storages()["has"]))
    assert Key("users", "waits") in world.ask()
    assert world.told[Key("users", "waits")] == (None, None)


def test_the_last_of_many_wakes_nobody_even_where_the_front_leads_nobody() -> None:
    world = World()
    world.create("elsewhere", "alice", "photos", second=0)
    world.create("second", "alice", "user-storage-alice", second=1)
    for number in range(MANY):
        world.create(f"user-{number:03}", f"user-{number:03}", "user-storage-alice", second=2)
    world.ask()
    world.create("late", "late", "user-storage-alice", second=5)
    assert set(world.woken) == {Key("users", "late")}


def test_a_newcomer_behind_one_that_leads_nobody_is_told_of() -> None:
    world = World()
    world.create("elsewhere", "alice", "photos", second=0)
    world.create("second", "alice", "user-storage-alice", second=1)
    world.create("late", "carol", "user-storage-alice", second=3)
    world.ask()
    assert world.told[Key("users", "late")] == (None, None)
    world.create("early", "bob", "user-storage-alice", second=2)
    assert Key("users", "late") in world.ask()
    assert world.told[Key("users", "late")] == (None, "early")


def test_what_a_pass_makes_for_one_tells_the_older_one_that_came_meanwhile() -> None:
    world = World()
    world.create("late", "alice", second=1)
    late = world.storages()["late"]
    world.create("early", "alice", second=0)
    world.ask()
    assert world.told[Key("users", "early")] == (None, None)
    make(world, Kind.NETWORK_POLICY, late)
    assert Key("users", "early") in world.ask()
    assert world.told[Key("users", "early")] == ("late", None)


def test_who_waits_for_one_with_children_is_asked_when_these_are_gone() -> None:
    world = World()
    world.create("late", "alice", second=1)
    make(world, Kind.NETWORK_POLICY, world.storages()["late"])
    world.create("early", "alice", second=0)
    world.ask()
    assert world.told[Key("users", "early")] == ("late", None)
    policy = world.child(Kind.NETWORK_POLICY, "alice")
    assert policy is not None
    world.event("DELETED", Kind.NETWORK_POLICY, world.version(policy))
    assert Key("users", "early") in world.ask()
    assert world.told[Key("users", "early")] == (None, None)
