"""Turns Kubernetes objects into Helm templates: places in an object are marked, and each mark becomes template text."""

import re
from collections.abc import Iterable
from functools import partial
from typing import Any

import yaml

Object = dict[str, Any]

_MARK = re.compile(r"helm-mark-\d+-end")
_LINE = re.compile(r"^(?P<indent> *)(?:- )?(?P<mark>helm-mark-\d+-end)(?:: null)?$")
_INDENT = re.compile(r"@(\d+)")


class Marks:
    """The marks in one object, with the text that replaces each."""

    def __init__(self) -> None:
        self._texts: list[str] = []

    def mark(self, text: str) -> str:
        """Return a mark, in the place of which the template has `text`.

        A mark is a value or a part of one. If it is a whole list item, or a key without a value, `text` may be several lines,
        and `@2` in it stands for the indentation of the replaced line plus two.
        """
        self._texts.append(text)
        return f"helm-mark-{len(self._texts) - 1}-end"

    def replace(self, parent: Object, key: str, text: str) -> None:
        """Replace an entry of a mapping by the lines `text`, at the mapping's end."""
        del parent[key]
        self.append(parent, text)

    def append(self, parent: Object, text: str) -> None:
        """Add the lines `text` at the end of a mapping."""
        parent[self.mark(text)] = None

    def dump(self, each: Object) -> str:
        """Return the object as template text: what Helm would take for a template is escaped, and marks are replaced."""
        text = yaml.dump(each, Dumper=_Dumper, sort_keys=False, width=1_000_000, allow_unicode=True)
        text = re.sub(r"\{\{|\}\}", lambda braces: f'{{{{ "{braces[0]}" }}}}', text)
        return "".join(f"{line}\n" for line in self._replaced(text.splitlines()))

    def _replaced(self, lines: Iterable[str]) -> Iterable[str]:
        for line in lines:
            if whole := _LINE.match(line):
                indent = len(whole["indent"])
                for text in self._text(whole["mark"]).splitlines():
                    shifted = _INDENT.sub(partial(_shift, indent), text)
                    yield shifted if text.startswith("{{-") else f"{' ' * indent}{shifted}"
            else:
                yield _MARK.sub(lambda mark: self._text(mark[0]), line)

    def _text(self, mark: str) -> str:
        return self._texts[int(mark.removeprefix("helm-mark-").removesuffix("-end"))]


def _shift(indent: int, more: re.Match[str]) -> str:
    return str(indent + int(more[1]))


class _Dumper(yaml.SafeDumper):
    """Writes texts of several lines as blocks, as people do."""


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None)


_Dumper.add_representer(str, _text)
