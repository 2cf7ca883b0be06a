"""Bob, who can reach alice's pod and is not alice, gets no byte of hers, and changes none.

He connects to the pod itself: no NetworkPolicy and no gateway stands before it. In every attempt he is bob, or names no
one; a header that says `alice` is what gateways and NetworkPolicies must keep him from sending.
"""

import base64
import http.client
from collections.abc import Callable, Iterable

from support.filebrowser import FileBrowser
from support.users import COPYPARTY, NamespaceUsers
from support.web import RESPONSE_SECONDS, Response

HEADER = "X-Forwarded-User"
SECRET = b"a secret of alice"
FILE = "secret-of-alice.txt"

Headers = list[tuple[str, str]]


def _basic(user: str) -> tuple[str, str]:
    return "Authorization", "Basic " + base64.b64encode(f"{user}:alice".encode()).decode()


NAMES = [
    "bob",
    "ALICE",
    "Alice",
    "../alice",
    "./alice",
    "alice/",
    "al ice",
    "alice,bob",
    "*",
    "owner",
    "admin",
    "visitor",
    "1",
    "",
]
IDENTITIES: list[Headers] = [
    [],
    *([(HEADER, name)] for name in NAMES),
    [(HEADER, "bob"), (HEADER, "bob")],
    [("X_Forwarded_User", "alice")],
    [("X-Forwarded-User-Id", "alice"), (HEADER, "bob")],
    [("Cookie", "cppwd=alice; auth=alice"), (HEADER, "bob")],
    [_basic("alice")],
    [_basic("alice"), (HEADER, "bob")],
    [("PW", "alice"), (HEADER, "bob")],
    [("X-Forwarded-For", "127.0.0.1"), ("X-Forwarded-Proto", "https"), (HEADER, "bob")],
]


def send(address: str, method: str, path: str, headers: Iterable[tuple[str, str]], body: bytes | None = None) -> Response:
    """Send a request whose headers may have one name twice."""
    connection = http.client.HTTPConnection(address, timeout=RESPONSE_SECONDS)
    try:
        connection.putrequest(method, path)
        for name, value in headers:
            connection.putheader(name, value)
        if body is not None:
            connection.putheader("Content-Length", str(len(body)))
        connection.endheaders(body)
        answer = connection.getresponse()
        return Response(answer.status, answer.read())
    finally:
        connection.close()


def pod_address(users: NamespaceUsers) -> str:
    pod = users.pod("alice")
    assert pod is not None
    return f"{pod['status']['podIP']}:8080"


def attack(address: str, requests: Iterable[tuple[str, str, bytes | None]], extra: Callable[[Headers], Headers]) -> None:
    """Send every request with every identity; no answer may have a byte of alice's files or their names."""
    for identity in IDENTITIES:
        headers = extra(identity)
        for method, path, body in requests:
            answer = send(address, method, path, [*headers, ("Depth", "1"), ("Destination", f"http://{address}/b.txt")], body)
            assert SECRET[2:] not in answer.body, (identity, method, path)
            if FILE not in path:
                assert FILE.encode() not in answer.body, (identity, method, path)


def test_stranger_has_no_access_to_file_browser(users: NamespaceUsers, filebrowser: str) -> None:
    users.apply_user("alice", filebrowser)
    users.until_ready("alice")
    alice = FileBrowser(users.web("alice"))
    assert alice.upload(FILE, SECRET).code == 200
    address = pod_address(users)

    def logged_in(identity: Headers) -> Headers:
        login = send(address, "POST", "/api/login", identity, b"")
        assert login.code >= 400, (identity, login)
        signup = send(address, "POST", "/api/signup", identity, b'{"username": "bob", "password": "bob"}')
        assert signup.code >= 400, (identity, signup)
        return [*identity, ("X-Auth", login.body.decode().strip())]

    requests = [
        ("GET", "/api/resources/", None),
        ("GET", f"/api/raw/{FILE}", None),
        ("GET", "/api/raw/?algo=zip", None),
        ("GET", "/api/search/?query=secret", None),
        ("GET", f"/api/preview/big/{FILE}", None),
        ("POST", "/api/resources/planted.txt", b"planted"),
        ("POST", "/api/tus/planted.txt", b""),
        ("PUT", f"/api/resources/{FILE}", b"changed"),
        ("PATCH", f"/api/resources/{FILE}?action=rename&destination=/b.txt", b""),
        ("DELETE", f"/api/resources/{FILE}", None),
        ("POST", f"/api/share/{FILE}", b"{}"),
        ("GET", "/api/users", None),
    ]
    attack(address, requests, logged_in)
    assert users.exec("alice", "ls", "-A", "/srv") == (0, FILE)
    assert alice.download(FILE).body == SECRET


def test_stranger_has_no_access_to_copyparty(users: NamespaceUsers) -> None:
    users.apply_user("alice", users.create_class(COPYPARTY))
    users.until_ready("alice")
    web, mine = users.web("alice"), {HEADER: "alice"}
    assert web.request("PUT", FILE, SECRET, mine).code == 201
    requests = [
        ("GET", "/", None),
        ("GET", "/?ls", None),
        ("GET", "/?tree", None),
        ("GET", "/?zip", None),
        ("GET", "/?tar", None),
        ("GET", "/?ru", None),
        ("GET", "/?h", None),
        ("GET", f"/{FILE}", None),
        ("GET", f"/{FILE}?tail", None),
        ("GET", f"/{FILE}?th=w", None),
        ("GET", f"/{FILE}?pw=alice", None),
        ("GET", f"/{FILE}?doc", None),
        ("GET", f"/./x/../{FILE}", None),
        ("GET", f"/%2e/{FILE}", None),
        ("HEAD", f"/{FILE}", None),
        ("PROPFIND", "/", None),
        ("PROPFIND", f"/{FILE}", None),
        ("PUT", "/planted.txt", b"planted"),
        ("PUT", f"/{FILE}", b"changed"),
        ("POST", "/", b"planted"),
        ("POST", f"/{FILE}?delete", b""),
        ("POST", f"/{FILE}?move=/b.txt", b""),
        ("MKCOL", "/planted", None),
        ("MOVE", f"/{FILE}", None),
        ("COPY", f"/{FILE}", None),
        ("LOCK", f"/{FILE}", b'<lockinfo xmlns="DAV:"/>'),
        ("DELETE", f"/{FILE}", None),
    ]
    address = pod_address(users)
    attack(address, requests, list)
    for identity in IDENTITIES:
        ranged = send(address, "GET", f"/{FILE}", [*identity, ("Range", "bytes=2-9")])
        assert ranged.code >= 400, (identity, ranged)
    assert users.exec("alice", "ls", "-A", "/srv") == (0, FILE)
    assert web.request("GET", FILE, headers=mine).body == SECRET
