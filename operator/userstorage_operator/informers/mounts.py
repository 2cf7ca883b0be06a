"""Which pods mount a claim: found without looking at all of a namespace."""

from userstorage_operator.api.unstructured import Unstructured
from userstorage_operator.informers.object_cache import ObjectKey
from userstorage_operator.observed.claim_usage import mounted_claims


class PodsByClaim:
    """Listens to the cache of pods."""

    def __init__(self) -> None:
        self._claims_of: dict[ObjectKey, frozenset[str]] = {}
        self._pods_on: dict[ObjectKey, set[str]] = {}

    def on_event(self, key: ObjectKey, pod: Unstructured | None) -> None:
        """A pod is new, other than it was, or gone."""
        before = self._claims_of.pop(key, frozenset())
        claims = frozenset(mounted_claims(pod)) if pod is not None else frozenset()
        if claims:
            self._claims_of[key] = claims
        namespace, name = key
        for claim in before - claims:
            there = self._pods_on[namespace, claim]
            there.discard(name)
            if not there:
                del self._pods_on[namespace, claim]
        for claim in claims - before:
            self._pods_on.setdefault((namespace, claim), set()).add(name)

    def pods_on(self, namespace: str, claim: str) -> set[str]:
        """Names of the pods that mount it."""
        return self._pods_on.get((namespace, claim), set())
