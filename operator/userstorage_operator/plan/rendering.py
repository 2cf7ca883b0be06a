"""The desired children of a UserStorage, kept for its next reconciles: a start takes five, which all desire the same."""

from dataclasses import replace

from cachetools import TTLCache

from userstorage_operator import browsers
from userstorage_operator.api.userstorage import UserStorage
from userstorage_operator.api.userstorageclass import UserStorageClass
from userstorage_operator.plan.builders import Desired, build

_Input = tuple[UserStorage, UserStorageClass, bool, str | None]
KEPT_SECONDS = 300.0
"""Longer than most starts. Without an end, the children of 256 users that are long gone would be kept."""
_KEPT: TTLCache[str, tuple[_Input, Desired]] = TTLCache(256, KEPT_SECONDS)
"""uid of a UserStorage -> what its children were last rendered from, and these: 7 MiB at most. No decision depends on whether an
entry is there, so plans stay pure.
"""


def render(storage: UserStorage, cls: UserStorageClass, *, exposed: bool, granted: str | None) -> Desired:
    """Return the desired children, as `browsers.render` and `build` make them, with their arguments. They are shared between
    reconciles: do not change them. Raises InvalidSpec as these do.
    """
    # Without what changes in a start: an input that differs in the rest is rendered again.
    meta = replace(storage.meta, generation=0, resource_version="", finalizers=(), paused=None, deleted_at=None)
    storage = replace(storage, meta=meta)
    granted = granted if cls.max_size is not None else None  # only a limit makes it matter
    asked = (storage, cls, exposed, granted)
    known = _KEPT.get(meta.uid)
    if known is not None and known[0] == asked:
        return known[1]
    desired = build(storage, cls, browsers.render(storage, cls), exposed=exposed, granted=granted)
    _KEPT[meta.uid] = (asked, desired)
    return desired
