"""The lag of the event loop, on a fake clock."""

from support.clock import FakeClock
from userstorage_operator.runtime.event_loop_monitor import EventLoopMonitor


def tick(monitor: EventLoopMonitor, clock: FakeClock, *, late: float, seconds: float) -> None:
    """Tick as `run` does, on a loop whose timers are all `late` by so many seconds."""
    until = clock.now + seconds
    while clock.now < until:
        monitor._expected = clock.now + 0.5
        clock.now += 0.5 + late
        monitor.tick()


def test_loop_on_time_has_no_lag() -> None:
    clock = FakeClock()
    monitor = EventLoopMonitor(clock)
    tick(monitor, clock, late=0, seconds=30)
    assert (monitor.lag(), monitor.late_for()) == (0, 0)


def test_lag_is_the_largest_delay_of_the_last_minute() -> None:
    clock = FakeClock()
    monitor = EventLoopMonitor(clock)
    tick(monitor, clock, late=0.7, seconds=1)
    tick(monitor, clock, late=0.2, seconds=50)
    assert round(monitor.lag(), 3) == 0.7
    tick(monitor, clock, late=0.2, seconds=12)
    assert round(monitor.lag(), 3) == 0.2


def test_lag_includes_a_tick_that_is_overdue() -> None:
    clock = FakeClock()
    monitor = EventLoopMonitor(clock)
    tick(monitor, clock, late=0, seconds=5)
    clock.now += 8
    assert monitor.lag() >= 8


def test_slow_loop_is_late_until_a_tick_is_on_time() -> None:
    clock = FakeClock()
    monitor = EventLoopMonitor(clock)
    tick(monitor, clock, late=0, seconds=5)
    tick(monitor, clock, late=1.5, seconds=70)
    assert monitor.late_for() >= 70
    tick(monitor, clock, late=0, seconds=1)
    assert monitor.late_for() == 0
