"""What a condition says about a pod that is not ready."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from userstorage_operator.api.names import CONTAINER
from userstorage_operator.observed.pod_status import not_ready_finding, was_ready

CRASHES = "container filebrowser keeps exiting, last exit code 1, 2 restarts"


def message_with(message: str | None) -> str:
    last = {"exitCode": 1} | ({} if message is None else {"message": message})
    status = {"name": "filebrowser", "restartCount": 2, "state": {"waiting": {"reason": "CrashLoopBackOff"}}}
    finding = not_ready_finding({"status": {"containerStatuses": [status | {"lastState": {"terminated": last}}]}})
    assert finding.reason == "CrashLoopBackOff"
    return finding.message


@pytest.mark.parametrize("message", [None, "", "\n \r\n\t\x00\n"])
def test_message_of_crash_without_output_quotes_no_last_line(message: str | None) -> None:
    assert message_with(message) == CRASHES


def test_last_line_of_output_is_reported() -> None:
    assert message_with("starting\nno such option\n\n") == f"{CRASHES}: no such option"


def test_last_line_is_quoted_without_secrets() -> None:
    line = "User 'admin' initialized with randomly generated password: Xk3-dFb9_aa"
    assert message_with(line) == f"{CRASHES}: User 'admin' initialized with randomly generated password: [redacted]"
    assert "s3cr3t" not in message_with("dial redis://user:s3cr3t@redis:6379 failed")


def test_secret_that_is_cut_is_redacted() -> None:
    assert "Xk3" not in message_with(f"{'x' * 185} password: Xk3-dFb9_aa")


@given(st.text())
def test_reported_last_line_is_short_and_printable(message: str) -> None:
    last_line = message_with(message).removeprefix(CRASHES).removeprefix(": ")
    assert len(last_line) <= 200
    assert last_line.isprintable()


def test_failed_init_container_is_reported_while_its_kubelet_shows_it_as_terminated() -> None:
    message = "spec.storage.subPath: /srv/alice is a symbolic link, which is not followed\n"
    failed = {"exitCode": 1, "reason": "Error", "message": message}
    status = {"name": "directory", "ready": False, "restartCount": 3, "state": {"terminated": failed}}
    finding = not_ready_finding({"spec": {}, "status": {"phase": "Pending", "initContainerStatuses": [status]}})
    assert finding.reason == "CrashLoopBackOff"
    assert finding.message == f"container directory keeps exiting, last exit code 1, 3 restarts: {message.strip()}"


def pod_with(ready: dict[str, str], containers: str = "True") -> dict[str, Any]:
    conditions = [{"type": "Ready", "status": "False", **ready}, {"type": "ContainersReady", "status": containers}]
    return {"spec": {"nodeName": "node-1"}, "status": {"phase": "Running", "conditions": conditions}}


def test_node_that_does_not_report_is_named_instead_of_the_probe() -> None:
    assert not_ready_finding(pod_with({})).message.startswith("node 'node-1' does not report: ")
    for unready in (pod_with({"reason": "ContainersNotReady"}), pod_with({}, containers="False")):
        assert "readiness probe has not passed" in not_ready_finding(unready).message


def started_pod(changed: str, running: dict[str, Any] | None, ready: str = "False", **meta: Any) -> dict[str, Any]:
    pod = pod_with({"status": ready, "lastTransitionTime": changed})
    state = {"running": running} if running is not None else {"waiting": {"reason": "ContainerCreating"}}
    pod["status"]["containerStatuses"] = [{"name": CONTAINER, "state": state}]
    return pod | {"metadata": meta}


STARTED: dict[str, Any] = {"startedAt": "2026-01-31T10:00:05Z"}
DELETED: dict[str, Any] = {"deletionTimestamp": "2026-01-31T10:09:30Z", "deletionGracePeriodSeconds": 30}


@pytest.mark.parametrize(
    ("pod", "was"),
    [
        (started_pod("2026-01-31T10:00:00Z", STARTED), False),
        (started_pod("2026-01-31T10:08:00Z", STARTED), True),
        (started_pod("2026-01-31T10:08:00Z", STARTED, "True"), False),
        (started_pod("2026-01-31T10:08:00Z", None), False),
        (started_pod("2026-01-31T10:08:00Z", {"startedAt": None}), False),
        (started_pod("2026-01-31T10:08:00Z", STARTED, **DELETED), True),
        (started_pod("2026-01-31T10:09:10Z", STARTED, **DELETED), False),
        (started_pod("2026-01-31T10:08:00Z", STARTED, "True", **DELETED), False),
        (pod_with({}) | {"metadata": {}}, False),
    ],
    ids=[
        "starting",
        "lost",
        "ready",
        "not running",
        "no time",
        "lost, then deleted",
        "lost in its deletion",
        "ready in its deletion",
        "no times",
    ],
)
def test_pod_that_has_lost_its_readiness_was_ready(pod: dict[str, Any], was: bool) -> None:
    assert was_ready(pod) is was
