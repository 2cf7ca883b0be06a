"""Browsers under what people do with them: photos, many files, proxies, and network volumes that fail."""

import json
import os
import signal
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from support.cluster_access import LocalNode
from support.filebrowser import FileBrowser
from support.kubectl import eventually
from support.photos import photo
from support.users import COPYPARTY, DUFS, FILE_BROWSER, NamespaceUsers

MANY = 300_000
PROXY = "http://192.0.2.1:3128"
"""The address of no proxy: it is reserved for documentation."""


def restarts(users: NamespaceUsers, user: str) -> int:
    pod = users.pod(user)
    assert pod is not None
    return int(pod["status"]["containerStatuses"][0]["restartCount"])


def test_large_photos_are_viewed_at_the_same_time(users: NamespaceUsers, filebrowser: str) -> None:
    users.apply_user("alice", filebrowser)
    pod = users.until_ready("alice")["podUID"]
    names = [f"photo-{number}.jpg" for number in range(4)]
    for name in names:
        (users.volume("alice") / name).write_bytes(photo(8064, 6048, orientation=6))
    browser = FileBrowser(users.web("alice"))
    for size in ("big", "thumb"):
        with ThreadPoolExecutor(len(names)) as pool:
            answers = list(pool.map(lambda name, size=size: browser.request("GET", f"api/preview/{size}/{name}"), names))
        assert [answer.code for answer in answers] == [200] * len(names)
    assert restarts(users, "alice") == 0
    assert users.until_ready("alice")["podUID"] == pod
    assert users.exec("alice", "ls", "/tmp") == (0, ""), "a cache without a limit fills the scratch space"  # noqa: S108


def test_proxy_variables_do_not_keep_a_pod_from_ready(users: NamespaceUsers) -> None:
    schemes = ("http_proxy", "https_proxy", "all_proxy")
    env = [{"name": name, "value": PROXY} for scheme in schemes for name in (scheme, scheme.upper())]
    env += [{"name": name, "value": "127.0.0.1,localhost"} for name in ("no_proxy", "NO_PROXY")]
    users.apply_user("alice", users.create_class(FILE_BROWSER, env=env))
    users.until_ready("alice")


@pytest.mark.parametrize("cls", [COPYPARTY, DUFS, FILE_BROWSER], ids=["Copyparty", "Dufs", "FileBrowser"])
def test_many_files_do_not_slow_down_the_probe(users: NamespaceUsers, cls: dict[str, object]) -> None:
    users.apply_user("alice", users.create_class(cls))
    users.until_ready("alice")
    volume = users.volume("alice")
    for number in range(MANY):
        os.close(os.open(volume / f"file-{number}", os.O_CREAT | os.O_WRONLY))
    users.delete_pod("alice")
    assert restarts(users, "alice") == 0
    probes = [event for event in pod_events(users, "alice") if event["reason"] == "Unhealthy" and "Readiness" in event["note"]]
    assert all("refused" in event["note"] for event in probes), probes  # only before the program listens


def pod_events(users: NamespaceUsers, user: str) -> list[dict[str, str]]:
    pod = users.pod(user)
    assert pod is not None
    uid = pod["metadata"]["uid"]
    found = users.kubectl.run(
        "get", "events", "-n", users.namespace, f"--field-selector=involvedObject.uid={uid}", "-o", "json"
    )
    return [{"reason": event["reason"], "note": event["message"]} for event in json.loads(found.stdout)["items"]]


@pytest.mark.parametrize("cls", [COPYPARTY, DUFS, FILE_BROWSER], ids=["Copyparty", "Dufs", "FileBrowser"])
def test_stale_mount_is_replaced_with_its_pod(users: NamespaceUsers, cls: dict[str, object], tmp_path: Path) -> None:
    # Only a new pod gets the new mount after the program that serves the volume was killed.
    if not isinstance(users.cluster, LocalNode):
        pytest.skip("a network volume can be simulated only on the local node")
    name, quick = users.create_class(cls), {"startTimeout": "20s"}
    users.apply_user("alice", name, lifecycle=quick)
    users.until_ready("alice")
    volume = users.volume("alice")
    users.apply_user("alice", name, lifecycle=quick, replicas=0)
    eventually(lambda: users.pod("alice") is None)
    server = users.cluster.network_volume(volume, tmp_path / "fuse.log")
    users.apply_user("alice", name, lifecycle=quick)
    first = users.until_ready("alice")

    os.kill(server, signal.SIGKILL)
    message = users.until_not_ready("alice", "PodNotReady")
    users.cluster.namespace.run(["umount", "--lazy", str(volume)])
    second = users.until_ready("alice", not_pod=first["podUID"])
    assert second["restartCount"] == 0
    assert "not ready" in message
