"""The real File Browser behind a stand-in for the proxy. Only its API is tested, as its web page cannot be built here."""

from support.filebrowser import HEADER, FileBrowser
from support.users import FILE_BROWSER, NamespaceUsers

CONTENT = b"of alice"


def test_files_outlive_the_pod(users: NamespaceUsers, filebrowser: str) -> None:
    users.apply_user("alice", filebrowser)
    before = users.until_ready("alice")
    claim = users.claim("alice")
    browser = FileBrowser(users.web("alice"))
    may = {name: allowed for name, allowed in browser.permissions.items() if allowed}
    assert may.keys() == {"create", "modify", "rename", "delete", "download"}, "not share, execute, admin"
    assert browser.upload("notes.txt", CONTENT).code == 200
    assert browser.list_names() == ["notes.txt"]
    assert browser.download("notes.txt").body == CONTENT

    after = users.delete_pod("alice")
    assert after["podUID"] != before["podUID"]
    kept = users.claim("alice")
    assert claim is not None
    assert kept is not None
    assert kept["metadata"]["uid"] == claim["metadata"]["uid"]
    browser = FileBrowser(users.web("alice"))  # each pod creates its users again, so a new login is needed
    assert browser.list_names() == ["notes.txt"]
    assert browser.download("notes.txt").body == CONTENT


def test_requests_that_bypass_the_proxy_are_refused(users: NamespaceUsers, filebrowser: str) -> None:
    users.apply_user("alice", filebrowser)
    users.until_ready("alice")
    web = users.web("alice")
    assert FileBrowser(web).upload("secret.txt", CONTENT).code == 200

    login = web.request("POST", "api/login")
    assert login.code >= 400
    assert login.body.count(b".") != 2, "the login returned a token"
    password = web.request("POST", "api/login", b'{"username": "admin", "password": "admin"}')
    assert password.code >= 400
    for path in ("api/resources/", "api/raw/secret.txt"):
        for headers in ({}, {HEADER: "alice"}, {"X-Auth": login.body.decode().strip()}):
            answer = web.request("GET", path, headers=headers)
            assert (answer.code, CONTENT in answer.body) == (401, False), (path, headers, answer)


REQUESTS = {
    "create": ("POST", "api/resources/new.txt", b"new"),
    "modify": ("PUT", "api/resources/old.txt", b"changed"),
    "download": ("GET", "api/raw/old.txt", None),
    "share": ("POST", "api/share/old.txt", b"{}"),
    "rename": ("PATCH", "api/resources/old.txt?action=rename&destination=/renamed.txt", None),
    "delete": ("DELETE", "api/resources/gone.txt", None),
}
"""For each permission, a request that needs it; in an order in which all can succeed."""


def granted(browser: FileBrowser) -> dict[str, bool]:
    """Return for each permission whether its request had an effect. File Browser responds with 202 if it did nothing."""
    answers = {name: browser.request(*request).code for name, request in REQUESTS.items()}
    assert set(answers.values()) <= {200, 202, 204, 403}, answers
    return {name: code in (200, 204) for name, code in answers.items()}


def test_class_permissions_are_enforced(users: NamespaceUsers) -> None:
    cls = users.create_class(FILE_BROWSER, permissions=dict.fromkeys(REQUESTS, True))
    users.apply_user("alice", cls)
    first = users.until_ready("alice")
    browser = FileBrowser(users.web("alice"))
    for name in ("old.txt", "gone.txt"):
        assert browser.upload(name, CONTENT).code == 200
    assert granted(browser) == dict.fromkeys(REQUESTS, True)
    assert browser.list_names() == ["new.txt", "renamed.txt"]
    undo = [
        browser.request("PATCH", "api/resources/renamed.txt?action=rename&destination=/old.txt"),
        browser.request("DELETE", "api/resources/new.txt"),
        browser.upload("gone.txt", CONTENT),
    ]
    assert [answer.code for answer in undo] == [200, 204, 200]

    users.apply_class(cls, FILE_BROWSER, permissions=dict.fromkeys(REQUESTS, False))
    users.until_ready("alice", not_pod=first["podUID"])
    browser = FileBrowser(users.web("alice"))
    assert granted(browser) == dict.fromkeys(REQUESTS, False)
    assert users.exec("alice", "ls", "/srv") == (0, "gone.txt\nold.txt")


def test_read_only_storage_refuses_writes(users: NamespaceUsers, filebrowser: str) -> None:
    users.apply_user("alice", filebrowser)
    first = users.until_ready("alice")
    assert FileBrowser(users.web("alice")).upload("kept.txt", CONTENT).code == 200
    users.apply_user("alice", filebrowser, storage={"size": "1Gi", "readOnly": True})
    users.until_ready("alice", not_pod=first["podUID"])
    browser = FileBrowser(users.web("alice"))
    assert browser.upload("refused.txt", CONTENT).code >= 400
    assert browser.request("PUT", "api/resources/kept.txt", b"changed").code >= 400
    assert browser.list_names() == ["kept.txt"]
    assert browser.download("kept.txt").body == CONTENT
    code, output = users.exec("alice", "touch", "/srv/manual")
    assert code != 0
    assert "Read-only file system" in output


def test_files_are_served_at_base_path_and_url_contains_it(users: NamespaceUsers) -> None:
    cls = users.create_class(FILE_BROWSER, basePath="/files/${namespace}/${slug}/")
    users.apply_user("alice", cls)
    path = f"/files/{users.namespace}/alice/"
    assert users.until_ready("alice")["url"] == f"http://user-storage-alice.{users.namespace}.svc{path}"
    browser = FileBrowser(users.web("alice"))
    assert browser.upload("notes.txt", CONTENT).code == 200
    assert browser.download("notes.txt").body == CONTENT


def test_unauthenticated_user_is_not_administrator(users: NamespaceUsers) -> None:
    unauthenticated = FILE_BROWSER | {"auth": {"mode": "None", "acknowledgeUnauthenticated": True}}
    cls = users.create_class(unauthenticated, permissions={"delete": False})
    users.apply_user("alice", cls)
    users.until_ready("alice")
    browser = FileBrowser(users.web("alice"), user="anyone")
    may = {name for name, allowed in browser.permissions.items() if allowed}
    assert may == {"create", "modify", "rename", "download"}
    assert browser.upload("notes.txt", CONTENT).code == 200
    assert browser.request("DELETE", "api/resources/notes.txt").code == 403
    assert browser.request("GET", "api/users").code == 403


def test_init_container_overwrites_existing_database(users: NamespaceUsers, filebrowser: str) -> None:
    """After a reboot of the node, the init container runs again on the same scratch space."""
    users.apply_user("alice", filebrowser)
    users.until_ready("alice")
    pod = users.pod("alice")
    assert pod is not None
    [init] = pod["spec"]["initContainers"]
    copy = "cp /database/filebrowser.db /tmp/served.db"  # the server locks the database that it uses
    again = [part.replace("/database/filebrowser.db", "/tmp/served.db") for part in init["command"]]  # noqa: S108  # in the pod
    assert users.exec("alice", "/bin/sh", "-c", copy)[0] == 0
    for _ in range(2):
        code, output = users.exec("alice", *again)
        assert code == 0, output
