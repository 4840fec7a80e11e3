import itertools

import pytest

from retry import Breaker, CircuitOpen, GaveUp, backoff, first_success, retry


class Flaky:
    """Fails a number of times with an error, then returns what it is called with."""

    def __init__(self, failures, error=OSError):
        self.failures = failures
        self.error = error
        self.calls = 0

    def __call__(self, value="done"):
        self.calls += 1
        if self.calls <= self.failures:
            raise self.error("busy")
        return value


class Clock:
    def __init__(self):
        self.now = 50.0

    def __call__(self):
        return self.now


def first(count, iterator):
    return list(itertools.islice(iterator, count))


def wrapped(function, **settings):
    settings.setdefault("sleep", lambda seconds: None)
    settings.setdefault("waits", lambda: itertools.repeat(0))
    return retry(**settings)(lambda *arguments, **options: function(*arguments, **options))


def fail():
    raise OSError("busy")


def test_waits_double_from_one_second_when_not_told():
    assert first(4, backoff()) == [1, 2, 4, 8]


def test_waits_stop_growing_at_thirty_seconds_when_not_told():
    assert first(7, backoff())[4:] == [16, 30, 30]


def test_waits_grow_by_the_factor():
    assert first(3, backoff(2, 3)) == [2, 6, 18]


def test_waits_may_stay_equal():
    assert first(3, backoff(5, 1)) == [5, 5, 5]


def test_waits_may_be_zero():
    assert first(2, backoff(0)) == [0, 0]


def test_waits_go_no_further_than_told():
    assert first(3, backoff(2, 2, most=5)) == [2, 4, 5]


def test_negative_waits_are_refused():
    with pytest.raises(ValueError, match="must not be negative"):
        next(backoff(-1))


def test_shrinking_waits_are_refused():
    with pytest.raises(ValueError, match="must not shrink"):
        next(backoff(1, 0.5))


def test_a_success_is_returned():
    assert wrapped(Flaky(0))("value") == "value"


def test_options_are_passed_on():
    assert wrapped(Flaky(0))(value=7) == 7


def test_a_success_is_called_once():
    flaky = Flaky(0)
    wrapped(flaky)()
    assert flaky.calls == 1


def test_a_failure_is_called_again():
    assert wrapped(Flaky(2), attempts=3)("value") == "value"


def test_there_are_three_attempts_when_not_told():
    flaky = Flaky(9)
    with pytest.raises(GaveUp, match="gave up after 3 attempts"):
        wrapped(flaky)()
    assert flaky.calls == 3


def test_a_single_attempt_is_possible():
    with pytest.raises(GaveUp) as caught:
        wrapped(Flaky(1), attempts=1)()
    assert caught.value.attempts == 1


def test_no_attempts_are_refused():
    with pytest.raises(ValueError, match="at least one attempt"):
        wrapped(Flaky(0), attempts=0)


def test_the_last_error_is_the_cause():
    with pytest.raises(GaveUp) as caught:
        wrapped(Flaky(9))()
    assert isinstance(caught.value.__cause__, OSError)


def test_other_errors_are_passed_on():
    flaky = Flaky(1, ValueError)
    with pytest.raises(ValueError, match="busy"):
        wrapped(flaky)()
    assert flaky.calls == 1


def test_the_errors_to_retry_can_be_told():
    assert wrapped(Flaky(1, ValueError), on=(KeyError, ValueError))() == "done"


def test_hopeless_errors_are_passed_on():
    flaky = Flaky(1)
    with pytest.raises(OSError, match="busy"):
        wrapped(flaky, give_up=lambda error: "busy" in str(error))()
    assert flaky.calls == 1


def test_hopeful_errors_are_retried():
    assert wrapped(Flaky(1), give_up=lambda error: "broken" in str(error))() == "done"


def test_it_sleeps_between_the_attempts():
    naps = []
    with pytest.raises(GaveUp):
        retry(4, sleep=naps.append)(fail)()
    assert naps == [1, 2, 4]


def test_each_call_begins_with_the_first_wait():
    naps = []
    call = retry(2, sleep=naps.append)(fail)
    for _ in range(2):
        with pytest.raises(GaveUp):
            call()
    assert naps == [1, 1]


def test_the_function_keeps_its_name():
    assert retry(sleep=print)(fail).__name__ == "fail"


def test_a_new_breaker_is_closed():
    assert Breaker(clock=Clock()).state == "closed"


def tripped(clock, failures=3, **settings):
    """A breaker that saw that many failures."""
    breaker = Breaker(clock=clock, **settings)
    for _ in range(failures):
        with pytest.raises(OSError, match="busy"):
            breaker.call(fail)
    return breaker


def test_the_breaker_returns_results():
    assert Breaker(clock=Clock()).call(max, 3, 5) == 5


def test_two_failures_leave_it_closed():
    assert tripped(Clock(), 2).state == "closed"


def test_three_failures_open_it_when_not_told():
    assert tripped(Clock(), 3).state == "open"


def test_the_limit_can_be_told():
    assert tripped(Clock(), 1, limit=1).state == "open"


def test_an_open_breaker_calls_nothing():
    with pytest.raises(CircuitOpen, match="after 3 failures"):
        tripped(Clock()).call(max, 3, 5)


def test_only_failures_in_a_row_count():
    breaker = tripped(Clock(), 2)
    breaker.call(max, 3, 5)
    assert breaker.failures == 0


def test_it_is_half_open_after_ten_seconds_when_not_told():
    clock = Clock()
    breaker = tripped(clock)
    clock.now += 10
    assert breaker.state == "half-open"


def test_it_is_open_until_the_cooldown_is_over():
    clock = Clock()
    breaker = tripped(clock, cooldown=4)
    clock.now += 3.5
    assert breaker.state == "open"


def test_a_success_closes_it():
    clock = Clock()
    breaker = tripped(clock)
    clock.now += 10
    breaker.call(max, 3, 5)
    assert breaker.state == "closed"


def test_a_failure_of_the_try_opens_it_again():
    clock = Clock()
    breaker = tripped(clock)
    clock.now += 10
    with pytest.raises(OSError, match="busy"):
        breaker.call(fail)
    assert breaker.state == "open"


def test_first_success_skips_lookup_errors():
    assert first_success(lambda: {}["a"], lambda: [][0], lambda: 3, lambda: 4) == 3


def test_first_success_falls_back_to_none():
    assert first_success(lambda: {}["a"]) is None


def test_first_success_falls_back_to_the_default():
    assert first_success(default=9) == 9


def test_first_success_passes_other_errors_on():
    with pytest.raises(ZeroDivisionError):
        first_success(lambda: 1 // 0, lambda: 3)
