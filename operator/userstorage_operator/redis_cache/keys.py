"""All keys in Redis. The braces are Redis Cluster's hash tag: all keys of a Kubernetes cluster are on one node, so that a script
may use several of them. No key contains a user id, a name or a namespace.
"""

import hashlib
import re
from dataclasses import dataclass

from userstorage_operator.api.userstorage import Key


@dataclass(frozen=True, slots=True)
class Keys:
    """The keys of one Kubernetes cluster: several may share a Redis."""

    cluster: str

    @property
    def head(self) -> str:
        """The head of the mirror: a hash."""
        return self._named("head")

    @property
    def index(self) -> str:
        """The rows of all UserStorages, by name and by user: a sorted set."""
        return self._named("index")

    def summary(self, uid: str) -> str:
        """Return the key of a UserStorage's summary."""
        return self._named(f"summary:{uid}")

    def answer(self, key: Key) -> str:
        """Return the key of a response of the API server about one UserStorage, used while no leader keeps the index."""
        return self._named(f"answer:{hashlib.sha256(f'{key}'.encode()).hexdigest()[:32]}")

    def backoff(self, uid: str) -> str:
        """Return the key of a UserStorage's consecutive failures."""
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
