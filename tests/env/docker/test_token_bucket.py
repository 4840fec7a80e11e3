"""The limit on requests to registries, on a clock of the test's own."""

import pytest

from srft.env.docker.token_bucket import TokenBucket


def test_the_pull_limit() -> None:
    now = [100.0]
    waits: list[float] = []
    bucket = TokenBucket(2, clock=lambda: now[0], wait=waits.append)
    assert [bucket.take() for _ in range(4)] == [0.0, 0.0, 30.0, 60.0]
    assert waits == [30.0, 60.0]
    now[0] += 60  # both who waited have gone
    assert bucket.take() == 30.0
    now[0] += 3600  # unused turns are kept up to a minute's
    assert [bucket.take() for _ in range(3)] == [0.0, 0.0, 30.0]


def test_a_slow_pull_limit() -> None:
    bucket = TokenBucket(0.5, clock=lambda: 0.0, wait=lambda _: None)
    assert [bucket.take() for _ in range(3)] == [0.0, 120.0, 240.0]


def test_no_pull_limit() -> None:
    bucket = TokenBucket(None, wait=lambda _: None)
    assert [bucket.take() for _ in range(1000)] == [0.0] * 1000


@pytest.mark.parametrize("per_minute", [0, -1])
def test_an_impossible_pull_limit(per_minute: float) -> None:
    with pytest.raises(ValueError, match="expected more than 0 a minute"):
        TokenBucket(per_minute)
