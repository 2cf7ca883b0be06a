"""The tables of docs/gateways.md say what the tests of gateways assert."""

from pathlib import Path

import pytest

from support.gateway_answers import ALICES, AUTHORITY_CODES, HOST_CODES, OUTAGES, WAITING
from testservers.frontdoor import GATEWAYS

DOCUMENT = (Path(__file__).parents[2] / "docs/gateways.md").read_text(encoding="utf-8")
HERS = "her files"


def table(first: str) -> dict[str, list[str]]:
    """Return the table whose first header is `first`, as the first cell of each row -> the others."""
    _, _, found = DOCUMENT.partition(f"\n| {first} |")
    rows = found.partition("\n\n")[0].splitlines()[2:]
    return {cells[0]: cells[1:] for cells in ([cell.strip() for cell in row.strip("|").split("|")] for row in rows)}


def shown(code: int) -> str:
    return {ALICES: HERS, 0: "reset"}.get(code, str(code))


@pytest.mark.parametrize(("first", "codes"), [("the host is", HOST_CODES), ("`:authority` is", AUTHORITY_CODES)])
def test_table_of_hosts_has_what_is_asserted(first: str, codes: dict[str, tuple[int, ...]]) -> None:
    assert table(first) == {way: [shown(code) for code in answers] for way, answers in codes.items()}


def test_table_of_failures_has_what_is_asserted() -> None:
    expected = {}
    for name, outage in OUTAGES.items():
        alice = [str(outage.refusal[gateway]) if outage.refusal is not None else HERS for gateway in GATEWAYS]
        bob = "as alice" if outage.refusal is not None else "403"
        expected[name] = [*alice, bob, "works" if outage.can_log_in else "fails"]
    waiting = [str(WAITING[gateway]) for gateway in GATEWAYS]
    expected["her pod"] = [*waiting, "403", "works"]
    for name in ("one of two gates, killed", "both gates, one after the other: a rolling restart"):
        expected[name] = [HERS, HERS, HERS, "403", "works"]
    assert table("away") == expected
