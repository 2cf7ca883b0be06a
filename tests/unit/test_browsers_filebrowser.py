"""File Browser: what its init container makes of a user id. The real program is run by tests/e2e/test_owner_pin.py."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from support.builders import desired_of, dufs_class, filebrowser_class, storage_object

OPEN = {"mode": "None", "acknowledgeUnauthenticated": True}
RECORDER = """#!{python}
import json, sys
with open({log!r}, "a") as log:
    log.write(json.dumps(sys.argv[1:]) + "\\n")
"""


def calls(directory: Path, user_id: str, **spec: Any) -> list[list[str]]:
    """Run the init container's command with a stand-in for the program; return the arguments of each call of it."""
    log, program = directory / "log", directory / "filebrowser"
    program.write_text(RECORDER.format(python=sys.executable, log=str(log)))
    program.chmod(0o755)
    pod = desired_of(storage_object(user_id), filebrowser_class(**spec)).pod
    [init] = pod["spec"]["initContainers"]
    paths = {"/bin/filebrowser": str(program), "/database": str(directory)}
    command = init["command"]
    for path, other in paths.items():
        command = [word.replace(path, other) for word in command]
    # The kubelet makes `$` of `$$`; no variable of this container has the name in a `$(NAME)`.
    subprocess.run([word.replace("$$", "$") for word in command], check=True)
    return [json.loads(line) for line in log.read_text().splitlines()]


@pytest.mark.parametrize(
    "user_id", ["alice", "CORP\\alice", "o'brien@example.org", "alice smith", "$(id)", "$$", "`id`", "--help", '"; id; "', "*"]
)
def test_only_account_is_the_owners(tmp_path: Path, user_id: str) -> None:
    init, add = calls(tmp_path, user_id)
    assert init[:2] == ["config", "init"]
    assert "--minimumPasswordLength=64" in init, "longer than the random password of an account for a stranger"
    assert add[:2] == ["users", "add"]
    assert "--lockPassword" in add
    *_, mark, name, password = add
    assert (mark, name) == ("--", user_id)
    assert len(password) == 72
    assert calls(tmp_path, user_id)[-1][-1] != password, "known to whoever has seen another pod"


def test_visitor_is_the_only_account_without_authentication(tmp_path: Path) -> None:
    init, add = calls(tmp_path, "alice", auth=OPEN)
    assert "--minimumPasswordLength=64" not in init
    assert add[-2] == "visitor"


def test_owner_in_the_pod_is_no_change_by_the_user() -> None:
    """So an upgrade replaces the pods that have no owner yet within the budget of the rollout."""
    pinned, other = desired_of(storage_object()), desired_of(storage_object(), dufs_class())
    assert pinned.spec_hash == other.spec_hash
    assert pinned.pod_hash != desired_of(storage_object("bob")).pod_hash
