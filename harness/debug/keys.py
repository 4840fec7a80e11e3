"""The app's keys: what they do, what is shown of them in the last line, and the page that has them all.

keys_line(70, writing=False).plain        # as many as fit, the least needed left out first; "? All keys" always
"""

from __future__ import annotations

from typing import NamedTuple

from rich.text import Text
from textual.binding import Binding
from textual.widgets import Static


class Key(NamedTuple):
    """shown: its word in the last line, "" where it has none. rank: the higher, the earlier it is left out there."""

    key: str
    action: str
    shown: str
    meaning: str
    rank: int = 0


COMMANDS: tuple[Key, ...] = (
    Key("a", "approve", "Take", "take the proposed step as it is"),
    Key("e", "edit", "Edit", "edit the proposed action and the thought before it, then take it"),
    Key("t", "write", "Type", "write a step of your own"),
    Key("n", "ask", "Ask", "ask the model for another reply", 2),
    Key("r", "rewind", "Rewind", "go back to before a step; what came after it stays as a fork"),
    Key("f", "forks", "Fork", "list the forks and go to one", 3),
    Key("d", "diff", "Diff", "show what was changed so far", 1),
    Key("x", "tests", "Test", "run the hidden tests on what was changed so far"),
    Key("c", "critic", "Critic", "ask the critic about the selected step and the run", 4),
    Key("l", "label", "Label", "give the selected step a verdict of your own", 5),
    Key("s", "save", "Save", "save this run, so that all other commands know it"),
    Key("o", "open", "", "open the selected step, nothing folded"),
    Key("j", "select(1)", "", "select the next step (down)"),
    Key("k", "select(-1)", "", "select the step before (up)"),
    Key("q", "quit", "Quit", "leave; asks where something is not saved (Ctrl-C too)", 1),
    Key("question_mark", "help", "All keys", "show this page"),
)
WRITING: tuple[Key, ...] = (
    Key("f2", "do_it", "Do it", "while you write: take what was written (ctrl+s too)"),
    Key("escape", "leave", "Leave", "while you write: leave it"),
    Key("shift+tab", "", "Words before it", "while you write: go to the thought, and tab back to the action"),
)
ALIASES = {"j": "j,down", "k": "k,up", "f2": "f2,ctrl+s"}
NAMES = {"question_mark": "?", "f2": "F2", "escape": "Esc", "shift+tab": "Shift+Tab"}

# No priority for F2: it waits behind the letters that were typed before it.
KEYS: tuple[Binding, ...] = (
    *(Binding(ALIASES.get(one.key, one.key), one.action, one.meaning) for one in (*COMMANDS, *WRITING) if one.action),
    Binding("ctrl+c,ctrl+q", "interrupt", "leave", priority=True),
)

WHILE_WRITING = {"do_it", "leave"}
"""What holds while an action is written; the keys of all others are then letters of it."""

OWN_ACTIONS = {binding.action.partition("(")[0] for binding in KEYS} - {"interrupt"}

MOVES = {"up", "down", "left", "right", "pageup", "pagedown", "home", "end", "tab", "shift+tab", "enter", "escape"}
KNOWN = {key for binding in KEYS for key in binding.key.split(",")} | MOVES
"""Keys that do something, or that panes move by."""


def keys_line(width: int, *, writing: bool) -> Text:
    """The last line of a terminal so wide."""
    shown = [one for one in (WRITING if writing else COMMANDS) if one.shown]
    while _width(shown) > width and any(one.rank for one in shown):
        shown.remove(max(shown, key=lambda one: one.rank))
    parts = [Text.assemble((NAMES.get(one.key, one.key), "bold"), f" {one.shown}") for one in shown]
    line = Text("  ").join(parts)
    line.no_wrap = True
    return line


def _width(shown: list[Key]) -> int:
    return sum(len(NAMES.get(one.key, one.key)) + 1 + len(one.shown) for one in shown) + 2 * (len(shown) - 1) + 2


def help_text() -> Text:
    """All keys with what they do."""
    lines = [
        Text.assemble((f"{NAMES.get(one.key, one.key):<10}", "bold"), one.meaning) for one in (*COMMANDS, *WRITING)
    ]
    return Text("\n").join(lines)


class KeysLine(Static):
    """The last line, as wide as the terminal is now."""

    DEFAULT_CSS = "KeysLine { height: 1; padding: 0 1; background: $panel; }"

    def __init__(self) -> None:
        super().__init__()
        self._writing = False

    def tell(self, *, writing: bool) -> None:
        self._writing = writing
        self.refresh()

    def render(self) -> Text:
        return keys_line(self.size.width + 2, writing=self._writing)
