"""Ready means that the files can be read, not only that a program runs."""

from functools import partial
from pathlib import Path

from support import web
from support.kubectl import eventually
from support.users import DUFS, NamespaceUsers


def test_unreadable_volume_is_not_ready_until_repaired(users: NamespaceUsers, filebrowser: str) -> None:
    health = {"alice": "/__dufs__/health", "bob": "/health"}
    # Dufs that accepts uploads looks only for the directory, which one without any rights still is: see test_real_use.py.
    users.apply_user("alice", users.create_class(DUFS, permissions={"create": False}))
    users.apply_user("bob", filebrowser)
    for user in health:
        users.until_ready(user)
    volumes = {user: users.volume(user) for user in health}
    modes = {volume: volume.stat().st_mode for volume in volumes.values()}
    # The directory is not moved away: the container has mounted the directory itself and would not notice.
    set_modes(dict.fromkeys(modes, 0))
    try:
        for user, path in health.items():
            assert "filebrowser" in users.until_not_ready(user, "PodNotReady")
            assert is_alive(users, user, path), "the program itself has ended, so this test proves nothing"
    finally:
        set_modes(modes)
    for user in health:
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


def is_alive(users: NamespaceUsers, user: str, path: str) -> bool:
    """Whether the program's health endpoint responds with 200; asked at the pod, as a Service leads only to ready pods."""
    pod = users.pod(user)
    assert pod is not None
    return web.send_request(f"{pod['status']['podIP']}:8080", "GET", path, None, {}).code == 200
