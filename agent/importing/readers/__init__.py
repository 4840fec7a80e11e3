"""Readers of other systems' runs, one format a file; `srft.agent.importing.importers` chooses among them.

What they share: a `RawRun` comes in, what is lost is counted in a `Tally`, and a `Reader` says whose runs it reads.

    tally = Tally()
    runs = list(read_runs("runs.jsonl.gz", tally=tally))
    tally.damaged_runs, tally.left_out["messages after the last reply"]
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from srft.agent.models.contract import well_formed_within
from srft.env.errors import InputError

if TYPE_CHECKING:
    from srft.agent.importing.readers.conversation import Recorded

MOST_MESSAGES = 1000
"""So many messages of damage are kept; all of it is counted."""


class RawRun(NamedTuple):
    """One run as its file has it."""

    where: str
    """File and line, for messages."""
    name: str
    """The file's name without endings."""
    line: int | None
    """The line or row; `None` where the file is one run."""
    content: dict[str, Any]
    """The run as it was decoded."""

    @property
    def place(self) -> str:
        """A name for a run that has none: its file's, with the line."""
        return self.name if self.line is None else f"{self.name}-{self.line}"


@dataclass
class Tally:
    """Counts of what was read, dropped and left out."""

    strict: bool = False
    """Whether damage raises at once."""
    read: int = 0
    """Runs that became trajectories."""
    formats: dict[str, str] = field(default_factory=dict)
    """File -> the format it was read in."""
    damaged: list[str] = field(default_factory=list)
    """A message for each run that could not be read, up to MOST_MESSAGES."""
    damaged_runs: int = 0
    """How many could not be read."""
    dropped: Counter[str] = field(default_factory=Counter)
    """Whole runs of no use, by reason."""
    left_out: Counter[str] = field(default_factory=Counter)
    """Parts of runs that are not in the trajectories, and what the file does not tell, by what it is."""

    def damage(self, error: InputError) -> None:
        """Enter a run that cannot be read, or raise."""
        if self.strict:
            raise error
        self.damaged_runs += 1
        if len(self.damaged) < MOST_MESSAGES:
            self.damaged.append(str(error))


class Reader(NamedTuple):
    """One format."""

    name: str
    """As `--format` takes it."""
    marks: Callable[[dict[str, Any]], bool]
    """Whether an object is a run of this format, by its keys."""
    read: Callable[[RawRun, Tally], Recorded]
    """Raises InputError, which names file, line and field, for a run that is damaged."""


def within(value: Any, *keys: str) -> Any:
    """The value under nested keys; `None` where a level is missing or is no object.

    >>> within({"a": {"b": 1}}, "a", "b"), within({"a": [1]}, "a", "b")
    (1, None)
    """
    for key in keys:
        value = value.get(key) if isinstance(value, dict) else None
    return value


def from_json(text: str | bytes) -> Any:
    """The value of a JSON text, fit to be stored: lone surrogates are replaced. Raises ValueError."""
    try:
        return well_formed_within(json.loads(text))
    except RecursionError:  # a thousand open brackets
        raise ValueError("it is nested too deeply") from None
