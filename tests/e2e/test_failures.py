"""Failures on real nodes are reported, and end when the class is fixed."""

from typing import Any

import pytest

from support.kubectl import eventually
from support.users import DUFS, FILE_BROWSER, NamespaceUsers

EATS_MEMORY = ["/bin/busybox", "sh", "-c", "/bin/busybox tail /dev/zero"]


@pytest.mark.parametrize(
    ("spec", "mistake", "reason", "words"),
    [
        pytest.param(DUFS, {"image": "localhost/no-such-image:1"}, "ImagePullBackOff", "localhost/no-such-image:1", id="image"),
        pytest.param(DUFS, {"args": ["--no-such-option"]}, "CrashLoopBackOff", "last exit code 2", id="exit"),
        pytest.param(
            FILE_BROWSER,
            {"command": EATS_MEMORY, "resources": {"limits": {"memory": "32Mi"}}},
            "OOMKilled",
            "memory limit",
            id="memory",
        ),
        pytest.param(
            FILE_BROWSER, {"resources": {"limits": {"memory": "8Mi"}}}, "OOMKilled", "configure", id="memory-at-start"
        ),
    ],
)
def test_mistake_in_class_is_reported_until_corrected(
    users: NamespaceUsers, spec: dict[str, Any], mistake: dict[str, Any], reason: str, words: str
) -> None:
    cls = users.create_class(spec, **mistake)
    users.apply_user("alice", cls)
    assert words in users.until_not_ready("alice", reason)
    users.apply_class(cls, spec)
    users.until_ready("alice")


def test_exited_container_restarts_in_same_pod(users: NamespaceUsers, filebrowser: str) -> None:
    users.apply_user("alice", filebrowser)
    before = users.until_ready("alice")
    users.exec("alice", "kill", "1")
    eventually(lambda: (users.get("userstorage", "alice") or {})["status"].get("restartCount") == 1)
    after = users.until_ready("alice")
    assert after["podUID"] == before["podUID"]
