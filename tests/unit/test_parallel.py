"""Which tests may go to different workers."""

import pytest

from support.parallel import FIRST, HERE, SPREAD, group_of


@pytest.mark.parametrize("name", sorted({*FIRST, *SPREAD}))
def test_what_the_tables_name_is_there(name: str) -> None:
    assert (HERE / name).exists()


@pytest.mark.parametrize("name", sorted(SPREAD))
def test_a_file_that_is_spread_makes_nothing_for_all_its_tests(name: str) -> None:
    assert "scope=" not in (HERE / name).read_text()


def test_all_of_e2e_is_one_group_and_else_a_file_or_a_test() -> None:
    assert group_of("tests/e2e/test_a.py::test_x") == group_of("tests/e2e/test_b.py::test_y")
    assert group_of("tests/unit/test_a.py::test_x") == group_of("tests/unit/test_a.py::test_y[1]")
    spread = f"tests/{min(SPREAD)}"
    assert group_of(f"{spread}::test_x") != group_of(f"{spread}::test_y")
