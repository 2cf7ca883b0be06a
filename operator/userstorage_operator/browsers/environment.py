"""The container's environment variables, those of the flavor overridden by those of the class, and references to them."""

from collections.abc import Mapping

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
