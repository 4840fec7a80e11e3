"""The conversation's pane: one text a message or step, one of them selected.

pane.put([opening, first_step, proposal])
pane.select(1)
"""

from __future__ import annotations

from collections.abc import Sequence

from rich.text import Text
from textual.containers import VerticalScroll
from textual.widgets import Static


class Conversation(VerticalScroll):
    """Texts below one another. Scrolled to after the layout: before it, what was removed still counts."""

    DEFAULT_CSS = """
    Conversation { height: 1fr; border: round $primary; }
    Conversation:focus { border: round $accent; }
    Conversation > Static { padding: 0 1 1 1; height: auto; }
    Conversation > .selected { background: $boost; }
    """

    def put(self, texts: Sequence[Text], *, selected: int, to_end: bool) -> None:
        """Show these texts, in the widgets that are there where they are the same. to_end: else to the selected one."""
        there = list(self.query(Static))
        for widget, text in zip(there, texts, strict=False):
            if widget.content != text:
                widget.update(text)
        for widget in there[len(texts) :]:
            widget.remove()
        self.mount_all(Static(text) for text in texts[len(there) :])
        self._mark(selected)
        self.call_after_refresh(self._to_end if to_end else self._to_selected)

    def grow(self, place: int, text: Text) -> None:
        """Show a text that is still coming, at the end."""
        there = list(self.query(Static))
        if len(there) > place:
            there[place].update(text)
        else:
            self.mount(Static(text))
        self._to_end()

    def select(self, place: int) -> None:
        self._mark(place)
        self._to_selected()

    def _mark(self, selected: int) -> None:
        for place, widget in enumerate(self.query(Static)):
            widget.set_class(place == selected, "selected")

    def _to_end(self) -> None:
        self.scroll_end(animate=False)

    def _to_selected(self) -> None:
        for widget in self.query(".selected"):
            self.scroll_to_widget(widget, animate=False, top=True)
