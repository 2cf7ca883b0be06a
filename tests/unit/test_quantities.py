import contextlib
from datetime import timedelta
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from userstorage_operator.api.errors import InvalidSpec
from userstorage_operator.api.quantities import parse_duration, parse_quantity


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1Gi", 1024**3),
        ("1.5Gi", 1024**3 * 3 // 2),
        ("500m", Decimal("0.5")),
        ("1e3", 1000),
        ("10", 10),
        (".5", Decimal("0.5")),
        ("1E", 10**18),
    ],
)
def test_quantity_is_parsed(text: str, value: Decimal) -> None:
    assert parse_quantity(text) == value


@pytest.mark.parametrize("text", ["", "abc", "5 GB", "1Gib", "--1", "1e", "0x10", "\u0665Gi", "1_0", "1Gi\n", "1e1234"])
def test_invalid_quantity_is_refused_with_its_text(text: str) -> None:
    with pytest.raises(InvalidSpec, match="is not a quantity"):
        parse_quantity(text)


@given(st.integers(0, 10**6), st.integers(0, 10**6))
def test_quantities_are_ordered_as_numbers(one: int, other: int) -> None:
    assert (parse_quantity(f"{one}Mi") < parse_quantity(f"{other}Mi")) == (one < other)


def test_duration_is_parsed() -> None:
    assert parse_duration("1h30m") == timedelta(hours=1, minutes=30)
    assert parse_duration("1500ms") == timedelta(seconds=1.5)


TOO_LONG = ["100000s", "1s1s1s1s1s", "999999999999999h"]


@pytest.mark.parametrize("text", ["", "5", "5d", "m5", "5m ", "-5m", "\u0665m", "1.5h", "5us", "5m\n", *TOO_LONG])
def test_invalid_duration_is_refused(text: str) -> None:
    with pytest.raises(InvalidSpec, match="is not a duration"):
        parse_duration(text)


@given(st.text())
def test_no_text_breaks_a_parser(text: str) -> None:
    for parse in (parse_quantity, parse_duration):
        with contextlib.suppress(InvalidSpec):
            parse(text)
