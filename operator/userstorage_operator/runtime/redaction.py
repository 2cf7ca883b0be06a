"""Cleans log fields: no secrets, no control characters, limited length. Most of the content of log fields comes from tenants
and other programs.
"""

import functools
import re
from collections.abc import Mapping
from typing import Any

from userstorage_operator.text import REDACTED, redacted

TEXT_MAX = 1024
"""Characters of one string; messages of conditions are never longer."""
_SECRET_KEY = re.compile(r"token|passw|secret|authorization|api[-_]?key|private[-_]?key|credential|cookie", re.IGNORECASE)
_IDENTITY = "user_id"
"""The field with a user id: it is no secret, and has to be found in the log as the authenticating proxy sends it."""
_SCANNED_MAX = 4 * TEXT_MAX
"""Number of characters of a text that are searched for secrets. It is larger than TEXT_MAX, because a secret that is cut in
half matches no pattern.
"""
_DEPTH_MAX = 4
_INT64 = 2**63


def clean_text(text: str) -> str:
    """Return `text` with secrets redacted, and with line breaks and other control characters escaped. A result of more than
    TEXT_MAX characters is cut there and ends with `...[cut]`.
    """
    if text.isprintable() and len(text) <= TEXT_MAX and not (" " in text or ":" in text or "=" in text or "eyJ" in text):
        return text  # a name, a word or a uid, as most texts in a log line are: no pattern can match
    shown = text if len(text) <= _SCANNED_MAX else text[:_SCANNED_MAX].rsplit(None, 1)[0]
    return _cut(_escape(redacted(shown)), cut_before=len(text) > _SCANNED_MAX)


def clean_fields(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Return the log fields with every text cleaned by `clean_text`. The whole value of a field is redacted if its name is like
    `password`. A value that JSON cannot express is replaced by its `repr`.
    """
    return _fields(fields, 0)


def _clean(value: Any, depth: int) -> Any:
    if isinstance(value, str):
        return clean_text(value)
    if value is None or isinstance(value, bool | float) or (isinstance(value, int) and -_INT64 <= value < _INT64):
        return value
    if depth < _DEPTH_MAX:
        if isinstance(value, Mapping):
            return _fields(value, depth + 1)
        if isinstance(value, list | tuple | set | frozenset):
            return [_clean(item, depth + 1) for item in value]
    return clean_text(repr(value))


def _fields(fields: Mapping[Any, Any], depth: int) -> dict[str, Any]:
    return {clean_text(str(key)): _field(str(key), value, depth) for key, value in fields.items()}


def _field(key: str, value: Any, depth: int) -> Any:
    if key == _IDENTITY and isinstance(value, str):
        return _cut(_escape(value))
    return REDACTED if _is_secret(key) else _clean(value, depth)


@functools.lru_cache(maxsize=256)
def _is_secret(key: str) -> bool:
    return _SECRET_KEY.search(key) is not None


def _cut(text: str, *, cut_before: bool = False) -> str:
    return text if len(text) <= TEXT_MAX and not cut_before else f"{text[:TEXT_MAX]}...[cut]"


def _escape(text: str) -> str:
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)
