"""Who wants which host and path, across namespaces: so that the next in line is found when a place becomes free."""

from userstorage_operator.api.userstorage import Key
from userstorage_operator.plan.exposure import HostPath


class HostIndex:
    """Keys by place."""

    def __init__(self) -> None:
        self._place_of: dict[Key, HostPath] = {}
        self._keys_at: dict[HostPath, set[Key]] = {}

    def sharing(self, key: Key) -> set[Key]:
        """Who else wants the place of `key`."""
        at = self._place_of.get(key)
        return self._keys_at[at] - {key} if at is not None else set()

    def update(self, key: Key, at: HostPath | None) -> set[Key]:
        """Take in what `key` wants now; whom that concerns: those at the place it left and those at the one it came to."""
        if self._place_of.get(key) == at:
            return set()
        concerned = self.sharing(key)
        if (left := self._place_of.pop(key, None)) is not None:
            self._keys_at[left].discard(key)
            if not self._keys_at[left]:
                del self._keys_at[left]
        if at is not None:
            self._place_of[key] = at
            self._keys_at.setdefault(at, set()).add(key)
        return concerned | self.sharing(key)
