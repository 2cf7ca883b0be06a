"""The fault matrix has every fault, and the tests that it names exist where they are run."""

import ast
from functools import cache
from pathlib import Path

import pytest

from faults.matrix import CELLS, IDS, Cell

TESTS = Path(__file__).parents[1]


@cache
def functions(file: str) -> frozenset[str]:
    tree = ast.parse((TESTS / file).read_text())
    return frozenset(node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))


def test_every_fault_of_the_specification_has_a_cell() -> None:
    assert {cell.id for cell in CELLS} == set(IDS)


@pytest.mark.parametrize("cell", CELLS, ids=lambda cell: f"{cell.id}-P{cell.priority}")
def test_cell_names_existing_tests_or_says_why_it_has_none(cell: Cell) -> None:
    for test in cell.tests:
        file, _, function = test.partition("::")
        assert function in functions(file), test
        assert not (cell.priority == 0 and file.startswith("faults/nightly/")), f"{test}: make test does not run it"
    assert cell.tests or cell.not_shown


def test_every_test_of_a_fault_is_in_a_cell() -> None:
    named = {test for cell in CELLS for test in cell.tests}
    for path in (TESTS / "faults").rglob("test_*.py"):
        file = str(path.relative_to(TESTS))
        unnamed = {f"{file}::{name}" for name in functions(file) if name.startswith("test_")} - named
        assert not unnamed
