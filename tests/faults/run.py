"""Run cells of the fault matrix, and print a table: `python tests/faults/run.py [CELL…]`; without cells, all P0 and P1.

A run of all cells keeps its table in tests/faults/results/; `--output FILE` keeps that of some.
"""

import argparse
import os
import platform
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from xml.etree import ElementTree as ET

TESTS = Path(__file__).parents[1]
sys.path.insert(0, str(TESTS))

from faults.matrix import CELLS, IDS, Cell  # noqa: E402  # below the path that it needs

KEPT = Path(__file__).parent / "results" / "table.md"


@dataclass
class Outcome:
    """What became of the cases of a test function."""

    passed: int = 0
    failed: int = 0
    skipped: set[str] = field(default_factory=set)
    """Why cases could not run here."""
    seconds: float = 0.0
    worst: set[str] = field(default_factory=set)
    """The worst figures that the test has recorded."""


def main() -> int:
    """Run the cells, and return the exit code of the process."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("cells", nargs="*", metavar="CELL", help=f"{IDS[0]} to {IDS[-1]}")
    parser.add_argument("--output", type=Path, help="file for the table")
    parser.add_argument("--pytest", default="-n auto", help="further options of pytest")
    chosen = parser.parse_args()
    if unknown := set(chosen.cells) - set(IDS):
        parser.error(f"no such cell: {', '.join(sorted(unknown))}")
    cells = [cell for cell in CELLS if (cell.id in chosen.cells if chosen.cells else cell.priority < 2)]
    output = chosen.output or (None if chosen.cells else KEPT)
    started = datetime.now(UTC)
    outcomes = run({test for cell in cells for test in cell.tests}, chosen.pytest.split())
    text = table(cells, outcomes, chosen.cells, started)
    print(text)  # noqa: T201  # a command
    if output is not None:
        output.parent.mkdir(parents=True, exist_ok=True)
        output.write_text(text)
    return int(any(result(cell, outcomes) in ("failed", "not run") for cell in cells if cell.tests))


def run(tests: Iterable[str], options: list[str]) -> dict[str, Outcome]:
    """Run test functions once, without reruns, and return the outcome of each."""
    with tempfile.TemporaryDirectory() as directory:
        report = Path(directory) / "report.xml"
        command = [
            sys.executable,
            "-m",
            "pytest",
            "-q",
            f"--junitxml={report}",
            "-o",
            "junit_family=xunit1",
            "--timeout=3600",
            *options,
        ]
        subprocess.run([*command, *(str(TESTS / test) for test in sorted(tests))], check=False, cwd=TESTS.parent)
        return read(report) if report.exists() else {}


def read(report: Path) -> dict[str, Outcome]:
    """Return the outcomes in a JUnit report of pytest by test function."""
    outcomes: dict[str, Outcome] = defaultdict(Outcome)
    for case in ET.parse(report).iter("testcase"):  # noqa: S314  # pytest wrote it
        file = case.get("classname", "").removeprefix("tests.").replace(".", "/") + ".py"
        outcome = outcomes[f"{file}::{case.get('name', '').partition('[')[0]}"]
        outcome.seconds += float(case.get("time", 0))
        outcome.worst |= {found.get("value", "") for found in case.iter("property") if found.get("name") == "worst"}
        if case.find("failure") is not None or case.find("error") is not None:
            outcome.failed += 1
        elif (skipped := case.find("skipped")) is not None:
            outcome.skipped.add(skipped.get("message", ""))
        else:
            outcome.passed += 1
    return outcomes


def result(cell: Cell, outcomes: dict[str, Outcome]) -> str:
    """Return the result of a cell in one word, or why it could not run here."""
    found = [outcomes.get(test, Outcome()) for test in cell.tests]
    if not found:
        return "not built"
    if any(outcome.failed for outcome in found):
        return "failed"
    if skipped := {why for outcome in found for why in outcome.skipped}:
        return f"cannot run here: {'; '.join(sorted(skipped))}"
    return "passed" if all(outcome.passed for outcome in found) else "not run"


def table(cells: list[Cell], outcomes: dict[str, Outcome], chosen: list[str], started: datetime) -> str:
    """Return the results as Markdown."""
    git = ["git", "-C", str(TESTS)]
    commit = subprocess.run([*git, "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=True).stdout.strip()
    changed = subprocess.run([*git, "status", "--porcelain"], capture_output=True, text=True, check=True).stdout.strip()
    command = "make test-faults" + (f" CELLS='{' '.join(chosen)}'" if chosen else "")
    minutes = (datetime.now(UTC) - started).total_seconds() / 60
    machine = f"{os.cpu_count()} processors, {platform.system()} {platform.release()}, Python {platform.python_version()}"
    lines = [
        "# Fault matrix: results",
        "",
        f"`{command}`, {started:%Y-%m-%d %H:%M} UTC, {minutes:.0f} min, commit {commit}{' with changes' if changed else ''}.",
        f"{machine}.",
        "The time of a cell is the sum over its tests; tests of several cells count in each.",
        "",
        "| cell | P | fault | workload | result | cases | seconds | worst | not shown |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for cell in cells:
        found = [outcomes.get(test, Outcome()) for test in cell.tests]
        figures = "; ".join(sorted({figure for outcome in found for figure in outcome.worst}))
        cases, seconds = sum(outcome.passed for outcome in found), sum(outcome.seconds for outcome in found)
        columns = (cell.id, cell.priority, cell.fault, cell.workload, result(cell, outcomes), cases, f"{seconds:.0f}")
        lines.append(f"| {' | '.join(map(str, (*columns, figures, cell.not_shown)))} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(main())
