import asyncio

import pytest

from rate_limiter import RateLimiter, spread


class FakeTime:
    """A clock that moves only when someone sleeps on it."""

    def __init__(self):
        self.now = 100.0
        self.naps = []

    def clock(self):
        return self.now

    async def sleep(self, seconds):
        self.naps.append(seconds)
        self.now += seconds


@pytest.fixture
def time():
    return FakeTime()


def limiter(time, rate=2.0, burst=4):
    return RateLimiter(rate, burst, clock=time.clock, sleep=time.sleep)


async def double(number):
    return number * 2


def test_the_bucket_is_full_at_first(time):
    assert limiter(time).tokens == 4


def test_the_bucket_holds_one_token_when_not_told(time):
    assert RateLimiter(2.0, clock=time.clock).burst == 1


def test_a_rate_of_zero_is_refused(time):
    with pytest.raises(ValueError, match="rate must be positive"):
        limiter(time, rate=0)


def test_a_burst_of_zero_is_refused(time):
    with pytest.raises(ValueError, match="burst must be at least 1"):
        limiter(time, burst=0)


def test_a_rate_below_one_is_possible(time):
    assert limiter(time, rate=0.5).rate == 0.5


def test_try_acquire_takes_one_token_when_not_told(time):
    bucket = limiter(time)
    assert bucket.try_acquire() is True
    assert bucket.tokens == 3


def test_try_acquire_can_empty_the_bucket(time):
    assert limiter(time).try_acquire(4) is True


def test_try_acquire_fails_without_enough_tokens(time):
    bucket = limiter(time)
    bucket.try_acquire(3)
    assert bucket.try_acquire(2) is False


def test_a_failed_try_takes_nothing(time):
    bucket = limiter(time)
    bucket.try_acquire(3)
    bucket.try_acquire(2)
    assert bucket.tokens == 1


def test_tokens_come_back_with_time(time):
    bucket = limiter(time)
    bucket.try_acquire(4)
    time.now += 1.5
    assert bucket.tokens == 3


def test_the_bucket_never_holds_more_than_its_burst(time):
    bucket = limiter(time)
    time.now += 60
    assert bucket.tokens == 4


def test_the_same_time_is_not_counted_twice(time):
    bucket = limiter(time)
    bucket.try_acquire(4)
    time.now += 0.5
    assert [bucket.tokens, bucket.tokens] == [1, 1]


def test_acquire_does_not_wait_while_there_are_tokens(time):
    assert asyncio.run(limiter(time).acquire(4)) == 0.0
    assert time.naps == []


def test_acquire_waits_for_what_is_missing(time):
    bucket = limiter(time)
    bucket.try_acquire(4)
    assert asyncio.run(bucket.acquire(3)) == 1.5
    assert time.naps == [1.5]


def test_acquire_takes_its_tokens(time):
    bucket = limiter(time)
    asyncio.run(bucket.acquire())
    assert bucket.tokens == 3


def test_the_waits_are_added_up(time):
    bucket = limiter(time, rate=1.0, burst=1)

    async def three_times():
        for _ in range(3):
            await bucket.acquire()

    asyncio.run(three_times())
    assert bucket.waited == 2.0


def test_acquiring_nothing_is_refused(time):
    with pytest.raises(ValueError, match="count must be at least 1"):
        asyncio.run(limiter(time).acquire(0))


def test_trying_for_nothing_is_refused(time):
    with pytest.raises(ValueError, match="count must be at least 1"):
        limiter(time).try_acquire(0)


def test_more_than_the_bucket_holds_is_refused(time):
    with pytest.raises(OverflowError, match="5 tokens never fit into a bucket of 4"):
        asyncio.run(limiter(time).acquire(5))


def test_call_returns_the_result(time):
    assert asyncio.run(limiter(time).call(double, 21)) == 42


def test_call_costs_one_token_when_not_told(time):
    bucket = limiter(time)
    asyncio.run(bucket.call(double, 1))
    assert bucket.tokens == 3


def test_call_costs_what_is_told(time):
    bucket = limiter(time)
    asyncio.run(bucket.call(double, 1, cost=3))
    assert bucket.tokens == 1


def test_spread_keeps_the_order(time):
    assert asyncio.run(spread(limiter(time), double, [3, 1, 2])) == [6, 2, 4]


def test_spread_keeps_the_pace(time):
    asyncio.run(spread(limiter(time, rate=2.0, burst=1), double, [1, 2, 3]))
    assert time.naps == [0.5, 0.5]


def test_acquire_counts_the_tokens_that_are_there(time):
    bucket = limiter(time)
    bucket.try_acquire(3)
    assert asyncio.run(bucket.acquire(3)) == 1.0
