"""nginx, Caddy and Envoy from the files of examples/gateways, with oauth2-proxy, an OIDC provider, the gate and real pods.

docs/gateways.md has the table of the threats T1 to T17.
"""

import hashlib
import http.client
import os
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

from localcluster import processes
from support import chromium
from support.cluster_access import LocalNode
from support.front_door import (
    COOKIE,
    NAME,
    NAVIGATION,
    SECRET,
    USERS,
    WEBSOCKET,
    FrontDoor,
    assert_refused,
    assert_served,
    host,
    leaks,
    log_in,
)
from support.gate_process import KEY, GateProcess
from support.gateway_answers import OUTAGES, WAITING
from support.gateway_table import CASE
from support.https import Answer, Headers, connected, encoded, send
from support.kubectl import PATIENCE, eventually
from support.operator_process import OperatorProcess
from testservers.frontdoor import GATEWAYS, Gateway

Door = FrontDoor[GateProcess]
GUESS = "guessed-password-4711"
RUNNING = 64 * 2**20
"""Bytes of a file that is still being downloaded when a part fails: more than all buffers on the way."""
MEMORY = 256 * 2**20
"""Bytes of memory that a gateway may use at most: less than the file."""


PAUSE = 0.2
"""Seconds between two rounds: the rest of the machine works, too."""


@pytest.fixture(scope="module", params=GATEWAYS)
def gateway(request: pytest.FixtureRequest, front_door: Door) -> Iterator[Gateway]:
    """A gateway in front of the real pods."""
    started = front_door.gateway(request.param, front_door.pods())
    yield started
    started.stop()


@contextmanager
def browsing(gateway: Gateway) -> Iterator[Browser]:
    """Run a Chromium for which all hosts of example.org are that gateway."""
    mapped = f"--host-resolver-rules=MAP *.example.org:443 127.0.0.1:{gateway.port}"
    program = chromium.find_or_install()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=[*chromium.ARGUMENTS, mapped])
        yield browser
        browser.close()


def logged_in(browser: Browser, user: str, url: str) -> Page:
    """Open a URL in a new window, and log in when the provider asks. Return the page, which is at that URL again."""
    page = browser.new_context(ignore_https_errors=True).new_page()
    page.goto(url)
    page.get_by_role("button", name=f"id-of-{user}", exact=True).click()
    page.wait_for_url(url)
    return page


def volume(front_door: Door, name: str) -> Path:
    """Return the path of a file of alice on this machine."""
    return front_door.users.volume("alice") / name


@pytest.fixture(autouse=True)
def without_files(front_door: Door) -> None:
    """Delete alice's files: Copyparty gives an upload another name if there is a file of that name."""
    for path in volume(front_door, "").iterdir():
        path.unlink()


def test_owner_uses_the_files_in_a_browser_and_stranger_is_refused(front_door: Door, gateway: Gateway, tmp_path: Path) -> None:
    notes = tmp_path / NAME
    notes.write_bytes(SECRET)
    home = f"https://{host('alice')}/"
    with browsing(gateway) as browser:
        page = logged_in(browser, "alice", f"{home}?first=1&second=2")
        page.goto(home)
        page.locator("#ops a[data-dest=up2k]").click()
        page.locator("#file1").set_input_files(notes)
        page.locator("#modal-ok").click()
        expect(page.locator("#files").get_by_role("link", name=NAME, exact=True)).to_be_visible(timeout=60_000)
        with page.expect_download() as download:
            page.evaluate("url => { const a = document.createElement('a'); a.href = url; a.download = ''; a.click() }", NAME)
        assert download.value.path().read_bytes() == SECRET

        page = logged_in(browser, "bob", f"{home}?first=1&second=2")
        response = page.goto(home)
        assert response is not None
        assert response.status == 403
        assert NAME not in page.content()
        page.goto(f"https://{host('bob')}/")
        expect(page.locator("#ops")).to_be_visible()
        assert NAME not in page.content()
        for context in browser.contexts:
            [cookie] = [cookie for cookie in context.cookies() if cookie["name"] == COOKIE]
            assert (cookie["domain"], cookie["secure"], cookie["httpOnly"]) == (".example.org", True, True)
    alice = front_door.session("alice")
    assert send(gateway.port, "DELETE", host("alice"), f"/{NAME}", alice).code in (200, 204)
    assert send(gateway.port, "GET", host("alice"), f"/{NAME}", alice).code == 404


def test_stranger_gets_no_byte_by_any_method(front_door: Door, gateway: Gateway, answers: Counter[str]) -> None:
    alice, bob = front_door.session("alice"), front_door.session("bob")
    assert send(gateway.port, "PUT", host("alice"), f"/{NAME}", alice, SECRET).code == 201
    assert SECRET in send(gateway.port, "GET", host("alice"), f"/{NAME}", alice)
    listed = [("Depth", "1")]
    assert NAME.encode() in send(gateway.port, "PROPFIND", host("alice"), "/", [*alice, *listed])
    ranged = send(gateway.port, "GET", host("alice"), f"/{NAME}", [*alice, ("Range", "bytes=2-7")])
    assert (ranged.code, ranged.body) == (206, SECRET[2:8])
    there = [("Destination", f"https://{host('alice')}/b.txt"), ("Overwrite", "T")]
    attempts: list[tuple[str, str, Headers, bytes | None]] = [
        ("GET", "/", NAVIGATION, None),
        ("GET", "/?ls", [], None),
        ("GET", "/?zip", [], None),
        ("GET", f"/{NAME}", [], None),
        ("HEAD", f"/{NAME}", [], None),
        ("GET", f"/{NAME}", [("Range", "bytes=2-7")], None),
        ("GET", f"/{NAME}", WEBSOCKET, None),
        ("GET", "/", WEBSOCKET, None),
        ("OPTIONS", "/", [], None),
        ("PROPFIND", "/", listed, None),
        ("PROPFIND", f"/{NAME}", [("Depth", "0")], None),
        ("PUT", "/planted.txt", [], b"planted"),
        ("PUT", f"/{NAME}", [], b"changed"),
        ("PUT", f"/{NAME}", [("Expect", "100-continue")], b"changed"),
        ("POST", "/", [], b"planted"),
        ("POST", f"/{NAME}?delete", [], b""),
        ("PATCH", f"/{NAME}", [], b"changed"),
        ("MKCOL", "/planted", [], None),
        ("MOVE", f"/{NAME}", there, None),
        ("COPY", f"/{NAME}", there, None),
        ("LOCK", f"/{NAME}", [], b"<lockinfo xmlns='DAV:'/>"),
        ("DELETE", f"/{NAME}", [], None),
        ("TRACE", f"/{NAME}", [], None),
    ]
    for method, path, headers, body in attempts:
        answer = send(gateway.port, method, host("alice"), path, [*bob, *headers], body)
        # nginx itself refuses TRACE.
        assert answer.code == 403 or (method, answer.code) == ("TRACE", 405), (method, path, answer)
        assert not leaks(answer, path), (method, path, answer)
        anonymous = send(gateway.port, method, host("alice"), path, headers, body)
        assert anonymous.code in (302, 401, 405), (method, path, anonymous)
        assert not leaks(anonymous, path), (method, path, anonymous)
        answers.update([f"bob {answer.code}", f"no login {anonymous.code}"])
    assert sorted(path.name for path in volume(front_door, "").iterdir()) == [NAME]
    assert volume(front_door, NAME).read_bytes() == SECRET
    assert send(gateway.port, "GET", host("alice"), f"/{NAME}", [*alice, *WEBSOCKET]).code == 200, "the owner's upgrade arrives"
    assert send(gateway.port, "DELETE", host("alice"), f"/{NAME}", alice).code in (200, 204)


def test_large_file_is_not_buffered(front_door: Door, gateway: Gateway, request: pytest.FixtureRequest) -> None:
    size = request.config.getoption("--gateway-mebibytes") * 2**20
    large = volume(front_door, "large.bin")
    with large.open("wb") as file:
        file.truncate(size - len(SECRET))
        file.seek(0, os.SEEK_END)
        file.write(SECRET)
    os.chown(large, 1000, 1000)
    question = encoded("GET", host("alice"), "/large.bin", front_door.session("alice"))
    expected, received, count = hashlib.sha256(), hashlib.sha256(), 0
    with large.open("rb") as file:
        while block := file.read(2**20):
            expected.update(block)
    with connected(gateway.port, host("alice")) as connection:
        connection.sendall(question)
        with http.client.HTTPResponse(connection) as response:
            response.begin()
            assert (response.status, response.length) == (200, size)
            while block := response.read(2**20):
                if count == 0:
                    time.sleep(1)  # a slow reader: the rest would be in memory or on disk by now
                received.update(block)
                count += len(block)
    assert (count, received.digest()) == (size, expected.digest())
    block = bytes(2**20)
    with connected(gateway.port, host("alice")) as connection:
        length = ("Content-Length", str(size))
        connection.sendall(encoded("PUT", host("alice"), "/uploaded.bin", [*front_door.session("alice"), length]))
        for _ in range(size // len(block)):
            connection.sendall(block)
        with http.client.HTTPResponse(connection) as response:
            response.begin()
            assert response.status == 201
    assert volume(front_door, "uploaded.bin").stat().st_size == size
    assert gateway.server.peak_memory() < MEMORY
    assert sum(path.stat().st_size for path in gateway.directory.rglob("*") if path.is_file()) < 2**20, "no temporary files"
    assert (
        send(gateway.port, "GET", host("alice"), "/large.bin", [*front_door.session("bob"), ("Range", "bytes=-9")]).code == 403
    )


def test_owner_waits_at_a_page_of_the_gate_while_the_pod_starts(front_door: Door, gateway: Gateway) -> None:
    alice, bob = ([*front_door.session(user), *NAVIGATION] for user in USERS)
    pages = list[Answer]()

    def waits() -> bool:
        pages.append(send(gateway.port, "GET", host("alice"), "/", alice))
        return pages[-1].code == WAITING[gateway.name]

    users = front_door.users
    users.kubectl.delete("pod", "user-storage-alice", namespace=users.namespace)
    eventually(waits)
    assert (pages[-1].headers["Refresh"], pages[-1].headers["Retry-After"]) == ("2", "2")
    assert b"<h1>Starting</h1>" in pages[-1].body
    stranger = send(gateway.port, "GET", host("alice"), "/", bob)
    assert (stranger.code, stranger.headers["Refresh"]) == (403, None)
    assert b"Starting" not in stranger.body
    eventually(lambda: send(gateway.port, "GET", host("alice"), "/", alice).code == 200)


def test_upgrade_that_reaches_the_gate_blocks_no_later_question(front_door: Door) -> None:
    # The gateways of the examples send no upgrade to oauth2-proxy. It would pass one on, over a connection that it uses again.
    for headers in (*[WEBSOCKET] * 3, *[[]] * 6):
        connection = http.client.HTTPConnection(front_door.login.proxy.address, timeout=PATIENCE)
        asked = dict([*front_door.session("alice"), *headers, ("Host", host("alice"))])
        connection.request("GET", "/v1/authorize/ext-authz/", headers=asked)
        response = connection.getresponse()
        assert (response.status, response.headers["X-Forwarded-User"]) == (200, "alice")
        connection.close()


@contextmanager
def outage(name: str, front_door: Door, operator: OperatorProcess, cluster: LocalNode) -> Iterator[None]:
    """Kill or suspend a part, and start or resume it afterwards."""
    login, gate = front_door.login, front_door.gate
    api_server = cluster.api_server()
    ends: dict[str, tuple[Callable[[], object], Callable[[], object]]] = {
        "gate killed": (gate.kill, gate.start),
        "gate hung": (lambda: os.kill(gate.pid, signal.SIGSTOP), lambda: os.kill(gate.pid, signal.SIGCONT)),
        "oauth2-proxy killed": (login.proxy.stop, login.proxy.restart),
        "oauth2-proxy hung": (login.proxy.pause, login.proxy.resume),
        "provider killed": (login.provider.stop, login.provider.restart),
        "provider hung": (login.provider.pause, login.provider.resume),
        "operator killed": (operator.kill, operator.start),
        "API server killed": (lambda: processes.kill([api_server]), cluster.resume),
        "API server hung": (
            lambda: os.kill(api_server.pid, signal.SIGSTOP),
            lambda: os.kill(api_server.pid, signal.SIGCONT),
        ),
    }
    end, start = ends[name]
    end()
    try:
        yield
    finally:
        start()


@pytest.mark.parametrize("name", OUTAGES)
def test_stranger_stays_out_while_a_part_is_away(
    front_door: Door,
    gateway: Gateway,
    operator: OperatorProcess,
    cluster: LocalNode,
    request: pytest.FixtureRequest,
    answers: Counter[str],
    record_property: Callable[[str, object], None],
    name: str,
) -> None:
    seconds, everywhere = request.config.getoption("--gateway-outage"), request.config.getoption("--all-gateways")
    if gateway.name != GATEWAYS[0] and not everywhere:
        pytest.skip("the outages behind each gateway take minutes: make test-gateways")
    record_property(CASE, name)
    expected, count = OUTAGES[name], 0
    refusal = expected.refusal[gateway.name] if expected.refusal is not None else None
    alice = front_door.session("alice")
    front_door.place(NAME, SECRET)
    front_door.place("running.bin", bytes(RUNNING))
    with (
        ThreadPoolExecutor() as pool,
        connected(gateway.port, host("alice")) as connection,
        http.client.HTTPResponse(connection) as download,
    ):
        connection.sendall(encoded("GET", host("alice"), "/running.bin", alice))
        download.begin()
        with outage(name, front_door, operator, cluster):
            start = time.monotonic()
            attempt = pool.submit(log_in, front_door.login, "alice")
            while not answers or time.monotonic() - start < seconds:
                of_alice, of_bob = front_door.visit(pool, gateway)
                answers.update([*(f"alice {answer.code}" for answer in of_alice), *(f"bob {answer.code}" for answer in of_bob)])
                if refusal is None:
                    assert_served(of_alice)
                else:
                    assert {answer.code for answer in of_alice} == {refusal}
                assert_refused(of_bob, refusal or 403)
                count += len(download.read(2**12))
                time.sleep(PAUSE)
            if expected.can_log_in:
                assert attempt.result(PATIENCE)
            else:
                assert not attempt.done() or attempt.exception() is not None
            assert count + len(download.read()) == RUNNING, "a download that runs goes on"

    def works_again() -> bool:
        return send(gateway.port, "GET", host("alice"), f"/{NAME}", alice).code == 200

    eventually(works_again)
    assert volume(front_door, NAME).read_bytes() == SECRET
    assert send(gateway.port, "GET", host("alice"), f"/{NAME}", front_door.session("bob")).code == 403


def test_secrets_are_in_no_log(front_door: Door, gateway: Gateway) -> None:
    forged = [("Authorization", f"Basic {GUESS}"), ("X-Userstorage-Token", GUESS)]
    for user in USERS:
        send(gateway.port, "GET", host("alice"), "/", [*front_door.session(user), *forged])
    login = front_door.login
    canaries = [KEY, login.client_secret, login.cookie_secret, GUESS, *front_door.sessions.values()]
    texts = {str(path): path.read_text(errors="replace") for path in front_door.directory.rglob("*.log")}
    assert len(texts) >= 4
    texts["metrics"] = front_door.gate.fetch("/metrics") or ""
    assert "userstorage_gate" in texts["metrics"]
    for user in USERS:
        logs = front_door.users.kubectl.run("logs", f"user-storage-{user}", "-n", front_door.users.namespace)
        texts[f"pod of {user}"] = logs.stdout
        texts[f"status of {user}"] = str(front_door.users.get("userstorage", user))
        page = send(gateway.port, "GET", host("alice"), "/", [*front_door.session(user), *NAVIGATION])
        if user != "alice":
            texts["page of the gate"] = str((page.headers.items(), page.body))
    for name, text in texts.items():
        for canary in canaries:
            assert canary not in text, name
