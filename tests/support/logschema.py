"""The log schema: the fields and events listed in docs/observability.md, which is their only list."""

import json
import re
from pathlib import Path

from userstorage_operator.api.unstructured import Unstructured

_PAGE = Path(__file__).parents[2] / "docs/observability.md"
ALWAYS = ("time", "level", "event", "logger", "leader")
"""The first fields of every line, in this order."""


def _rows(heading: str) -> frozenset[str]:
    section = _PAGE.read_text(encoding="utf-8").split(f"### {heading}\n")[1].split("\n#")[0]
    return frozenset(
        name for row in re.findall(r"^\|((?: `\w+`,?)+) \|", section, re.MULTILINE) for name in re.findall(r"\w+", row)
    )


FIELDS = _rows("Fields")
EVENTS = _rows("Events")


def check_line(text: str) -> Unstructured:
    """Return the fields of a log line. Fails unless it is one line of JSON with only documented fields."""
    assert len(text.splitlines()) == 1, text
    line: Unstructured = json.loads(text)
    assert tuple(line)[: len(ALWAYS)] == ALWAYS, line
    assert line.keys() <= FIELDS, f"not in {_PAGE.name}: {sorted(line.keys() - FIELDS)}"
    return line
