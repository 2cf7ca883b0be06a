"""Parsers of quantities (`1.5Gi`) and durations (`90s`) as they are written in Kubernetes objects."""

import re
from datetime import timedelta
from decimal import Decimal

from userstorage_operator.api.errors import InvalidSpec

_QUANTITY = re.compile(r"([+-]?\d+(?:\.\d*)?|[+-]?\.\d+)(?:([eE][+-]?\d+)|([numkMGTPE]|[KMGTPE]i)?)")
_SCALE = {"n": "1e-9", "u": "1e-6", "m": "1e-3", "": "1", "k": "1e3", "M": "1e6", "G": "1e9"} | {
    "T": "1e12", "P": "1e15", "E": "1e18"
}  # fmt: skip
_FACTOR = {suffix: Decimal(factor) for suffix, factor in _SCALE.items()} | {
    f"{prefix}i": Decimal(1024) ** power for power, prefix in enumerate("KMGTPE", start=1)
}
_DURATION_PART = re.compile(r"(\d+)(ms|s|m|h)")
_DURATION_UNIT = {"ms": timedelta(milliseconds=1), "s": timedelta(seconds=1), "m": timedelta(minutes=1)} | {
    "h": timedelta(hours=1)
}  # fmt: skip


def parse_quantity(text: str) -> Decimal:
    """Return a quantity such as `1.5Gi`, `500m` or `1e3` as a number of its base unit (bytes, cores).

    Grammar: k8s.io/apimachinery/pkg/api/resource. Raises InvalidSpec if `text` is not a quantity.
    """
    match = _QUANTITY.fullmatch(text)
    if match is None:
        raise InvalidSpec(f"{text!r} is not a quantity")
    number, exponent, suffix = match.groups()
    return Decimal(number + exponent) if exponent else Decimal(number) * _FACTOR[suffix or ""]


def parse_duration(text: str) -> timedelta:
    """Parse a duration such as `90s`, `1h30m` or `500ms`. Raises InvalidSpec if `text` is not a duration."""
    parts = _DURATION_PART.findall(text)
    if not parts or "".join(number + unit for number, unit in parts) != text:
        raise InvalidSpec(f"{text!r} is not a duration such as 90s or 1h30m")
    return sum((int(number) * _DURATION_UNIT[unit] for number, unit in parts), timedelta())
