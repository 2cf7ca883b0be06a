"""One host with a path per user, behind a real nginx that is configured from the Ingresses as an ingress controller does it."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from e2e.test_custom import CUSTOM
from support.filebrowser import FileBrowser
from support.ingress_controller import nginx_servers
from support.users import DUFS, FILE_BROWSER, NamespaceUsers
from support.web import Web
from testservers.nginx import Nginx

USERS = ("alice", "bob")
Object = dict[str, Any]
Serve = Callable[[Object], Callable[[str], Web]]
"""Creates both users in a class, and returns the client of a user, through nginx."""


@pytest.fixture
def nginx(tmp_path: Path) -> Iterator[Nginx]:
    server = Nginx(tmp_path / "nginx")
    yield server
    server.stop()


@pytest.fixture
def host(users: NamespaceUsers) -> str:
    """A host name that no other test has, and that a browser resolves to the loopback address."""
    return f"{users.namespace}.localhost"


@pytest.fixture
def serve(users: NamespaceUsers, host: str, nginx: Nginx) -> Serve:
    def created(spec: Object) -> Callable[[str], Web]:
        cls = users.create_class(spec | {"network": {"expose": "Ingress", "hostTemplate": host}}, basePath="/u/${slug}/")
        for user in USERS:
            users.apply_user(user, cls)
        for user in USERS:
            assert users.until_ready(user)["url"] == f"http://{host}/u/{user}/"
        ingresses = [users.get("ingress", f"user-storage-{user}") or {} for user in USERS]
        services = {f"user-storage-{user}": users.address(user) for user in USERS}
        nginx.start(nginx_servers(ingresses, nginx.address, services.__getitem__))
        for user in USERS:
            users.web(user).request("GET", "")  # waits until the Service leads to the pod
        return lambda path: Web(lambda: nginx.address, path)

    return created


def test_files_of_dufs_are_uploaded_downloaded_and_deleted_below_the_path_of_their_user(serve: Serve) -> None:
    at = serve(DUFS)
    for user in USERS:
        web = at(f"/u/{user}/")
        assert web.request("PUT", "notes.txt", user.encode()).code == 201
        assert web.request("GET", "notes.txt").body == user.encode()
        listed = web.request("GET", "?json").json()
        assert [entry["name"] for entry in listed["paths"]] == ["notes.txt"]
    large = b"x" * 5_000_000
    alice = at("/u/alice/")
    assert alice.request("PUT", "large.bin", large).code == 201
    assert alice.request("GET", "large.bin").body == large
    assert alice.request("DELETE", "notes.txt").code == 204
    assert alice.request("GET", "notes.txt").code == 404
    assert at("/u/bob/").request("GET", "notes.txt").body == b"bob"
    assert at("/u/alice").request("GET", "").code in (200, 301, 308), "the path without its last / as well"
    for path in ("/", "/u/", "/u/alicex/", "/u/carol/notes.txt"):
        assert at(path).request("GET", "").code == 404


def test_files_of_file_browser_are_uploaded_downloaded_and_deleted_below_the_path_of_their_user(serve: Serve) -> None:
    at = serve(FILE_BROWSER)
    for user in USERS:
        browser = FileBrowser(at(f"/u/{user}/"), user)
        assert browser.upload("notes.txt", user.encode()).code == 200
        assert browser.list_names() == ["notes.txt"]
        assert browser.download("notes.txt").body == user.encode()
    alice = FileBrowser(at("/u/alice/"))
    assert alice.request("DELETE", "api/resources/notes.txt").code in (200, 204)
    assert alice.list_names() == []
    assert FileBrowser(at("/u/bob/"), "bob").download("notes.txt").body == b"bob"
    assert at("/u/alice").request("GET", "").code == 301, "to the path with a / at its end"


def test_custom_program_serves_below_the_path_of_its_user(serve: Serve) -> None:
    at = serve(CUSTOM)
    assert at("/u/alice/").request("PUT", "notes.txt", b"of alice").code == 201
    assert at("/u/alice/").request("GET", "notes.txt").body == b"of alice"
    assert at("/u/bob/").request("GET", "notes.txt").code == 404


def test_page_works_below_the_path_of_its_user(serve: Serve, host: str, nginx: Nginx, page: Page, tmp_path: Path) -> None:
    serve(DUFS)
    notes = tmp_path / "notes.txt"
    notes.write_text("of alice")
    page.goto(f"http://{host}:{nginx.port}/u/alice/")
    expect(page.get_by_text("Empty folder")).to_be_visible()
    with page.expect_file_chooser() as chooser:
        page.locator(".upload-file label").click()
    chooser.value.set_files(notes)
    expect(page.locator(".uploader", has_text="notes.txt").locator(".cell-status")).to_have_text("✓")
    page.goto(f"http://{host}:{nginx.port}/u/alice")
    listed = page.locator(".paths-table").get_by_role("link", name="notes.txt", exact=True)
    expect(listed).to_be_visible()
    with page.expect_download() as download:
        page.locator(".paths-table").get_by_title("Download file").click()
    assert download.value.path().read_text() == "of alice"
    page.once("dialog", lambda dialog: dialog.accept())
    page.locator(".paths-table").get_by_title("Delete").click()
    expect(listed).to_be_hidden()
