"""Readers of other systems' runs, one format a file; `srft.agent.importing.importers` chooses among them.

What they share: a `RawRun` comes in, what is lost is counted in a `Tally`, and a `Reader` says whose runs it reads.

    tally = Tally()
    runs = list(read_runs("runs.jsonl.gz", tally=tally))
    tally.damaged_runs, tally.left_out["messages after the last reply"]
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from srft.env.errors import InputError

if TYPE_CHECKING:
    from srft.agent.importing.readers.conversation import Recorded

MOST_MESSAGES = 1000
"""So many messages of damage are kept; all of it is counted."""


class RawRun(NamedTuple):
    """One run as its file has it.

    where: file and line, for messages. name: the file's name without endings; line: the line or row, `None` where the
    file is one run.
    """

    where: str
    name: str
    line: int | None
    content: dict[str, Any]


@dataclass
class Tally:
    """Counts of what was read, dropped and left out.

    strict: damage raises at once. formats: file -> the format it was read in. damaged: one message a run that could not
    be read, up to MOST_MESSAGES; damaged_runs: how many they are. dropped: runs that are whole and of no use, by
    reason. left_out: parts of runs that are not in the trajectories, or what the file does not tell, by what it is.
    """

    strict: bool = False
    read: int = 0
    formats: dict[str, str] = field(default_factory=dict)
    damaged: list[str] = field(default_factory=list)
    damaged_runs: int = 0
    dropped: Counter[str] = field(default_factory=Counter)
    left_out: Counter[str] = field(default_factory=Counter)

    def damage(self, error: InputError) -> None:
        """Enter a run that cannot be read, or raise."""
        if self.strict:
            raise error
        self.damaged_runs += 1
        if len(self.damaged) < MOST_MESSAGES:
            self.damaged.append(str(error))


class Reader(NamedTuple):
    """One format.

    marks: whether an object is a run of this format, by its keys. read: raises InputError, which names file, line and
    field, for a run that is damaged.
    """

    name: str
    marks: Callable[[dict[str, Any]], bool]
    read: Callable[[RawRun, Tally], Recorded]
