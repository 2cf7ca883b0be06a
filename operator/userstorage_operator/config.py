"""The settings of the operator; each is a command line flag and an environment variable (see cli.py)."""

from dataclasses import dataclass
from enum import StrEnum

from userstorage_operator.redis_cache.settings import RedisSettings


class VolumeStats(StrEnum):
    """Whether the usage of volumes is read from kubelets, and which certificates of kubelets are accepted."""

    OFF = "off"
    VERIFIED = "verified"
    """Accept only kubelet certificates that are signed by the CA of the API server."""
    UNVERIFIED = "unverified"
    """Accept any kubelet certificate."""


@dataclass(frozen=True, slots=True)
class Config:
    """Settings of `userstorage-operator run`."""

    namespaces: tuple[str, ...] = ()
    """Namespaces to serve; empty for all."""
    http_port: int = 8080
    """Port of /health, /ready, /metrics and the read API; 0 to serve none of them."""
    workers: int = 32
    """Number of concurrent reconciles of UserStorages."""
    sweep_period: float = 300.0
    """Seconds between two sweeps."""
    leader_elect: bool = False
    """Whether to watch and write only while holding the lease. False is for a process without other replicas."""
    lease_namespace: str = "userstorage-system"
    """Namespace of the lease, and of the service account for requests to kubelets."""
    api_audiences: tuple[str, ...] = ()
    """Accepted audiences of tokens for the read API and the metrics; empty for that of the API server."""
    metrics_auth: bool = False
    """Whether requests to /metrics need a bearer token of an account with the right to get that URL path."""
    volume_stats: VolumeStats = VolumeStats.OFF
    """Whether the usage of volumes is read from kubelets, for the status and the metrics."""
    otlp_endpoint: str = ""
    """URL of an OpenTelemetry collector that accepts OTLP over HTTP; empty for no traces."""
    redis: RedisSettings | None = None
    """Connection to Redis; None to run without Redis."""

    @property
    def scopes(self) -> tuple[str | None, ...]:
        """The namespaces to list and watch, each by its own requests; (None,) to list and watch all namespaces at once."""
        return self.namespaces or (None,)
