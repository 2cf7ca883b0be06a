"""Troubleshooting names only reasons that the operator or the gate reports, and has each that needs an action."""

import re
from pathlib import Path

from userstorage_operator.api.reasons import REASONS, STALLED
from userstorage_operator.gate.check import Reason

PAGE = (Path(__file__).parents[2] / "docs/troubleshooting.md").read_text()
KNOWN = {reason for reasons in REASONS.values() for reason in reasons} | {str(reason) for reason in Reason}


def test_reasons_in_the_tables_exist() -> None:
    first_cells = re.findall(r"^\| ([^|]*) \|", PAGE, re.MULTILINE)
    named = {name for cell in first_cells for name in re.findall(r"`([A-Z]\w+)`", cell)}
    assert len(named) > 30
    assert named - KNOWN == set()


def test_each_reason_to_act_is_on_the_page() -> None:
    assert {reason for reason in REASONS[STALLED] if reason not in PAGE} == {"NotStalled"}
