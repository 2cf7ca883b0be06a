"""Contests: another client changes, deletes or creates an object again, each time that the operator has written it."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any

from userstorage_operator.api import names
from userstorage_operator.api.names import FIELD_MANAGER
from userstorage_operator.api.resources import Kind
from userstorage_operator.api.unstructured import Unstructured

REPORTED_FROM = 3
"""Writes in quick succession from which a contest is reported: a person who edits a child twice contests nothing."""


@dataclass(frozen=True, slots=True)
class Contest:
    """An object that the operator writes only after growing pauses, because each write was undone."""

    kind: Kind | None
    """None: the UserStorage itself."""
    message: str
    """Who undid the writes, if managedFields names it, and how often."""


class Undone(Enum):
    """How a write was undone. The value has the words for it, for its repair, and for the next repair."""

    CHANGED = ("changing {} back", "repaired", "repair")
    DELETED = ("deleting {}", "created again", "creation")
    FINALIZER_REMOVED = ("removing the operator's finalizer from {}", "added again", "addition")
    CREATED = ("creating {} again, which is not needed any more", "deleted", "deletion")


def describe(kind: Kind | None, undone: Undone, manager: str | None, count: int) -> str:
    """Return the message of a contest after `count` repairs of a child, or of the UserStorage itself if `kind` is None.

    `manager` is None if managedFields names no other client.
    """
    act, repaired, repair = undone.value
    who, note = f"field manager {manager!r}" if manager else "another client", ""
    noun = kind.resource.kind if kind is not None else names.KIND
    if undone in (Undone.DELETED, Undone.FINALIZER_REMOVED):
        note = f"; the API server does not record who {'deletes' if undone is Undone.DELETED else 'removes a field'}"
    elif manager is None:
        note = "; managedFields does not name it, it may be an admission webhook"
    return (
        f"{who} keeps {act.format(f'the {noun}')}: it was {repaired} {count} times in quick succession;"
        f" the next {repair} comes after a pause{note}"
    )


def last_manager(live: Unstructured, patch: Unstructured) -> str | None:
    """Return the field manager, other than ours, that was the last to write one of the fields in `patch`; None if managedFields
    shows none: a removed field has no manager, and admission webhooks write in the name of the client.
    """
    writers = [
        (str(entry.get("time", "")), str(entry.get("manager", "")))
        for entry in live["metadata"].get("managedFields") or ()
        if entry.get("manager") != FIELD_MANAGER and _owns_any(entry.get("fieldsV1") or {}, patch)
    ]
    return max(writers)[1] if writers else None


def _owns_any(fields: Mapping[str, Any], patch: Mapping[str, Any]) -> bool:
    """Whether `fields` (of the format FieldsV1) has one of the fields of a merge patch. A map without fields is owned whole."""
    for key, value in patch.items():
        owned = fields.get(f"f:{key}")
        if owned is not None and (not owned or not isinstance(value, dict) or _owns_any(owned, value)):
            return True
    return False
