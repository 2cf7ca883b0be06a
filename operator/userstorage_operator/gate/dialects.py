"""The ways in which gateways ask, and the status codes that each of them needs."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Dialect:
    """Where a kind of gateway puts the host, the URI and the method of the request that it asks about."""

    name: str
    host: str
    """Header with the host. No other source of the host is read."""
    uri: str | None
    """Header with the URI; None if the gateway appends the URI to the path of its question."""
    method: str | None
    """Header with the method; None if the question has the method of the request."""
    waiting: int
    """Status for the owner of a file browser that is not Ready."""


AUTH_REQUEST = Dialect("auth-request", "Host", "X-Original-URI", "X-Original-Method", 403)
"""nginx, whose subrequest knows 2xx, 401 and 403 only: the waiting page has a URL of its own."""
DIALECTS: Mapping[str, Dialect] = {
    dialect.name: dialect
    for dialect in (
        AUTH_REQUEST,
        # Traefik and Caddy, which pass the response on as it is.
        Dialect("forward-auth", "X-Forwarded-Host", "X-Forwarded-Uri", "X-Forwarded-Method", 503),
        # Envoy, Envoy Gateway, Istio. Envoy takes 5xx for a failure of the gate, and replaces the response.
        Dialect("ext-authz", "Host", None, None, 429),
    )
}
"""Name, as in the URL path -> dialect."""
