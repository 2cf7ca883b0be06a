"""All keys in Redis. No key contains a user id, a name or a namespace.

The braces are Redis Cluster's hash tag: all keys of one Kubernetes cluster are on one node, so that a script may use several of
them.
"""

import hashlib
import re
from dataclasses import dataclass

from userstorage_operator.api.userstorage import Key


@dataclass(frozen=True, slots=True)
class Keys:
    """The keys of one Kubernetes cluster. Several clusters may share a Redis."""

    cluster: str

    @property
    def head(self) -> str:
        """The key of the head of the mirror, a Redis hash."""
        return self._named("head")

    @property
    def index(self) -> str:
        """The key of the index, a sorted set with an entry by name and an entry by user for each UserStorage."""
        return self._named("index")

    def summary(self, uid: str) -> str:
        """Return the key of a UserStorage's summary."""
        return self._named(f"summary:{uid}")

    def answer(self, key: Key) -> str:
        """Return the key of the API server's answer about one UserStorage, which is used while no leader keeps the index."""
        return self._named(f"answer:{hashlib.sha256(f'{key}'.encode()).hexdigest()[:32]}")

    def backoff(self, uid: str) -> str:
        """Return the key of the number of consecutive failures of a UserStorage."""
        return self._named(f"backoff:{uid}")

    @property
    def prefix(self) -> str:
        """The common prefix of all keys."""
        return self._named("")

    @property
    def pattern(self) -> str:
        """The SCAN pattern that matches all keys."""
        return re.sub(r"([*?\[\]\\])", r"\\\1", self.prefix) + "*"

    @staticmethod
    def lock(key: str) -> str:
        """Return the key of the lock held by the process that fetches the value of `key`."""
        return f"{key}:lock"

    def _named(self, rest: str) -> str:
        return f"us:{{{self.cluster}}}:v1:{rest}"
