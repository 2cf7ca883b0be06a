"""The container's environment variables, those of the flavor overridden by those of the class, and references to them."""

from collections.abc import Mapping
from typing import Any

from userstorage_operator.api.quantities import parse_quantity
from userstorage_operator.api.userstorageclass import BrowserSpec


def environment(own: Mapping[str, str], browser: BrowserSpec) -> tuple[Mapping[str, str], ...]:
    """Return the variables `own` of the flavor, then those of the class, whose values can refer to the former as `$(NAME)`.

    A variable that both set has only the value of the class: a duplicate name is legal but ambiguous.
    """
    overridden = {variable["name"] for variable in browser.env}
    return (*({"name": name, "value": value} for name, value in own.items() if name not in overridden), *browser.env)


def literal(text: str) -> str:
    """Return `text` as a word of a command that the kubelet leaves as it is: it would expand `$(NAME)` and `$$`."""
    return text.replace("$", "$$")


def go_memory_limit(resources: Mapping[str, Any]) -> Mapping[str, str]:
    """Return the variable by which a Go program collects garbage before it has used four fifths of its memory limit; {} if it has none.

    By default such a program takes twice what it needs: more than its limit for a list of 300,000 files. Raises InvalidSpec if the
    limit is not a quantity.
    """
    limit = (resources.get("limits") or {}).get("memory")
    return {"GOMEMLIMIT": str(int(parse_quantity(str(limit)) * 4 / 5))} if limit is not None else {}
