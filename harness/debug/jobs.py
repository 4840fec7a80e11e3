"""One job at a time in a thread of its own, its outcome brought back to the app.

    jobs = Jobs(app)
    jobs.begin("taking the diff", session.diff, then=show)       # False where another is under way

A job's SrftError is told to the app; any other exception is a bug of ours, and ends the app with its traceback.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from textual.message import Message
from textual.message_pump import MessagePump


class Done(Message):
    """A job ended. then: with its result; failed: where it raised."""

    def __init__(self, name: str, job: Future[Any], then: Callable[[Any], None], failed: Callable[[], None]) -> None:
        super().__init__()
        self.name, self.job, self.then, self.failed = name, job, then, failed


class Jobs:
    """The work thread. `name` is what it does, `None` while it does nothing."""

    def __init__(self, app: MessagePump) -> None:
        self._app = app
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="session")
        self.name: str | None = None

    def begin(
        self, name: str, do: Callable[[], Any], *, then: Callable[[Any], None], failed: Callable[[], None]
    ) -> bool:
        if self.name is not None:
            return False
        self.name = name
        job = self._executor.submit(do)
        job.add_done_callback(lambda done: self._app.post_message(Done(name, done, then, failed)))
        return True

    def ended(self) -> None:
        self.name = None
