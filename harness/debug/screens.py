"""Dialogs over the debugger's panes: a text to read, a line to write, a choice, a verdict.

self.push_screen(TextScreen("diff", text))
self.push_screen(LineScreen("rewind to before step", "3"), self.rewind)     # None where it was left with escape
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, NamedTuple, get_args

from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical, VerticalScroll
from textual.screen import ModalScreen
from textual.widgets import Input, OptionList, Static
from textual.widgets.option_list import Option

from srft.critic.labels.labels import Verdict

VERDICTS: tuple[Verdict, ...] = get_args(Verdict)
COLOURS: dict[str, str] = {"good": "green", "unnecessary": "yellow", "mistake": "red", "recover": "cyan"}

_CSS = """
TextScreen, LineScreen, ChoiceScreen, LabelScreen { align: center middle; }
.box { width: 90%; max-width: 110; height: auto; max-height: 90%; border: round $accent; background: $surface; }
.box Input { border: none; height: 1; }
.box OptionList { border: none; padding: 0; }
.box > VerticalScroll { height: auto; max-height: 100%; }
"""


class TextScreen(ModalScreen[None]):
    """A text to read. Any of escape, enter and q closes it."""

    CSS = _CSS
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,enter,q", "dismiss(None)", "Close"),
        Binding("j,down", "scroll(1)", "Down", show=False),
        Binding("k,up", "scroll(-1)", "Up", show=False),
        Binding("space,pagedown", "scroll(10)", "Page", show=False),
        Binding("b,pageup", "scroll(-10)", "Page back", show=False),
    ]

    def __init__(self, title: str, text: Text) -> None:
        super().__init__()
        self._title, self._text = title, text

    def compose(self) -> ComposeResult:
        with Vertical(classes="box") as box:
            box.border_title, box.border_subtitle = self._title, "escape closes, j k space b scroll"
            with VerticalScroll():
                yield Static(self._text)

    def action_scroll(self, lines: int) -> None:
        self.query_one(VerticalScroll).scroll_relative(y=lines, animate=False)


class LineScreen(ModalScreen[str | None]):
    """One line to write."""

    CSS = _CSS
    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape", "dismiss(None)", "Leave")]

    def __init__(self, title: str, value: str) -> None:
        super().__init__()
        self._title, self._value = title, value

    def compose(self) -> ComposeResult:
        with Vertical(classes="box") as box:
            box.border_title, box.border_subtitle = self._title, "enter does it, escape leaves"
            yield Input(self._value)

    def on_input_submitted(self, event: Input.Submitted) -> None:
        self.dismiss(event.value.strip() or None)


class ChoiceScreen(ModalScreen[int | None]):
    """One of several lines; gives its place."""

    CSS = _CSS
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,q", "dismiss(None)", "Leave"),
        Binding("j", "move('down')", "Down", show=False),
        Binding("k", "move('up')", "Up", show=False),
    ]

    def __init__(self, title: str, lines: Sequence[str], *, at: int) -> None:
        super().__init__()
        self._title, self._lines, self._at = title, lines, at

    def compose(self) -> ComposeResult:
        with Vertical(classes="box") as box:
            box.border_title, box.border_subtitle = self._title, "enter goes there, escape leaves"
            yield OptionList(*(Option(Text(line)) for line in self._lines))

    def on_mount(self) -> None:
        self.query_one(OptionList).highlighted = self._at

    def action_move(self, way: str) -> None:
        options = self.query_one(OptionList)
        options.action_cursor_down() if way == "down" else options.action_cursor_up()

    def on_option_list_option_selected(self, event: OptionList.OptionSelected) -> None:
        self.dismiss(event.option_index)


class Labelled(NamedTuple):
    """A verdict by key, `None` to take it back, and what was written as the reason."""

    verdict: Verdict | None
    reason: str | None


class LabelScreen(ModalScreen[Labelled | None]):
    """A verdict on a step: one key; before it, a reason where one is wanted."""

    CSS = _CSS
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "dismiss(None)", "Leave"),
        *(Binding(verdict[0], f"say('{verdict}')", verdict) for verdict in VERDICTS),
        Binding("0", "say('')", "take it back"),
        Binding("slash", "reason", "write a reason first"),
    ]
    AUTO_FOCUS = ""

    def __init__(self, step: int) -> None:
        super().__init__()
        self._step = step

    def compose(self) -> ComposeResult:
        with Vertical(classes="box") as box:
            box.border_title, box.border_subtitle = f"step {self._step} is", "one key; / for a reason, escape leaves"
            words = Text("  ").join(Text(f"{verdict[0]} {verdict}", style=COLOURS[verdict]) for verdict in VERDICTS)
            yield Static(Text.assemble(words, "  0 take it back"))
            yield Input(placeholder="the reason, if any")

    def action_reason(self) -> None:
        self.query_one(Input).focus()

    def on_input_submitted(self, _: Input.Submitted) -> None:
        self.set_focus(None)

    def action_say(self, verdict: str) -> None:
        known = next((one for one in VERDICTS if one == verdict), None)
        self.dismiss(Labelled(known, self.query_one(Input).value.strip() or None))
