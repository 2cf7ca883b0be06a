"""The keys in Redis, all of them. The braces are Redis Cluster's hash tag: all keys of a cluster are on one node, so that
scripts may use several. No key tells a user, a name or a namespace.
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
        """Up to when the index and the views are complete: a hash."""
        return self._named("head")

    @property
    def index(self) -> str:
        """Rows of all UserStorages in the orders in which they are listed: a sorted set."""
        return self._named("index")

    def summary(self, uid: str) -> str:
        """The view of one UserStorage."""
        return self._named(f"summary:{uid}")

    def answer(self, key: Key) -> str:
        """What the API server said of one UserStorage, for the moments in which the index is not kept."""
        return self._named(f"answer:{hashlib.sha256(f'{key}'.encode()).hexdigest()[:32]}")

    def backoff(self, uid: str) -> str:
        """Failures in a row of one UserStorage."""
        return self._named(f"backoff:{uid}")

    @property
    def prefix(self) -> str:
        """What all of them begin with."""
        return self._named("")

    @property
    def pattern(self) -> str:
        """All of them, as SCAN wants it."""
        return re.sub(r"([*?\[\]\\])", r"\\\1", self.prefix) + "*"

    @staticmethod
    def lock(key: str) -> str:
        """Held by the process that fetches the value of `key`."""
        return f"{key}:lock"

    def _named(self, rest: str) -> str:
        return f"us:{{{self.cluster}}}:v1:{rest}"
