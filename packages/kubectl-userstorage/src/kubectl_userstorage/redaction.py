"""Removes secrets from what a support bundle contains: by the place of a value, and by what it looks like."""

import re
from typing import Any

REDACTED = "[redacted]"
_DROPPED_ANNOTATIONS = frozenset({"kubectl.kubernetes.io/last-applied-configuration"})
_SECRET_KEY = re.compile(
    r"token|passw|secret|authorization|api[-_]?key|private[-_]?key|credential|cookie|signing[-_]?key", re.IGNORECASE
)
_PATTERNS: tuple[tuple[re.Pattern[str], str], ...] = (
    (re.compile(r"-----[A-Z]{5} [^-]*PRIVATE KEY-----.*?(?:-----END [^-]*PRIVATE KEY-----|\Z)", re.DOTALL), REDACTED),
    (re.compile(r"://[^\s/@]*@"), f"://{REDACTED}@"),
    (re.compile(r"\b(bearer|basic)\s+[\w.~+/=-]{6,}", re.IGNORECASE), rf"\1 {REDACTED}"),
    (re.compile(r"\beyJ[\w-]{8,}(?:\.[\w-]*){0,2}"), REDACTED),
    (re.compile(r"\b(?:AKIA|ASIA)[0-9A-Z]{16}\b|\bgh[pousr]_\w{20,}|\bglpat-[\w-]{20,}|\bxox[abprs]-[\w-]{10,}"), REDACTED),
    (
        re.compile(
            r"((?:token|passw(?:or)?d|secret|authorization|api[-_]?key|private[-_]?key|signing[-_]?key|credential|cookie)[\w-]{0,20}"
            r"['\"\\]*\s*[:=]\s*)(?:\\?\"[^\"]*\"?|'[^']*'?|(?:(?:bearer|basic)\s+)?[^\s'\",;&]+)",
            re.IGNORECASE,
        ),
        rf"\1{REDACTED}",
    ),
)
_OPTION = re.compile(r"(--?[\w-]*(?:token|passw|secret|key|credential|auth)[\w-]*)=.*", re.IGNORECASE | re.DOTALL)
_BARE_OPTION = re.compile(r"--?[\w-]*(?:token|passw|secret|key|credential|auth)[\w-]*", re.IGNORECASE)


def clean_text(text: str) -> str:
    """Return a text without what looks like a secret."""
    for pattern, replacement in _PATTERNS:
        text = pattern.sub(replacement, text)
    return text


def clean(value: Any) -> Any:
    """Return a copy of an object of the API server without secrets.

    Every value of an environment variable and of a field whose name is like `password` is removed; so are the fields of managers
    and the last applied configuration, which repeat other fields. Names of Secrets stay: they are references.
    """
    if isinstance(value, dict):
        return {
            key: _field(key, item) for key, item in value.items() if key != "managedFields" and key not in _DROPPED_ANNOTATIONS
        }
    if isinstance(value, list):
        return [clean(item) for item in value]
    return clean_text(value) if isinstance(value, str) else value


def _field(key: str, value: Any) -> Any:
    if key == "env" and isinstance(value, list):
        return [{**clean(entry), **({"value": REDACTED} if "value" in entry else {})} for entry in value]
    if key in ("args", "command") and isinstance(value, list):
        return _arguments([str(item) for item in value])
    if isinstance(value, str) and _SECRET_KEY.search(key) and not key.endswith(("Name", "name")):
        return REDACTED
    return clean(value)


def _arguments(arguments: list[str]) -> list[str]:
    """Return the arguments of a program; the value of an option with a name like `--password` is removed."""
    found: list[str] = []
    for argument in arguments:
        if found and _BARE_OPTION.fullmatch(found[-1]) and not argument.startswith("-"):
            found.append(REDACTED)
        else:
            found.append(clean_text(_OPTION.sub(rf"\1={REDACTED}", argument)))
    return found
