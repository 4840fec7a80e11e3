"""A list editor with undo and redo, a bounded history of states, and transactions."""

from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from typing import Any


class NothingToUndo(IndexError):
    """The history begins here."""


class NothingToRedo(IndexError):
    """The history ends here."""


class History:
    """Remembers the last `limit` states; each is a copy, so later changes do not reach it."""

    def __init__(self, state: Any, limit: int = 10) -> None:
        if limit < 1:
            raise ValueError("a history holds at least one state")
        self.limit = limit
        self._states = [deepcopy(state)]
        self._now = 0

    def __len__(self) -> int:
        return len(self._states)

    @property
    def current(self) -> Any:
        """A copy of the state that is valid now."""
        return deepcopy(self._states[self._now])

    @property
    def can_undo(self) -> bool:
        return self._now > 0

    @property
    def can_redo(self) -> bool:
        return self._now < len(self._states) - 1

    def record(self, state: Any) -> bool:
        """Add a state after the current one; what was undone is forgotten. False where nothing changed."""
        if state == self._states[self._now]:
            return False
        del self._states[self._now + 1 :]
        self._states.append(deepcopy(state))
        del self._states[: -self.limit]
        self._now = len(self._states) - 1
        return True

    def undo(self, steps: int = 1) -> Any:
        """Go back and return that state."""
        if steps > self._now:
            raise NothingToUndo(f"{self._now} steps back, not {steps}")
        self._now -= steps
        return self.current

    def redo(self, steps: int = 1) -> Any:
        """Go forward again and return that state."""
        ahead = len(self._states) - 1 - self._now
        if steps > ahead:
            raise NothingToRedo(f"{ahead} steps ahead, not {steps}")
        self._now += steps
        return self.current


class Editor:
    """Lines of text; every change can be undone."""

    def __init__(self, lines: list[str] | None = None, limit: int = 10) -> None:
        self._lines = list(lines or [])
        self.history = History(self._lines, limit)
        self._depth = 0

    @property
    def lines(self) -> list[str]:
        return list(self._lines)

    def insert(self, text: str, at: int | None = None) -> None:
        """Put a line before line `at`, counted from 0, or at the end."""
        place = len(self._lines) if at is None else at
        if not 0 <= place <= len(self._lines):
            raise IndexError(f"no place {place}")
        self._lines.insert(place, text)
        self._changed()

    def delete(self, first: int, count: int = 1) -> list[str]:
        """Take `count` lines away and return them."""
        if first < 0 or first + count > len(self._lines):
            raise IndexError(f"no lines {first} to {first + count - 1}")
        taken = self._lines[first : first + count]
        del self._lines[first : first + count]
        self._changed()
        return taken

    def replace(self, old: str, new: str, most: int = 0) -> int:
        """Exchange a text in all lines, or in the first `most` that have it; returns how many."""
        changed = 0
        for number, line in enumerate(self._lines):
            if old in line and (most == 0 or changed < most):
                self._lines[number] = line.replace(old, new)
                changed += 1
        self._changed()
        return changed

    def undo(self, steps: int = 1) -> list[str]:
        self._lines = self.history.undo(steps)
        return self.lines

    def redo(self, steps: int = 1) -> list[str]:
        self._lines = self.history.redo(steps)
        return self.lines

    @contextmanager
    def transaction(self) -> Iterator["Editor"]:
        """Changes within count as one step; an error takes them all back and is passed on."""
        before = self.lines
        self._depth += 1
        try:
            yield self
        except BaseException:
            self._lines = before
            raise
        finally:
            self._depth -= 1
        self._changed()

    def _changed(self) -> None:
        if self._depth == 0:
            self.history.record(self._lines)
