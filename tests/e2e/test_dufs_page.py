"""The page of Dufs in a real browser."""

from pathlib import Path

from playwright.sync_api import Page, expect

from support.users import DUFS, NamespaceUsers


def test_uploaded_file_is_listed_after_pod_is_replaced(users: NamespaceUsers, page: Page, tmp_path: Path) -> None:
    # With a base path, the page works only if it requests its parts below that path.
    users.apply_user("alice", users.create_class(DUFS, basePath="/files/${slug}/"))
    users.until_ready("alice")
    notes = tmp_path / "notes.txt"
    notes.write_text("of alice")
    users.web("alice").request("GET", "")  # waits until the Service leads to the pod, since the browser does not retry
    page.goto(f"http://{users.address('alice')}{users.path('alice')}")
    expect(page.get_by_text("Empty folder")).to_be_visible()

    with page.expect_file_chooser() as chooser:
        page.locator(".upload-file label").click()
    chooser.value.set_files(notes)
    expect(page.locator(".uploader", has_text="notes.txt").locator(".cell-status")).to_have_text("✓")
    page.reload()
    listed = page.locator(".paths-table").get_by_role("link", name="notes.txt", exact=True)
    expect(listed).to_be_visible()

    users.delete_pod("alice")
    users.web("alice").request("GET", "")
    page.goto(f"http://{users.address('alice')}{users.path('alice')}")
    expect(listed).to_be_visible()
    with page.expect_download() as download:
        page.locator(".paths-table").get_by_title("Download file").click()
    assert download.value.path().read_text() == "of alice"


def test_page_offers_no_upload_without_create_permission(users: NamespaceUsers, page: Page) -> None:
    users.apply_user("alice", users.create_class(DUFS, permissions={"create": False}))
    users.until_ready("alice")
    assert users.web("alice").request("PUT", "by-hand.txt", b"refused").code == 403
    page.goto(f"http://{users.address('alice')}/")
    expect(page.locator(".breadcrumb a")).to_be_visible()
    expect(page.locator(".upload-file")).to_be_hidden()


def test_every_visitor_is_the_user(users: NamespaceUsers, dufs: str, page: Page) -> None:
    """Dufs checks no header: a class for it must acknowledge that, and gateway and NetworkPolicy are the only login."""
    users.apply_user("alice", dufs)
    users.until_ready("alice")
    assert users.web("alice").request("PUT", "notes.txt", b"of alice", {"X-Forwarded-User": "alice"}).code == 201
    page.set_extra_http_headers({"X-Forwarded-User": "bob"})
    page.goto(f"http://{users.address('alice')}/")
    expect(page.locator(".paths-table").get_by_role("link", name="notes.txt", exact=True)).to_be_visible()
