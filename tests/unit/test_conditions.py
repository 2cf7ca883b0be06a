from datetime import timedelta

from hypothesis import given
from hypothesis import strategies as st

from support.builders import NOW
from userstorage_operator.api.conditions import MESSAGE_MAX, Condition, merge

CONDITIONS = st.lists(
    st.builds(
        Condition, st.sampled_from(["Ready", "StorageReady", "Stalled"]), st.booleans(), st.sampled_from(["A", "B"]), st.text()
    ),
    unique_by=lambda condition: condition.type,
)


@given(CONDITIONS, CONDITIONS)
def test_transition_time_changes_only_with_status(first: list[Condition], second: list[Condition]) -> None:
    before = {entry["type"]: entry for entry in merge([], first, 1, NOW)}
    later = NOW + timedelta(hours=1)
    for entry in merge(before.values(), second, 2, later):
        old = before.get(entry["type"])
        flipped = old is None or old["status"] != entry["status"]
        assert (entry["lastTransitionTime"] == "2026-01-31T13:00:00Z") == flipped


@given(CONDITIONS)
def test_merging_the_same_conditions_again_changes_nothing(conditions: list[Condition]) -> None:
    once = merge([], conditions, 1, NOW)
    assert merge(once, conditions, 1, NOW + timedelta(days=1)) == once


@given(CONDITIONS)
def test_one_entry_per_type_and_unknown_types_are_dropped(conditions: list[Condition]) -> None:
    merged = merge([{"type": "Gone", "status": "True", "lastTransitionTime": "x"}], conditions, 1, NOW)
    assert [entry["type"] for entry in merged] == [condition.type for condition in conditions]


def test_long_message_is_cut() -> None:
    [entry] = merge([], [Condition("Ready", False, "A", "x" * 5000)], 1, NOW)
    assert len(entry["message"]) == MESSAGE_MAX


def test_control_characters_are_removed_from_messages() -> None:
    [entry] = merge([], [Condition("Ready", False, "A", "refused:\n\x1b[2J\u202egone")], 1, NOW)
    assert entry["message"] == "refused: ?[2J?gone"


def test_default_transition_time_is_replaced() -> None:
    placeholder = {"type": "Reconciling", "status": "True", "lastTransitionTime": "1970-01-01T00:00:00Z"}
    [entry] = merge([placeholder], [Condition("Reconciling", True, "Progressing", "")], 1, NOW)
    assert entry["lastTransitionTime"] == "2026-01-31T12:00:00Z"
