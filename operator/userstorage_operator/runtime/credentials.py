"""Address and credentials of the API server, in a form that kopf can use."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Credentials:
    """The address of the API server, the paths of PEM files, and the bearer token without the word `Bearer`."""

    server: str
    ca_path: str | None
    certificate_path: str | None
    private_key_path: str | None
    token: str | None
    insecure: bool
