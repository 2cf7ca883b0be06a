"""Environment of a container: what a driver says, and what the class says over it."""

from collections.abc import Mapping

from userstorage_operator.api.userstorageclass import BrowserSpec


def environment(own: Mapping[str, str], browser: BrowserSpec) -> tuple[Mapping[str, str], ...]:
    """The driver's variables first, so that those of the class can refer to them as `$(NAME)`.

    A name that the class sets too is the class's alone: a pod with one name twice is legal but says nothing clear.
    """
    theirs = {variable["name"] for variable in browser.env}
    return (*({"name": name, "value": value} for name, value in own.items() if name not in theirs), *browser.env)
