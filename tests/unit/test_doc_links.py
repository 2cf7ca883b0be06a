"""Links between documents, and citations of documents in code, lead to an existing file and heading."""

import re
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
_LINK = re.compile(r"\]\((?!\w+:)([^)\s]+)\)")
_CITATION = re.compile(r"docs/[-\w]+\.md(?:#[-\w]+)?")
_DECISION = re.compile(r"docs/decisions/(\d{4})\b")
_HEADING = re.compile(r"^#{1,6} +(.+?) *$", re.MULTILINE)
_CODE = re.compile(r"^```.*?^```$|`[^`\n]+`", re.MULTILINE | re.DOTALL)
_FENCED = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)


def tracked(*patterns: str) -> list[Path]:
    listed = subprocess.run(["git", "ls-files", *patterns], cwd=ROOT, check=True, capture_output=True, text=True).stdout
    return [ROOT / name for name in listed.splitlines() if (ROOT / name).is_file()]


@cache
def anchors(page: Path) -> frozenset[str]:
    """Return the anchors of the headings, as GitHub derives them."""
    headings = _HEADING.findall(_FENCED.sub("", page.read_text(encoding="utf-8")))
    return frozenset(re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings)


def broken(links: list[str], base: Path) -> Iterator[str]:
    """Yield the links that, relative to `base`, name no file or no heading of it."""
    for link in links:
        path, _, anchor = link.partition("#")
        target = (base.parent / path).resolve() if path else base
        if not target.exists() or (anchor and target.suffix == ".md" and anchor not in anchors(target)):
            yield link


@pytest.mark.parametrize("page", tracked("*.md"), ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_to_a_file_and_heading(page: Path) -> None:
    links = _LINK.findall(_CODE.sub("code", page.read_text(encoding="utf-8")))
    assert list(broken(links, page)) == []


def test_cited_documents_and_headings_exist() -> None:
    invented = ROOT / "tests/unit/test_prose.py"
    for path in (path for path in tracked("*.py", "*.yaml", "*.toml") if path != invented):
        text = path.read_text(encoding="utf-8")
        assert list(broken(_CITATION.findall(text), ROOT / "README.md")) == [], path
        for number in _DECISION.findall(text):
            assert len(list((ROOT / "docs/decisions").glob(f"{number}-*.md"))) == 1, f"{path}: decision {number}"
