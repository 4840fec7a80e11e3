"""Tokens in the records of a run and what they cost, counted while it grows.

Reads trajectories.jsonl and labels.jsonl below a folder, of each record the usage alone; writes nothing.

    count = TokenCount(Path("runs/demo"))
    count.look()                        # all tokens so far; the next look reads what was appended since
"""

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import msgspec

from srft.agent.records import Usage
from srft.env.errors import InputError

KINDS = {"trajectories.jsonl": "Trajectory", "labels.jsonl": "Critique"}


class _Counted(msgspec.Struct):
    """Of a step or of a critique, its usage alone."""

    usage: Usage | None = None


class _Line(msgspec.Struct):
    """A trajectory (steps) or a critique (usage), in short."""

    steps: tuple[_Counted, ...] = ()
    usage: Usage | None = None


def refuse(error: InputError) -> None:
    raise error


@dataclass
class _Place:
    """How far into a file one has read."""

    offset: int = 0
    lines: int = 0


class TokenCount:
    """The tokens in the records below a folder. Each file is read on from where the last look ended.

    usd: what they cost, of those for which somebody says it. A file is known by its inode, not its name: what is set
    aside meanwhile stays counted, and is not counted again.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._places: dict[tuple[int, int], _Place] = {}
        self._decoder = msgspec.json.Decoder(_Line)
        self.tokens, self.usd = 0, 0.0

    def look(self, broken: Callable[[InputError], None] = refuse) -> int:
        """All tokens so far: prompts and replies. broken: told of a line that is no record, and of a file that cannot
        be read; each line once, the rest counts on. Raises InputError unless `broken` is given."""
        for folder, _, names in os.walk(self._folder):  # folders that go away meanwhile are passed over
            for name in KINDS.keys() & names:
                path = Path(folder, name)
                for number, line in self._new_lines(path, broken):
                    try:
                        tokens, usd = _sums(self._decoder.decode(line))
                        self.tokens, self.usd = self.tokens + tokens, self.usd + usd
                    except (msgspec.DecodeError, UnicodeDecodeError) as error:
                        broken(
                            InputError(
                                f"{path}:{number}: not a {KINDS[name]} of this version of srft ({error}); move the "
                                "file away to begin anew, or correct the line"
                            )
                        )
        return self.tokens

    def _new_lines(self, path: Path, broken: Callable[[InputError], None]) -> Iterator[tuple[int, bytes]]:
        """(number, line) of the whole ones since the last look."""
        try:
            with path.open("rb") as lines:
                state = os.fstat(lines.fileno())
                place = self._places.setdefault((state.st_dev, state.st_ino), _Place())
                if state.st_size < place.offset:  # another file, in the inode of one that was removed
                    place.offset = place.lines = 0
                lines.seek(place.offset)
                for line in lines:
                    if not line.endswith(b"\n"):
                        return
                    place.offset, place.lines = place.offset + len(line), place.lines + 1
                    yield place.lines, line
        except FileNotFoundError:  # set aside or removed since it was listed
            return
        except OSError as error:
            broken(
                InputError(
                    f"{path}: cannot be read ({error.strerror}), so its tokens do not count; correct its permissions"
                )
            )


def _sums(record: _Line) -> tuple[int, float]:
    """(tokens, US dollars) of a record."""
    usages = [it for it in (record.usage, *(step.usage for step in record.steps)) if it]
    tokens = sum((it.prompt_tokens or 0) + (it.completion_tokens or 0) for it in usages)
    return tokens, sum(it.cost_usd or 0.0 for it in usages)
