"""The exception that this package raises."""


class ClusterError(Exception):
    """A failure that a person can act on. Its text is one line that says what is wrong and what to do about it."""
