"""What can be set from outside; each is a flag and an environment variable (see cli.py)."""

from dataclasses import dataclass
from enum import StrEnum

from userstorage_operator.redis_cache.settings import RedisSettings


class VolumeStats(StrEnum):
    """Whether kubelets are asked how full volumes are, and what certificate they have to show."""

    OFF = "off"
    VERIFIED = "verified"
    """One that the authority of the API server has signed."""
    UNVERIFIED = "unverified"
    """Any."""


@dataclass(frozen=True, slots=True)
class Config:
    """Settings of `userstorage-operator run`."""

    namespaces: tuple[str, ...] = ()
    """Namespaces to serve; empty for all."""
    http_port: int = 8080
    """Port of /health, /ready, /metrics and the read API; 0 for none."""
    workers: int = 32
    """Passes at the same time."""
    sweep_period: float = 300.0
    """Seconds between sweeps."""
    leader_elect: bool = False
    """Watch and write only while holding the lease; without, at once: for a process that has no other beside it."""
    lease_namespace: str = "userstorage-system"
    """Where the lease is, and the account that kubelets get to see."""
    api_audiences: tuple[str, ...] = ()
    """Audiences of which a token for the read API or the metrics has to name one; empty for that of the API server."""
    metrics_auth: bool = False
    """Whether /metrics is told only to those who may get that path."""
    volume_stats: VolumeStats = VolumeStats.OFF
    """How full volumes are, for the status and the metrics."""
    otlp_endpoint: str = ""
    """URL of an OpenTelemetry collector that takes OTLP over HTTP; empty to trace nothing."""
    redis: RedisSettings | None = None
    """Where Redis is; None to do without."""

    @property
    def scopes(self) -> tuple[str | None, ...]:
        """Namespaces as list and watch want them: None for all at once."""
        return self.namespaces or (None,)
