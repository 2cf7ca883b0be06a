"""The exception that this package raises."""


class ClusterError(Exception):
    """A failure that a person can act on. The message is one line: what is wrong, and what to do about it."""
