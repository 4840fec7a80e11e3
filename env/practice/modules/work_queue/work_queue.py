"""An asyncio job runner: a few workers, retries, a dead letter box and results in order."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

Handler = Callable[[Any], Awaitable[Any]]


class QueueClosed(RuntimeError):
    """Nothing more can be put."""


@dataclass
class Job:
    """A payload on its way, with its number and how often it was tried."""

    number: int
    payload: Any
    attempts: int = 0
    errors: list[str] = field(default_factory=list)


class WorkQueue:
    """Runs `handler` on every payload, at most `attempts` times each, with `workers` at a time.

    Errors other than those of `retry_on` end the run.
    """

    retry_on: tuple[type[Exception], ...] = (OSError, ValueError)

    def __init__(self, handler: Handler, workers: int = 2, attempts: int = 1) -> None:
        if workers < 1 or attempts < 1:
            raise ValueError("workers and attempts must be at least 1")
        self.handler = handler
        self.workers = workers
        self.attempts = attempts
        self.dead: list[Job] = []
        self.closed = False
        self._results: dict[int, Any] = {}
        self._waiting: list[Job] = []
        self._count = 0

    def put(self, payload: Any) -> int:
        """Queue a payload and return its number, counted from 1."""
        if self.closed:
            raise QueueClosed("the queue is closed")
        self._count += 1
        self._waiting.append(Job(self._count, payload))
        return self._count

    def pending(self) -> int:
        return len(self._waiting)

    async def run(self) -> list[Any]:
        """Work until nothing is waiting; returns the results by number, failed jobs left out."""
        await asyncio.gather(*(self._work() for _ in range(self.workers)))
        return [self._results[number] for number in sorted(self._results)]

    async def close(self) -> int:
        """Finish what is waiting, take no more, and return how many jobs died."""
        self.closed = True
        await self.run()
        return len(self.dead)

    async def _work(self) -> None:
        while self._waiting:
            await self._try(self._waiting.pop(0))

    async def _try(self, job: Job) -> None:
        job.attempts += 1
        try:
            self._results[job.number] = await self.handler(job.payload)
        except self.retry_on as error:
            job.errors.append(f"{type(error).__name__}: {error}")
            if job.attempts < self.attempts:
                self._waiting.append(job)
            else:
                self.dead.append(job)


async def run_all(handler: Handler, payloads: Iterable[Any], workers: int = 2) -> list[Any]:
    """The handler's results for all payloads, in order; the first failure is raised."""
    queue = WorkQueue(handler, workers)
    for payload in payloads:
        queue.put(payload)
    results = await queue.run()
    if queue.dead:
        first = min(queue.dead, key=lambda job: job.number)
        raise RuntimeError(f"job {first.number} failed: {first.errors[-1]}")
    return results


async def in_batches(source: AsyncIterator[Any], size: int = 2) -> AsyncIterator[list[Any]]:
    """Lists of `size` items of an asynchronous source; the last may be shorter."""
    batch: list[Any] = []
    async for item in source:
        batch.append(item)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch
