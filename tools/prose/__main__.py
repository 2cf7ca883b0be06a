"""`python -m prose [FILE ...]`: check the texts in these files, or without arguments those of the whole repository.

The whole repository means all its files that git does not ignore, and the subjects of recent commits.
"""

import argparse
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from prose import rules
from prose.texts import complaints

ROOT = Path(__file__).parents[2]
COMMITS = 50
"""How many of the most recent commits are checked. Commits older than STYLE.md are never checked."""
EXCEPTED = ("STYLE.md", "tools/prose/", "tests/unit/test_prose.py", "tests/fixtures/", "uv.lock")
"""Path prefixes of files that are not checked: some quote the words that are forbidden, others are not written by hand."""


def main() -> int:
    """Print each violation of STYLE.md as `file:line: text`, or `commit hash: text`. Return 1 if there is any, else 0."""
    parser = argparse.ArgumentParser(prog="prose", description=__doc__)
    parser.add_argument("files", metavar="FILE", nargs="*", type=Path)
    parser.add_argument("--root", type=Path, default=ROOT, help="the repository, default: this one")
    options = parser.parse_args()
    root: Path = options.root.resolve()
    named = [path.resolve() for path in options.files]
    found = [*_files(root, named or _tracked(root)), *(() if named else _subjects(root))]
    sys.stdout.writelines(f"{line}\n" for line in found)
    return int(bool(found))


def _tracked(root: Path) -> list[Path]:
    names = _git(root, "ls-files", "--cached", "--others", "--exclude-standard")
    return [root / name for name in names if not name.startswith(EXCEPTED)]


def _files(root: Path, paths: list[Path]) -> Iterator[str]:
    for path in paths:
        if path.is_file():
            name = path.relative_to(root)
            yield from (f"{name}:{line}: {what}" for line, what in complaints(path, test="tests" in name.parts))


def _subjects(root: Path) -> Iterator[str]:
    start = _git(root, "log", "--format=%H", "--diff-filter=A", "--", "STYLE.md")
    since = [f"{start[-1]}.."] if start else ["-0"]
    for line in _git(root, "log", "--no-merges", f"-{COMMITS}", "--format=%h %s", *since):
        commit, _, subject = line.partition(" ")
        yield from (f"commit {commit}: {what}" for what in rules.subject(subject))


def _git(root: Path, *arguments: str) -> list[str]:
    return subprocess.run(["git", "-C", str(root), *arguments], check=True, capture_output=True, text=True).stdout.splitlines()


if __name__ == "__main__":
    sys.exit(main())
