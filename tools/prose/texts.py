"""Finds the docstrings, comments, messages and test names in a file, and checks each by the rules of rules.py."""

import ast
import io
import re
import tokenize
from collections.abc import Callable, Iterator
from pathlib import Path

from prose import rules

Complaint = tuple[int, str]
"""A line number, and what is wrong in that line."""

_FENCE = re.compile(r"^\s*```")


def complaints(path: Path, *, test: bool) -> Iterator[Complaint]:
    """Yield the complaints about the file `path`: none if files of its type contain no prose.

    If `test` is True, string literals are test data and are not checked.
    """
    if path.suffix == ".py":
        yield from _python(path.read_text(encoding="utf-8"), messages=not test)
    elif path.suffix == ".md":
        yield from _markdown(path.read_text(encoding="utf-8"))
    elif path.suffix in (".yaml", ".sh", ".toml") or path.name in ("Makefile", "Dockerfile"):
        yield from _lines(path.read_text(encoding="utf-8"))


def _lines(text: str) -> Iterator[Complaint]:
    for number, line in enumerate(text.splitlines(), start=1):
        yield from ((number, found) for found in rules.prose(line))


def _markdown(text: str) -> Iterator[Complaint]:
    fenced = False
    for number, line in enumerate(text.splitlines(), start=1):
        if _FENCE.match(line):
            fenced = not fenced
        elif not fenced:
            yield from ((number, found) for found in rules.prose(line))


def _python(text: str, *, messages: bool) -> Iterator[Complaint]:
    """Yield the complaints about docstrings, comments and test names, and with `messages` about other string literals."""
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.COMMENT:
            yield from ((token.start[0], found) for found in rules.prose(token.string))
    tree = ast.parse(text)
    docstrings = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield from _function(node)
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and (messages or id(node) in docstrings):
            yield from ((node.lineno, found) for found in _if_prose(node.value, rules.prose))


def _function(node: ast.FunctionDef | ast.AsyncFunctionDef) -> Iterator[Complaint]:
    if node.name.startswith("test_"):
        yield from ((node.lineno, found) for found in rules.test_name(node.name))
    noun = any(
        ast.unparse(decorator).split("(")[0].split(".")[-1] in ("property", "cached_property", "fixture")
        for decorator in node.decorator_list
    )
    if not noun and (text := ast.get_docstring(node)):
        yield from ((node.lineno, found) for found in rules.docstring(text))


def _if_prose(text: str, check: Callable[[str], Iterator[str]]) -> Iterator[str]:
    """Yield what `check` yields for the text; nothing if the text is a single word, which is a name and no prose."""
    if " " in text.strip():
        yield from check(text)
