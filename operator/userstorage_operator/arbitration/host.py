"""Which UserStorage owns a host name with a URL path: the one whose Ingress or HTTPRoute has them, else the oldest."""

from collections.abc import Iterator

from userstorage_operator.api.resources import EXPOSURE
from userstorage_operator.api.unstructured import Unstructured
from userstorage_operator.api.userstorage import Key
from userstorage_operator.api.userstorageclass import Expose, UserStorageClass, choose_class
from userstorage_operator.arbitration.lister import Lister
from userstorage_operator.arbitration.user_id import UserIDIndex, children_of
from userstorage_operator.observed.pod_status import Finding
from userstorage_operator.plan.exposure import HostPath, served_host, wanted_host


def conflict(raw: Unstructured, cls: UserStorageClass, lister: Lister) -> Finding | None:
    """Return HostConflict if another UserStorage owns the host name and URL path that the class gives to `raw`; else None."""
    if cls.exposure.expose is Expose.CLUSTER_IP:
        return None
    host = wanted_host(raw, lister.classes())
    if host is None:
        return None

    def rank(candidate: Unstructured) -> tuple[bool, str, str]:
        meta = candidate["metadata"]
        return not _serves(host, candidate, lister), meta["creationTimestamp"], meta["uid"]

    if min([raw, *lister.sharing_host(Key.of(raw))], key=rank) is raw:
        return None
    # The message does not name the owner: it may be another tenant, whose name and namespace must not be disclosed.
    return Finding("HostConflict", f"another UserStorage has the host {host.host!r} with the path {host.path!r}")


def _serves(host: HostPath, candidate: Unstructured, lister: Lister) -> bool:
    """Whether an Ingress or HTTPRoute of the UserStorage serves the host already. The UserStorage then keeps the host."""
    return host in _served_hosts(candidate, lister)


def _served_hosts(raw: Unstructured, lister: Lister) -> Iterator[HostPath]:
    children, uid = children_of(raw, lister), raw["metadata"]["uid"]
    served = (served_host(child) for kind in EXPOSURE if (child := children.owned(kind, uid)) is not None)
    return (host for host in served if host is not None)


class HostIndex:
    """Index of the UserStorages that want each host name and URL path: their class gives it to them."""

    def __init__(self, lister: Lister, user_ids: UserIDIndex) -> None:
        self._lister = lister
        self._user_ids = user_ids
        self._host_of: dict[Key, HostPath] = {}
        self._keys_of: dict[HostPath, set[Key]] = {}

    def update(self, raw: Unstructured, *, exists: bool) -> set[Key]:
        """Index a UserStorage again, after a change of itself, of its class, or of the owner of its user id.

        Return the other UserStorages that want the previous or the new host name and URL path of this one.
        """
        key = Key.of(raw)
        host = self._wanted_host(raw) if exists else None
        if self._host_of.get(key) == host:
            return set()
        affected = self.affected_keys(key)
        if (previous := self._host_of.pop(key, None)) is not None:
            self._keys_of[previous].discard(key)
            if not self._keys_of[previous]:
                del self._keys_of[previous]
        if host is not None:
            self._host_of[key] = host
            self._keys_of.setdefault(host, set()).add(key)
        return affected | self.affected_keys(key)

    def affected_keys(self, key: Key) -> set[Key]:
        """Return the other UserStorages that want the same host name and URL path as the UserStorage `key`."""
        host = self._host_of.get(key)
        return self._keys_of[host] - {key} if host is not None else set()

    def _wanted_host(self, raw: Unstructured) -> HostPath | None:
        """Return the host and path that the class gives to `raw`, or that it serves if its class is missing; None if `raw` does not
        own its user id.
        """
        if choose_class((raw.get("spec") or {}).get("className"), self._lister.classes()) is not None:
            host = wanted_host(raw, self._lister.classes())
        else:
            host = next(_served_hosts(raw, self._lister), None)  # Ingress and HTTPRoute stay while the class is missing
        return host if host is not None and self._user_ids.is_owner(raw) else None
