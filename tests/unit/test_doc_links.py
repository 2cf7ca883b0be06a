"""Links between documents, and citations of documents in code, lead to an existing file and heading; named tests exist."""

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
_TEST_FILE = re.compile(r"\b(?:tests|packages)/[\w/]+/(?!test_x\.)test_\w+\.py\b")
"""`test_x` stands for any test."""
_TEST_NAME = re.compile(r"`((?:(?:tests|packages)/[\w/]+\.py)?)(:?:?)(?!test_x`)(test_\w+)`")
_TEST = re.compile(r"^ *(?:async )?def (test_\w+)", re.MULTILINE)
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


@cache
def defined_in(path: Path) -> frozenset[str]:
    """Return the names of the tests in a file."""
    return frozenset(_TEST.findall(path.read_text(encoding="utf-8"))) if path.is_file() else frozenset()


@pytest.mark.parametrize("page", tracked("*.md"), ids=lambda page: str(page.relative_to(ROOT)))
def test_named_tests_exist(page: Path) -> None:
    # As `path::name`; as `::name` if the page names its file elsewhere; or as `name`.
    text = _FENCED.sub("", page.read_text(encoding="utf-8"))
    files = [ROOT / path for path in _TEST_FILE.findall(text)]
    here = frozenset[str]().union(*map(defined_in, files))
    known = here.union(*map(defined_in, tracked("tests/**/test_*.py", "packages/**/test_*.py")))
    assert [path for path in files if not path.is_file()] == []
    for path, separator, name in _TEST_NAME.findall(text):
        assert name in (defined_in(ROOT / path) if path else here if separator else known), f"{path}{separator}{name}"


def threats(page: str) -> dict[str, list[str]]:
    """Return the rows of the table of threats in a page: number, such as T1 -> the cells."""
    section = (ROOT / page).read_text(encoding="utf-8").partition("\n## Threats\n")[2].partition("\n## ")[0]
    table = [line.strip("|").split("|") for line in section.partition("\n### ")[0].splitlines() if line.startswith("|")]
    header, _, *rows = [[cell.strip() for cell in row] for row in table]
    assert {len(row) for row in rows} == {len(header)}
    return {row[0].partition(":")[0]: row for row in rows}


def test_every_threat_has_a_result_and_a_test() -> None:
    gateways, gate = threats("docs/gateways.md"), threats("docs/gate.md")
    assert set(gateways) >= {f"T{number}" for number in range(1, 18)}
    for row in (*gateways.values(), *gate.values()):
        assert all(row), row
        assert "test" in row[-1] or "gate.md#threats" in row[-1], row
    assert {name for name, row in gateways.items() if "gate.md#threats" in row[-1]} <= set(gate)
