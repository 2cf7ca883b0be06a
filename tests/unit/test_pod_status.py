"""What a crashed container said last, made fit for a condition."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from userstorage_operator.observed.pod_status import not_ready_finding

STORY = "container filebrowser keeps exiting, last exit code 1, 2 restarts"


def told(message: str | None) -> str:
    last = {"exitCode": 1} | ({} if message is None else {"message": message})
    status = {"name": "filebrowser", "restartCount": 2, "state": {"waiting": {"reason": "CrashLoopBackOff"}}}
    finding = not_ready_finding({"status": {"containerStatuses": [status | {"lastState": {"terminated": last}}]}})
    assert finding.reason == "CrashLoopBackOff"
    return finding.message


@pytest.mark.parametrize("message", [None, "", "\n \r\n\t\x00\n"])
def test_a_container_that_said_nothing_is_told_without_it(message: str | None) -> None:
    assert told(message) == STORY


def test_the_last_line_that_says_something_is_told() -> None:
    assert told("starting\nno such option\n\n") == f"{STORY}: no such option"


@given(st.text())
def test_whatever_it_printed_is_one_short_line(message: str) -> None:
    said = told(message).removeprefix(STORY).removeprefix(": ")
    assert len(said) <= 200
    assert said.isprintable()
