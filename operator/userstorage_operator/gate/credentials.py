"""Proof and identity of a question, which are one header: `Authorization: Basic base64(user:key)`.

The proxy that has authenticated the user sends it on the path of the decision. A client cannot forge it, because it has no key,
and headers of clients that a gateway forwards cannot trick the gate.
"""

import base64
import binascii
import hmac
from collections.abc import Sequence
from dataclasses import dataclass

_KEY_MIN = 32
_KEYS_MAX = 2
_USER_MAX = 256
"""One character more than a user id can have. The rest of a longer name is in no log and no memory."""


class BadKeys(Exception):
    """The key file has no usable key."""


def parse_keys(text: str) -> tuple[bytes, ...]:
    """Return the first two keys of a key file, which has one in each line. Raises BadKeys if a key is too short, or if none is there.

    A key has at least 32 characters, all of them printable ASCII without spaces and colons: the colon ends the user name.
    """
    keys = [line.strip() for line in text.splitlines() if line.strip()][:_KEYS_MAX]
    if not keys:
        raise BadKeys("no key; write one key a line, of 32 characters or more")
    for number, key in enumerate(keys, start=1):
        if len(key) < _KEY_MIN:
            raise BadKeys(f"key {number} has {len(key)} characters, and must have {_KEY_MIN} or more")
        if not all("!" <= char <= "~" for char in key) or ":" in key:
            raise BadKeys(f"key {number} has a space, a colon or a character that is not printable ASCII")
    return tuple(key.encode() for key in keys)


@dataclass(frozen=True, slots=True)
class Identity:
    """What the header Authorization of a question proves."""

    proved: bool
    """Whether the header has one of the keys."""
    user: str = ""
    """The user name that the proxy states; empty if there is none, or no proof."""


def identity(authorization: Sequence[str], keys: Sequence[bytes]) -> Identity:
    """Return what the values of the header Authorization prove; nothing unless there is exactly one."""
    if len(authorization) != 1:
        return Identity(proved=False)
    scheme, _, encoded = authorization[0].partition(" ")
    if scheme.lower() != "basic":
        return Identity(proved=False)
    try:
        decoded = base64.b64decode(encoded.strip(), validate=True)
    except (binascii.Error, ValueError):
        return Identity(proved=False)
    user, _, key = decoded.rpartition(b":")  # not the first colon: user ids such as `auth0:5f7c` have colons, keys have none
    matches = [hmac.compare_digest(key, known) for known in keys]
    if not any(matches):
        return Identity(proved=False)
    return Identity(proved=True, user=user[:_USER_MAX].decode(errors="replace"))
