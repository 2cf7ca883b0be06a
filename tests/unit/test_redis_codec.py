"""Sealed values are read back unchanged; all other values are rejected."""

from dataclasses import asdict, replace
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from support.builders import storage_object
from userstorage_operator.api.userstorage import Key
from userstorage_operator.readmodel.query import Query
from userstorage_operator.readmodel.summary import summary
from userstorage_operator.redis_cache.codec import LARGEST, SCHEMA, Codec, Entry, Reason, Rejected
from userstorage_operator.redis_cache.head import Head
from userstorage_operator.redis_cache.index import ENTRIES_PER_ROW, Range, Row, parse
from userstorage_operator.redis_cache.keys import Keys

KEYS = Keys("test")
KEY = KEYS.summary("uid-1")
CODECS = [Codec(b""), Codec(b"a key")]
NAMES = st.text("ab0-.", min_size=1, max_size=6)

entries = st.builds(
    Entry,
    value=st.none() | st.dictionaries(st.text(), st.text() | st.integers(-(2**31), 2**31) | st.booleans()),
    uid=st.just("uid-1"),
    resource_version=st.integers(0, 2**53 - 1),
    generation=st.integers(0, 2**31),
    term=st.integers(0, 2**31),
    time=st.floats(0, 2e9),
)


@given(entry=entries, codec=st.sampled_from(CODECS))
def test_sealed_entry_is_read_back_unchanged(entry: Entry, codec: Codec) -> None:
    assert codec.open(KEY, codec.seal(KEY, entry), "uid-1") == entry


@given(entry=entries, codec=st.sampled_from(CODECS), data=st.data())
def test_any_mutation_of_a_sealed_value_is_rejected(entry: Entry, codec: Codec, data: st.DataObject) -> None:
    sealed = codec.seal(KEY, entry)
    start = data.draw(st.integers(0, len(sealed)))
    end = data.draw(st.integers(start, len(sealed)))
    mutated = sealed[:start] + data.draw(st.binary(max_size=8)) + sealed[end:]
    if mutated != sealed:
        with pytest.raises(Rejected):
            codec.open(KEY, mutated, "uid-1")


@given(noise=st.binary(max_size=300) | st.builds(lambda body: b"1 " + b"0" * 64 + b" " + body, st.binary(max_size=40)))
def test_random_bytes_are_rejected(noise: bytes) -> None:
    with pytest.raises(Rejected):
        CODECS[0].open(KEY, noise)


def well_sealed(key: str, fields: Any, codec: Codec = CODECS[0]) -> bytes:
    """Seal any fields, as a client with the signing key can do; without a key, every client can."""
    body = orjson.dumps(fields)
    return b"%b %b %b" % (b"1", codec._mac(key, b"1", body), body)


anything = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=4,
)
FIELDS = {"schema": SCHEMA, **asdict(Entry({}))}


@given(data=st.data())
def test_any_sealed_json_is_an_entry_or_rejected(data: st.DataObject) -> None:
    # No other error may reach a reader: the backoffs are read before a leader starts its workers.
    wrong = data.draw(st.dictionaries(st.sampled_from([*FIELDS, "more"]), anything, min_size=1, max_size=2))
    fields = FIELDS | wrong
    fields.pop(data.draw(st.sampled_from(["", *FIELDS])), None)
    try:
        opened = CODECS[0].open(KEY, well_sealed(KEY, fields))
    except Rejected:
        return
    assert {"schema": fields["schema"], **asdict(opened)} == fields
    assert {name: type(value) for name, value in asdict(opened).items()} in (
        {"value": kind, "uid": str, "resource_version": int, "generation": int, "term": int, "time": float}
        for kind in (dict, type(None))
    )


@given(value=st.dictionaries(st.sampled_from(["complete", "scopes", "rows", "more"]), anything))
def test_any_sealed_json_is_a_head_or_rejected(value: dict[str, Any]) -> None:
    usual = {"complete": True, "scopes": [None], "rows": 2}
    for fields in (value, usual | value):
        try:
            head = Head.open(well_sealed(KEYS.head, FIELDS | {"value": fields}), KEYS, CODECS[0])
        except Rejected:
            continue
        assert {"complete": head.complete, "scopes": list(head.scopes), "rows": head.rows} == fields
        assert (type(head.complete), type(head.rows)) == (bool, int)
        assert all(scope is None or type(scope) is str for scope in head.scopes)


def reason_of(data: bytes, key: str = KEY, uid: str = "uid-1", codec: Codec = CODECS[1]) -> Reason:
    with pytest.raises(Rejected) as caught:
        codec.open(key, data, uid)
    return caught.value.reason


def test_each_fault_of_a_sealed_value_is_rejected_with_its_reason() -> None:
    codec = CODECS[1]
    sealed = codec.seal(KEY, Entry({"phase": "Ready"}, "uid-1", 7, 3))
    assert reason_of(sealed, key=KEYS.summary("uid-2"), uid="uid-2") == "other_object"
    assert reason_of(sealed, key=KEYS.summary("uid-2")) == "seal"
    assert reason_of(sealed, codec=Codec(b"another key")) == "seal"
    assert reason_of(sealed.replace(b'"generation":3', b'"generation":4')) == "seal"
    assert reason_of(sealed.replace(b"7 ", b"8 ", 1)) == "seal"
    assert reason_of(sealed.replace(b'"schema":1', b'"schema":2')) == "schema"
    assert reason_of(sealed[:-3]) == "garbage"
    assert reason_of(b"[" * LARGEST) == "garbage"
    assert reason_of(sealed + b" " * LARGEST) == "too_big"


def test_too_large_value_is_rejected() -> None:
    with pytest.raises(Rejected):
        CODECS[0].seal(KEY, Entry({"message": "x" * LARGEST}))


def row(namespace: str, name: str, user: str = "alice") -> Row:
    meta = {"namespace": namespace, "name": name}
    return Row.of(summary(storage_object(user, meta=meta) | {"status": {"phase": "Ready"}}), CODECS[1])


@given(names=st.lists(st.tuples(NAMES, NAMES), unique=True))
def test_rows_sort_by_namespace_and_name(names: list[tuple[str, str]]) -> None:
    for order in range(ENTRIES_PER_ROW):
        members = sorted(row(*name).members(CODECS[1])[order].encode() for name in names)
        assert [parse(member, CODECS[1]).key for member in members] == [Key(*name) for name in sorted(names)]


@given(
    names=st.lists(st.tuples(NAMES, NAMES, st.sampled_from(["alice", "bob"])), unique_by=lambda each: each[:2]),
    namespace=st.none() | NAMES,
    after=st.none() | st.builds(Key, NAMES, NAMES),
    user=st.none() | st.just("alice"),
)
def test_range_contains_exactly_the_rows_that_match_the_query(
    names: list[tuple[str, str, str]], namespace: str | None, after: Key | None, user: str | None
) -> None:
    members = [member for name in names for member in row(*name).members(CODECS[1])]
    span = Range.of(Query(namespace=namespace, user=user, after=after), CODECS[1])
    found = {parse(member.encode(), CODECS[1]).key for member in members if span.first[1:] <= member < span.end[1:]}
    assert found == {
        Key(*name[:2])
        for name in names
        if namespace in (None, name[0])
        and user in (None, name[2])
        and (after is None or name[:2] > (after.namespace, after.name))
    }


@given(
    rows=st.lists(
        st.tuples(NAMES, NAMES, st.sampled_from(["Ready", "Failed"]), st.booleans()), unique_by=lambda each: each[:2]
    ),
    namespace=st.none() | NAMES,
    after=st.none() | st.builds(Key, NAMES, NAMES),
    phase=st.sampled_from([None, "Ready", "Failed", "Pending"]),
    ready=st.none() | st.booleans(),
)
def test_ranges_of_states_contain_exactly_the_rows_that_match_the_query(
    rows: list[tuple[str, str, str, bool]], namespace: str | None, after: Key | None, phase: str | None, ready: bool | None
) -> None:
    stored = [replace(row(*each[:2]), phase=each[2], ready=each[3]) for each in rows]
    members = [member for each in stored for member in each.members(CODECS[1])]
    query = Query(namespace=namespace, phase=phase, ready=ready, after=after)
    spans = Range.of_states(query)
    found = [parse(entry.encode(), CODECS[1]) for span in spans for entry in members if span.first[1:] <= entry < span.end[1:]]
    assert len(found) == len(set(found))
    assert set(found) == {
        each
        for each in stored
        if each.matches(query)
        and namespace in (None, each.key.namespace)
        and (after is None or (each.key.namespace, each.key.name) > (after.namespace, after.name))
    }


def test_edited_row_is_rejected() -> None:
    for member in row("users", "alice").members(CODECS[1]):
        with pytest.raises(Rejected):
            parse(member.replace("Ready", "Failed").encode(), CODECS[1])


def test_no_redis_key_contains_a_name_or_namespace() -> None:
    key = Key("tenants", "alice@example.org")
    for name in (KEYS.answer(key), KEYS.lock(KEYS.answer(key))):
        assert name.startswith("us:{test}:v1:")
        assert "alice" not in name
        assert "tenants" not in name
