"""Parsing of the read API's parameters, and the problems that malformed ones cause."""

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from userstorage_operator.api.userstorage import Key
from userstorage_operator.readapi import parameters
from userstorage_operator.readapi.problems import Problem
from userstorage_operator.readapi.responses import etag_matches
from userstorage_operator.readmodel.query import Query

_LABELS = st.text("ab0-", min_size=1, max_size=63).filter(lambda text: text[0] != "-" != text[-1])


def test_every_filter_is_parsed() -> None:
    after = Key("a", "b")
    token = parameters.continue_token(after)
    pairs = {"namespace": "n", "phase": "Ready", "ready": "false", "user": "a@b.c", "limit": "7", "continue": token}
    assert parameters.list_query(pairs.items()) == Query("n", "Ready", False, "a@b.c", 7, after)
    assert parameters.list_query([]) == Query()


@pytest.mark.parametrize(
    ("parameter", "text"),
    [
        ("namespace", ""),
        ("namespace", "a/b"),
        ("namespace", "a" * 64),
        ("namespace", "a\n"),
        ("phase", "ready"),
        ("phase", ""),
        ("ready", "True"),
        ("ready", "1"),
        ("user", ""),
        ("user", " a"),
        ("user", "a" * 256),
        ("user", "alice\n"),
        ("limit", "0"),
        ("limit", "501"),
        ("limit", "-1"),
        ("limit", "1.0"),
        ("limit", "٣"),
        ("limit", "1" * 5000),
        ("limit", ""),
        ("continue", ""),
        ("continue", "!"),
        ("continue", "W10"),
        ("continue", "WyJhIiwiYiIsImMiXQ"),
        ("continue", "WzEsMl0"),
        ("continue", "e30"),
        ("continue", "bnVsbA"),
        ("continue", "WyJhIiwiYiJd=="),
        ("continue", "ü"),
        ("limt", "1"),
    ],
)
def test_malformed_parameter_is_named(parameter: str, text: str) -> None:
    with pytest.raises(Problem) as problem:
        parameters.list_query([(parameter, text)])
    assert (problem.value.status, problem.value.members) == (400, {"parameter": parameter})
    assert problem.value.detail.startswith(f"{parameter}: ")


def test_repeated_parameter_is_named() -> None:
    with pytest.raises(Problem, match="limit: given more than once"):
        parameters.list_query([("limit", "1"), ("limit", "1")])


def test_parameter_of_another_route_is_unknown() -> None:
    with pytest.raises(Problem, match="user: unknown parameter; this path accepts: limit, continue"):
        parameters.user_query("alice", [("user", "bob")])
    with pytest.raises(Problem, match="limit: unknown parameter; this path accepts: none"):
        parameters.reject_all([("limit", "1")])


@given(_LABELS, _LABELS)
def test_continue_token_is_url_safe_and_round_trips(namespace: str, name: str) -> None:
    token = parameters.continue_token(Key(namespace, name))
    assert set(token) <= set(string.ascii_letters + string.digits + "-_")
    assert parameters.list_query([("continue", token)]).after == Key(namespace, name)


@given(st.text())
def test_text_that_is_no_continue_token_is_refused(text: str) -> None:
    with pytest.raises(Problem, match="continue: "):
        parameters.list_query([("continue", text)])


@pytest.mark.parametrize("header", ['"x"', '"a", "x"', 'W/"x"', "*", ' "x" '])
def test_if_none_match_with_the_etag_matches(header: str) -> None:
    assert etag_matches(header, '"x"')


@pytest.mark.parametrize("header", ['"y"', "x", "", '"xx"'])
def test_if_none_match_without_the_etag_does_not_match(header: str) -> None:
    assert not etag_matches(header, '"x"')
