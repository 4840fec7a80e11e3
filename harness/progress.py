"""What a person sees while a collection goes on: one live line in a terminal, a line every so often in a log file."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from loguru import logger
from rich.console import Console
from rich.live import Live
from rich.text import Text

from srft.harness.collect import Progress

REFRESHES_PER_S = 4
LOG_INTERVAL_S = 15.0


def describe(progress: Progress) -> str:
    """One line of figures."""
    with progress.lock:
        parts = [
            f"episodes {progress.finished}/{progress.episodes}",
            f"running {progress.running}",
            f"steps {progress.steps:,}",
            f"tokens {progress.tokens:,}",
            f"resolved {progress.resolved}/{progress.graded}",
        ]
        if progress.resumed:
            parts.insert(1, f"resumed {progress.resumed}")
        if progress.failed:
            parts.append(f"failed {progress.failed}")
        eta_s = progress.eta_s
    parts.append("ETA ?" if eta_s is None else f"ETA {_clock(eta_s)}")
    return "  ".join(parts)


def _clock(seconds: float) -> str:
    """
    >>> _clock(3725)
    '1:02:05'
    """
    minutes, second = divmod(int(seconds), 60)
    hour, minute = divmod(minutes, 60)
    return f"{hour}:{minute:02d}:{second:02d}"


@contextmanager
def watch(progress: Progress) -> Iterator[None]:
    """Show it on stderr until the block ends."""
    console = Console(stderr=True)
    if console.is_terminal:
        # get_renderable is called at each refresh, so that the display needs no thread of its own.
        with Live(get_renderable=lambda: Text(describe(progress)), console=console, refresh_per_second=REFRESHES_PER_S):
            yield
        return
    ended = threading.Event()

    def log() -> None:
        while not ended.wait(LOG_INTERVAL_S):
            logger.info(describe(progress))

    thread = threading.Thread(target=log, daemon=True, name="progress")
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
        logger.info(describe(progress))
