"""How far a stage is: counted by its workers, shown to a person while it goes on.

Writes to stderr: one live line in a terminal, a line every so often in a log file.

    progress = Progress(total=20, resumed=3)
    with watch(progress, lambda it: [f"runs {it.resumed + it.done}/{it.total}", f"steps {it.steps:,}"]):
        progress.add(done=1, steps=17)                # runs 4/20  resumed 3  steps 17  ETA 0:05:20
"""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TypeVar

from loguru import logger

REFRESHES_PER_S = 4
LOG_INTERVAL_S = 15.0


@dataclass(kw_only=True)
class Progress:
    """What is known of a stage while it goes on. Written by the workers, read by the display.

    total: to be done in all, what was on file before (`resumed`) included. done: by this command, and not to be done
    again by it.
    """

    total: int
    resumed: int = 0
    done: int = 0
    failed: int = 0
    running: int = 0
    steps: int = 0
    tokens: int = 0
    started: float = field(default_factory=time.monotonic)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, **counts: int) -> None:
        with self.lock:
            for name, count in counts.items():
                setattr(self, name, getattr(self, name) + count)

    @property
    def eta_s(self) -> float | None:
        """Seconds to go at the pace so far."""
        if not self.done:
            return None
        return (time.monotonic() - self.started) / self.done * (self.total - self.resumed - self.done)


P = TypeVar("P", bound=Progress)


def _line(progress: P, figures: Callable[[P], list[str]]) -> str:
    with progress.lock:
        parts, eta_s = figures(progress), progress.eta_s
        if progress.resumed:
            parts.insert(1, f"resumed {progress.resumed}")
        if progress.failed:
            parts.append(f"failed {progress.failed}")
    parts.append("ETA ?" if eta_s is None else f"ETA {clock(eta_s)}")
    return "  ".join(parts)


def clock(seconds: float) -> str:
    """
    >>> clock(3725)
    '1:02:05'
    """
    minutes, second = divmod(int(seconds), 60)
    hour, minute = divmod(minutes, 60)
    return f"{hour}:{minute:02d}:{second:02d}"


@contextmanager
def watch(progress: P, figures: Callable[[P], list[str]]) -> Iterator[None]:
    """Show it on stderr until the block ends. figures: the stage's own, how far it is first; called under the lock."""
    # The stages import this module for what they count; who does not look at it needs no rich.
    from rich.console import Console
    from rich.live import Live
    from rich.text import Text

    console = Console(stderr=True)
    if console.is_terminal:
        # get_renderable is called at each refresh, so that the display needs no thread of its own.
        with Live(
            get_renderable=lambda: Text(_line(progress, figures)), console=console, refresh_per_second=REFRESHES_PER_S
        ):
            yield
        return
    ended = threading.Event()

    def log() -> None:
        while not ended.wait(LOG_INTERVAL_S):
            logger.info(_line(progress, figures))

    thread = threading.Thread(target=log, daemon=True, name="progress")
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
        logger.info(_line(progress, figures))
