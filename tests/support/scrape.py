"""What a scrape of one operator process may contain."""

SERIES_BUDGET = 330
"""Maximum number of series of one process. It does not depend on the number of users."""


def series_names(text: str) -> list[str]:
    """Return the names, with labels, of all series in a scrape, sorted."""
    return sorted(line.rpartition(" ")[0] for line in text.splitlines() if not line.startswith("#"))
