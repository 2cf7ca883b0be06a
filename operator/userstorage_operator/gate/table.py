"""The table of the gate: for each UserStorage who owns it, at which host and path it is served, and whether it is Ready."""

import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import TypeVar

from userstorage_operator.api import names, reasons
from userstorage_operator.api.errors import InvalidSpec
from userstorage_operator.api.unstructured import Unstructured
from userstorage_operator.api.userstorage import Key, UserStorage
from userstorage_operator.api.userstorageclass import UserStorageClass, class_in_effect
from userstorage_operator.plan.exposure import HostPath, host_path

T = TypeVar("T")

_MESSAGE_MAX = 512
_SCHEME = re.compile(r"https?://")
_WITHOUT_PLACE = frozenset({"HostConflict", "Pending"})
"""Reasons of NetworkReady with which a UserStorage is not served at the host of its class, or not yet."""


@dataclass(frozen=True, slots=True)
class Row:
    """What the gate knows about one UserStorage."""

    key: Key
    uid: str
    user_id: str
    slug: str
    header: str
    """`auth.headerName` of the class."""
    place: HostPath | None
    """Where it is served; None if nowhere outside of the cluster, or not yet."""
    phase: str
    ready: bool
    reason: str
    """Reason of the condition Ready, and its message."""
    message: str
    stopped: bool
    """Whether `spec.replicas` is 0."""
    deleting: bool
    since: float
    """When the gate saw `ready` change to its value: seconds of a monotonic clock."""


def slim(raw: Unstructured) -> Unstructured:
    """Return the part of a raw UserStorage that the table is built from: tenants can fill the rest with much text."""
    meta, spec, status = raw["metadata"], raw.get("spec") or {}, raw.get("status") or {}
    conditions = [
        {field: condition.get(field) for field in ("type", "status", "reason", "observedGeneration")}
        | {"message": condition.get("message", "")[:_MESSAGE_MAX] if condition["type"] == reasons.READY else ""}
        for condition in status.get("conditions") or ()
        if condition["type"] in (reasons.READY, reasons.NETWORK_READY)
    ]
    return {
        "metadata": _fields(meta, "namespace", "name", "uid", "resourceVersion", "generation", "deletionTimestamp"),
        "spec": _fields(spec, "userID", "className", "replicas"),
        "status": _fields(status, "phase", "url") | {"conditions": conditions},
    }


def _fields(raw: Unstructured, *wanted: str) -> Unstructured:
    return {field: raw[field] for field in wanted if field in raw}


class Table:
    """All rows, found by host or by namespace and slug. A UserStorage whose spec or class cannot be read has no row."""

    def __init__(self) -> None:
        self._rows: dict[Key, Row] = {}
        self._by_host: dict[str, dict[Key, Row]] = {}
        self._by_slug: dict[tuple[str, str], dict[Key, Row]] = {}
        self._classes: dict[str | None, UserStorageClass | None] = {}
        """`spec.className` -> the class that it means, parsed; None if there is none that can be read."""

    def __len__(self) -> int:
        return len(self._rows)

    def at_host(self, host: str) -> Collection[Row]:
        """Return the rows of a host name in canonical form."""
        return self._by_host.get(host, {}).values()

    def named(self, namespace: str, slug: str) -> Row | None:
        """Return the row of a user; None if there is none.

        If several UserStorages of the namespace have the user id, one of them is served: the others are not Ready.
        """
        rows = self._by_slug.get((namespace, slug), {}).values()
        return min(rows, key=lambda row: (not row.ready, row.key.name), default=None)

    def classes_changed(self) -> None:
        """Forget the parsed classes. The caller then updates every UserStorage."""
        self._classes.clear()

    def update(self, key: Key, raw: Unstructured | None, classes: Iterable[Unstructured], now: float) -> None:
        """Replace the row of a UserStorage; `raw` is None if it does not exist any more. `now` is from a monotonic clock."""
        previous = self._rows.pop(key, None)
        if previous is not None:
            _discard(self._by_slug, (key.namespace, previous.slug), key)
            if previous.place is not None:
                _discard(self._by_host, previous.place.host, key)
        row = self._row(raw, classes, previous, now) if raw is not None else None
        if row is None:
            return
        self._rows[key] = row
        self._by_slug.setdefault((key.namespace, row.slug), {})[key] = row
        if row.place is not None:
            self._by_host.setdefault(row.place.host, {})[key] = row

    def _row(self, raw: Unstructured, classes: Iterable[Unstructured], previous: Row | None, now: float) -> Row | None:
        cls = self._class((raw.get("spec") or {}).get("className"), classes)
        if cls is None:
            return None
        try:
            storage = UserStorage.parse(raw)
            place = host_path(storage, cls)
        except InvalidSpec:
            return None
        if not names.is_user_id(storage.user_id):
            return None
        same = previous if previous is not None and previous.uid == storage.meta.uid else None
        if place is not None:
            place = _given(raw, storage, place, same.place if same is not None else None)
        status = raw.get("status") or {}
        condition = _condition(raw, reasons.READY)
        ready = condition.get("status") == "True"
        return Row(
            key=storage.meta.key,
            uid=storage.meta.uid,
            user_id=storage.user_id,
            slug=storage.slug,
            header=cls.auth_header,
            place=place,
            phase=status.get("phase", ""),
            ready=ready,
            reason=condition.get("reason") or "",
            message=condition.get("message") or "",
            stopped=storage.suspended,
            deleting=storage.is_deleting,
            since=same.since if same is not None and same.ready is ready else now,
        )

    def _class(self, name: str | None, classes: Iterable[Unstructured]) -> UserStorageClass | None:
        if name not in self._classes:
            try:
                self._classes[name] = class_in_effect(name, classes)
            except InvalidSpec:
                self._classes[name] = None
        return self._classes[name]


def _discard(index: dict[T, dict[Key, Row]], value: T, key: Key) -> None:
    del index[value][key]
    if not index[value]:
        del index[value]


def _given(raw: Unstructured, storage: UserStorage, wanted: HostPath, previous: HostPath | None) -> HostPath | None:
    """Return the place that the operator has given to this UserStorage: `wanted`, that of its class, or `previous`, that of its
    former row, if it has not been moved yet. None if it has neither.

    After a change of the spec that is so once the operator has reported on it: with another class, the host may be that of
    another user. `status.url` alone never gives a place, since it follows an Ingress that a tenant may edit for a moment.
    """
    network = _condition(raw, reasons.NETWORK_READY)
    if not network or network.get("reason") in _WITHOUT_PLACE:
        return None
    url = _SCHEME.sub("", (raw.get("status") or {}).get("url") or "", count=1)
    outside = url and not url.startswith(f"{names.child_name(storage.slug)}.{storage.meta.namespace}.svc/")
    if outside and url != f"{wanted.host}{wanted.path}":
        return previous if previous is not None and url == f"{previous.host}{previous.path}" else None
    is_current = network.get("observedGeneration", 0) == storage.meta.generation
    return wanted if is_current or wanted == previous else None


def _condition(raw: Unstructured, kind: str) -> Unstructured:
    conditions = (raw.get("status") or {}).get("conditions") or ()
    return next((condition for condition in conditions if condition.get("type") == kind), {})
