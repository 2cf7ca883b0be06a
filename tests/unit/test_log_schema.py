"""docs/observability.md lists exactly the events and fields that the operator logs."""

import ast
from collections.abc import Iterator
from pathlib import Path

from support.logschema import ALWAYS, EVENTS, FIELDS

SOURCE = Path(__file__).parent.parent.parent / "operator/userstorage_operator"
LEVELS = {"debug", "info", "warning", "error", "critical", "exception"}
NO_FIELDS = {"exc_info"}
"""Arguments of a log call that are no fields of the line: `exc_info` becomes `exception`."""


def calls() -> Iterator[ast.Call]:
    for path in SOURCE.rglob("*.py"):
        yield from (node for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(node, ast.Call))


def logged() -> Iterator[tuple[str, ast.Call]]:
    """Yield the event and the call of every log call in the operator."""
    for call in calls():
        function = ast.unparse(call.func)
        if function == "log.log":
            yield ast.literal_eval(call.args[1]), call
        elif function in {f"log.{level}" for level in LEVELS}:
            yield ast.literal_eval(call.args[0]), call


def bound() -> set[str]:
    """Return the fields that are bound once per reconcile."""
    names = (call.keywords for call in calls() if ast.unparse(call.func).endswith("bind_contextvars"))
    return {keyword.arg for keywords in names for keyword in keywords if keyword.arg}


def test_documented_log_events_are_exactly_those_logged() -> None:
    assert sorted({event for event, _ in logged()}) == sorted(EVENTS)


def test_every_logged_field_is_documented() -> None:
    used = {keyword.arg for _, call in logged() for keyword in call.keywords if keyword.arg}
    assert used - NO_FIELDS <= FIELDS


def test_no_log_call_repeats_a_bound_field() -> None:
    fields = bound()
    assert fields == {"reconcile_id", "trace_id", "namespace", "name", "uid", "user_id", "class_name"}
    assert fields <= FIELDS
    for event, call in logged():
        repeated = {keyword.arg for keyword in call.keywords} & fields
        assert not repeated, f"{event}: bound once per reconcile by worker and reconciler"


def test_fixed_fields_are_documented() -> None:
    assert set(ALWAYS) <= FIELDS
