"""How the gate reads what a gateway sends: host names, paths, and the proof."""

import base64
import posixpath
from urllib.parse import unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from userstorage_operator.gate.credentials import BadKeys, Identity, identity, parse_keys
from userstorage_operator.gate.host import canonical
from userstorage_operator.gate.path import is_below

KEY, NEXT = "k" * 32, "n" * 32
KEYS = (KEY.encode(), NEXT.encode())


@pytest.mark.parametrize(
    "text", ["alice.example.org", "ALICE.Example.ORG", "alice.example.org.", "alice.example.org:443", "Alice.example.org.:8443"]
)
def test_host_has_one_canonical_form(text: str) -> None:
    assert canonical(text) == "alice.example.org"


@pytest.mark.parametrize(
    "text",
    [
        "",
        ".",
        "alice.example.org..",
        "alice..example.org",
        ".alice.example.org",
        "alice.example.org:",
        "alice.example.org:443:443",
        "alice.example.org:443.",
        "alice.example.org:http",
        "alice.example.org:123456",
        "alice.example.org, bob.example.org",
        "alice.example.org bob.example.org",
        "bob@alice.example.org",
        "alice.example.org/",
        "alice.example.org?",
        "alice%2eexample.org",
        "[::1]",
        "[::1]:80",
        "älice.example.org",
        "alıce.example.org",  # noqa: RUF001  # a letter that looks like another one
        "alice。example.org",
        "alice.example.org\x00",
        "alice.example.org\t",
        "alice_.example.org",
        "-alice.example.org",
        "alice-.example.org",
        "a" * 254,
    ],
)
def test_other_texts_are_no_host(text: str) -> None:
    assert canonical(text) is None


@given(st.text(max_size=40))
def test_canonical_form_is_stable(text: str) -> None:
    host = canonical(text)
    assert host is None or (canonical(host) == host == host.lower() and not host.endswith("."))


@pytest.mark.parametrize(
    "uri",
    [
        "/u/alice/",
        "/u/alice",
        "/u/alice?x=/../bob",
        "/u/alice/my%20file.txt",
        "/u/alice/a;b.txt",
        "/u/alice/100%25.txt",
        "/u/alice/C%23/a+b@c",
        "/u/alice/%C3%A4/…",
        "/u/alice/.hidden/..rc",
    ],
)
def test_path_below_base_path(uri: str) -> None:
    assert is_below(uri, "/u/alice/")


@pytest.mark.parametrize(
    "uri",
    [
        "",
        "/",
        "/u/",
        "/u/alicex/",
        "/u/bob/",
        "/U/alice/",
        "u/alice/",
        "https://example.org/u/alice/",
        "//u/alice/",
        "/u//alice/",
        "/u/./alice/",
        "/u/%61lice/",
        "/u/alice/../bob/",
        "/u/alice/..",
        "/u/alice/.",
        "/u/alice/./x",
        "/u/alice//x",
        "/u/alice/%2e%2e/bob/",
        "/u/alice/%2E./bob/",
        "/u/alice/..%2fbob/",
        "/u/alice/x%2f..%2f..%2fbob",
        "/u/alice/%252e%252e/bob/",
        "/u/alice/%25252e%25252e/bob/",
        "/u/alice/%2525252525252e%2525252525252e/bob/",
        "/u/alice/..;/bob/",
        "/u/alice/..;a=b/bob/",
        "/u/alice/;/x",
        "/u/alice/..\\bob",
        "/u/alice/%5c..%5cbob",
        "/u/alice/#/../bob",
        "/u/alice/%00",
        "/u/alice/%0d%0a",
    ],
)
def test_path_that_may_lead_elsewhere_is_not_below(uri: str) -> None:
    assert not is_below(uri, "/u/alice/")


def nginx(path: str) -> str:
    """Return the path as nginx compares it: decoded once, slashes merged, dots resolved."""
    return posixpath.normpath("/" + unquote(path, encoding="latin-1").partition("#")[0].lstrip("/")) + "/"


def envoy(path: str) -> str:
    """Return the path as Envoy with normalize_path compares it: backslashes are slashes, encoded dots and slashes are unescaped."""
    for encoded, plain in (("\\", "/"), ("%2f", "/"), ("%2F", "/"), ("%5c", "/"), ("%5C", "/"), ("%2e", "."), ("%2E", ".")):
        path = path.replace(encoded, plain)
    return posixpath.normpath("/" + path.lstrip("/")) + "/"


def servlet(path: str) -> str:
    """Return the path as a program compares it that drops path parameters and decodes twice."""
    once = "/".join(element.partition(";")[0] for element in path.split("/"))
    return nginx(unquote(unquote(once, encoding="latin-1"), encoding="latin-1").replace("\\", "/"))


PIECES = st.sampled_from(
    [
        "/",
        "//",
        ".",
        "..",
        "%2e",
        "%2E",
        "%252e",
        "%2f",
        "%252f",
        "\\",
        "%5c",
        ";",
        ";a",
        "#",
        "%",
        "%25",
        "a",
        "bob",
        "u",
        "%00",
    ]
)


@given(st.lists(PIECES, max_size=12).map("".join))
def test_no_program_takes_an_accepted_path_elsewhere(rest: str) -> None:
    path = f"/u/alice/{rest}"
    if is_below(path, "/u/alice/"):
        for program in (nginx, envoy, servlet):
            assert program(path).startswith("/u/alice/"), program


def test_whole_host_contains_every_path() -> None:
    assert is_below("/a/%2e%2e/../b", "/")
    assert is_below("", "/")


def basic(text: str) -> str:
    return f"Basic {base64.b64encode(text.encode()).decode()}"


@pytest.mark.parametrize("user", ["alice", "auth0:5f7c", "CORP\\alice", "o'brien@example.org", "alice smith", "a:"])
@pytest.mark.parametrize("key", [KEY, NEXT])
def test_user_is_what_stands_before_the_key(user: str, key: str) -> None:
    assert identity([basic(f"{user}:{key}")], KEYS) == Identity(proved=True, user=user)


@pytest.mark.parametrize(
    "values",
    [
        [],
        [""],
        ["Basic"],
        ["Basic !!!"],
        ["Basic ä"],
        [f"Bearer {KEY}"],
        [basic("alice")],
        [basic("alice:")],
        [basic(f"alice:{KEY}x")],
        [basic(f"alice:{KEY[:-1]}")],
        [basic(f"{KEY}:alice")],
        [basic(f"alice:{KEY}"), basic(f"bob:{KEY}")],
    ],
)
def test_anything_else_is_no_proof(values: list[str]) -> None:
    assert identity(values, KEYS) == Identity(proved=False)


def test_empty_user_is_proved_but_nameless() -> None:
    assert identity([basic(f":{KEY}")], KEYS) == Identity(proved=True)
    assert identity([basic(KEY)], KEYS) == Identity(proved=True)


def test_name_that_is_too_long_for_a_user_id_equals_none_and_is_not_kept() -> None:
    longest = "a" * 255
    assert identity([basic(f"{longest}:{KEY}")], KEYS).user == longest
    longer = identity([basic(f"{'a' * 20_000}:{KEY}")], KEYS).user
    assert (len(longer), longer == longest) == (256, False)


def test_first_two_keys_of_a_file_count() -> None:
    assert parse_keys(f"\n {KEY} \r\n\n{NEXT}\n{'x' * 32}\n") == KEYS
    assert parse_keys(KEY) == KEYS[:1]


@pytest.mark.parametrize(
    ("text", "message"),
    [("", "no key"), ("\n \n", "no key"), ("k" * 31, "31 characters"), (f"{KEY}\n{'a b' * 12}", "key 2"), ("k:" * 20, "colon")],
)
def test_unusable_keys_are_refused(text: str, message: str) -> None:
    with pytest.raises(BadKeys, match=message):
        parse_keys(text)
