"""Calls again what failed: waits that grow, a give-up rule, and a circuit breaker."""

import functools
from collections.abc import Callable, Iterator
from typing import Any


class GaveUp(Exception):
    """The last attempt failed; its error is the cause."""

    def __init__(self, attempts: int) -> None:
        super().__init__(f"gave up after {attempts} attempts")
        self.attempts = attempts


class CircuitOpen(Exception):
    """The breaker lets no call through."""


def backoff(first: float = 1.0, factor: float = 2.0, most: float = 30.0) -> Iterator[float]:
    """Waits in seconds without end: `first`, then each `factor` times the one before, up to `most`."""
    if first < 0 or factor < 1:
        raise ValueError("waits must not be negative and must not shrink")
    wait = first
    while True:
        yield min(wait, most)
        wait *= factor


def retry(
    attempts: int = 3,
    on: tuple[type[Exception], ...] = (OSError,),
    *,
    sleep: Callable[[float], None],
    waits: Callable[[], Iterator[float]] = backoff,
    give_up: Callable[[Exception], bool] | None = None,
) -> Callable:
    """A decorator: call up to `attempts` times, sleeping between, while errors of `on` are raised.

    Other errors are passed on at once, and so are those that `give_up` says are hopeless.
    """
    if attempts < 1:
        raise ValueError("at least one attempt is needed")

    def decorate(function: Callable) -> Callable:
        @functools.wraps(function)
        def call(*arguments: Any, **options: Any) -> Any:
            pauses = waits()
            for attempt in range(1, attempts + 1):
                try:
                    return function(*arguments, **options)
                except on as error:
                    if give_up is not None and give_up(error):
                        raise
                    if attempt == attempts:
                        raise GaveUp(attempts) from error
                    sleep(next(pauses))

        return call

    return decorate


class Breaker:
    """Stops calling after `limit` failures in a row; after `cooldown` seconds one call may try."""

    def __init__(self, limit: int = 3, cooldown: float = 10.0, *, clock: Callable[[], float]) -> None:
        self.limit = limit
        self.cooldown = cooldown
        self.failures = 0
        self._clock = clock
        self._opened: float | None = None

    @property
    def state(self) -> str:
        """ "closed" lets calls through, "open" does not, "half-open" lets one try."""
        if self._opened is None:
            return "closed"
        if self._clock() - self._opened >= self.cooldown:
            return "half-open"
        return "open"

    def call(self, function: Callable, *arguments: Any) -> Any:
        """Call the function unless the breaker is open; a success closes it."""
        if self.state == "open":
            raise CircuitOpen(f"after {self.failures} failures")
        try:
            result = function(*arguments)
        except Exception:
            self._fail()
            raise
        self.failures = 0
        self._opened = None
        return result

    def _fail(self) -> None:
        self.failures += 1
        if self.failures >= self.limit:
            self._opened = self._clock()


def first_success(*functions: Callable[[], Any], default: Any = None) -> Any:
    """The result of the first function that raises no LookupError, else the default."""
    for function in functions:
        try:
            return function()
        except LookupError:
            continue
    return default
