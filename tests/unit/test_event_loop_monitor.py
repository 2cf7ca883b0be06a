"""How late the event loop is, by a clock of the test's own."""

from userstorage_operator.runtime.event_loop_monitor import EventLoopMonitor


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def beats(watch: EventLoopMonitor, clock: Clock, *, late: float, seconds: float) -> None:
    """As `run` does, on a loop whose timers all come too late by so much."""
    until = clock.now + seconds
    while clock.now < until:
        watch._expected = clock.now + 0.5
        clock.now += 0.5 + late
        watch.tick()


def test_a_loop_on_time_has_no_lag() -> None:
    clock = Clock()
    watch = EventLoopMonitor(clock)
    beats(watch, clock, late=0, seconds=30)
    assert (watch.lag(), watch.late_for()) == (0, 0)


def test_the_largest_delay_is_told_for_a_minute() -> None:
    clock = Clock()
    watch = EventLoopMonitor(clock)
    beats(watch, clock, late=0.7, seconds=1)
    beats(watch, clock, late=0.2, seconds=50)
    assert round(watch.lag(), 3) == 0.7
    beats(watch, clock, late=0.2, seconds=12)
    assert round(watch.lag(), 3) == 0.2


def test_a_beat_that_is_overdue_counts_before_it_comes() -> None:
    clock = Clock()
    watch = EventLoopMonitor(clock)
    beats(watch, clock, late=0, seconds=5)
    clock.now += 8
    assert watch.lag() >= 8


def test_a_loop_that_crawls_is_late_until_it_is_on_time_again() -> None:
    clock = Clock()
    watch = EventLoopMonitor(clock)
    beats(watch, clock, late=0, seconds=5)
    beats(watch, clock, late=1.5, seconds=70)
    assert watch.late_for() >= 70
    beats(watch, clock, late=0, seconds=1)
    assert watch.late_for() == 0
