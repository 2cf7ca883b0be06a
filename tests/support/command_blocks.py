"""The fenced blocks of a Markdown document: commands, and the output that the document shows for them."""

import re
from dataclasses import dataclass, replace
from pathlib import Path

from markdown_it import MarkdownIt

ANY = "…"
"""In shown output, stands for any text on its line."""
_MARK = re.compile(r"<!-- (?:not run: (?P<reason>.+)|(?P<docker>needs a Docker engine)) -->")


@dataclass(frozen=True)
class Block:
    """A block of shell commands.

    `output` has the lines that the document shows for them, None if it shows none. `not_run` is the reason why a test does
    not run them, `needs_docker` whether they run only if a Docker engine answers; comments above the block say so.
    """

    line: int
    commands: str
    output: list[str] | None = None
    not_run: str = ""
    needs_docker: bool = False


@dataclass(frozen=True)
class Document:
    """The commands of a document in their order, and its other fenced blocks with their language."""

    commands: list[Block]
    others: list[tuple[str, str]]


def read(path: Path) -> Document:
    """Return the fenced blocks of the document `path`. A block `text` directly below commands is their output."""
    commands: list[Block] = []
    others: list[tuple[str, str]] = []
    mark: re.Match[str] | None = None
    previous = ""
    for token in MarkdownIt().parse(path.read_text(encoding="utf-8")):
        if token.type == "html_block":
            mark = _MARK.fullmatch(token.content.strip())
        elif token.type == "fence" and token.info == "sh":
            assert token.map is not None
            not_run, docker = (mark["reason"] or "", mark["docker"] is not None) if mark else ("", False)
            commands.append(Block(token.map[0] + 1, token.content, None, not_run, docker))
            mark = None
        elif token.type == "fence" and token.info == "text" and previous == "sh":
            commands[-1] = replace(commands[-1], output=token.content.splitlines())
        elif token.type == "fence":
            others.append((token.info, token.content))
        previous = token.info
    return Document(commands, others)


def differences(shown: list[str], printed: list[str]) -> list[str]:
    """Return how `printed` differs from the lines that the document shows, an empty list if it does not.

    Runs of spaces are equal, and blank lines are ignored.
    """
    found = [text for line in printed if (text := " ".join(line.split()))]
    wanted = [" ".join(line.split()) for line in shown]
    if len(found) != len(wanted):
        return [f"shown: {wanted}", f"printed: {found}"]
    pattern = {line: ".*".join(re.escape(part) for part in line.split(ANY)) for line in wanted}
    return [
        f"shown: {line!r}, printed: {text!r}"
        for line, text in zip(wanted, found, strict=True)
        if not re.fullmatch(pattern[line], text)
    ]
