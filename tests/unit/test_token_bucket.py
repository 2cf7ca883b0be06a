"""The rate that a token bucket admits."""

from support.clock import FakeClock
from userstorage_operator.runtime.token_bucket import TokenBucket


def test_burst_is_admitted_and_then_the_rate() -> None:
    clock = FakeClock()
    bucket = TokenBucket(rate=2, burst=3, clock=clock)
    assert [bucket.try_accept() for _ in range(5)] == [True, True, True, False, False]
    clock.now += 0.4
    assert not bucket.try_accept()
    clock.now += 0.1
    assert bucket.try_accept()
    assert not bucket.try_accept()
    clock.now += 3600
    assert [bucket.try_accept() for _ in range(5)] == [True, True, True, False, False]
