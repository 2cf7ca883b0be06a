"""Claims, and places in a quota, that a reconcile has granted to a UserStorage whose pod or Service does not exist yet.

Several requests lie between the decision to create a pod and the pod itself. Meanwhile another reconcile may ask which
UserStorage holds the claim. Reservations are kept in memory only: after a restart the existing children show who holds what.
"""

from collections.abc import Callable

from userstorage_operator.api.userstorage import Key


class Reservations:
    """At most one reservation for each UserStorage: the name of a claim, or the name of the class whose quota counts it.

    Await nothing between checking that the thing is free and `reserve`: otherwise two reconciles could get the same thing.
    """

    def __init__(self, on_release: Callable[[Key, str], None] | None = None) -> None:
        """`on_release(key, thing)` is called when `release` ends a reservation."""
        self._on_release = on_release
        self._reserved: dict[Key, str] = {}

    def holds(self, key: Key, thing: str) -> bool:
        """Whether `thing` (a claim or class name) is reserved for the UserStorage."""
        return self._reserved.get(key) == thing

    def reserve(self, key: Key, thing: str) -> None:
        """Reserve `thing` for the UserStorage. This replaces an earlier reservation."""
        self._reserved[key] = thing

    def release(self, key: Key) -> None:
        """End the reservation of the UserStorage, if it has one."""
        thing = self._reserved.pop(key, None)
        if thing is not None and self._on_release is not None:
            self._on_release(key, thing)
