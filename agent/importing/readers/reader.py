"""What a reader of a format is: a name, how its runs are told from others', and how one is read."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from srft.agent.importing.readers.conversation import Recorded
from srft.agent.importing.readers.source import RawRun
from srft.agent.importing.readers.tally import Tally


class Reader(NamedTuple):
    """One format.

    marks: whether an object is a run of this format, by its keys. read: raises InputError, which names file, line and
    field, for a run that is damaged.
    """

    name: str
    marks: Callable[[dict[str, Any]], bool]
    read: Callable[[RawRun, Tally], Recorded]
