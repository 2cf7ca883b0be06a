"""Users of any identity provider, and files that belong to another user than the class asks for, on the real File Browser."""

from support.filebrowser import FileBrowser
from support.users import FILE_BROWSER, NamespaceUsers
from userstorage_operator.api.names import slug

IDENTITIES = ("https://idp.example.org/u/1", "CORP\\alice", "o'brien@example.org", "alice smith", "$(id)")


def test_user_of_any_identity_provider_is_served(users: NamespaceUsers, filebrowser: str) -> None:
    for user_id in IDENTITIES:
        users.apply_user(slug(user_id), filebrowser, userID=user_id)
    for user_id in IDENTITIES:
        users.until_ready(slug(user_id))
        browser = FileBrowser(users.web(slug(user_id)), user=user_id)
        assert browser.user == user_id
        assert browser.upload("notes.txt", user_id.encode()).code == 200
        assert browser.list_names() == ["notes.txt"]
        assert browser.download("notes.txt").body == user_id.encode()


def test_files_stay_writable_if_the_class_runs_as_another_user(users: NamespaceUsers) -> None:
    cls = users.create_class(FILE_BROWSER)
    users.apply_user("alice", cls)
    first = users.until_ready("alice")
    assert FileBrowser(users.web("alice")).upload("notes.txt", b"first").code == 200
    other = FILE_BROWSER | {"security": {"runAsUser": 2000, "runAsGroup": 2000, "fsGroup": 2000}}
    users.apply_class(cls, other, permissions={"share": True})  # the permission needs a new pod
    users.until_ready("alice", not_pod=first["podUID"])
    browser = FileBrowser(users.web("alice"))
    assert browser.request("PUT", "api/resources/notes.txt", b"second").code == 200
    assert browser.download("notes.txt").body == b"second"
    assert users.exec("alice", "id", "-u") == (0, "1000")
    users.apply_user("bob", cls)
    users.until_ready("bob")
    assert FileBrowser(users.web("bob"), user="bob").upload("notes.txt", b"of bob").code == 200
    assert users.exec("bob", "id", "-u") == (0, "2000")
