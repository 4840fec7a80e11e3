"""What became of the runs that were read: a `Tally`, filled while reading goes on.

tally = Tally()
runs = list(read_runs("runs.jsonl.gz", tally=tally))
len(tally.damaged), tally.left_out["messages after the last reply"]
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from srft.env.errors import InputError


@dataclass
class Tally:
    """Counts of what was read, dropped and left out.

    strict: damage raises at once. formats: file -> the format it was read in. damaged: one message a run that could not
    be read. dropped: runs that are whole and of no use, by reason. left_out: parts of runs that are not in the
    trajectories, or what the file does not tell, by what it is.
    """

    strict: bool = False
    read: int = 0
    formats: dict[str, str] = field(default_factory=dict)
    damaged: list[str] = field(default_factory=list)
    dropped: Counter[str] = field(default_factory=Counter)
    left_out: Counter[str] = field(default_factory=Counter)

    def damage(self, error: InputError) -> None:
        """Enter a run that cannot be read, or raise."""
        if self.strict:
            raise error
        self.damaged.append(str(error))
