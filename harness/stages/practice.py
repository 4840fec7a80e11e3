"""Practice tasks as a stage: the making of them, with its progress, one process at a time in a folder.

    summary = practice(config, Path("practice"), sandbox="auto", stop=threading.Event())

Reads families, packages and git directories; writes task repos and practice.json (see srft.env.practice.making).
"""

import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path

from loguru import logger

from srft.env.backends import choose_backend
from srft.env.errors import InputError
from srft.env.practice import Counts, PracticeConfig, PracticeSummary, make_practice
from srft.harness.run.locks import take
from srft.harness.stages.progress import Progress


@dataclass(kw_only=True)
class Making(Progress):
    """How far it is. total: tasks wanted; done: mutants that can be tasks."""

    tried: int = 0

    def note(self, counts: Counts) -> None:
        with self.lock:
            self.done, self.tried, self.resumed = counts.kept, counts.tried, 0


def practice(
    config: PracticeConfig,
    out: Path,
    *,
    sandbox: str,
    stop: threading.Event,
    watch: Callable[[Making], AbstractContextManager[object]] = nullcontext,
) -> PracticeSummary:
    """Make practice tasks. Raises InputError, EngineError, ImageError, SandboxDied, StorageError."""
    backend = choose_backend(sandbox)
    try:
        with _locked(out):
            for left in backend.reap():
                logger.info("removed what a killed process left: {}", left)
            progress = Making(total=config.train + config.test)
            with watch(progress):
                return make_practice(config, out, backend=backend, stop=stop, watch=progress.note)
    finally:
        backend.close()


@contextmanager
def _locked(out: Path) -> Iterator[None]:
    """Raises InputError where the folder cannot be made, or another process works in it."""
    try:
        out.mkdir(parents=True, exist_ok=True)
        lock = take(out / ".lock")
    except OSError as error:
        raise InputError(f"{out}: cannot be written to ({error.strerror}); name another --out") from None
    if lock is None:
        raise InputError(f"{out}: another srft process works in it; wait for it, or name another --out")
    try:
        yield
    finally:
        lock.release()
