"""The pod of the Quantum flavor on a real kubelet. Quantum itself cannot be built here: a web server stands in for it.

It serves the files that the init container wrote, so the probes pass and the test can read them. The image is File Browser's:
like Quantum's, its tag starts with a 2 and it has a shell.
"""

import json
import uuid
from typing import Any

from support.users import NamespaceUsers

STAND_IN: dict[str, Any] = {
    "browser": {
        "flavor": "Quantum",
        "image": "docker.io/filebrowser/filebrowser:v2.63.23",
        "command": ["/bin/busybox", "httpd", "-f", "-p", "8080", "-h", "/database"],
        "healthPath": "/config.yaml",
    }
}


def get_configuration(users: NamespaceUsers) -> Any:
    """Return the configuration that the init container wrote for the pod's program."""
    return json.loads(users.web("alice").request("GET", "config.yaml").body)


def test_every_pod_gets_random_administrator_credentials(users: NamespaceUsers) -> None:
    # The stand-in ignores SIGTERM.
    users.apply_user("alice", users.create_class(STAND_IN), lifecycle={"terminationGracePeriodSeconds": 1})
    users.until_ready("alice")
    first = get_configuration(users)
    assert first["http"]["port"] == 8080
    assert first["auth"]["methods"]["proxy"] == {"enabled": True, "header": "X-Forwarded-User"}
    users.delete_pod("alice")
    second = get_configuration(users)
    credentials = [
        uuid.UUID(config["auth"].pop(key)) for config in (first, second) for key in ("adminUsername", "adminPassword")
    ]
    assert len(set(credentials)) == 4
    assert first == second


def test_no_directory_can_be_made_for_another_user(users: NamespaceUsers) -> None:
    users.apply_user("alice", users.create_class(STAND_IN))
    users.until_ready("alice")
    assert get_configuration(users)["server"]["sources"][0]["config"]["createUserDir"] is True
    assert users.exec("alice", "touch", "/srv/notes.txt")[0] == 0
    assert users.exec("alice", "ls", "/owners", "/owners/alice") == (0, "/owners:\nalice\n\n/owners/alice:\nnotes.txt")
    code, output = users.exec("alice", "mkdir", "/owners/bob")
    assert code != 0
    assert "Read-only file system" in output
