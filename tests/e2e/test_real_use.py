"""Browsers under what people do with them: photos, many files, proxies, and network volumes that fail."""

import json
import os
import signal
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import repeat
from pathlib import Path

import pytest

from support.cluster_access import LocalNode
from support.filebrowser import HEADER, FileBrowser
from support.kubectl import eventually
from support.photos import photo
from support.users import COPYPARTY, DUFS, FILE_BROWSER, NamespaceUsers
from support.web import Response

MANY = 300_000
PHOTOS = 2_000
PROXY = "http://192.0.2.1:3128"
"""The address of no proxy: it is reserved for documentation."""


def restarts(users: NamespaceUsers, user: str) -> int:
    pod = users.pod(user)
    assert pod is not None
    return int(pod["status"]["containerStatuses"][0]["restartCount"])


Preview = Callable[[str, str], Response]
"""Requests the preview of a photo, by size and name, as the page of the browser does."""


def file_browser_preview(users: NamespaceUsers) -> Preview:
    browser = FileBrowser(users.web("alice"))
    sizes = {"large": "big", "small": "thumb"}
    return lambda size, name: browser.request("GET", f"api/preview/{sizes[size]}/{name}")


def copyparty_preview(users: NamespaceUsers) -> Preview:
    web, sizes = users.web("alice"), {"large": "w3f", "small": "w"}
    return lambda size, name: web.request("GET", f"{name}?th={sizes[size]}", headers={HEADER: "alice"})


@pytest.mark.parametrize(
    ("cls", "open_page", "scratch"),
    [(COPYPARTY, copyparty_preview, "/state"), (FILE_BROWSER, file_browser_preview, "/tmp")],  # noqa: S108
    ids=["Copyparty", "FileBrowser"],
)
def test_photos_neither_end_the_browser_nor_fill_its_scratch_space(
    users: NamespaceUsers, cls: dict[str, object], open_page: Callable[[NamespaceUsers], Preview], scratch: str
) -> None:
    users.apply_user("alice", users.create_class(cls))
    pod = users.until_ready("alice")["podUID"]
    volume = users.volume("alice")
    large, small = [f"large-{number}.jpg" for number in range(4)], [f"small-{number}.jpg" for number in range(PHOTOS)]
    for name in large:
        (volume / name).write_bytes(photo(8064, 6048, orientation=6))
    for name in small:
        (volume / name).write_bytes(photo(32, 32))
    preview = open_page(users)
    before = users.exec("alice", "find", scratch, "-type", "f")
    with ThreadPoolExecutor(len(large)) as pool:
        for size, names in (("large", large), ("small", large), ("small", small)):
            answers = list(pool.map(preview, repeat(size), names))
            assert {answer.code for answer in answers} == {200}
    assert restarts(users, "alice") == 0
    assert users.until_ready("alice")["podUID"] == pod
    assert users.exec("alice", "find", scratch, "-type", "f") == before, "a cache without a limit fills the scratch space"


def test_shared_link_ends_with_its_pod_as_the_field_says(users: NamespaceUsers) -> None:
    explained = users.kubectl.run("explain", "userstorageclass.spec.browser.permissions.share")
    assert "Links end with the pod" in " ".join(explained.stdout.split())
    users.apply_user("alice", users.create_class(FILE_BROWSER, permissions={"share": True}))
    users.until_ready("alice")
    (users.volume("alice") / "notes.txt").write_bytes(b"of alice")
    link = FileBrowser(users.web("alice")).request("POST", "api/share/notes.txt", b'{"expires": "7", "unit": "days"}')
    path = f"api/public/dl/{link.json()['hash']}"
    shared = users.web("alice").request("GET", path)
    assert (shared.code, shared.body) == (200, b"of alice")

    users.delete_pod("alice")
    assert users.web("alice").request("GET", path).code == 404
    assert FileBrowser(users.web("alice")).list_names() == ["notes.txt"]


def test_proxy_variables_do_not_keep_a_pod_from_ready(users: NamespaceUsers) -> None:
    schemes = ("http_proxy", "https_proxy", "all_proxy")
    env = [{"name": name, "value": PROXY} for scheme in schemes for name in (scheme, scheme.upper())]
    env += [{"name": name, "value": "127.0.0.1,localhost"} for name in ("no_proxy", "NO_PROXY")]
    users.apply_user("alice", users.create_class(FILE_BROWSER, env=env))
    users.until_ready("alice")


def test_many_files_do_not_slow_down_the_probe(users: NamespaceUsers) -> None:
    # One volume for all flavors, one after the other: a Dufs without uploads can only be asked for a list.
    flavors = [users.create_class(cls) for cls in (COPYPARTY, FILE_BROWSER, DUFS)]
    flavors.append(users.create_class(DUFS, permissions={"create": False}))
    users.apply_user("alice", flavors[0])
    pod = users.until_ready("alice")["podUID"]
    volume = users.volume("alice")
    for number in range(MANY):
        os.close(os.open(volume / f"file-{number}", os.O_CREAT | os.O_WRONLY))
    users.delete_pod("alice")
    for flavor in flavors:
        users.apply_user("alice", flavor)
        pod = users.until_ready("alice", not_pod=pod)["podUID"]
        assert restarts(users, "alice") == 0
        probes = [
            found for found in pod_events(users, "alice") if found["reason"] == "Unhealthy" and "Readiness" in found["note"]
        ]
        assert all("refused" in event["note"] for event in probes), (flavor, probes)  # only before the program listens


def pod_events(users: NamespaceUsers, user: str) -> list[dict[str, str]]:
    pod = users.pod(user)
    assert pod is not None
    uid = pod["metadata"]["uid"]
    found = users.kubectl.run(
        "get", "events", "-n", users.namespace, f"--field-selector=involvedObject.uid={uid}", "-o", "json"
    )
    return [{"reason": event["reason"], "note": event["message"]} for event in json.loads(found.stdout)["items"]]


def test_stale_mount_is_replaced_with_its_pod(users: NamespaceUsers, tmp_path: Path) -> None:
    # Only a new pod gets the new mount after the program that serves the volume was killed.
    if not isinstance(users.cluster, LocalNode):
        pytest.skip("a network volume can be simulated only on the local node")
    flavors = {"alice": COPYPARTY, "bob": DUFS, "carol": FILE_BROWSER}
    classes = [users.create_class(cls) for cls in flavors.values()]
    with ThreadPoolExecutor(len(flavors)) as pool:
        list(pool.map(lose_mount, repeat(users), repeat(users.cluster), flavors, classes, repeat(tmp_path)))


def lose_mount(users: NamespaceUsers, node: LocalNode, user: str, class_name: str, logs: Path) -> None:
    quick = {"startTimeout": "20s"}
    users.apply_user(user, class_name, lifecycle=quick)
    users.until_ready(user)
    volume = users.volume(user)
    users.apply_user(user, class_name, lifecycle=quick, replicas=0)
    eventually(lambda: users.pod(user) is None)
    server = node.network_volume(volume, logs / f"{user}.log")
    users.apply_user(user, class_name, lifecycle=quick)
    first = users.until_ready(user)

    os.kill(server, signal.SIGKILL)
    message = users.until_not_ready(user, "PodNotReady")
    node.namespace.run(["umount", "--lazy", str(volume)])
    second = users.until_ready(user, not_pod=first["podUID"])
    assert second["restartCount"] == 0
    assert "not ready" in message
