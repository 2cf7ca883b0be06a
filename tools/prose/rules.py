"""The rules of STYLE.md that a program can check, each with the words to use instead."""

import re
from collections.abc import Iterator

_WORDS = {
    r"tell|tells|telling|told|untold": "report, return, log, record, store",
    r"whoever|nobody|somebody|anybody|everybody": "name the actor: the tenant, another controller, the caller",
    r"anew": "again",
    r"let go|lets go|letting go": "release",
    r"put right|puts right|putting right|mend|mends|mended|mending": "repair, fix",
    r"take away|takes away|taken away|taking away|took away": "delete, remove",
    r"begin|begins|began|begun|beginning": "start",
    r"None where|where there is none|nothing where|empty where": "None if",
    r"(?:a|each|every|one|the|this|that|next|last|earlier|later|of) pass(?:es)?(?= |[,.;:)]|$)": "a reconcile",
}
_FORBIDDEN = [(re.compile(rf"\b(?:{words})\b", re.IGNORECASE), instead) for words, instead in _WORDS.items()]
_QUOTED = re.compile(r"``?[^`]+``?|\"[^\"\n]*\"(?=\s*→)")
"""Code in backticks, and quoted text before an arrow. Neither is checked."""

_NAME_WORDS = frozenset(
    {"told", "tell", "tells", "telling", "who", "whom", "whose", "whoever", "nobody", "somebody", "anew", "mended"}
)
_NOT_A_VERB = frozenset(
    [
        "a",
        "all",
        "an",
        "any",
        "as",
        "at",
        "both",
        "by",
        "each",
        "every",
        "for",
        "from",
        "how",
        "in",
        "it",
        "its",
        "no",
        "none",
        "of",
        "one",
        "only",
        "some",
        "that",
        "the",
        "these",
        "this",
        "those",
        "what",
        "when",
        "where",
        "which",
        "who",
        "whom",
        "whose",
        "why",
        "with",
        "without",
    ]
)

SUBJECT_MAX = 72
_NOT_IMPERATIVE = re.compile(r"[a-z]+(?:ed|ing|(?<![su])s)\b", re.IGNORECASE)
_IMPERATIVE = frozenset({"embed", "feed", "need", "seed", "speed", "bring", "string", "alias"})


def prose(text: str) -> Iterator[str]:
    """Yield a complaint for each word in `text` that STYLE.md forbids."""
    plain = _QUOTED.sub("", text)
    for pattern, instead in _FORBIDDEN:
        for found in pattern.finditer(plain):
            yield f"{found.group()!r}: {instead}"


def docstring(text: str) -> Iterator[str]:
    """Yield a complaint if the first line of a function's docstring is not a verb phrase."""
    first = text.split(maxsplit=1)[0].strip("`.,:;") if text.strip() else ""
    if first.lower() in _NOT_A_VERB:
        yield f"a function's docstring starts with a verb, or with 'Whether', not with {first!r}"


def test_name(name: str) -> Iterator[str]:
    """Yield a complaint for each word in a test's name that STYLE.md forbids there."""
    for word in name.split("_"):
        if word in _NAME_WORDS:
            yield f"{word!r} in a test's name: say the behaviour in the field's words"


def subject(line: str) -> Iterator[str]:
    """Yield a complaint if the commit subject `line` is too long, does not start with a verb, or has a forbidden word."""
    if len(line) > SUBJECT_MAX:
        yield f"{len(line)} characters, at most {SUBJECT_MAX}: the why belongs into the body"
    first = line.split(maxsplit=1)[0] if line.strip() else ""
    if not first[:1].isupper() or (_NOT_IMPERATIVE.fullmatch(first) and first.lower() not in _IMPERATIVE):
        yield f"starts with {first!r}, not with a verb in the imperative"
    yield from prose(line)
