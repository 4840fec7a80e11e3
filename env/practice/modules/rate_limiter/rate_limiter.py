"""A token bucket for asyncio: calls wait until the bucket holds enough tokens for them."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

Clock = Callable[[], float]
Sleep = Callable[[float], Awaitable[None]]


class RateLimiter:
    """Lets `rate` tokens a second through, and up to `burst` at once after a pause."""

    def __init__(self, rate: float, burst: int = 1, *, clock: Clock, sleep: Sleep = asyncio.sleep) -> None:
        if rate <= 0:
            raise ValueError("rate must be positive")
        if burst < 1:
            raise ValueError("burst must be at least 1")
        self.rate = rate
        self.burst = burst
        self.waited = 0.0
        self._clock = clock
        self._sleep = sleep
        self._tokens = float(burst)
        self._updated = clock()
        self._lock = asyncio.Lock()

    @property
    def tokens(self) -> float:
        """The tokens in the bucket now."""
        self._refill()
        return self._tokens

    def try_acquire(self, count: int = 1) -> bool:
        """Take `count` tokens if they are there; never waits."""
        self._check(count)
        self._refill()
        if self._tokens < count:
            return False
        self._tokens -= count
        return True

    async def acquire(self, count: int = 1) -> float:
        """Take `count` tokens, waiting for them where needed; returns the seconds waited."""
        self._check(count)
        async with self._lock:
            waited = 0.0
            while not self.try_acquire(count):
                delay = (count - self._tokens) / self.rate
                await self._sleep(delay)
                waited += delay
            self.waited += waited
            return waited

    async def call(self, function: Callable[..., Awaitable[Any]], *arguments: Any, cost: int = 1) -> Any:
        """Await `function(*arguments)` once `cost` tokens were taken for it."""
        await self.acquire(cost)
        return await function(*arguments)

    def _check(self, count: int) -> None:
        if count < 1:
            raise ValueError("count must be at least 1")
        if count > self.burst:
            raise OverflowError(f"{count} tokens never fit into a bucket of {self.burst}")

    def _refill(self) -> None:
        now = self._clock()
        added = (now - self._updated) * self.rate
        self._tokens = min(self.burst, self._tokens + added)
        self._updated = now


async def spread(limiter: RateLimiter, function: Callable[..., Awaitable[Any]], items: list) -> list:
    """The results of `function` for all items, in their order, at the limiter's pace."""
    calls = [limiter.call(function, item) for item in items]
    return await asyncio.gather(*calls)
