"""Run cells of the fault matrix, and print a table: `python tests/faults/run.py [CELL…]`; without cells, all P0 and P1.

A run of all cells keeps its table in tests/faults/results/; `--output FILE` keeps that of some.
The table is written after each test, so that an interrupted run shows what it has seen.
"""

import argparse
import sys
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]
sys.path[0] = str(TESTS)  # in place of this folder, whose conftest.py is another one

from faults.matrix import CELLS, IDS, Cell  # noqa: E402  # below the path that it needs
from support.revision import Origin  # noqa: E402

KEPT = Path(__file__).parent / "results" / "table.md"


@dataclass
class Outcome:
    """What became of the cases of a test function."""

    collected: set[str] = field(default_factory=set)
    """The node ids of its cases."""
    passed: int = 0
    failed: int = 0
    skipped: set[str] = field(default_factory=set)
    """Why cases could not run here."""
    seconds: float = 0.0
    worst: set[str] = field(default_factory=set)
    """The worst figures that the test has recorded."""


class Run:
    """Runs cells in one run of pytest, of which it is a plugin, and keeps the table of what has been seen so far."""

    def __init__(self, cells: list[Cell], command: str, output: Path | None) -> None:
        self.outcomes: dict[str, Outcome] = defaultdict(Outcome)
        self.cells = cells
        self._output = output
        self._origin = Origin(command)  # of the tests that run, whatever is committed meanwhile

    def start(self, options: list[str]) -> None:
        """Run the tests of the cells, each once and without reruns."""
        tests = sorted({str(TESTS / test) for cell in self.cells for test in cell.tests})
        pytest.main(["-q", f"--rootdir={TESTS.parent}", "--timeout=3600", *options, *tests], plugins=[self])

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        """Note the cases, in a run without workers."""
        self._collect(item.nodeid for item in session.items)

    @pytest.hookimpl(optionalhook=True)  # -p no:xdist
    def pytest_xdist_node_collection_finished(self, ids: list[str]) -> None:
        """Note the cases that a worker has found; each finds the same."""
        self._collect(ids)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Note a phase of a case, and write the table after the last one."""
        outcome = self.outcomes[function_of(report.nodeid)]
        outcome.seconds += report.duration
        if report.failed:
            outcome.failed += 1
            print(f"\n{report.nodeid} failed in {report.when}:\n{report.longreprtext}", flush=True)  # noqa: T201  # before the end of a long run
        elif report.skipped:
            outcome.skipped.add(report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr))
        elif report.when == "call":
            outcome.passed += 1
        if report.when == "teardown":
            outcome.worst |= {str(value) for name, value in report.user_properties if name == "worst"}
            self.write()

    def write(self) -> None:
        """Write the table into its file, if it has one."""
        if self._output is not None:
            self._output.parent.mkdir(parents=True, exist_ok=True)
            self._output.write_text(self.table())

    def table(self) -> str:
        """Return the results as Markdown."""
        lines = [
            "# Fault matrix: results",
            "",
            str(self._origin),
            "The time of a cell is the sum over its tests; tests of several cells count in each.",
            "",
            "| cell | P | fault | workload | result | cases | seconds | worst | not shown |",
            "|---|---|---|---|---|---|---|---|---|",
        ]
        for cell in self.cells:
            found = [self.outcomes[test] for test in cell.tests]
            figures = "; ".join(sorted({figure for outcome in found for figure in outcome.worst}))
            cases, seconds = sum(outcome.passed for outcome in found), sum(outcome.seconds for outcome in found)
            columns = (cell.id, cell.priority, cell.fault, cell.workload, result(cell, self.outcomes), cases, f"{seconds:.0f}")
            lines.append(f"| {' | '.join(map(str, (*columns, figures, cell.not_shown)))} |")
        return "\n".join(lines) + "\n"

    def _collect(self, nodeids: Iterable[str]) -> None:
        for nodeid in nodeids:
            self.outcomes[function_of(nodeid)].collected.add(nodeid)


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
    command = "make test-faults" + (f" CELLS='{' '.join(chosen.cells)}'" if chosen.cells else "")
    run = Run(cells, command, chosen.output or (None if chosen.cells else KEPT))
    run.start(chosen.pytest.split())
    run.write()
    print(run.table())  # noqa: T201  # a command
    return int(any(result(cell, run.outcomes) in ("failed", "not run") for cell in cells if cell.tests))


def function_of(nodeid: str) -> str:
    """Return the test function of a case, as the matrix names it: relative to tests/, without parameters."""
    return nodeid.partition("[")[0].removeprefix("tests/")


def result(cell: Cell, outcomes: dict[str, Outcome]) -> str:
    """Return the result of a cell in one word, or why it could not run here."""
    found = [outcomes.get(test, Outcome()) for test in cell.tests]
    if not found:
        return "not built"
    if any(outcome.failed for outcome in found):
        return "failed"
    if skipped := {why for outcome in found for why in outcome.skipped}:
        return f"cannot run here: {'; '.join(sorted(skipped))}"
    return "passed" if all(outcome.passed == len(outcome.collected) > 0 for outcome in found) else "not run"


if __name__ == "__main__":
    sys.exit(main())
