"""Compare the logging calls with docs/observability.md."""

import ast
from collections.abc import Iterator
from pathlib import Path

from support.logschema import ALWAYS, EVENTS, FIELDS

SOURCE = Path(__file__).parent.parent.parent / "operator/userstorage_operator"
LEVELS = {"debug", "info", "warning", "error", "critical", "exception"}
NO_FIELDS = {"exc_info"}
"""Arguments of a call that are no fields of the line: this one becomes `exception`."""


def calls() -> Iterator[ast.Call]:
    for path in SOURCE.rglob("*.py"):
        yield from (node for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(node, ast.Call))


def logged() -> Iterator[tuple[str, ast.Call]]:
    """Yield every logging call with its event."""
    for call in calls():
        name = ast.unparse(call.func)
        if name == "log.log":
            yield ast.literal_eval(call.args[1]), call
        elif name in {f"log.{level}" for level in LEVELS}:
            yield ast.literal_eval(call.args[0]), call


def bound() -> set[str]:
    """Return the fields that are bound once per reconcile."""
    names = (call.keywords for call in calls() if ast.unparse(call.func).endswith("bind_contextvars"))
    return {keyword.arg for keywords in names for keyword in keywords if keyword.arg}


def test_documented_events_equal_logged_events() -> None:
    assert sorted({event for event, _ in logged()}) == sorted(EVENTS)


def test_every_field_of_a_call_is_documented() -> None:
    used = {keyword.arg for _, call in logged() for keyword in call.keywords if keyword.arg}
    assert used - NO_FIELDS <= FIELDS


def test_calls_do_not_repeat_bound_fields() -> None:
    assert bound() == {"reconcile_id", "trace_id", "namespace", "name", "uid", "user_id", "class_name"}
    assert bound() <= FIELDS
    for event, call in logged():
        assert not {keyword.arg for keyword in call.keywords} & bound(), (
            f"{event}: bound once per reconcile by worker and reconciler"
        )


def test_fields_of_every_line_are_documented() -> None:
    assert set(ALWAYS) <= FIELDS
