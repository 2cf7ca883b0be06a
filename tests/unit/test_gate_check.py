"""The check of the gate, its table, and the answers in each dialect."""

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from support.builders import CREATED, class_object, storage_object
from userstorage_operator.api.unstructured import Unstructured
from userstorage_operator.api.userstorage import Key
from userstorage_operator.gate.answers import answer, door
from userstorage_operator.gate.check import SETTLING, Decision, Outcome, Question, Reason, Target, check
from userstorage_operator.gate.credentials import Identity
from userstorage_operator.gate.dialects import DIALECTS
from userstorage_operator.gate.once import Once
from userstorage_operator.gate.table import Row, Table, slim
from userstorage_operator.plan.exposure import wanted_host

OWN_HOSTS = class_object("own", network={"expose": "Ingress", "hostTemplate": "${slug}.example.org"})
ONE_HOST = class_object(
    "one",
    network={"expose": "Ingress", "hostTemplate": "example.org"},
    browser={"basePath": "/u/${slug}/"},
    auth={"headerName": "X-Files-User"},
)
BY_NAME = class_object("by-name", network={"expose": "Ingress", "hostTemplate": "${name}.example.org"})
INSIDE = class_object("inside")
CLASSES = [OWN_HOSTS, ONE_HOST, BY_NAME, INSIDE]
NOW = 1000.0


def condition(kind: str, reason: str, *, true: bool, generation: int = 1) -> Unstructured:
    return {"type": kind, "status": str(true), "reason": reason, "message": "why", "observedGeneration": generation}


def storage(
    user: str = "alice",
    class_name: str = "own",
    *,
    namespace: str = "users",
    name: str | None = None,
    ready: bool = True,
    network: str = "Synced",
    observed: int = 1,
    url: str = "",
    meta: Unstructured | None = None,
    **spec: Any,
) -> Unstructured:
    """Return a UserStorage as the gate's watch has it, with the status of a reconcile."""
    name = name or user
    identity = {"namespace": namespace, "name": name, "uid": f"{namespace}/{name}", "generation": 1}
    conditions = [condition("Ready", "PodReady" if ready else "ContainerCreating", true=ready)]
    if network:
        conditions.append(condition("NetworkReady", network, true=network == "Synced", generation=observed))
    status = {"phase": "Ready" if ready else "Starting", "conditions": conditions} | ({"url": url} if url else {})
    return slim(storage_object(user, meta=identity | (meta or {}), className=class_name, **spec) | {"status": status})


def table_of(*storages: Unstructured, since: float = 0.0) -> Table:
    table = Table()
    for raw in storages:
        table.update(Key.of(raw), raw, CLASSES, since)
    return table


def asked(user: str = "alice", host: str = "alice.example.org", uri: str = "/", method: str = "GET", **more: Any) -> Question:
    return Question(Identity(proved=True, user=user), None, [host], [uri], method, **more)


def reason(question: Question, table: Table, *, stale: bool = False, now: float = NOW) -> Reason:
    return check(question, table, stale=stale, now=now).reason


BOTH = (storage("alice"), storage("bob"))
TOGETHER = (storage("alice", "one"), storage("bob", "one"))


def test_owner_is_admitted_and_others_are_not() -> None:
    table = table_of(*BOTH)
    assert reason(asked(), table) is Reason.ADMITTED
    assert reason(asked("bob"), table) is Reason.NOT_OWNER
    assert reason(asked("bob", "bob.example.org"), table) is Reason.ADMITTED
    assert reason(asked("alice", "bob.example.org"), table) is Reason.NOT_OWNER
    assert check(asked("Alice"), table, stale=False, now=NOW).hint == "differs in case"
    assert check(asked("bob"), table, stale=False, now=NOW).hint == ""


def test_first_failing_step_decides() -> None:
    table = table_of(*BOTH)
    nothing = Question(Identity(proved=False, user="alice"), None, ["x", "y"], [], "")
    assert reason(nothing, table, stale=True) is Reason.NO_PROOF
    assert reason(replace(nothing, identity=Identity(proved=True)), table, stale=True) is Reason.NO_IDENTITY
    named = replace(nothing, identity=Identity(proved=True, user="alice"))
    assert reason(named, table, stale=True) is Reason.MALFORMED
    assert reason(replace(named, hosts=[]), table) is Reason.MALFORMED
    assert reason(replace(named, hosts=["dave.example.org"]), table, stale=True) is Reason.UNKNOWN_HOST
    assert reason(asked("bob"), table, stale=True) is Reason.STALE
    cross: dict[str, Any] = {"fetch_sites": ["same-site"], "fetch_modes": ["cors"]}
    assert reason(asked("bob", **cross), table) is Reason.NOT_OWNER
    stopped = table_of(storage(ready=False, replicas=0))
    assert reason(asked(**cross), stopped) is Reason.CROSS_SITE
    assert reason(asked(), stopped) is Reason.STOPPED_BY_OWNER
    assert reason(asked(), table_of(storage(ready=False, meta={"deletionTimestamp": CREATED}))) is Reason.DELETING
    assert reason(asked(), table_of(storage(ready=False))) is Reason.WAITING


def test_base_path_decides_on_a_shared_host() -> None:
    table = table_of(*TOGETHER)
    assert reason(asked("alice", "example.org", "/u/alice/x"), table) is Reason.ADMITTED
    assert reason(asked("alice", "example.org", "/u/bob/x"), table) is Reason.NOT_OWNER
    for uri in ("/", "", "/u/carol/", "/u/alice/../bob/", "/u/alice/%2e%2e/bob/"):
        assert reason(asked("alice", "example.org", uri), table) is Reason.AMBIGUOUS, uri
    for uris in ([], ["/u/alice/", "/u/alice/"]):
        assert reason(replace(asked("alice", "example.org"), uris=uris), table) is Reason.AMBIGUOUS


def test_single_user_of_a_shared_host_is_admitted_below_the_own_path_only() -> None:
    # bob's row may be missing because the gate has not heard of him yet, while his Ingress leads to him already.
    table = table_of(TOGETHER[0])
    assert reason(asked("alice", "example.org", "/u/alice/"), table) is Reason.ADMITTED
    assert reason(asked("alice", "example.org", "/u/bob/"), table) is Reason.AMBIGUOUS


def test_two_owners_of_one_place_are_both_refused() -> None:
    twins = (storage("alice", "by-name", name="x"), storage("bob", "by-name", name="x", namespace="others"))
    for user in ("alice", "bob"):
        assert reason(asked(user, "x.example.org"), table_of(*twins)) is Reason.AMBIGUOUS


def test_named_form_reads_no_host() -> None:
    table = table_of(storage("alice", "inside"), storage("bob", "inside"), storage("alice", "inside", namespace="others"))
    question = replace(asked(host="bob.example.org"), target=Target("users", "alice"))
    assert reason(question, table) is Reason.ADMITTED
    assert check(question, table, stale=False, now=NOW).row is table.named("users", "alice")
    assert reason(replace(question, target=Target("users", "bob")), table) is Reason.NOT_OWNER
    assert reason(replace(question, target=Target("users", "carol")), table) is Reason.UNKNOWN_HOST
    assert reason(replace(question, hosts=[]), table) is Reason.ADMITTED


def test_named_form_finds_the_served_one_of_two() -> None:
    table = table_of(storage("alice", "inside", name="a", ready=False), storage("alice", "inside", name="z"))
    row = table.named("users", "alice")
    assert row is not None
    assert row.key.name == "z"


@pytest.mark.parametrize(
    ("sites", "modes", "method", "refused"),
    [
        ([], [], "POST", False),
        (["none"], ["navigate"], "GET", False),
        (["same-origin"], ["cors"], "DELETE", False),
        (["same-site"], ["navigate"], "GET", False),
        (["cross-site"], ["navigate"], "HEAD", False),
        (["cross-site"], ["navigate"], "POST", True),
        (["cross-site"], ["navigate"], "", True),
        (["same-site"], ["cors"], "GET", True),
        (["Same-Site "], ["no-cors"], "GET", True),
        (["same-site"], [], "GET", True),
        (["same-origin", "cross-site"], ["cors"], "GET", True),
        (["cross-site"], ["navigate", "cors"], "GET", True),
        (["unheard-of"], ["cors"], "GET", True),
    ],
)
def test_requests_of_other_sites(sites: list[str], modes: list[str], method: str, *, refused: bool) -> None:
    found = reason(asked(method=method, fetch_sites=sites, fetch_modes=modes), table_of(*BOTH))
    assert found is (Reason.CROSS_SITE if refused else Reason.ADMITTED)


def test_owner_is_admitted_a_moment_after_ready() -> None:
    table = table_of(storage(ready=False))
    table.update(Key("users", "alice"), storage(), CLASSES, NOW)
    assert reason(asked(), table, now=NOW) is Reason.WAITING
    assert reason(asked(), table, now=NOW + SETTLING) is Reason.ADMITTED
    table.update(Key("users", "alice"), storage(), CLASSES, NOW + SETTLING)  # a change that leaves it Ready
    assert reason(asked(), table, now=NOW + SETTLING) is Reason.ADMITTED
    again = storage(meta={"uid": "another"})
    table.update(Key("users", "alice"), again, CLASSES, NOW + SETTLING)
    assert reason(asked(), table, now=NOW + SETTLING) is Reason.WAITING


@pytest.mark.parametrize(
    "raw",
    [
        storage(network=""),
        storage(network="Pending"),
        storage(network="HostConflict"),
        storage(class_name="unheard-of"),
        storage(user="älice"),
        storage(observed=0),
        storage(url="https://bob.example.org/"),
        storage(url="https://alice.example.org/u/"),
        storage(class_name="inside"),
    ],
)
def test_no_place_without_the_operators_word(raw: Unstructured) -> None:
    assert reason(asked(), table_of(raw)) is Reason.UNKNOWN_HOST


@pytest.mark.parametrize(
    "raw",
    [
        storage(network="OutOfSync"),
        storage(network="RouteNotAccepted"),
        storage(url="https://alice.example.org/"),
        storage(url="http://alice.example.org/"),
        storage(url="http://user-storage-alice.users.svc/"),
    ],
)
def test_place_of_a_served_user(raw: Unstructured) -> None:
    assert reason(asked(), table_of(raw)) is Reason.ADMITTED


def test_changed_class_gives_no_place_before_the_operator_has_agreed() -> None:
    table = table_of(storage("bob", "by-name", name="x"))
    changed = storage("bob", "own", name="x", meta={"generation": 2})
    table.update(Key("users", "x"), changed, CLASSES, NOW)
    assert reason(asked("bob", "bob.example.org"), table) is Reason.UNKNOWN_HOST
    settled = storage("bob", "own", name="x", meta={"generation": 2}, observed=2)
    table.update(Key("users", "x"), settled, CLASSES, NOW)
    assert reason(asked("bob", "bob.example.org"), table) is Reason.ADMITTED


def test_other_change_of_the_spec_keeps_the_place() -> None:
    table = table_of(storage())
    table.update(Key("users", "alice"), storage(meta={"generation": 2}), CLASSES, NOW)
    assert reason(asked(), table) is Reason.ADMITTED


def test_changed_template_moves_all_rows() -> None:
    table = table_of(storage())
    moved = class_object("own", network={"expose": "Ingress", "hostTemplate": "${slug}.example.com"})
    table.classes_changed()
    table.update(Key("users", "alice"), storage(), [moved], NOW)
    assert reason(asked(), table) is Reason.UNKNOWN_HOST
    assert reason(asked(host="alice.example.com"), table) is Reason.ADMITTED


@pytest.mark.parametrize(
    ("spec", "changed"),
    [
        ({"flavor": "of a later version"}, {}),
        ({}, {"userID": None}),
        ({}, {"userID": ""}),
        ({}, {"className": "unheard-of"}),
    ],
)
def test_class_or_spec_that_cannot_be_read_closes_the_host(spec: Unstructured, changed: Unstructured) -> None:
    table = table_of(storage())
    assert reason(asked(), table) is Reason.ADMITTED
    raw = storage()
    table.classes_changed()
    network = {"expose": "Ingress", "hostTemplate": "${slug}.example.org"}
    table.update(
        Key("users", "alice"), raw | {"spec": raw["spec"] | changed}, [class_object("own", network=network, browser=spec)], NOW
    )
    assert reason(asked(), table) is Reason.UNKNOWN_HOST
    assert len(table) == 0


def test_row_stays_until_the_operator_has_moved_the_user() -> None:
    """Whether users keep their host until it is their turn in the rollout of a class."""
    before, after = storage(url="https://alice.example.org/"), storage(url="https://alice.example.com/")
    table = table_of(before)
    moved = class_object("own", network={"expose": "Ingress", "hostTemplate": "${slug}.example.com"})
    table.classes_changed()
    for _ in range(2):
        table.update(Key("users", "alice"), before, [moved], NOW)
        assert reason(asked(), table) is Reason.ADMITTED
        assert reason(asked(host="alice.example.com"), table) is Reason.UNKNOWN_HOST
    table.update(Key("users", "alice"), after, [moved], NOW)
    assert reason(asked(), table) is Reason.UNKNOWN_HOST
    assert reason(asked(host="alice.example.com"), table) is Reason.ADMITTED


RAWS = st.builds(
    storage,
    user=st.sampled_from(["alice", "bob"]),
    class_name=st.sampled_from(["own", "one", "by-name", "inside", "unheard-of"]),
    namespace=st.sampled_from(["users", "others"]),
    name=st.sampled_from(["x", "y"]),
    ready=st.booleans(),
    network=st.sampled_from(["", "Synced", "HostConflict"]),
    observed=st.sampled_from([0, 1]),
)


@given(st.lists(st.tuples(RAWS, st.booleans()), max_size=30), st.sampled_from(["alice", "bob", "carol"]), st.data())
def test_table_has_the_last_state_only(changes: list[tuple[Unstructured, bool]], user: str, data: st.DataObject) -> None:
    table, last = Table(), dict[Key, Unstructured]()
    for raw, exists in changes:
        key = Key.of(raw)
        table.update(key, raw if exists else None, CLASSES, 0.0)
        last.pop(key, None)
        if exists:
            last[key] = raw
    assert len(table) <= len(last)
    host = data.draw(st.sampled_from(["alice.example.org", "bob.example.org", "example.org", "x.example.org", "y.example.org"]))
    for row in table.at_host(host):
        place = wanted_host(last[row.key], CLASSES)
        assert row.place == place
        assert place is not None
        assert place.host == host
        assert row.user_id == last[row.key]["spec"]["userID"]
    if reason(asked(user, host, "/u/alice/"), table) is Reason.ADMITTED:
        owners = {raw["spec"]["userID"] for raw in last.values() if getattr(wanted_host(raw, CLASSES), "host", "") == host}
        assert user in owners


def row_of(raw: Unstructured) -> Row:
    [row] = table_of(raw)._rows.values()
    return row


@pytest.mark.parametrize("dialect", DIALECTS.values(), ids=DIALECTS)
def test_answers_in_each_dialect(dialect: Any) -> None:
    row = row_of(storage("alice", "one"))
    admitted = answer(Decision(Reason.ADMITTED, "alice", row), dialect, "", NOW)
    assert (admitted.status, admitted.body) == (200, b"")
    assert admitted.headers == {"X-Files-User": "alice", "Cache-Control": "no-store"}
    waiting = {"auth-request": 403, "forward-auth": 503, "ext-authz": 429}[dialect.name]
    statuses = {Outcome.LOGIN: 401, Outcome.REFUSED: 403, Outcome.WAITING: waiting}
    for found in Reason:
        if found is Reason.ADMITTED:
            continue
        refused = answer(Decision(found, "alice", row), dialect, "*/*", NOW)
        assert refused.status == statuses[found.outcome], found
        assert row.header not in refused.headers
        assert json.loads(refused.body)["status"] == refused.status
        assert refused.headers["Cache-Control"] == "no-store"
        assert door(Decision(found, "alice", row), "text/html", NOW).status == (
            503 if found is Reason.WAITING else statuses[found.outcome]
        )


def test_refusals_of_strangers_look_the_same() -> None:
    row = row_of(storage())
    decisions = [
        Decision(Reason.NOT_OWNER, "bob", row, "alice.example.org"),
        Decision(Reason.STALE, "bob", row, "alice.example.org"),
        Decision(Reason.UNKNOWN_HOST, "bob", None, "x.example.org"),
        Decision(Reason.AMBIGUOUS, "bob", None, "example.org"),
        Decision(Reason.MALFORMED, "bob"),
    ]
    for accept in ("text/html", "application/json"):
        answers = {repr(answer(decision, DIALECTS["forward-auth"], accept, NOW)) for decision in decisions}
        assert len(answers) == 1
    assert (
        answer(Decision(Reason.STALE, "alice", row), DIALECTS["forward-auth"], "", NOW).headers["X-Userstorage-Reason"]
        == "Stale"
    )


@given(st.text(max_size=3000), st.text(max_size=3000), st.floats(0, 10_000))
def test_page_is_small_and_runs_no_script(message: str, phase: str, now: float) -> None:
    raw = storage(ready=False)
    raw["status"]["conditions"][0]["message"] = message[:512]
    row = row_of(raw)
    page = answer(Decision(Reason.WAITING, "alice", row), DIALECTS["forward-auth"], "text/html,*/*", now)
    assert b"<script" not in page.body
    assert page.body.count(b"<") == page.body.count(b">")
    assert page.headers["Content-Security-Policy"].startswith("default-src 'none'")
    assert ("Refresh" in page.headers) == (now < 600)


def test_page_fits_into_four_kibibytes() -> None:
    raw = storage(ready=False)
    raw["status"]["conditions"][0]["message"] = "x" * 5000
    page = answer(Decision(Reason.WAITING, "alice", row_of(slim(raw))), DIALECTS["forward-auth"], "text/html", NOW)
    assert len(page.body) < 4096


def test_once_is_first_once_a_period_and_bounded() -> None:
    once = Once(60.0, 3)
    assert [once.is_first(thing, 0.0) for thing in ("a", "a", "b", "c", "d", "a")] == [True, False, True, True, False, False]
    assert not once.is_first("a", 59.0)
    assert once.is_first("a", 60.0)
