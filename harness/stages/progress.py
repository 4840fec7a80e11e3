"""How far a stage is: counted by its workers, shown to a person while it runs.

Writes to stderr: one live line in a terminal, a line every so often in a log file. What others see of it (`counts`)
goes into the run's live.json.

    progress = Progress(total=20, resumed=3)
    with watch(progress, lambda it: [f"runs {it.resumed + it.done}/{it.total}", f"steps {it.steps:,}"]):
        progress.add(done=1, steps=17)                # runs 4/20  resumed 3  steps 17  ETA 0:05:20
"""

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TypeVar

import msgspec
from loguru import logger

from srft.agent.records import Step
from srft.harness.run.live import Counts, Doing

REFRESHES_PER_S = 4
LOG_INTERVAL_S = 15.0
COMMAND_CHARS = 200
KEPT_FAILURES = 5


@dataclass(kw_only=True)
class Progress:
    """What is known of a stage while it runs. Written by the workers, read by the display.

    total: to be done in all, what was on file before (`resumed`) included. done: by this command, and not to be done
    again by it. failed: tried by this command, and not done. cost_usd: `None` while no reply says what it cost.
    episodes: those that are running, by task and attempt. failures: the last few.
    """

    total: int
    resumed: int = 0
    done: int = 0
    failed: int = 0
    running: int = 0
    steps: int = 0
    tokens: int = 0
    cost_usd: float | None = None
    started: float = field(default_factory=time.monotonic)
    episodes: dict[tuple[str, int], Doing] = field(default_factory=dict)
    failures: deque[str] = field(default_factory=lambda: deque(maxlen=KEPT_FAILURES))
    lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, **counts: int) -> None:
        with self.lock:
            for name, count in counts.items():
                setattr(self, name, getattr(self, name) + count)

    def begin_episode(self, task_id: str, attempt: int) -> None:
        with self.lock:
            self.running += 1
            self.episodes[task_id, attempt] = Doing(task_id=task_id, attempt=attempt, began_at=time.time())

    def end_episode(self, task_id: str, attempt: int) -> None:
        with self.lock:
            self.running -= 1
            self.episodes.pop((task_id, attempt), None)

    def step(self, task_id: str, attempt: int, step: Step) -> None:
        """Count a step that has ended."""
        usage = step.usage
        with self.lock:
            self.steps += 1
            self.tokens += (usage.completion_tokens or 0) if usage else 0
            if usage and usage.cost_usd is not None:
                self.cost_usd = (self.cost_usd or 0.0) + usage.cost_usd
            if (doing := self.episodes.get((task_id, attempt))) is not None:
                told = msgspec.structs.replace(doing, step=step.index, command=_command(step), stepped_at=time.time())
                self.episodes[task_id, attempt] = told

    def fail(self, subject: str, reason: str) -> None:
        with self.lock:
            self.failed += 1
            self.failures.append(f"{subject}: {reason}")

    @property
    def after(self) -> str:
        """What is still to be done when the last one has ended, in words; empty where that is nothing."""
        return ""

    @property
    def eta_s(self) -> float | None:
        """Seconds to go at the pace so far; `None` where that is not known, or nothing is left to do."""
        if not self.done:
            return None
        left = self.total - self.resumed - self.done - self.failed
        return (time.monotonic() - self.started) / self.done * left if left > 0 else None

    def counts(self) -> Counts:
        """What others see of it."""
        with self.lock:
            same = ("total", "resumed", "done", "failed", "running", "steps", "tokens", "cost_usd", "eta_s", "after")
            return Counts(
                **{name: getattr(self, name) for name in same},
                episodes=tuple(self.episodes.values()),
                failures=tuple(self.failures),
            )


def _command(step: Step) -> str:
    """What a step ran, its first line."""
    if step.action is None:
        return ""
    arguments = step.action.arguments
    text = str(arguments.get("command") or next(iter(arguments.values()), "") or step.action.tool)
    return text.strip().partition("\n")[0][:COMMAND_CHARS]


P = TypeVar("P", bound=Progress)


def _line(progress: P, figures: Callable[[P], list[str]]) -> str:
    with progress.lock:
        parts, eta_s, after = figures(progress), progress.eta_s, progress.after
        left = progress.total - progress.resumed - progress.done - progress.failed
        if progress.resumed:
            parts.insert(1, f"resumed {progress.resumed}")
        if progress.failed:
            parts.append(f"failed {progress.failed}")
        if progress.cost_usd is not None:
            parts.append(f"${progress.cost_usd:,.2f}")
    if after:
        parts.append(after)
    if left > 0 or not progress.total:
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
        # get_renderable is called at each refresh, so that the display needs no thread of its own. Meanwhile rich puts
        # its own stream in the place of sys.stderr, which writes above the line; the log looks for it there (cli.py).
        with Live(
            get_renderable=lambda: Text(_line(progress, figures), no_wrap=True, overflow="ellipsis"),
            console=console,
            refresh_per_second=REFRESHES_PER_S,
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
