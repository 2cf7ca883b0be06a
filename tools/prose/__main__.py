"""`python -m prose [FILE ...]`: check the words of all files that git tracks, or of these; and the subjects of recent commits."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from prose import rules
from prose.texts import complaints

ROOT = Path(__file__).parents[2]
COMMITS = 50
"""How many of the last commits are checked; none from before STYLE.md was there."""
EXCEPTED = ("STYLE.md", "tools/prose/", "tests/unit/test_prose.py", "tests/fixtures/", "uv.lock")
"""The rules themselves quote what they forbid; fixtures are what a released version wrote."""


def main() -> None:
    """Print each complaint as `file:line: what`; exit with 1 if there is one."""
    named = [Path(name) for name in sys.argv[1:]]
    found = [*_files(named or _tracked()), *(() if named else _subjects())]
    sys.stdout.writelines(f"{line}\n" for line in found)
    sys.exit(bool(found))


def _tracked() -> list[Path]:
    return [
        ROOT / name for name in _git("ls-files", "--cached", "--others", "--exclude-standard") if not name.startswith(EXCEPTED)
    ]


def _files(paths: list[Path]) -> Iterator[str]:
    for path in paths:
        if path.is_file():
            yield from (
                f"{path.relative_to(ROOT) if path.is_absolute() else path}:{line}: {what}" for line, what in complaints(path)
            )


def _subjects() -> Iterator[str]:
    start = _git("log", "--format=%H", "--diff-filter=A", "--", "STYLE.md")
    since = [f"{start[-1]}.."] if start else ["-0"]
    for line in _git("log", "--no-merges", f"-{COMMITS}", "--format=%h %s", *since):
        commit, _, subject = line.partition(" ")
        yield from (f"commit {commit}: {what}" for what in rules.subject(subject))


def _git(*arguments: str) -> list[str]:
    return subprocess.run(["git", "-C", str(ROOT), *arguments], check=True, capture_output=True, text=True).stdout.splitlines()


if __name__ == "__main__":
    main()
