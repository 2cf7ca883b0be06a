"""Names of all keys of the operator in Redis. No key contains a user id, a name or a namespace.

The braces are Redis Cluster's hash tag: all keys of one Kubernetes cluster are on one node, so that a script may use several of
them.
"""

import hashlib
import re
from dataclasses import dataclass

from userstorage_operator.api.userstorage import Key


@dataclass(frozen=True, slots=True)
class Keys:
    """The Redis keys of one Kubernetes cluster. Several Kubernetes clusters may share a Redis."""

    cluster: str

    @property
    def head(self) -> str:
        """The Redis key of the head of the mirror, a hash."""
        return self._named("head")

    @property
    def index(self) -> str:
        """The Redis key of the index, a sorted set with an entry by name and an entry by user for each UserStorage."""
        return self._named("index")

    def summary(self, uid: str) -> str:
        """Return the Redis key of the summary of the UserStorage with this uid."""
        return self._named(f"summary:{uid}")

    def answer(self, key: Key) -> str:
        """Return the Redis key of what the API server last returned for one UserStorage. This key is used while no leader keeps
        the index.
        """
        return self._named(f"answer:{hashlib.sha256(f'{key}'.encode()).hexdigest()[:32]}")

    def backoff(self, uid: str) -> str:
        """Return the Redis key of the number of consecutive failures of the UserStorage with this uid."""
        return self._named(f"backoff:{uid}")

    @property
    def prefix(self) -> str:
        """What all Redis keys of this Kubernetes cluster start with."""
        return self._named("")

    @property
    def pattern(self) -> str:
        """The SCAN pattern that matches all Redis keys of this Kubernetes cluster."""
        return re.sub(r"([*?\[\]\\])", r"\\\1", self.prefix) + "*"

    @staticmethod
    def lock(key: str) -> str:
        """Return the Redis key of the lock on `key`. The process that fetches the value of `key` holds this lock."""
        return f"{key}:lock"

    def _named(self, rest: str) -> str:
        return f"us:{{{self.cluster}}}:v1:{rest}"
