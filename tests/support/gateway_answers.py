"""What the gateways answer, as the tests of gateways assert it and docs/gateways.md shows it."""

from collections.abc import Mapping
from dataclasses import dataclass

ALICES = 200
"""The code with which alice gets her own files."""
HOST_CODES = {
    "as it is": (ALICES, ALICES, ALICES),
    "in capitals": (ALICES, ALICES, ALICES),
    "with the port": (ALICES, ALICES, ALICES),
    "with another port": (ALICES, ALICES, ALICES),
    "with no number as port": (ALICES, 403, 404),
    "with a dot at the end": (ALICES, 421, ALICES),
    "with two dots at the end": (400, 421, 404),
    "with a dot and a port": (ALICES, 421, ALICES),
    "before an @": (421, 400, 404),
    "after an @": (421, 400, 404),
    "with a list": (400, 400, 400),
    "with a tab": (400, ALICES, ALICES),
    "with a space inside": (400, 400, 400),
    "with a percent sign": (421, 421, 404),
    "with a path": (400, 400, 400),
    "with a backslash": (421, 400, 400),
    "in other letters": (421, 400, 400),
    "in Punycode": (403, 403, 404),
    "of a label more": (421, 421, 404),
    "of a label less": (421, 421, 404),
    "IPv6": (421, 421, 404),
    "IPv4": (421, 421, 404),
    "empty": (400, 400, 404),
    "missing": (400, 400, 400),
    "missing, HTTP/1.0": (421, 421, 426),
    "twice": (400, 400, 404),
    "twice the same": (400, 400, 404),
    "absolute line, other Host": (ALICES, ALICES, ALICES),
    "other absolute line": (403, 403, 403),
    "absolute line of http": (ALICES, ALICES, ALICES),
    "absolute line with a user": (400, ALICES, ALICES),
}
"""Ways to write alice's host -> what alice gets of nginx, Caddy and Envoy."""

AUTHORITY_CODES = {
    "as it is": (ALICES, ALICES),
    "in capitals": (ALICES, ALICES),
    "with a dot at the end": (421, ALICES),
    "before an @": (0, 0),
    "after an @": (0, 0),
    "with another Host": (0, ALICES),
    "in Host only": (ALICES, ALICES),
    "in Host, another before": (0, 403),
    "twice": (0, 0),
    "twice in Host": (0, 0),
    "missing": (421, 0),
}
"""Ways to write alice's host in HTTP/2 -> what alice gets of Caddy and Envoy; 0 if they reset the stream."""


@dataclass(frozen=True)
class Outage:
    """What happens while a part is away."""

    refusal: Mapping[str, int] | None
    """Gateway -> the code that both alice and bob get; None if alice has her files, and bob gets 403."""
    can_log_in: bool


NO_ANSWER = {"nginx": 500, "caddy": 502, "envoy": 403}
"""Gateway -> code if the gate or the login proxy refuses the connection."""
LATE_ANSWER = {**NO_ANSWER, "caddy": 504}
"""Gateway -> code if it does not answer in time."""
OUTAGES = {
    "gate killed": Outage(NO_ANSWER, can_log_in=True),
    "gate hung": Outage(LATE_ANSWER, can_log_in=True),
    "oauth2-proxy killed": Outage(NO_ANSWER, can_log_in=False),
    "oauth2-proxy hung": Outage(LATE_ANSWER, can_log_in=False),
    "provider killed": Outage(None, can_log_in=False),
    "provider hung": Outage(None, can_log_in=False),
    "operator killed": Outage(None, can_log_in=True),
    "API server killed": Outage(None, can_log_in=True),
    "API server hung": Outage(None, can_log_in=True),
}
WAITING = {"nginx": 503, "caddy": 503, "envoy": 429}
"""Gateway -> code of the page for the owner of a pod that is not Ready."""
