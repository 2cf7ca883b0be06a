"""Texts of other programs, made fit for logs, conditions and terminals: registries, webhooks and tenants write parts of them."""

import re

REDACTED = "[redacted]"

_HINTS = ("://", "bearer", "basic", "eyj", "token", "passw", "secret", "authorization", "key", "credential", "cookie")
"""No pattern below matches a text without one of these."""
_SECRETS: tuple[tuple[re.Pattern[str], str], ...] = (
    (re.compile(r"://\S*@"), f"://{REDACTED}@"),
    (re.compile(r"\b(bearer|basic)\s+[\w.~+/=-]{6,}", re.IGNORECASE), rf"\1 {REDACTED}"),
    (re.compile(r"\beyJ[\w-]{8,}(?:\.[\w-]*){0,2}"), REDACTED),
    (
        re.compile(
            r"((?:token|passw(?:or)?d|secret|authorization|api[-_]?key|private[-_]?key|credential|cookie)[\w-]{0,20}['\"]?\s*[:=]\s*)"
            r"(?:\"[^\"]*\"?|'[^']*'?|(?:(?:bearer|basic)\s+)?[^\s'\",;&]+)",
            re.IGNORECASE,
        ),
        rf"\1{REDACTED}",
    ),
)
"""Pattern -> replacement: passwords in URLs, HTTP credentials, JSON web tokens, and values with a key such as `password`."""


def printable(text: str) -> str:
    """Return `text` on one line, without control characters: white space becomes a space, any other one a question mark."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else " " if char.isspace() else "?" for char in text)


def redacted(text: str) -> str:
    """Return `text` without secrets."""
    lowered = text.lower()
    if any(hint in lowered for hint in _HINTS):
        for pattern, replacement in _SECRETS:
            text = pattern.sub(replacement, text)
    return text
