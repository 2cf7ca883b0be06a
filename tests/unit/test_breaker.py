"""The circuit breaker: closed, half open and open."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from userstorage_operator.redis_cache.breaker import FAILURES, FIRST_PAUSE, JITTER, LONGEST_PAUSE, Breaker, State


class Clock:
    def __init__(self, spread: float = 0.0) -> None:
        self.now = 100.0
        self.breaker = Breaker(lambda: self.now, lambda: spread)

    def state(self) -> State:
        return self.breaker.state

    def call(self, *, good: bool) -> bool:
        """Make a call. Return whether it was admitted."""
        era = self.breaker.admit()
        if era is None:
            return False
        (self.breaker.succeeded if good else self.breaker.failed)(era)
        return True

    def open(self) -> None:
        for _ in range(FAILURES):
            assert self.call(good=False)
        assert self.state() is State.OPEN


def test_breaker_opens_after_five_consecutive_failures_and_not_before() -> None:
    clock = Clock()
    for good in (False, False, False, False, True) * 3:
        assert clock.call(good=good)
    assert clock.state() is State.CLOSED
    clock.open()


def test_open_breaker_admits_one_probe_after_its_pause() -> None:
    clock = Clock()
    clock.open()
    clock.now += FIRST_PAUSE - 0.01
    assert clock.breaker.admit() is None
    clock.now += 0.01
    probe = clock.breaker.admit()
    assert probe is not None
    assert clock.state() is State.HALF_OPEN
    assert clock.breaker.admit() is None
    clock.breaker.succeeded(probe)
    assert clock.state() is State.CLOSED
    assert clock.breaker.admit() is not None


def test_pause_doubles_up_to_its_limit_and_is_reset_by_a_success() -> None:
    clock = Clock()
    clock.open()
    pauses = []
    for _ in range(8):
        start = clock.now
        while not clock.call(good=False):
            clock.now += 0.25
        pauses.append(clock.now - start)
    assert pauses == [0.5, 1, 2, 4, 8, 15, 15, 15]
    clock.now += LONGEST_PAUSE
    assert clock.call(good=True)
    clock.open()
    clock.now += FIRST_PAUSE
    assert clock.call(good=True)


@given(st.floats(-1, 1))
def test_jitter_is_a_fraction_of_the_pause(spread: float) -> None:
    clock = Clock(spread)
    clock.open()
    clock.now += FIRST_PAUSE * (1 - JITTER) - 0.001
    assert not clock.call(good=True)
    clock.now += FIRST_PAUSE * 2 * JITTER + 0.002
    assert clock.call(good=True)


def test_next_call_replaces_an_abandoned_probe() -> None:
    clock = Clock()
    clock.open()
    clock.now += FIRST_PAUSE
    probe = clock.breaker.admit()
    assert probe is not None
    clock.breaker.abandoned(probe)
    assert clock.call(good=True)
    assert clock.state() is State.CLOSED


@pytest.mark.parametrize("good", [True, False])
def test_outcome_of_a_call_from_before_the_opening_is_ignored(good: bool) -> None:
    clock = Clock()
    late = clock.breaker.admit()
    assert late is not None
    clock.open()
    clock.now += FIRST_PAUSE
    assert clock.breaker.admit() is not None
    (clock.breaker.succeeded if good else clock.breaker.failed)(late)
    assert clock.state() is State.HALF_OPEN


@given(st.lists(st.sampled_from(["good", "bad", "lost", "wait"]), max_size=200))
def test_breaker_closes_within_the_longest_pause_once_the_server_serves(steps: list[str]) -> None:
    clock = Clock(1.0)
    for step in steps:
        if step == "wait":
            clock.now += 1.0
        elif (era := clock.breaker.admit()) is not None:
            outcome = {"good": clock.breaker.succeeded, "bad": clock.breaker.failed, "lost": clock.breaker.abandoned}
            outcome[step](era)
    clock.now += LONGEST_PAUSE * (1 + JITTER)
    assert clock.call(good=True)
    assert clock.state() is State.CLOSED


@given(st.integers(2, 50))
def test_concurrent_failures_open_the_breaker_once(together: int) -> None:
    clock = Clock()
    eras = [clock.breaker.admit() for _ in range(together + FAILURES)]
    for era in eras:
        assert era is not None
        clock.breaker.failed(era)
    clock.now += FIRST_PAUSE
    assert clock.call(good=True), "the pause grew by failures of the same moment"
