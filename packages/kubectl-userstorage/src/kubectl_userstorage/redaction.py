"""Removes secrets from what a support bundle contains: by the place of a value, and by what it looks like."""

import json
import re
from typing import Any

REDACTED = "[redacted]"
_DROPPED_ANNOTATIONS = frozenset({"kubectl.kubernetes.io/last-applied-configuration"})
_SECRET_KEY = re.compile(
    r"token|passw|secret|authorization|api[-_]?key|private[-_]?key|credential|cookie|signing[-_]?key", re.IGNORECASE
)
_KEPT_ANNOTATION = re.compile(r"(userstorage\.dev|(pv|volume|volume\.beta|deployment)\.kubernetes\.io)/")
"""Annotations of our own, of volumes and of Deployments. Those of others may hold anything, such as the object as it was applied."""
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
    # Options of a command line that a message quotes.
    (
        re.compile(r"(?<!\S)(--?[\w.-]*(?:token|pass|secret|cred|auth)[\w.-]*[\s=]+|-a[\s=]+)(?!-)\S+", re.IGNORECASE),
        rf"\1{REDACTED}",
    ),
)
_OPTION = re.compile(r"(--[a-z][a-z0-9]*(?:[.-][a-z0-9]+)*|-[a-z])(=.*)?", re.IGNORECASE | re.DOTALL)
"""An argument that is the name of an option, or one with its value: `--pass`, `--pass=x`, `-p`, `-p=x`; not `-px`."""
_SECRET_OPTION = re.compile(r"-a|--?[\w.-]*(?:token|pass|secret|key|cred|auth|user|account)[\w.-]*", re.IGNORECASE)


def clean_text(text: str) -> str:
    """Return a text without what looks like a secret."""
    for pattern, replacement in _PATTERNS:
        text = pattern.sub(replacement, text)
    return text


def clean(value: Any) -> Any:
    """Return a copy of an object of the API server without secrets.

    Removed are the values of environment variables, of HTTP headers and of fields whose name is like `password`; of `args` and
    `command` all but the names of options; annotations of other programs, which may hold a copy of the object; and the fields of
    managers. Names of Secrets stay: they are references.
    """
    if isinstance(value, dict):
        return {
            key: _field(key, item) for key, item in value.items() if key != "managedFields" and key not in _DROPPED_ANNOTATIONS
        }
    if isinstance(value, list):
        return [clean(item) for item in value]
    return clean_text(value) if isinstance(value, str) else value


def _field(key: str, value: Any) -> Any:
    if key in ("env", "httpHeaders") and isinstance(value, list):
        return [{**clean(entry), **({"value": REDACTED} if "value" in entry else {})} for entry in value]
    if key in ("args", "command") and isinstance(value, list):
        return _arguments([str(item) for item in value])
    if key == "annotations" and isinstance(value, dict):
        kept = {name: text for name, text in value.items() if name not in _DROPPED_ANNOTATIONS}
        return {name: _annotation(name, text) for name, text in kept.items()}
    if isinstance(value, str) and _SECRET_KEY.search(key) and not key.endswith(("Name", "name")):
        return REDACTED
    return clean(value)


def _annotation(name: str, text: str) -> Any:
    return _field(name, text) if _KEPT_ANNOTATION.match(name) and not _is_json(text) else REDACTED


def _is_json(text: str) -> bool:
    """Whether a text is a JSON object or array."""
    try:
        return isinstance(json.loads(text), dict | list)
    except ValueError:
        return False


def _arguments(arguments: list[str]) -> list[str]:
    """Return the arguments of a program without their values: any may be a password, as in `-a user:password@/`."""
    found: list[str] = []
    for argument in arguments:
        option = _OPTION.fullmatch(argument)
        if option is None or (found and _SECRET_OPTION.fullmatch(found[-1])):
            found.append(REDACTED)
        else:
            found.append(option[1] + (f"={REDACTED}" if option[2] is not None else ""))
    return found
