"""Parsers of quantities (`1.5Gi`) and durations (`90s`) as they are written in Kubernetes objects."""

import re
from datetime import timedelta
from decimal import Decimal

from userstorage_operator.api.errors import InvalidSpec

_QUANTITY = re.compile(r"([+-]?[0-9]+(?:\.[0-9]*)?|[+-]?\.[0-9]+)(?:([eE][+-]?[0-9]{1,3})|([numkMGTPE]|[KMGTPE]i)?)")
_SCALE = {"n": "1e-9", "u": "1e-6", "m": "1e-3", "": "1", "k": "1e3", "M": "1e6", "G": "1e9"} | {
    "T": "1e12", "P": "1e15", "E": "1e18"
}  # fmt: skip
_FACTOR = {suffix: Decimal(factor) for suffix, factor in _SCALE.items()} | {
    f"{prefix}i": Decimal(1024) ** power for power, prefix in enumerate("KMGTPE", start=1)
}
_DURATION = re.compile(r"(?:[0-9]{1,5}(?:h|m|s|ms)){1,4}")
_DURATION_PART = re.compile(r"([0-9]+)(ms|s|m|h)")
_DURATION_UNIT = {"ms": timedelta(milliseconds=1), "s": timedelta(seconds=1), "m": timedelta(minutes=1)} | {
    "h": timedelta(hours=1)
}  # fmt: skip


def parse_quantity(text: str) -> Decimal:
    """Return a quantity such as `1.5Gi`, `500m` or `1e3` as a number of its base unit (bytes, cores).

    Grammar: k8s.io/apimachinery/pkg/api/resource, with exponents of at most three digits: Kubernetes cuts longer ones. Raises InvalidSpec if `text` is not a quantity.
    """
    match = _QUANTITY.fullmatch(text)
    if match is None:
        raise InvalidSpec(f"{text!r} is not a quantity")
    number, exponent, suffix = match.groups()
    return Decimal(number + exponent) if exponent else Decimal(number) * _FACTOR[suffix or ""]


def parse_duration(text: str) -> timedelta:
    """Parse a duration such as `90s`, `1h30m` or `500ms`, by the grammar of the Gateway API (GEP-2257). Raises InvalidSpec if
    `text` is not a duration.
    """
    if _DURATION.fullmatch(text) is None:
        raise InvalidSpec(f"{text!r} is not a duration such as 90s or 1h30m")
    parts = _DURATION_PART.findall(text)
    return sum((int(number) * _DURATION_UNIT[unit] for number, unit in parts), timedelta())
