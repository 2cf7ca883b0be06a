"""An event requeues each UserStorage whose answer it changes, and next to no other."""

from itertools import combinations, count
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from support.builders import desired_of, ready_pod, storage_object
from userstorage_operator.api.names import FINALIZER, LABEL_SHAREABLE, child_name
from userstorage_operator.api.resources import USER_STORAGES, Kind
from userstorage_operator.api.unstructured import Unstructured
from userstorage_operator.api.userstorage import Key, UserStorage
from userstorage_operator.arbitration import claim, user_id
from userstorage_operator.arbitration.crowds import AT_ONCE
from userstorage_operator.informers.caches import Caches
from userstorage_operator.observed.claim_usage import files_use
from userstorage_operator.observed.snapshot import controller_uid
from userstorage_operator.plan.child import claim_name

MANY = 300
KINDS = (Kind.NETWORK_POLICY, Kind.POD)
Answer = tuple[str | None, str | None]
"""Another owner of the user id, and another holder of the claim; None if the UserStorage itself is."""


class CachesScenario:
    """Caches, and the answer of the last reconcile of each UserStorage."""

    def __init__(self) -> None:
        self.requeued: list[Key] = []
        self.caches = Caches(self.requeued.append, lambda _: None)
        self.versions = count(1000)
        self.answers: dict[Key, Answer] = {}
        self.claims: dict[str, Unstructured] = {}

    def version(self, obj: Unstructured, **meta: Any) -> Unstructured:
        """Return the object with a new resourceVersion and these metadata; None removes a field."""
        changed = obj["metadata"] | {"resourceVersion": str(next(self.versions))} | meta
        return obj | {"metadata": {key: value for key, value in changed.items() if value is not None}}

    def event(self, event_type: str, kind: Kind | None, obj: Unstructured) -> None:
        self.caches.cache(kind.resource if kind is not None else USER_STORAGES).event(event_type, obj)

    def share(self, name: str, share: str | None) -> None:
        """Create or change a claim so that its owner shares it like that. None stands for a claim without the label."""
        labels = {LABEL_SHAREABLE: share} if share is not None else {}
        meta = {"name": name, "namespace": "users", "uid": f"uid-{name}", "labels": labels}
        claim = self.claims[name] = self.version({"metadata": meta, "spec": {"accessModes": ["ReadWriteMany"]}})
        self.caches.shared_claims.event("MODIFIED" if share is not None else "DELETED", claim)

    def create(
        self, name: str, user: str, claim: str | None = None, second: int = 0, directory: str | None = None, **storage: Any
    ) -> None:
        number = next(self.versions)
        meta = {"name": name, "uid": f"uid-{number % 7}-{number}", "creationTimestamp": f"2026-01-31T10:00:0{second}Z"}
        storage |= {"claimName": claim} if claim is not None else {}
        if claim is not None and directory is not None:
            storage["subPath"] = directory
        created = storage_object(user, meta=meta | {"finalizers": [FINALIZER]}, storage=storage)
        self.event("ADDED", None, self.version(created))

    def answer(self, raw: Unstructured) -> Answer:
        children = self.caches.children("users", child_name(raw["spec"]["userID"]))
        if (first := user_id.conflict(raw, children, self.caches)) is not None:
            return first, None
        storage = UserStorage.parse(raw)
        found = self.claims.get(claim_name(storage))
        holder = claim.holder(raw, storage, found, self.caches, claim.ClaimReservations(self.caches))
        return None, holder.name if holder is not None else None

    def storages(self) -> dict[str, Unstructured]:
        return {raw["metadata"]["name"]: raw for raw in self.caches.cache(USER_STORAGES).in_namespace("users")}

    def child(self, kind: Kind, user: str) -> Unstructured | None:
        found: Unstructured | None = self.caches.cache(kind.resource).get("users", child_name(user))
        return found

    def reconcile(self) -> set[Key]:
        """Reconcile every requeued UserStorage. Return their keys."""
        requeued = {*self.requeued, *self.caches.take_crowds()}
        self.requeued.clear()
        for key in requeued:
            self.answers.pop(key, None)
            if (raw := self.caches.storage(key)) is not None:
                self.answers[key] = self.answer(raw)
        return requeued


NAMES, USERS = ("a", "b", "c", "d"), ("alice", "bob", "carol")
ACTIONS = ("delete", "release", "gone", "edit", "disown", "lose", "discard", "share", "move")
FREQUENT = ("create", "apply", "lose")
DIRECTORIES = (None, "x", "x/y", "x/w")
Step = tuple[str, int, str, str, str | None, int, str | None, bool]
steps = st.tuples(
    st.sampled_from([*FREQUENT, *FREQUENT, *FREQUENT, *FREQUENT, *ACTIONS]),
    st.integers(0, 5),
    st.sampled_from(NAMES),
    st.sampled_from(USERS),
    st.sampled_from(["photos", "photos", "photos", None, "user-storage-alice"]),
    st.integers(0, 1),
    st.sampled_from(DIRECTORIES),
    st.sampled_from([False, False, True]),
)


def apply(scenario: CachesScenario, step: Step) -> None:
    """Apply one step to one of the existing objects."""
    action, number, name, user, claim, second, directory, reads = step
    storages = list(scenario.storages().values())
    children = [(kind, child) for kind in KINDS for user in USERS if (child := scenario.child(kind, user)) is not None]
    if action == "create":
        # If one with this name exists, its deletion was missed.
        scenario.create(name, user, claim, second, directory, readOnly=reads)
    elif action == "share":
        scenario.share(claim or "photos", (None, "true", "Directories")[number % 3])
    elif action == "apply":
        for raw in storages:
            # A UserStorage that is being deleted gets no children: the applier verifies that.
            if "deletionTimestamp" not in raw["metadata"] and scenario.answer(raw) == (None, None):
                create_child(scenario, KINDS[number % len(KINDS)], raw)
    elif action in ("disown", "lose", "discard"):
        if children:
            change_child(scenario, action, *children[number % len(children)])
    elif storages:
        change_storage(scenario, action, storages[number % len(storages)], directory, reads=reads)


def change_storage(scenario: CachesScenario, action: str, raw: Unstructured, directory: str | None, *, reads: bool) -> None:
    deleting, storage = "deletionTimestamp" in raw["metadata"], raw["spec"]["storage"]
    match action:
        case "move" if "claimName" in storage:
            moved = {"claimName": storage["claimName"], "readOnly": reads} | ({"subPath": directory} if directory else {})
            scenario.event("MODIFIED", None, scenario.version(raw | {"spec": raw["spec"] | {"storage": moved}}))
        case "delete" if not deleting:
            finalizers = [*raw["metadata"]["finalizers"], "example.org/backup"]
            scenario.event(
                "MODIFIED", None, scenario.version(raw, deletionTimestamp="2026-01-31T11:00:00Z", finalizers=finalizers)
            )
        case "release" if deleting:
            scenario.event("MODIFIED", None, scenario.version(raw, finalizers=["example.org/backup"]))
        case "gone":
            scenario.event("DELETED", None, scenario.version(raw))
        case "edit":
            scenario.event("MODIFIED", None, scenario.version(raw, annotations={"edited": "true"}))


def change_child(scenario: CachesScenario, action: str, kind: Kind, child: Unstructured) -> None:
    match action:
        case "disown" if kind is not Kind.POD:
            scenario.event("MODIFIED", kind, scenario.version(child, ownerReferences=None))
        case "lose":
            scenario.event("DELETED", kind, scenario.version(child))
        case "discard":
            scenario.caches.discard(kind.resource, "users", child["metadata"]["name"], child["metadata"]["uid"])


def create_child(scenario: CachesScenario, kind: Kind, raw: Unstructured) -> None:
    """Create a child as a reconcile does: only if it does not exist. The response comes before the event."""
    if scenario.child(kind, raw["spec"]["userID"]) is None:
        desired = getattr(desired_of(raw), kind.field)
        created = ready_pod(desired) if kind is Kind.POD else desired
        scenario.caches.put(kind.resource, scenario.version(created, uid=f"uid-{next(scenario.versions)}"))


@settings(max_examples=300, deadline=None)
@given(history=st.lists(steps, min_size=25, max_size=50))
def test_a_change_of_user_id_conflict_or_claim_holder_requeues_the_storage(history: list[Step]) -> None:
    scenario = CachesScenario()
    for step in history:
        apply(scenario, step)
        scenario.reconcile()
        not_deleting = [raw for raw in scenario.storages().values() if "deletionTimestamp" not in raw["metadata"]]
        assert scenario.answers.keys() == {Key.of(raw) for raw in scenario.storages().values()}
        for raw in not_deleting:  # nothing depends on the answer of one that is being deleted
            assert scenario.answers[Key.of(raw)] == scenario.answer(raw), step


def conflicts(one: Unstructured, other: Unstructured) -> bool:
    """Whether two pods mount directories of one claim that are not to be shared."""
    first, second = files_use(one), files_use(other)
    assert first is not None
    assert second is not None
    shorter, longer = sorted((first.directory, second.directory), key=len)
    nested = longer[: len(shorter)] == shorter
    return first.claim == second.claim and nested and not (first.read_only and second.read_only)


@settings(max_examples=300, deadline=None)
@given(history=st.lists(steps, min_size=25, max_size=50))
def test_a_directory_has_one_writer_or_many_readers_in_any_history(history: list[Step]) -> None:
    scenario = CachesScenario()
    scenario.share("photos", "Directories")
    scenario.share("user-storage-alice", "Directories")
    for step in history:
        apply(scenario, step)
        pods = [pod for user in USERS if (pod := scenario.child(Kind.POD, user)) is not None]
        owned = [
            pod for pod in pods if any(raw["metadata"]["uid"] == controller_uid(pod) for raw in scenario.storages().values())
        ]
        assert not [pair for pair in combinations(owned, 2) if conflicts(*pair)], step


@settings(max_examples=300, deadline=None)
@given(history=st.lists(steps, max_size=15))
def test_the_first_of_those_that_wait_for_a_directory_is_never_passed(history: list[Step]) -> None:
    # With all pods gone, the oldest that may have a pod waits for none, so none starves.
    scenario = CachesScenario()
    for step in history:
        apply(scenario, step)
    for user in USERS:
        if (pod := scenario.child(Kind.POD, user)) is not None:
            scenario.event("DELETED", Kind.POD, scenario.version(pod))
    answers = [scenario.answer(raw) for raw in scenario.storages().values() if "deletionTimestamp" not in raw["metadata"]]
    deleting = [raw for raw in scenario.storages().values() if "deletionTimestamp" in raw["metadata"]]
    assert deleting or not answers or (None, None) in answers


def many(scenario: CachesScenario, *, same_user: bool) -> list[str]:
    """Create MANY UserStorages of one user or on one claim. Return their names, first the owner, which has its pod."""
    for number in range(MANY):
        scenario.create(f"user-{number:03}", "alice" if same_user else f"user-{number:03}", None if same_user else "photos")
    scenario.reconcile()
    first = next(raw for raw in scenario.storages().values() if scenario.answer(raw) == (None, None))
    for kind in (Kind.NETWORK_POLICY, Kind.SERVICE, Kind.POD):
        create_child(scenario, kind, first)
    scenario.reconcile()
    others = [name for name in scenario.storages() if name != first["metadata"]["name"]]
    return [first["metadata"]["name"], *others]


def test_an_event_requeues_only_one_of_many_storages_with_a_directory_each() -> None:
    scenario = CachesScenario()
    scenario.share("photos", "Directories")
    for number in range(MANY):
        scenario.create(f"user-{number:03}", f"user-{number:03}", "photos", directory=f"homes/{number}")
    scenario.reconcile()
    assert set(scenario.answers.values()) == {(None, None)}
    for name, raw in scenario.storages().items():
        create_child(scenario, Kind.POD, raw)
        assert not scenario.requeued
        scenario.event("MODIFIED", None, scenario.version(raw, annotations={"by": "hand"}))
        pod = scenario.child(Kind.POD, name)
        assert pod is not None
        scenario.event("DELETED", Kind.POD, scenario.version(pod))
        assert scenario.reconcile() == {Key("users", name)}
        scenario.event("DELETED", None, scenario.version(raw))
        assert scenario.reconcile() == {Key("users", name)}


def test_an_event_requeues_only_one_of_many_storages_with_the_same_user_or_claim() -> None:
    for same_user in (True, False):
        scenario = CachesScenario()
        first, loser, another, *_ = many(scenario, same_user=same_user)
        user = scenario.storages()[first]["spec"]["userID"]
        pod = scenario.child(Kind.POD, user)
        assert pod is not None
        scenario.event("MODIFIED", Kind.POD, scenario.version(pod, annotations={"by": "hand"}))
        assert scenario.requeued == [Key("users", first)]
        scenario.reconcile()
        scenario.event("MODIFIED", None, scenario.version(scenario.storages()[first], generation=2))
        assert scenario.requeued == [Key("users", first)]
        scenario.reconcile()
        scenario.create("late", "alice" if same_user else "late", None if same_user else "photos", second=5)
        assert set(scenario.requeued) == {Key("users", "late")}
        scenario.reconcile()
        for name in (loser, another):
            scenario.event("DELETED", None, scenario.version(scenario.storages()[name]))
            assert set(scenario.requeued) <= {Key("users", name), Key("users", first)}
            scenario.reconcile()


def test_deletion_of_the_owner_of_many_requeues_few_at_once_and_the_others_once() -> None:
    for same_user in (True, False):
        scenario = CachesScenario()
        many(scenario, same_user=same_user)
        at_once = 0
        for _ in range(20):  # each deletion makes another one the owner
            first = next(raw for raw in scenario.storages().values() if scenario.answer(raw) == (None, None))
            scenario.event("DELETED", None, scenario.version(first))
            nexts = {Key("users", name) for name, raw in scenario.storages().items() if scenario.answer(raw) == (None, None)}
            assert nexts <= set(scenario.requeued)
            at_once = max(at_once, len(scenario.requeued))
            scenario.requeued.clear()
        assert at_once <= 2 * AT_ONCE
        assert set(scenario.caches.take_crowds()) == {Key("users", name) for name in scenario.storages()}
        assert scenario.caches.take_crowds() == []


def test_a_child_without_owner_reference_requeues_the_owner_of_the_user_id() -> None:
    scenario = CachesScenario()
    first, *_ = many(scenario, same_user=True)
    for kind in (Kind.NETWORK_POLICY, Kind.SERVICE, Kind.POD):
        child = scenario.child(kind, "alice")
        assert child is not None
        assert controller_uid(child) is not None
        scenario.event("MODIFIED", kind, scenario.version(child, ownerReferences=None))
        assert Key("users", first) in scenario.requeued
        scenario.reconcile()
    claim = desired_of(scenario.storages()[first]).pvc
    assert claim is not None
    scenario.event("ADDED", Kind.PVC, scenario.version(claim, uid="uid-claim"))
    assert len(scenario.reconcile()) == 1


def test_a_deleted_pod_requeues_the_storages_that_wait_for_its_claim() -> None:
    for deleted in ("pod", "UserStorage"):
        scenario = CachesScenario()
        scenario.create("late", "bob", "photos", second=1)
        create_child(scenario, Kind.POD, scenario.storages()["late"])
        scenario.create("early", "alice", "photos", second=0)
        scenario.reconcile()
        assert scenario.answers[Key("users", "early")] == (None, "late")
        pod = scenario.child(Kind.POD, "bob")
        assert pod is not None
        if deleted == "pod":
            scenario.event("DELETED", Kind.POD, scenario.version(pod))
        else:
            scenario.event("DELETED", None, scenario.version(scenario.storages()["late"]))
        assert Key("users", "early") in scenario.reconcile()
        assert scenario.answers[Key("users", "early")] == (None, None)


def test_a_deleted_pod_requeues_an_older_storage_that_waits_for_more_than_its_own_pod_mounts() -> None:
    # All others that need the directory of the deleted pod wait for the older one, but that one waited for the pod.
    for share, directory in (("Directories", "x"), ("true", "z")):
        scenario = CachesScenario()
        scenario.share("photos", "Directories")
        scenario.create("early", "alice", "photos", second=0, directory="x", readOnly=True)
        scenario.create("late", "bob", "photos", second=1, directory="x/y", readOnly=True)
        for raw in scenario.storages().values():
            create_child(scenario, Kind.POD, raw)
        scenario.share("photos", share)
        change_storage(scenario, "move", scenario.storages()["early"], directory, reads=False)
        scenario.reconcile()
        assert scenario.answers[Key("users", "early")] == (None, "late")
        pod = scenario.child(Kind.POD, "bob")
        assert pod is not None
        scenario.event("DELETED", Kind.POD, scenario.version(pod))
        assert Key("users", "early") in scenario.reconcile()
        assert scenario.answers[Key("users", "early")] == (None, None)
        assert scenario.answers[Key("users", "late")] == (None, "early")


def test_the_oldest_storage_on_a_claim_does_not_hold_it_without_owning_its_user_id() -> None:
    # "second" is the first claimant of the claim, but the user's files are on another claim.
    scenario = CachesScenario()
    scenario.create("elsewhere", "alice", second=0)
    for second, (name, user) in enumerate((("second", "alice"), ("has", "bob"), ("waits", "carol")), start=1):
        scenario.create(name, user, "photos", second)
    scenario.reconcile()
    assert scenario.answers[Key("users", "waits")] == (None, "has")
    scenario.event("DELETED", None, scenario.version(scenario.storages()["has"]))
    assert Key("users", "waits") in scenario.reconcile()
    assert scenario.answers[Key("users", "waits")] == (None, None)


def test_youngest_storage_on_claim_requeues_none_if_oldest_does_not_own_its_user_id() -> None:
    scenario = CachesScenario()
    scenario.create("elsewhere", "alice", "photos", second=0)
    scenario.create("second", "alice", "user-storage-alice", second=1)
    for number in range(MANY):
        scenario.create(f"user-{number:03}", f"user-{number:03}", "user-storage-alice", second=2)
    scenario.reconcile()
    scenario.create("late", "late", "user-storage-alice", second=5)
    assert set(scenario.requeued) == {Key("users", "late")}


def test_new_storage_on_claim_requeues_younger_if_oldest_does_not_own_its_user_id() -> None:
    scenario = CachesScenario()
    scenario.create("elsewhere", "alice", "photos", second=0)
    scenario.create("second", "alice", "user-storage-alice", second=1)
    scenario.create("late", "carol", "user-storage-alice", second=3)
    scenario.reconcile()
    assert scenario.answers[Key("users", "late")] == (None, None)
    scenario.create("early", "bob", "user-storage-alice", second=2)
    assert Key("users", "late") in scenario.reconcile()
    assert scenario.answers[Key("users", "late")] == (None, "early")


def test_a_child_created_by_a_reconcile_requeues_an_older_storage_of_the_user() -> None:
    scenario = CachesScenario()
    scenario.create("late", "alice", second=1)
    late = scenario.storages()["late"]
    scenario.create("early", "alice", second=0)
    scenario.reconcile()
    assert scenario.answers[Key("users", "early")] == (None, None)
    create_child(scenario, Kind.NETWORK_POLICY, late)
    assert Key("users", "early") in scenario.reconcile()
    assert scenario.answers[Key("users", "early")] == ("late", None)


def test_deleting_children_of_a_user_id_owner_requeues_the_waiting_storages() -> None:
    scenario = CachesScenario()
    scenario.create("late", "alice", second=1)
    create_child(scenario, Kind.NETWORK_POLICY, scenario.storages()["late"])
    scenario.create("early", "alice", second=0)
    scenario.reconcile()
    assert scenario.answers[Key("users", "early")] == ("late", None)
    policy = scenario.child(Kind.NETWORK_POLICY, "alice")
    assert policy is not None
    scenario.event("DELETED", Kind.NETWORK_POLICY, scenario.version(policy))
    assert Key("users", "early") in scenario.reconcile()
    assert scenario.answers[Key("users", "early")] == (None, None)


def test_held_policy_is_requeued_under_its_own_name_after_every_change_that_may_release_it() -> None:
    scenario, held = CachesScenario(), Key("users", child_name("alice"))
    scenario.create("a", "alice")
    [raw] = scenario.storages().values()
    for kind in (Kind.NETWORK_POLICY, Kind.POD):
        create_child(scenario, kind, raw)
    assert held not in scenario.reconcile()
    policy, pod = scenario.child(Kind.NETWORK_POLICY, "alice"), scenario.child(Kind.POD, "alice")
    assert policy is not None
    assert pod is not None
    scenario.event("MODIFIED", Kind.NETWORK_POLICY, scenario.version(policy, deletionTimestamp="2026-01-31T11:00:00Z"))
    assert held in scenario.reconcile()
    scenario.event("DELETED", Kind.POD, scenario.version(pod))
    assert held in scenario.reconcile()
    scenario.event("DELETED", None, scenario.version(raw))
    assert held in scenario.reconcile()
    scenario.event("DELETED", Kind.NETWORK_POLICY, scenario.version(policy))
    assert held not in scenario.reconcile()


def test_policy_that_no_watch_shows_is_requeued_under_its_own_name() -> None:
    scenario, own = CachesScenario(), Key("users", child_name("alice"))
    scenario.create("a", "alice")
    [raw] = scenario.storages().values()
    create_child(scenario, Kind.NETWORK_POLICY, raw)
    assert own not in scenario.reconcile()
    policy = scenario.child(Kind.NETWORK_POLICY, "alice")
    assert policy is not None
    scenario.event("MODIFIED", Kind.NETWORK_POLICY, scenario.version(policy, labels={}))
    assert own in scenario.reconcile()
    scenario.event("DELETED", None, scenario.version(raw))
    assert own in scenario.reconcile()
