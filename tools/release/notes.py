"""The notes of a release: the section of CHANGELOG.md, and the news fragments in changes/ that are not yet in it."""

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
TOWNCRIER = str(Path(sys.executable).with_name("towncrier"))
_UNRELEASED = "Unreleased"


def notes(version: str) -> str:
    """Return the notes of `version` as Markdown, without a title.

    They are the section of the version in CHANGELOG.md; before `make changelog` has written it, what it would write.
    """
    sections = _sections()
    if version in sections:
        return sections[version]
    done = subprocess.run(
        [TOWNCRIER, "build", "--draft", f"--version={version}"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    fragments = done.stdout.partition("\n### ")
    return "\n\n".join(part for part in (sections.get(_UNRELEASED, ""), "".join(fragments[1:]).strip()) if part)


def _sections() -> dict[str, str]:
    """Return the text of each section of CHANGELOG.md by its version."""
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    titles = list(re.finditer(r"^## (\S+).*\n", text, re.MULTILINE))
    ends = [title.start() for title in titles[1:]] + [len(text)]
    return {title[1]: text[title.end() : end].strip() for title, end in zip(titles, ends, strict=True)}
