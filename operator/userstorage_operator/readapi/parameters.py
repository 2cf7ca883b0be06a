"""Parses the parameters in the URL path and in the query string. An unknown or malformed parameter raises a Problem 400 that
names the parameter.
"""

import base64
import binascii
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import orjson

from userstorage_operator.api.conditions import Phase
from userstorage_operator.api.names import USER_ID_RULE, is_user_id
from userstorage_operator.api.userstorage import Key
from userstorage_operator.readapi.problems import bad_parameter
from userstorage_operator.readmodel.query import Query

QueryPairs = Iterable[tuple[str, str]]
"""The decoded parameters of a query string, as pairs of name and value."""

LIMIT_DEFAULT, LIMIT_MAX = 100, 500

_Known = Mapping[str, tuple[str, Callable[[str, str], Any]]]
"""Name of an accepted parameter -> the field of Query that it sets, and the function that parses its value."""

LABEL = r"[a-z0-9]([-a-z0-9]*[a-z0-9])?"
"""Regular expression of a DNS label, without its length."""
_NAMESPACE = re.compile(rf"(?=.{{1,63}}\Z){LABEL}")
_NAME = re.compile(rf"(?=.{{1,253}}\Z){LABEL}(\.{LABEL})*")
_LIMIT = re.compile(r"[0-9]{1,3}")
_TRUTH = {"true": True, "false": False}


def namespace(text: str, parameter: str = "namespace") -> str:
    """Check that `text` is a DNS label, and return it as a namespace. Raises Problem 400."""
    return _matching(_NAMESPACE, text, parameter, "must be the name of a namespace: at most 63 characters of a-z, 0-9 and -")


def name(text: str, parameter: str = "name") -> str:
    """Check that `text` is a DNS subdomain, and return it as the name of a UserStorage. Raises Problem 400."""
    return _matching(_NAME, text, parameter, "must be the name of a UserStorage: at most 253 characters of a-z, 0-9, - and .")


def user(text: str, parameter: str = "user") -> str:
    """Check that `text` is a user id as the schema of UserStorage allows it, and return it. Raises Problem 400."""
    if not is_user_id(text):
        raise bad_parameter(parameter, f"must be a user id: {USER_ID_RULE}")
    return text


def continue_token(after: Key) -> str:
    """Return the value of the parameter `continue` for the page that starts after the key `after`."""
    return base64.urlsafe_b64encode(orjson.dumps([after.namespace, after.name])).decode().rstrip("=")


def list_query(query: QueryPairs) -> Query:
    """Return the Query that the parameters of a list request describe. Raises Problem 400."""
    return Query(**_parse(query, _FILTERS))


def user_query(user_id: str, query: QueryPairs) -> Query:
    """Return the Query for all UserStorages of a user; the parameters set only its page. Raises Problem 400."""
    return Query(user=user_id, **_parse(query, _PAGING))


def reject_all(query: QueryPairs) -> None:
    """Check that a query string has no parameters. Raises Problem 400 if it has one."""
    _parse(query, {})


def _parse(query: QueryPairs, known: _Known) -> dict[str, Any]:
    fields: dict[str, Any] = {}
    for parameter, text in query:
        if parameter not in known:
            raise bad_parameter(parameter, f"unknown parameter; this path accepts: {', '.join(known) or 'none'}")
        field, parse = known[parameter]
        if field in fields:
            raise bad_parameter(parameter, "given more than once")
        fields[field] = parse(text, parameter)
    return fields


def _matching(pattern: re.Pattern[str], text: str, parameter: str, detail: str) -> str:
    if not pattern.fullmatch(text):
        raise bad_parameter(parameter, detail)
    return text


def _phase(text: str, parameter: str) -> str:
    try:
        return Phase(text)
    except ValueError:
        raise bad_parameter(parameter, f"must be one of {', '.join(Phase)}") from None


def _ready(text: str, parameter: str) -> bool:
    if text not in _TRUTH:
        raise bad_parameter(parameter, "must be true or false")
    return _TRUTH[text]


def _limit(text: str, parameter: str) -> int:
    if not _LIMIT.fullmatch(text) or not 1 <= int(text) <= LIMIT_MAX:
        raise bad_parameter(parameter, f"must be a whole number from 1 to {LIMIT_MAX}")
    return int(text)


def _after(token: str, parameter: str) -> Key:
    """Return the key in a value of the parameter `continue`. Raises Problem 400 unless `continue_token` returns this value for
    the key.
    """
    try:
        parts = orjson.loads(base64.b64decode(token + "=" * (-len(token) % 4), altchars=b"-_", validate=True))
        key = Key(*(part if isinstance(part, str) else "" for part in parts))
    except (binascii.Error, TypeError, ValueError):
        key = Key("", "")
    if not (_NAMESPACE.fullmatch(key.namespace) and _NAME.fullmatch(key.name)) or continue_token(key) != token:
        raise bad_parameter(parameter, "must be `metadata.continue` of an earlier page, unchanged")
    return key


_PAGING: _Known = {"limit": ("limit", _limit), "continue": ("after", _after)}
_FILTERS: _Known = {
    "namespace": ("namespace", namespace),
    "phase": ("phase", _phase),
    "ready": ("ready", _ready),
    "user": ("user", user),
    **_PAGING,
}
