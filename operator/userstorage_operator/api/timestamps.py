"""Times as text, as in the Kubernetes API: RFC 3339, UTC, in whole seconds unless microseconds are required."""

from datetime import UTC, datetime


def parse_time(text: str) -> datetime:
    """Parse a time such as `2026-01-31T12:00:00Z`, with or without fractions of a second, into an aware datetime."""
    return datetime.fromisoformat(text)


def format_time(moment: datetime) -> str:
    """Format `moment` as metav1.Time: in UTC, with fractions of a second cut off."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def format_precise_time(moment: datetime) -> str:
    """Format `moment` as metav1.MicroTime: in UTC, with exactly six decimals."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
