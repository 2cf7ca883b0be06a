"""The one form in which the gate compares host names."""

import re

_PORT = re.compile(r"[0-9]{1,5}")
_HOST = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
_HOST_MAX = 253


def canonical(text: str) -> str | None:
    """Return a host name as gateways compare it: in lower case, without a port, without the dot at its end.

    None for anything but one DNS name: chains (`a, b`), user names, IPv6 addresses, empty labels, characters outside of ASCII.
    A name that a gateway could read in another way than the gate must not be found in the table.
    """
    name, colon, port = text.partition(":")
    if not text.isascii() or (colon and _PORT.fullmatch(port) is None):
        return None
    name = name.removesuffix(".").lower()
    return name if len(name) <= _HOST_MAX and _HOST.fullmatch(name) is not None else None
