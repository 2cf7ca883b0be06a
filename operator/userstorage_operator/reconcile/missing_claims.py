"""Claims that specs name and that did not exist when they were last asked for.

No watch delivers a claim without the label by which its owner lets UserStorages use it. So a UserStorage whose claim is missing asks
for it again and again, and a tenant may name any number of claims. What does not exist is asked for once for all who name it, and
at a bounded rate in each namespace, so that one tenant's thousands do not make another one wait.
"""

from collections import Counter, OrderedDict
from collections.abc import Callable
from datetime import datetime, timedelta

from userstorage_operator.arbitration.ranking import IndexKey

_PAUSE = timedelta(seconds=7)
"""How long a claim counts as missing; less than the interval at which a waiting UserStorage asks."""
_LONGEST = timedelta(minutes=5)
_PER_SECOND = 10
"""Requests in each second and namespace, for all its missing claims; more if there are more than _LONGEST takes."""


class MissingClaims:
    """Namespace and name of each missing claim, and when it was asked for. Every operation takes amortised O(1)."""

    def __init__(self, clock: Callable[[], datetime]) -> None:
        self._clock = clock
        self._asked_at: OrderedDict[IndexKey, datetime] = OrderedDict()
        """Oldest first."""
        self._count: Counter[str] = Counter()
        """Namespace -> number of its missing claims; without namespaces that have none."""

    def __len__(self) -> int:
        return len(self._asked_at)

    def pause(self, namespace: str) -> timedelta:
        """Return how long a missing claim of the namespace is not asked for again."""
        return min(max(_PAUSE, timedelta(seconds=self._count[namespace] / _PER_SECOND)), _LONGEST)

    def is_missing(self, namespace: str, name: str) -> bool:
        """Whether the claim was missing so recently that it is not worth a request."""
        asked_at = self._asked_at.get((namespace, name))
        return asked_at is not None and self._clock() - self.pause(namespace) < asked_at <= self._clock()

    def record(self, namespace: str, name: str, *, missing: bool) -> None:
        """Record an answer of the API server. Forget what was not asked for since the longest pause: no spec names it any more."""
        self._discard((namespace, name))
        if missing:
            self._asked_at[namespace, name] = self._clock()
            self._count[namespace] += 1
        while self._asked_at:
            oldest, asked_at = next(iter(self._asked_at.items()))
            if asked_at > self._clock() - 2 * _LONGEST:
                break
            self._discard(oldest)

    def _discard(self, claim: IndexKey) -> None:
        if self._asked_at.pop(claim, None) is not None:
            self._count[claim[0]] -= 1
            if not self._count[claim[0]]:
                del self._count[claim[0]]
