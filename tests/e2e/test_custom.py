"""The Custom flavor: a program unknown to the operator. Dufs' image, run with arguments of the class, serves as one."""

from typing import Any

from support.users import NamespaceUsers

ARGUMENTS = [
    "$(USERSTORAGE_ROOT)",
    "--bind=0.0.0.0",
    "--port=$(USERSTORAGE_PORT)",
    "--path-prefix=$(USERSTORAGE_BASE_PATH)",
    "--allow-upload",
]
CUSTOM: dict[str, Any] = {
    "browser": {"flavor": "Custom", "image": "docker.io/sigoden/dufs:v0.47.0", "args": ARGUMENTS},
    "auth": {"mode": "None", "acknowledgeUnauthenticated": True},
}


def test_custom_program_serves_files_at_base_path(users: NamespaceUsers) -> None:
    cls = users.create_class(CUSTOM, basePath="/files/${slug}/", port=9090)
    users.apply_user("alice", cls)
    before = users.until_ready("alice")
    assert before["url"].endswith("/files/alice/")
    web = users.web("alice")
    assert web.request("PUT", "notes.txt", b"of alice").code == 201
    users.delete_pod("alice")
    assert web.request("GET", "notes.txt").body == b"of alice"


def test_crashing_custom_program_is_reported_until_it_runs(users: NamespaceUsers) -> None:
    cls = users.create_class(CUSTOM, args=["--no-such-option"])
    users.apply_user("alice", cls)
    message = users.until_not_ready("alice", "CrashLoopBackOff")
    assert "last exit code 2" in message
    assert "--help" in message, "the last line that Dufs prints"
    users.apply_class(cls, CUSTOM)
    users.until_ready("alice")
