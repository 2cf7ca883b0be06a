"""Whether the API server would accept the children of a class: its schema cannot state all rules of NetworkPolicies and pods."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

from userstorage_operator.api.errors import ClusterError, NotFound, Refused
from userstorage_operator.api.resources import Kind
from userstorage_operator.api.unstructured import Unstructured
from userstorage_operator.plan.builders import Desired
from userstorage_operator.plan.diff import without_absent
from userstorage_operator.reconcile.ports import DryRunner

_RETRY_REFUSED = timedelta(minutes=1)
"""A refusal may be the fault of a policy or a webhook, and no event reports its end."""
_RETRY_ACCEPTED = timedelta(hours=1)
"""A policy or a webhook may have come since."""
_BAD_REQUEST = 400
"""The answer if a webhook does not support dry runs. It says nothing about the object."""


@dataclass(frozen=True, slots=True)
class _Verdict:
    uid: str
    generation: int
    at: datetime
    refusal: ClusterError | None

    @property
    def retry_at(self) -> datetime:
        return self.at + (_RETRY_REFUSED if self.refusal is not None else _RETRY_ACCEPTED)


class DryRuns:
    """Tries each version of a class once an hour; one that is refused, once a minute.

    Everything happens in one namespace: the operator's own, in which its permissions on users' objects hold as in every other.
    A ResourceQuota of that namespace says nothing about the class; a LimitRange there is taken for a rule of the cluster.
    """

    def __init__(self, cluster: DryRunner, namespace: str, clock: Callable[[], datetime]) -> None:
        self._cluster = cluster
        self._namespace = namespace
        self._clock = clock
        self._verdicts: dict[str, _Verdict] = {}

    async def refusal(self, raw: Unstructured, desired: Desired) -> ClusterError | None:
        """Return why the API server refuses the NetworkPolicy or the pod of a user of the raw class; None if it accepts both.

        Raises OperatorError if it could not answer.
        """
        meta, now = raw["metadata"], self._clock()
        known = self._verdicts.get(meta["name"])
        is_current = known is not None and (known.uid, known.generation) == (meta["uid"], meta["generation"])
        if known is not None and is_current and now < known.retry_at:
            return known.refusal
        verdict = _Verdict(meta["uid"], meta["generation"], now, await self._try(desired))
        self._verdicts[meta["name"]] = verdict
        return verdict.refusal

    def retry_after(self, name: str) -> float | None:
        """Return the seconds until the class is due for another try; None if it was never tried."""
        verdict = self._verdicts.get(name)
        return max(0.0, (verdict.retry_at - self._clock()).total_seconds()) if verdict is not None else None

    def forget(self, name: str) -> None:
        """Forget a class that is gone."""
        self._verdicts.pop(name, None)

    async def _try(self, desired: Desired) -> ClusterError | None:
        for kind in (Kind.NETWORK_POLICY, Kind.POD):
            child: Unstructured | None = getattr(desired, kind.field)
            if child is None:
                continue
            # The sample user does not exist, so it cannot be an owner.
            metadata = {key: value for key, value in child["metadata"].items() if key not in ("ownerReferences", "namespace")}
            try:
                await self._cluster.dry_run(kind.resource, self._namespace, without_absent(child | {"metadata": metadata}))
            except (Refused, NotFound) as error:
                if error.status != _BAD_REQUEST and error.reason != "QuotaExceeded":
                    return error
        return None
