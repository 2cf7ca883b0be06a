"""docs/observability.md and the calls that log are held against each other."""

import ast
from collections.abc import Iterator
from pathlib import Path

from support.logschema import ALWAYS, EVENTS, FIELDS

SOURCE = Path(__file__).parent.parent.parent / "operator/userstorage_operator"
LEVELS = {"debug", "info", "warning", "error", "critical", "exception"}
NO_FIELDS = {"exc_info"}
"""Arguments of a call that are not shown as they are: this one becomes `exception`."""


def calls() -> Iterator[ast.Call]:
    for path in SOURCE.rglob("*.py"):
        yield from (node for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(node, ast.Call))


def logged() -> Iterator[tuple[str, ast.Call]]:
    """The event and the call."""
    for call in calls():
        what = ast.unparse(call.func)
        if what == "log.log":
            yield ast.literal_eval(call.args[1]), call
        elif what in {f"log.{level}" for level in LEVELS}:
            yield ast.literal_eval(call.args[0]), call


def bound() -> set[str]:
    """The fields of a pass."""
    names = (call.keywords for call in calls() if ast.unparse(call.func).endswith("bind_contextvars"))
    return {keyword.arg for keywords in names for keyword in keywords if keyword.arg}


def test_every_event_is_documented_and_none_that_does_not_exist() -> None:
    assert sorted({event for event, _ in logged()}) == sorted(EVENTS)


def test_every_field_of_a_call_is_documented() -> None:
    used = {keyword.arg for _, call in logged() for keyword in call.keywords if keyword.arg}
    assert used - NO_FIELDS <= FIELDS


def test_a_call_names_no_field_that_the_pass_has_bound() -> None:
    assert bound() == {"reconcile_id", "trace_id", "namespace", "name", "uid", "user_id", "class_name"}
    assert bound() <= FIELDS
    for event, call in logged():
        assert not {keyword.arg for keyword in call.keywords} & bound(), (
            f"{event}: bound once per pass by worker and reconciler"
        )


def test_the_fields_of_every_line_are_documented_first() -> None:
    assert set(ALWAYS) <= FIELDS
