"""Every mutant still fits the code. Whether a test notices each is what `make test-mutants` runs."""

import ast
from pathlib import Path

import pytest

from mutants.__main__ import DoesNotApply, copy_with
from mutants.catalogue import MUTANTS, Edit, Mutant

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_mutant_applies_and_is_python(mutant: Mutant, tmp_path: Path) -> None:
    package = copy_with(tmp_path, mutant.edits)
    for edit in mutant.edits:
        ast.parse((package / "userstorage_operator" / edit.file).read_text())
    assert all((ROOT / test).exists() for test in mutant.tests)


def test_edit_that_does_not_fit_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DoesNotApply):
        copy_with(tmp_path, [Edit("api/names.py", "there is no such text", "")])
