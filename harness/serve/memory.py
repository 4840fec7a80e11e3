"""Memory that is not there, as an error that says what to do; and memory that is given back.

with out_of_memory("serving models/base", do="lower serve.batch"):
    ...                                      # OutOfMemory instead of torch's RuntimeError
give_back()                                  # what torch keeps for later goes to other processes
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from srft.env.errors import SrftError

GIB = 1 << 30
_WORDS = ("out of memory", "can't allocate memory", "cannot allocate memory", "not enough memory")


class OutOfMemory(SrftError):
    """The machine has not the memory for what was asked."""


@contextmanager
def out_of_memory(what: str, *, do: str) -> Iterator[None]:
    """Raise OutOfMemory where torch or Python has no memory. what: was being done. do: the remedy."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        reason = first_line(error) or "no memory left"
        raise OutOfMemory(f"{what}: out of memory ({reason}). {do[0].upper()}{do[1:]}.") from error


def is_out_of_memory(error: BaseException) -> bool:
    """torch's CPU allocator raises a plain RuntimeError, which only its words tell."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and any(words in str(error).lower() for words in _WORDS)


def first_line(error: BaseException) -> str:
    """The first line of an error's text, at most 300 characters."""
    return str(error).strip().split("\n")[0][:300]


def free_host_bytes() -> int | None:
    """What the machine's memory, and this process's control group, have left; `None` where Linux does not say."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return None
    free = next((int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:")), None)
    rooms = (free, _cgroup_room(Path("/sys/fs/cgroup")))
    return min((room for room in rooms if room is not None), default=None)


def _cgroup_room(folder: Path) -> int | None:
    """What a memory limit (cgroup v2) leaves, the page cache counted as free."""
    try:
        limit = (folder / "memory.max").read_text().strip()
        used = int((folder / "memory.current").read_text())
        stat = dict(line.split() for line in (folder / "memory.stat").read_text().splitlines())
    except (OSError, ValueError):
        return None
    return None if limit == "max" else int(limit) - used + int(stat.get("inactive_file", 0))


def give_back() -> None:
    """Free what nothing holds any more, and give torch's cache of GPU memory back to the driver."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
