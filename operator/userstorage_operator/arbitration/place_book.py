"""Who has one of the `limits.maxPerNamespace` places of a class but nothing yet that would show it. In memory: after a
start the children tell.
"""

from userstorage_operator.api.userstorage import Key


class PlaceBook:
    """Asked and written without giving up the event loop in between, or two passes would take the same place."""

    def __init__(self) -> None:
        self._class_of: dict[Key, str] = {}

    def holds(self, key: Key, class_name: str) -> bool:
        """Whether it was let in."""
        return self._class_of.get(key) == class_name

    def take(self, key: Key, class_name: str) -> None:
        """It is let in now."""
        self._class_of[key] = class_name

    def leave(self, key: Key) -> None:
        """It is gone."""
        self._class_of.pop(key, None)
