"""Tries are remembered as long as they matter, and no longer: every user that starts leaves some."""

from datetime import UTC, datetime, timedelta

from userstorage_operator.observed.backoff import FORGOTTEN_AFTER
from userstorage_operator.reconcile.backoff import Backoff

START = datetime(2026, 1, 31, 12, tzinfo=UTC)


class Clock:
    def __init__(self) -> None:
        self.now = START

    def __call__(self) -> datetime:
        return self.now


def test_tries_are_forgotten_after_their_pauses() -> None:
    clock = Clock()
    backoff: Backoff[str] = Backoff(clock)
    for number in range(1000):
        backoff.record_try(f"user-{number}", goal=number)
        clock.now += timedelta(seconds=1)
    assert len(backoff._states) == FORGOTTEN_AFTER.total_seconds() + 1
    assert backoff.state("user-999").goal == 999
    assert backoff.state("user-0").goal is None


def test_a_key_that_is_tried_again_and_again_keeps_its_count() -> None:
    clock = Clock()
    backoff: Backoff[str] = Backoff(clock)
    for count in range(1, 20):
        assert backoff.record_try("alice").count == count
        until = backoff.blocked_until("alice")
        assert until is not None
        backoff.record_try("bob", goal=count)
        clock.now = until


def test_the_cause_of_a_loss_is_kept_with_the_count() -> None:
    clock = Clock()
    backoff: Backoff[str] = Backoff(clock)
    backoff.record_try("alice")
    backoff.record_loss("alice", "OOMKilled")
    state = backoff.state("alice")
    assert (state.count, state.last_loss) == (1, "OOMKilled")
