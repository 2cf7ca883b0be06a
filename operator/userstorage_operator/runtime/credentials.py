"""The address of the API server and the credentials for it: what `kube.login` returns and kopf's login needs."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Credentials:
    """The URL of the API server, the paths of PEM files, and the bearer token without the word `Bearer`; None if not used.
    `insecure` turns off the verification of the API server's certificate.
    """

    server: str
    ca_path: str | None
    certificate_path: str | None
    private_key_path: str | None
    token: str | None
    insecure: bool
