"""Times as the Kubernetes API writes them: RFC 3339, UTC, whole seconds where nothing else is asked for."""

from datetime import UTC, datetime


def parse_time(text: str) -> datetime:
    """`2026-01-31T12:00:00Z` (also with fractions of a second) as an aware datetime."""
    return datetime.fromisoformat(text)


def format_time(moment: datetime) -> str:
    """The inverse; fractions are cut, as metav1.Time does."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def format_precise_time(moment: datetime) -> str:
    """With exactly the six decimals that metav1.MicroTime takes."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
