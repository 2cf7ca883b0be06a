"""Copyparty: the real program, started with the words of the pod's container, answers the owner alone."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from localcluster.addresses import free_port
from support.builders import class_object, desired_of, storage_object
from support.kubectl import eventually
from support.web import Response, send_request
from userstorage_operator.api.errors import InvalidSpec
from userstorage_operator.api.userstorageclass import UserStorageClass

OPEN = {"mode": "None", "acknowledgeUnauthenticated": True}
HEADER = "X-Forwarded-User"
CONTENT = b"of the owner"
ALL = "r.wmd"


def container(user_id: str = "alice", *, auth: Any = None, storage: Any = None, **browser: Any) -> Any:
    cls = UserStorageClass.parse(class_object(browser={"flavor": "Copyparty", **browser}, auth=auth or {}))
    [found] = desired_of(storage_object(user_id, storage=storage or {}), cls).pod["spec"]["containers"]
    return found


def volume(**options: Any) -> str:
    """Return the option that defines the volume."""
    [found] = [word for word in container(**options)["args"] if word.startswith("-v=")]
    return str(found)


def expanded(word: str, variables: dict[str, str]) -> str:
    """Return the word as the kubelet passes it to the program."""
    return re.sub(
        r"\$\$|\$\(([-._a-zA-Z0-9]+)\)",
        lambda found: "$" if found[1] is None else variables.get(found[1], found[0]),
        word,
    )


class Program:
    """The real Copyparty, with the files of one user in `directory`."""

    def __init__(self, directory: Path, found: Any) -> None:
        self.files, self.log = directory / "files", directory / "log"
        state = directory / "state"
        self.files.mkdir()
        state.mkdir()
        self.port = found["ports"][0]["containerPort"]
        paths = {"/srv": str(self.files), "/state": str(state)}
        variables = {variable["name"]: variable["value"] for variable in found["env"]}
        words = [expanded(word, variables) for word in found["args"]]
        for path, other in paths.items():
            words = [word.replace(f"={path}", f"={other}", 1) for word in words]
            variables = {name: value.replace(path, other) for name, value in variables.items()}
        environment = {"PATH": os.environ["PATH"], "id": "expanded", "X": "expanded", **variables}
        with self.log.open("wb") as log:
            command = [sys.executable, *found["command"][1:], *words]
            self.process = subprocess.Popen(command, env=environment, stdout=log, stderr=subprocess.STDOUT)

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def request(self, method: str, path: str, user: str | None, body: bytes | None = None, **headers: str) -> Response:
        names = {name.replace("_", "-"): value for name, value in headers.items()}
        return send_request(self.address, method, path, body, names if user is None else names | {HEADER: user})

    def answers(self) -> bool:
        assert self.process.poll() is None, self.log.read_text()
        try:
            self.request("GET", "/", None)
        except OSError:
            return False
        return True


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Any]:
    """A function that starts the program for a container."""
    started: list[Program] = []

    def run(*arguments: Any, **options: Any) -> Program:
        program = Program(tmp_path, container(*arguments, port=free_port(), **options))
        started.append(program)
        eventually(program.answers, every=0.05)
        (program.files / "a.txt").write_bytes(CONTENT)
        return program

    yield run
    for program in started:
        program.process.terminate()
        program.process.wait()  # the code may be that of an abort: a daemon thread was writing when the interpreter ended


@pytest.mark.parametrize(
    "user_id",
    [
        "alice",
        "auth0|5f7c8ec7c33c6c004bbafe82",
        "f:1b2c:alice",
        "CORP\\alice",
        "o'brien@example.org",
        "alice smith",
        "https://idp.example.org/u/1",
        "$(id) $$ ${X}",
        "%2e%2e",
        "../etc",
        "'; --",
        "{{.}}",
        "x:rwmda,*",
        "a,*:r",
        "@acct",
        "*",
    ],
)
def test_owner_has_access_and_no_other_name(start: Any, user_id: str) -> None:
    program = start(user_id)
    assert program.request("GET", "/a.txt", user_id).body == CONTENT
    others = {None, "", "*", "bob", "x", "a", "owner", "@acct", "acct", user_id.upper(), f"../{user_id}", f"{user_id},bob"}
    for other in others - {user_id}:
        answer = program.request("GET", "/a.txt", other)
        assert answer.code in (401, 403), other
        assert CONTENT not in answer.body, other
        assert b"a.txt" not in program.request("GET", "/?ls", other).body, other
        assert program.request("PUT", "/b.txt", other, b"planted").code == 401, other
    assert [path.name for path in program.files.iterdir()] == ["a.txt"]


def test_links_out_of_the_volume_are_not_followed(start: Any) -> None:
    program = start("alice")
    (program.files / "link").symlink_to("/etc/hostname")
    (program.files / "etc").symlink_to("/etc")
    assert [program.request("GET", path, "alice").code for path in ("/link", "/etc/hostname", "/a.txt")] == [403, 403, 200]


def test_files_cannot_be_changed_without_permission(start: Any) -> None:
    program = start("alice", permissions={"modify": False, "delete": False})
    (program.files / "a.md").write_bytes(CONTENT)
    assert program.request("PUT", "/new.txt", "alice", b"new").code == 201
    for path in ("/a.txt", "/a.md"):
        program.request("PUT", path, "alice", b"changed")
        assert program.request("DELETE", path, "alice").code == 403
    assert program.request("DELETE", "/new.txt", "alice").code == 403, "nor within minutes of the upload"
    assert program.request("GET", "/a.txt", "alice").body == program.request("GET", "/a.md", "alice").body == CONTENT


def test_every_visitor_is_the_user_without_authentication(start: Any) -> None:
    program = start("alice", auth=OPEN)
    assert program.request("PUT", "/a.txt", None, b"changed").code == 201
    assert program.request("GET", "/a.txt", "bob").body == b"changed"
    assert program.request("DELETE", "/a.txt", None).code == 200


def test_many_refusals_do_not_shut_out_the_owner(start: Any) -> None:
    program = start("alice")
    for _ in range(60):
        program.request("GET", "/a.txt", "bob")
        program.request("GET", "/wp-admin/x.php", None)
    assert program.request("GET", "/a.txt", "alice").body == CONTENT


def test_page_of_a_gateway_with_tls_can_upload(start: Any) -> None:
    program = start("alice")
    page, forwarded = f"https://{program.address}", {"X_Forwarded_For": "192.0.2.1", "X_Forwarded_Proto": "https"}
    assert program.request("PUT", "/b.txt", "alice", b"new", Origin=page, **forwarded).code == 201
    foreign = program.request("PUT", "/c.txt", "alice", b"new", Origin="https://evil.example.org", **forwarded)
    assert foreign.code == 403, "a page of another origin"


def test_permissions_become_rights_on_the_volume() -> None:
    assert volume() == f"-v=/srv::{ALL},owner:c,xvol:c,daw"
    assert volume(auth=OPEN) == f"-v=/srv::{ALL}:c,xvol:c,daw"
    assert volume(storage={"readOnly": True}) == "-v=/srv::r.,owner:c,xvol"
    assert volume(permissions={"rename": False}) == "-v=/srv::r.wd,owner:c,xvol:c,daw"
    assert volume(permissions={"modify": False, "delete": False}) == "-v=/srv::r.wm,owner:c,xvol"
    assert volume(permissions=dict.fromkeys(("create", "modify", "rename", "delete"), False)) == "-v=/srv::r.,owner:c,xvol"


@pytest.mark.parametrize(
    ("permissions", "field"),
    [
        ({"download": False}, "download"),
        ({"share": True}, "share"),
        ({"delete": False}, "delete"),
        ({"create": False}, "create"),
        ({"create": False, "modify": False, "delete": False}, "create"),
    ],
)
def test_permissions_that_it_cannot_distinguish_are_refused(permissions: dict[str, bool], field: str) -> None:
    with pytest.raises(InvalidSpec, match=rf"class spec\.browser\.permissions\.{field}: flavor Copyparty"):
        container(permissions=permissions)


def test_liveness_does_not_read_the_volume_and_readiness_does() -> None:
    found = container(basePath="/u/${slug}/")
    assert "--rp-loc=/u/alice" in found["args"]
    assert found["livenessProbe"]["tcpSocket"] == found["startupProbe"]["tcpSocket"] == {"port": 8080}
    script = found["readinessProbe"]["exec"]["command"][-1]
    assert "/srv" in script
    assert "http://127.0.0.1:8080/u/alice/.cpr/ui.css" in script
    assert container(healthPath="/up")["livenessProbe"]["httpGet"]["path"] == "/up"


def test_page_of_the_readiness_probe_lists_no_files(start: Any) -> None:
    program = start(basePath="/u/${slug}/")
    script = container(basePath="/u/${slug}/")["readinessProbe"]["exec"]["command"][-1]
    path = re.search(r"127\.0\.0\.1:8080(/\S+)", script)[1]  # type: ignore[index]
    for directory in ("", "u/alice/"):  # a file of the user at that path is not what the probe gets
        (program.files / directory / ".cpr").mkdir(parents=True)
        (program.files / directory / ".cpr/ui.css").write_bytes(CONTENT)
    answer = program.request("GET", path, None)
    assert answer.code == 200
    assert CONTENT not in answer.body
    assert b"a.txt" not in answer.body
