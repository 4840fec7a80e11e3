"""The pane with the action: what a model wrote there is shown inert, and edited as it is.

pane.read("echo \\x1b]0;title\\x07")       # to be approved: every character visible, wrapped as it is shown
pane.write("ls")                         # to be edited: pane.text is what was written, character for character
"""

from __future__ import annotations

from rich.text import Text
from textual.widgets import TextArea

from srft.train.rows.show import inert

STAND_IN = "\N{REPLACEMENT CHARACTER}"


class ActionPane(TextArea):
    """A TextArea whose lines are safe to print: textual sends all controls but five to the terminal as they are."""

    def read(self, text: str) -> None:
        """Show a text that is not to be edited. Each hidden character is spelled out: one that counts as no column wide
        would push the end of its line out of sight."""
        self.text, self.read_only = inert(text), True

    def write(self, text: str) -> None:
        """Let the person write, from this text."""
        self.text, self.read_only = text, False

    def get_line(self, line_index: int) -> Text:
        """One symbol for each unsafe character, so that columns are those of the text."""
        line = "".join(_symbol(character) for character in self.document.get_line(line_index))
        return Text(line, end="", no_wrap=True)


def _symbol(character: str) -> str:
    shown = inert(character)
    return shown if len(shown) == 1 else STAND_IN
