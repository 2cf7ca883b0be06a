"""One ReadWriteMany volume for many users: each sees the own directory, whatever the others put into theirs."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from support.kubectl import eventually
from support.users import NamespaceUsers, Object

WAVE = 10
"""Users that start at the same time: the machine has few cores."""
BROWSER_UID = 1000


@pytest.fixture
def homes(users: NamespaceUsers, tmp_path: Path) -> Path:
    """The directory of a volume that many pods may write, as a file server exports it: the kubelet changes no owner there.

    The claim `homes` has it.
    """
    if not users.cluster.has_local_volumes:
        pytest.skip("volumes can be read only on the local node (--cluster=local, as root)")
    directory = tmp_path / "homes"
    directory.mkdir(mode=0o755)
    os.chown(directory, BROWSER_UID, BROWSER_UID)
    users.create_volume(
        "homes",
        mode="ReadWriteMany",
        size="1Gi",
        shareable="Directories",
        hostPath={"path": str(directory), "type": "Directory"},
    )
    return directory


def storage_of(user: str, class_name: str, namespace: str, sub_path: str = "${slug}") -> Object:
    spec = {"userID": user, "className": class_name, "storage": {"claimName": "homes", "subPath": sub_path}}
    return {
        "apiVersion": "userstorage.dev/v1",
        "kind": "UserStorage",
        "metadata": {"name": user, "namespace": namespace},
        "spec": spec,
    }


@pytest.mark.timeout(900)
def test_users_of_one_volume_see_only_their_own_directory(
    users: NamespaceUsers, homes: Path, dufs: str, request: pytest.FixtureRequest
) -> None:
    names = [f"user-{number:02}" for number in range(request.config.getoption("--sharing-users"))]
    for first in range(0, len(names), WAVE):
        wave = names[first : first + WAVE]
        users.kubectl.apply(*(storage_of(user, dufs, users.namespace) for user in wave))
        for user in wave:
            users.until_ready(user)
            assert users.web(user).request("PUT", f"of-{user}.txt", user.encode()).code == 201
    for user in names:
        assert users.web(user).request("GET", "?simple").body.decode().split() == [f"of-{user}.txt"]
        mode = (homes / user).stat()
        assert (mode.st_uid, mode.st_gid, mode.st_mode & 0o7777) == (BROWSER_UID, BROWSER_UID, 0o770)

    # Links that alice (user-00) planted in her own directory lead nowhere, relative or absolute, and neither does `..`.
    [alice, bob, *_] = names
    secret = f"of-{bob}.txt"
    for name, target in (("near", f"../{bob}"), ("far", str(homes / bob)), ("root", "/"), ("file", f"../{bob}/{secret}")):
        (homes / alice / name).symlink_to(target)
    paths = [f"near/{secret}", f"far/{secret}", f"root/srv/../{bob}/{secret}", "file", f"../{bob}/{secret}"]
    paths += [f"..%2f{bob}%2f{secret}", f"%2e%2e/{bob}/{secret}", f"x/../../{bob}/{secret}"]
    for path in paths:
        response = users.web(alice).request("GET", path)
        assert bob.encode() not in response.body or response.code >= 400, path
        assert response.body != bob.encode(), path

    # The directory stays when its user is deleted, and the next UserStorage of the user finds it.
    users.kubectl.run("delete", "userstorage", bob, "-n", users.namespace)
    assert (homes / bob / secret).read_text() == bob
    users.kubectl.apply(storage_of(bob, dufs, users.namespace))
    users.until_ready(bob)
    assert users.web(bob).request("GET", secret).body == bob.encode()


def test_directory_replaced_by_a_link_is_not_served(users: NamespaceUsers, homes: Path, dufs: str) -> None:
    users.kubectl.apply(*(storage_of(user, dufs, users.namespace) for user in ("alice", "bob")))
    for user in ("alice", "bob"):
        users.until_ready(user)
    assert users.web("bob").request("PUT", "secret.txt", b"of bob").code == 201

    (homes / "alice").rename(homes / "kept")
    (homes / "alice").symlink_to("bob")
    (homes / "team").symlink_to("bob")
    users.kubectl.apply(storage_of("carol", dufs, users.namespace, "team/${slug}"))
    users.kubectl.run("delete", "pod", "user-storage-alice", "-n", users.namespace)
    for user, path in (("alice", "/srv/alice"), ("carol", "/srv/team")):
        eventually(says(users, user, f"{path} is a symbolic link"))
        pod = users.pod(user)
        assert pod is not None
        [browser] = pod["status"]["containerStatuses"]
        assert "running" not in browser["state"]
        assert "lastState" not in browser or not browser["lastState"]
    assert sorted(path.name for path in (homes / "bob").iterdir()) == ["secret.txt"]

    (homes / "alice").unlink()
    (homes / "kept").rename(homes / "alice")
    users.until_ready("alice")
    assert users.web("alice").request("GET", "?simple").body == b""


def test_kubelet_alone_follows_links_and_creates_directories_of_root(users: NamespaceUsers, homes: Path) -> None:
    # Why there is an init container: docs/decisions/0017-directories-of-a-shared-claim.md
    (homes / "bob").mkdir()
    (homes / "bob" / "secret.txt").touch()
    (homes / "alice").symlink_to("bob")
    security = {
        "allowPrivilegeEscalation": False,
        "runAsNonRoot": True,
        "runAsUser": BROWSER_UID,
        "seccompProfile": {"type": "RuntimeDefault"},
        "capabilities": {"drop": ["ALL"]},
    }
    mounts = [{"name": "files", "mountPath": f"/{path}", "subPath": path} for path in ("alice", "new")]
    container = {
        "name": "plain",
        "image": "docker.io/library/busybox:1.37.0",
        "command": ["/bin/sh", "-c", "echo /alice/*"],
        "securityContext": security,
        "volumeMounts": mounts,
    }
    spec = {
        "restartPolicy": "Never",
        "automountServiceAccountToken": False,
        "containers": [container],
        "volumes": [{"name": "files", "persistentVolumeClaim": {"claimName": "homes"}}],
    }
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "plain", "namespace": users.namespace}, "spec": spec}
    users.kubectl.apply(pod)
    eventually(lambda: ((users.get("pod", "plain") or {}).get("status") or {}).get("phase") == "Succeeded")
    assert users.kubectl.run("logs", "plain", "-n", users.namespace).stdout == "/alice/secret.txt\n"
    created = (homes / "new").stat()
    assert (created.st_uid, created.st_mode & 0o7777) == (0, 0o755)


def says(users: NamespaceUsers, user: str, text: str) -> Callable[[], bool]:
    def is_said() -> bool:
        found = users.get("userstorage", user) or {}
        conditions = found.get("status", {}).get("conditions", ())
        return any(entry["type"] == "Ready" and entry["status"] == "False" and text in entry["message"] for entry in conditions)

    return is_said


def test_process_in_the_browser_sees_no_other_directory(users: NamespaceUsers, homes: Path, filebrowser: str) -> None:
    users.kubectl.apply(*(storage_of(user, filebrowser, users.namespace) for user in ("alice", "bob")))
    for user in ("alice", "bob"):
        users.until_ready(user)
    assert users.exec("bob", "touch", "/srv/secret.txt")[0] == 0
    (homes / "alice" / "near").symlink_to("../bob")
    (homes / "alice" / "far").symlink_to(homes / "bob")
    for path in ("/srv/../bob", "/srv/near/", "/srv/far/", f"{homes}/bob", "/proc/1/cwd/../bob", "/proc/1/root/srv/../bob"):
        code, output = users.exec("alice", "ls", path)
        assert code != 0, (path, output)
    assert users.exec("alice", "stat", "-c", "%u:%g %a", "/srv") == (0, "1000:1000 770")
