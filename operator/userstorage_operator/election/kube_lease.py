"""Stores the record of the leader election as a Lease on the API server."""

from datetime import UTC, datetime

from userstorage_operator.api import names
from userstorage_operator.api.errors import AlreadyExists, ClusterError, Conflict, NotFound
from userstorage_operator.api.resources import LEASES
from userstorage_operator.api.timestamps import format_precise_time
from userstorage_operator.api.unstructured import Unstructured
from userstorage_operator.election.elector import LEASE_DURATION, LeaseRecord, LeaseUnavailable
from userstorage_operator.kube.client import KubeClient

LEASE_NAME = "userstorage-operator"
_RELEASED = 1
"""`leaseDurationSeconds` of a released lease, as client-go writes it. If a person removes the holder by hand, the longer
duration stays, so the lease does not count as released.
"""


class KubeLease:
    """Implements the interface `election.elector.LeaseStore`."""

    def __init__(self, client: KubeClient, namespace: str) -> None:
        self._client = client
        self._namespace = namespace
        self._metadata: Unstructured = {}
        self._acquire_time = (0, "")

    async def get(self, timeout: float) -> LeaseRecord | None:
        """Return the record in the Lease; None if the Lease does not exist."""
        try:
            return self._parse(await self._client.get(LEASES, self._namespace, LEASE_NAME, timeout=timeout))
        except NotFound:
            return None
        except ClusterError as error:
            raise LeaseUnavailable(error.message) from error

    async def create(self, record: LeaseRecord, timeout: float) -> LeaseRecord | None:
        """Create the Lease with this record, and return the record as stored. Return None if the Lease already exists."""
        metadata = {
            "name": LEASE_NAME,
            "namespace": self._namespace,
            "labels": {"app.kubernetes.io/name": names.MANAGED_BY},
        }
        try:
            created = await self._client.create(LEASES, self._namespace, self._body(metadata, record), timeout=timeout)
        except AlreadyExists:
            return None
        except ClusterError as error:
            raise LeaseUnavailable(error.message) from error
        return self._parse(created)

    async def update(self, record: LeaseRecord, timeout: float) -> LeaseRecord | None:
        """Replace the record in the Lease, and return the record as stored. Return None if the resourceVersion of `record` is
        outdated, or the Lease does not exist. The metadata of the Lease, such as labels, stays as last read.
        """
        metadata = self._metadata | {"resourceVersion": record.resource_version}
        try:
            return self._parse(
                await self._client.update(LEASES, self._namespace, self._body(metadata, record), timeout=timeout)
            )
        except (Conflict, NotFound):
            return None
        except ClusterError as error:
            raise LeaseUnavailable(error.message) from error

    def _parse(self, raw: Unstructured) -> LeaseRecord:
        """Return the record in a Lease. Store the Lease's metadata for the next update, which must not remove the labels of
        other programs.
        """
        self._metadata, spec = raw["metadata"], raw.get("spec") or {}
        holder = spec.get("holderIdentity") or ""
        released = not holder and spec.get("leaseDurationSeconds") == _RELEASED
        return LeaseRecord(holder, spec.get("leaseTransitions") or 0, self._metadata["resourceVersion"], released)

    def _body(self, metadata: Unstructured, record: LeaseRecord) -> Unstructured:
        now = format_precise_time(datetime.now(UTC))  # for people; no decision depends on it
        if self._acquire_time[0] != record.lease_transitions:
            self._acquire_time = record.lease_transitions, now
        spec: Unstructured = {
            "leaseDurationSeconds": _RELEASED if record.released else int(LEASE_DURATION),
            "leaseTransitions": record.lease_transitions,
            "renewTime": now,
        }
        if record.holder_identity:
            spec |= {"holderIdentity": record.holder_identity, "acquireTime": self._acquire_time[1]}
        return {"apiVersion": LEASES.api_version, "kind": LEASES.kind, "metadata": metadata, "spec": spec}
