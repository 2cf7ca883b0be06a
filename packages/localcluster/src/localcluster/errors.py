"""What this package raises."""


class ClusterError(Exception):
    """Something a person can act on; its text is one line that says what is wrong and what to do about it."""
