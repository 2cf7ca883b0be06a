"""Ready means that the files can be read, not only that a program runs."""

from functools import partial
from pathlib import Path

from support import web
from support.kubectl import eventually
from support.users import COPYPARTY, DUFS, NamespaceUsers

PROBED = ("bob", "carol")


def test_unreadable_volume_is_not_ready_until_repaired(users: NamespaceUsers, filebrowser: str) -> None:
    # Dufs that accepts uploads looks only for the directory, which one without any rights still is: see test_real_use.py.
    # One that does not is probed once a minute: the test sends the request itself.
    users.apply_user("alice", users.create_class(DUFS, permissions={"create": False}))
    users.apply_user("bob", filebrowser)
    users.apply_user("carol", users.create_class(COPYPARTY))
    for user in ("alice", *PROBED):
        users.until_ready(user)
    volumes = [users.volume(user) for user in ("alice", *PROBED)]
    modes = {volume: volume.stat().st_mode for volume in volumes}
    # The directory is not moved away: the container has mounted the directory itself and would not notice.
    set_modes(dict.fromkeys(modes, 0))
    try:
        for user in PROBED:
            assert "filebrowser" in users.until_not_ready(user, "PodNotReady")
        assert probe(users, "alice", "readinessProbe") >= 400
        for user in ("alice", "bob"):
            assert probe(users, user, "livenessProbe") == 200, "the program itself has ended, so this test proves nothing"
    finally:
        set_modes(modes)
    assert probe(users, "alice", "readinessProbe") == 200
    for user in PROBED:
        eventually(partial(is_pod_ready, users, user))
        pod = users.pod(user)
        assert pod is not None
        assert pod["status"]["containerStatuses"][0]["restartCount"] == 0, (
            "the container was restarted, which repairs no volume"
        )


def is_pod_ready(users: NamespaceUsers, user: str) -> bool:
    return users.ready_condition(user)[:2] == ("True", "PodReady")


def set_modes(modes: dict[Path, int]) -> None:
    for volume, mode in modes.items():
        volume.chmod(mode & 0o7777)


def probe(users: NamespaceUsers, user: str, name: str) -> int:
    """Send the HTTP request of a probe as the kubelet does, at the pod: a Service leads only to ready pods. Return the status."""
    pod = users.pod(user)
    assert pod is not None
    request = pod["spec"]["containers"][0][name]["httpGet"]
    return web.send_request(f"{pod['status']['podIP']}:{request['port']}", "GET", request["path"], None, {}).code
