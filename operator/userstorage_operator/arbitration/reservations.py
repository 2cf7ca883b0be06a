"""Places in a quota that a reconcile has granted to a UserStorage whose Service or pod does not exist yet.

Reservations are kept in memory only: after a restart the existing children show who has what. `claim.py` has those of claims.
"""

from userstorage_operator.api.userstorage import Key


class Reservations:
    """At most one reservation for each UserStorage: the name of the class whose quota counts it.

    Await nothing between checking that the place is free and `reserve`: otherwise two reconciles could get the same place.
    """

    def __init__(self) -> None:
        self._reserved: dict[Key, str] = {}

    def holds(self, key: Key, thing: str) -> bool:
        """Whether `thing` (a class name) is reserved for the UserStorage."""
        return self._reserved.get(key) == thing

    def reserve(self, key: Key, thing: str) -> None:
        """Reserve `thing` for the UserStorage. This replaces an earlier reservation."""
        self._reserved[key] = thing

    def release(self, key: Key) -> None:
        """End the reservation of the UserStorage, if it has one."""
        self._reserved.pop(key, None)
