"""The real Copyparty behind a stand-in for the proxy: its page in a real browser, and WebDAV."""

import time
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from support.filebrowser import HEADER
from support.kubectl import eventually
from support.users import COPYPARTY, NamespaceUsers
from support.web import Response

CONTENT = b"of alice"


@pytest.fixture
def copyparty(users: NamespaceUsers) -> str:
    """The name of a class for Copyparty behind a proxy."""
    return users.create_class(COPYPARTY)


def request(users: NamespaceUsers, method: str, path: str, body: bytes | None = None, **headers: str) -> Response:
    """Send a request of alice to her server."""
    return users.web("alice").request(method, path, body, {HEADER: "alice", **headers})


def test_uploaded_file_is_listed_after_pod_is_replaced(users: NamespaceUsers, page: Page, tmp_path: Path) -> None:
    # With a base path, the page works only if it requests its parts below that path.
    users.apply_user("alice", users.create_class(COPYPARTY, basePath="/files/${slug}/"))
    users.until_ready("alice")
    notes = tmp_path / "notes.txt"
    notes.write_bytes(CONTENT)
    request(users, "GET", "")  # waits until the Service leads to the pod, since the browser does not retry
    page.set_extra_http_headers({HEADER: "alice"})
    page.goto(f"http://{users.address('alice')}{users.path('alice')}")
    page.locator("#ops a[data-dest=up2k]").click()
    page.locator("#file1").set_input_files(notes)
    page.locator("#modal-ok").click()
    listed = page.locator("#files").get_by_role("link", name="notes.txt", exact=True)
    expect(listed).to_be_visible(timeout=30_000)
    assert request(users, "GET", "notes.txt").body == CONTENT

    users.delete_pod("alice")
    request(users, "GET", "")
    page.goto(f"http://{users.address('alice')}{users.path('alice')}")
    listed.click()
    expect(page.get_by_text(CONTENT.decode())).to_be_visible()

    page.set_extra_http_headers({HEADER: "bob"})
    page.goto(f"http://{users.address('alice')}{users.path('alice')}")
    expect(page.get_by_text("howdy stranger")).to_be_visible()
    expect(page.get_by_text("notes.txt")).to_be_hidden()
    page.goto(f"http://{users.address('alice')}{users.path('alice')}notes.txt")
    expect(page.get_by_text(CONTENT.decode())).to_be_hidden()


def test_webdav_client_can_replace_and_delete_files(users: NamespaceUsers, copyparty: str) -> None:
    users.apply_user("alice", copyparty)
    users.until_ready("alice")
    assert request(users, "MKCOL", "d").code == 201
    assert request(users, "PUT", "d/a.txt", b"first").code == 201
    assert request(users, "PUT", "d/a.txt", CONTENT).code in (201, 204)
    assert request(users, "GET", "d/a.txt", Range="bytes=3-7").body == b"alice"
    assert b"/d/a.txt" in request(users, "PROPFIND", "d/", Depth="1").body
    web = f"http://{users.address('alice')}"
    assert request(users, "MOVE", "d/a.txt", Destination=f"{web}/b.txt").code == 201
    assert users.exec("alice", "ls", "-A", "/srv") == (0, "b.txt\nd")
    assert request(users, "DELETE", "b.txt").code in (200, 204)
    assert users.exec("alice", "ls", "-A", "/srv") == (0, "d"), "no database or directory of the program's own"


def test_read_only_storage_refuses_writes(users: NamespaceUsers, copyparty: str) -> None:
    users.apply_user("alice", copyparty)
    first = users.until_ready("alice")
    assert request(users, "PUT", "kept.txt", CONTENT).code == 201
    users.apply_user("alice", copyparty, storage={"size": "1Gi", "readOnly": True})
    users.until_ready("alice", not_pod=first["podUID"])
    assert request(users, "PUT", "refused.txt", CONTENT).code >= 400
    assert request(users, "DELETE", "kept.txt").code >= 400
    assert request(users, "GET", "kept.txt").body == CONTENT


def test_container_is_unprivileged_and_ends_gracefully(users: NamespaceUsers, copyparty: str) -> None:
    users.apply_user("alice", copyparty, lifecycle={"terminationGracePeriodSeconds": 120})
    users.until_ready("alice")
    assert users.exec("alice", "id", "-u") == (0, "1000")
    assert users.exec("alice", "touch", "/usr/bin/evil")[0] != 0
    _, process = users.exec("alice", "cat", "/proc/1/status")
    facts = dict(line.split(":\t", 1) for line in process.splitlines() if ":\t" in line)
    assert (int(facts["CapEff"], 16), facts["NoNewPrivs"], facts["Seccomp"]) == (0, "1", "2")
    _, sockets = users.exec("alice", "cat", "/proc/net/tcp", "/proc/net/tcp6", "/proc/net/udp", "/proc/net/udp6")
    listening = {line.split()[1] for line in sockets.splitlines() if " 0A " in line or " 07 " in line}
    assert listening == {"0" * 32 + ":1F90"}, "one port, and no socket for discovery"

    start = time.monotonic()
    users.kubectl.delete("userstorage", "alice", namespace=users.namespace)
    eventually(lambda: users.pod("alice") is None)
    assert time.monotonic() - start < 120, "killed at the end of the grace period"
