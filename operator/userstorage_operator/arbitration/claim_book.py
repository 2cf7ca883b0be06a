"""Which claims are taken before a pod mounts them: between the decision to make a pod and the pod lie several requests,
and another pass may ask whose claim it is meanwhile. In memory: after a restart the pods that there are tell it.
"""

from userstorage_operator.api.userstorage import Key
from userstorage_operator.arbitration.lister import Lister


class ClaimBook:
    """Kept by the reconciler, read by the observer."""

    def __init__(self, views: Lister) -> None:
        self._views = views
        self._taken: dict[Key, str] = {}

    def has_taken(self, key: Key, claim: str) -> bool:
        """Whether a pod on the claim is there, or on its way, as far as we know."""
        return self._taken.get(key) == claim

    def take(self, key: Key, claim: str) -> None:
        """A pod on the claim is about to be made. Nothing may be awaited since the question whose claim it is."""
        self._taken[key] = claim

    def release(self, key: Key) -> None:
        """There is no pod, and none on its way: those who may have been kept from the claim are asked again."""
        if (claim := self._taken.pop(key, None)) is not None:
            self._views.claim_released(key, claim)
