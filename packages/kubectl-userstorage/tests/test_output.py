"""What commands print."""

from datetime import UTC, datetime, timedelta

import pytest

from kubectl_userstorage import output
from kubectl_userstorage.api import age, printable


def test_table_is_aligned_and_names_empty_cells() -> None:
    assert output.table_lines(("NAME", "PHASE"), [("alice", "Ready"), ("b", None)]) == [
        "NAME    PHASE",
        "alice   Ready",
        "b       <none>",
    ]


def test_colours_are_on_a_terminal_only(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    output.print_table(("NAME", "PHASE"), [("alice", "Ready")], coloured="PHASE")
    assert "\x1b" not in capsys.readouterr().out
    monkeypatch.setenv("FORCE_COLOR", "1")  # rich: as if it were a terminal
    output.print_table(("NAME", "PHASE"), [("alice", "Ready")], coloured="PHASE")
    assert "\x1b[32mReady\x1b[0m" in capsys.readouterr().out
    monkeypatch.setenv("NO_COLOR", "1")
    output.print_table(("NAME", "PHASE"), [("alice", "Ready")], coloured="PHASE")
    assert "\x1b" not in capsys.readouterr().out


def test_control_characters_of_tenants_do_not_reach_the_terminal() -> None:
    [_, line] = output.table_lines(("NAME",), [("a\x1b[31m\nb",)])
    assert line == "a?[31m b"
    assert printable("plain") == "plain"


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0s"), (119, "119s"), (120, "2m"), (7199, "119m"), (7200, "2h"), (172800, "2d")]
)
def test_age_is_that_of_kubectl(seconds: int, text: str) -> None:
    now = datetime(2026, 1, 10, tzinfo=UTC)
    assert age((now - timedelta(seconds=seconds)).isoformat(), now) == text
    assert age(None) == "<unknown>"
