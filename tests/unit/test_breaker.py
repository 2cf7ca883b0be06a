"""The circuit breaker: closed, half open and open."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from support.clock import FakeClock
from userstorage_operator.redis_cache.breaker import FAILURES, FIRST_PAUSE, JITTER, LONGEST_PAUSE, Breaker, State


class Caller:
    """Calls Redis through a breaker, on a fake clock."""

    def __init__(self, spread: float = 0.0) -> None:
        self.clock = FakeClock()
        self.breaker = Breaker(self.clock, lambda: spread)

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
    caller = Caller()
    for good in (False, False, False, False, True) * 3:
        assert caller.call(good=good)
    assert caller.state() is State.CLOSED
    caller.open()


def test_open_breaker_admits_one_probe_after_its_pause() -> None:
    caller = Caller()
    caller.open()
    caller.clock.now += FIRST_PAUSE - 0.01
    assert caller.breaker.admit() is None
    caller.clock.now += 0.01
    probe = caller.breaker.admit()
    assert probe is not None
    assert caller.state() is State.HALF_OPEN
    assert caller.breaker.admit() is None
    caller.breaker.succeeded(probe)
    assert caller.state() is State.CLOSED
    assert caller.breaker.admit() is not None


def test_pause_doubles_up_to_its_limit_and_is_reset_by_a_success() -> None:
    caller = Caller()
    caller.open()
    pauses = []
    for _ in range(8):
        start = caller.clock.now
        while not caller.call(good=False):
            caller.clock.now += 0.25
        pauses.append(caller.clock.now - start)
    assert pauses == [0.5, 1, 2, 4, 8, 15, 15, 15]
    caller.clock.now += LONGEST_PAUSE
    assert caller.call(good=True)
    caller.open()
    caller.clock.now += FIRST_PAUSE
    assert caller.call(good=True)


@given(st.floats(-1, 1))
def test_jitter_is_a_fraction_of_the_pause(spread: float) -> None:
    caller = Caller(spread)
    caller.open()
    caller.clock.now += FIRST_PAUSE * (1 - JITTER) - 0.001
    assert not caller.call(good=True)
    caller.clock.now += FIRST_PAUSE * 2 * JITTER + 0.002
    assert caller.call(good=True)


def test_next_call_replaces_an_abandoned_probe() -> None:
    caller = Caller()
    caller.open()
    caller.clock.now += FIRST_PAUSE
    probe = caller.breaker.admit()
    assert probe is not None
    caller.breaker.abandoned(probe)
    assert caller.call(good=True)
    assert caller.state() is State.CLOSED


@pytest.mark.parametrize("good", [True, False])
def test_outcome_of_a_call_from_before_the_opening_is_ignored(good: bool) -> None:
    caller = Caller()
    late = caller.breaker.admit()
    assert late is not None
    caller.open()
    caller.clock.now += FIRST_PAUSE
    assert caller.breaker.admit() is not None
    (caller.breaker.succeeded if good else caller.breaker.failed)(late)
    assert caller.state() is State.HALF_OPEN


@given(st.lists(st.sampled_from(["good", "bad", "lost", "wait"]), max_size=200))
def test_breaker_closes_within_the_longest_pause_once_the_server_serves(steps: list[str]) -> None:
    caller = Caller(1.0)
    for step in steps:
        if step == "wait":
            caller.clock.now += 1.0
        elif (era := caller.breaker.admit()) is not None:
            outcome = {"good": caller.breaker.succeeded, "bad": caller.breaker.failed, "lost": caller.breaker.abandoned}
            outcome[step](era)
    caller.clock.now += LONGEST_PAUSE * (1 + JITTER)
    assert caller.call(good=True)
    assert caller.state() is State.CLOSED


@given(st.integers(2, 50))
def test_concurrent_failures_open_the_breaker_once(together: int) -> None:
    caller = Caller()
    eras = [caller.breaker.admit() for _ in range(together + FAILURES)]
    for era in eras:
        assert era is not None
        caller.breaker.failed(era)
    caller.clock.now += FIRST_PAUSE
    assert caller.call(good=True), "the pause grew by failures of the same moment"
