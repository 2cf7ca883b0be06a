"""What a process in the user's container can do.

Every end-to-end test shows that the pod is admitted in a namespace that enforces Pod Security `restricted`.
"""

from support.filebrowser import FileBrowser
from support.users import NamespaceUsers


def test_container_is_unprivileged_and_read_only(users: NamespaceUsers, filebrowser: str) -> None:
    users.apply_user("alice", filebrowser)
    users.until_ready("alice")
    assert FileBrowser(users.web("alice")).upload("notes.txt", b"of alice").code == 200

    assert users.exec("alice", "id", "-u") == (0, "1000")
    assert users.exec("alice", "id", "-g") == (0, "1000")
    code, output = users.exec("alice", "touch", "/bin/evil")
    assert code != 0
    assert "Read-only file system" in output
    code, _ = users.exec("alice", "ls", "/var/run/secrets/kubernetes.io/serviceaccount")
    assert code != 0
    assert users.exec("alice", "stat", "-c", "%u:%g", "/srv/notes.txt") == (0, "1000:1000")
    assert users.exec("alice", "stat", "-c", "%g", "/srv") == (0, "1000")

    _, process = users.exec("alice", "cat", "/proc/1/status")
    facts = dict(line.split(":\t", 1) for line in process.splitlines() if ":\t" in line)
    assert int(facts["CapEff"], 16) == int(facts["CapBnd"], 16) == 0
    assert (facts["NoNewPrivs"], facts["Seccomp"]) == ("1", "2")
