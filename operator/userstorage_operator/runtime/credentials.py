"""How to reach the API server, in a form that both clients can be given."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Credentials:
    """Paths of files, and a token without its scheme."""

    server: str
    ca_path: str | None
    certificate_path: str | None
    private_key_path: str | None
    token: str | None
    insecure: bool
