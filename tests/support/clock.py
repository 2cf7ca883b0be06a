"""A clock that a test sets."""


class FakeClock:
    """Stands in for `time.monotonic`, which is called, and for the module `time`. `now` is the time that it shows."""

    def __init__(self, now: float = 100.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now

    def monotonic(self) -> float:
        return self.now
