"""`PYTHONPATH=tests python -m mutants`: run the tests of each mutant on a copy of the package that has its edits, and print which were caught.

With `--table FILE` the table is written to that file, with commit, command and machine. `--only TEXT` selects mutants by name.
"""

import argparse
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from mutants.catalogue import MUTANTS, Edit, Mutant

ROOT = Path(__file__).parents[2]
PACKAGE = "userstorage_operator"
_FAILED = 1
"""pytest's exit code if tests have failed. Others say that they could not run."""


class DoesNotApply(Exception):
    """The text that an edit replaces does not occur exactly once."""


def main() -> int:
    """Return 0 if every mutant was caught, else 1."""
    parser = argparse.ArgumentParser(prog="mutants", description=__doc__)
    parser.add_argument("--only", default="", help="part of the name of the mutants to run")
    parser.add_argument("--table", type=Path, help="file for the table")
    options = parser.parse_args()
    chosen = [mutant for mutant in MUTANTS if options.only in mutant.name]
    rows = list(_run(chosen))
    table = "\n".join(_table(rows))
    sys.stdout.write(f"{table}\n")
    if options.table is not None:
        options.table.parent.mkdir(parents=True, exist_ok=True)
        options.table.write_text(f"{table}\n")
    return int(any(caught_by is None for _, caught_by, _ in rows))


def _run(mutants: Sequence[Mutant]) -> Iterator[tuple[Mutant, str | None, float]]:
    """Yield each mutant with the test that caught it (None: none did) and the seconds that this took."""
    with tempfile.TemporaryDirectory() as scratch:
        tests = sorted({test for mutant in mutants for test in mutant.tests})
        if (failure := _first_failure(copy_with(Path(scratch) / "unchanged", ()), tests)) is not None:
            raise SystemExit(f"{failure} fails without a mutant")
        for number, mutant in enumerate(mutants):
            started = time.monotonic()
            try:
                package = copy_with(Path(scratch) / str(number), mutant.edits)
            except DoesNotApply as error:
                raise SystemExit(f"mutant {mutant.name!r} does not apply any more: {error}") from error
            caught_by = _first_failure(package, mutant.tests)
            sys.stderr.write(f"{mutant.name}: {caught_by or 'NOT CAUGHT'}\n")
            yield mutant, caught_by, time.monotonic() - started


def copy_with(directory: Path, edits: Sequence[Edit]) -> Path:
    """Copy the package into `directory`, change it, and return `directory`. Raises DoesNotApply."""
    shutil.copytree(ROOT / "operator" / PACKAGE, directory / PACKAGE, ignore=shutil.ignore_patterns("__pycache__"))
    for edit in edits:
        path = directory / PACKAGE / edit.file
        text = path.read_text()
        if (count := text.count(edit.old)) != 1:
            raise DoesNotApply(f"{edit.file} has {count} times: {edit.old!r}")
        path.write_text(text.replace(edit.old, edit.new))
    return directory


def _first_failure(directory: Path, tests: Sequence[str]) -> str | None:
    """Return the first of these tests that fails on the package in `directory`, and what it says; None if none fails."""
    environment = os.environ | {"PYTHONPATH": str(directory), "PYTHONDONTWRITEBYTECODE": "1"}
    where = f"import {PACKAGE}; print({PACKAGE}.__file__)"
    used = subprocess.run([sys.executable, "-c", where], env=environment, check=True, capture_output=True, text=True).stdout
    if not used.startswith(str(directory)):
        raise SystemExit(f"the tests would run on {used.strip()}")
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-n", "0", "-p", "no:cacheprovider", "--model-first", *tests]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    if done.returncode not in (0, _FAILED):
        raise SystemExit(f"pytest could not run:\n{done.stdout}{done.stderr}")
    failed = re.search(r"^FAILED (\S+)", done.stdout, re.MULTILINE)
    if failed is None:
        return None
    said = re.search(r"AssertionError: ([^{|\n]{3,80})", done.stdout)
    return f"`{failed[1]}`" + (f": {said[1].strip()}" if said is not None else "")


def _table(rows: Sequence[tuple[Mutant, str | None, float]]) -> Iterator[str]:
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, check=True, capture_output=True, text=True
    ).stdout.strip()
    yield "# Mutants"
    yield ""
    yield f"`make test-mutants` at commit {commit}, {os.cpu_count()} processors ({platform.machine()}), Python {platform.python_version()}."
    yield "Each mutant is the operator with a change that breaks one invariant; `tests/mutants/catalogue.py` has the changes."
    yield ""
    yield "| mutant | invariant | caught by | seconds |"
    yield "|---|---|---|---:|"
    for mutant, caught_by, seconds in rows:
        yield f"| {mutant.name} | {mutant.breaks} | {caught_by or '**not caught**'} | {seconds:.0f} |"


if __name__ == "__main__":
    sys.exit(main())
