"""The panes below the conversation: the action that is to be taken, and while a person writes the words before it.

pane.read(proposal text, title)                          # to be approved
pane.begin("edit", Words("ls", "I look.", ""), title)    # to be written: the pane's words are what is there now
pane.words                                               # Words(action="ls -la", thought="I look.", thinking="")
"""

from __future__ import annotations

from typing import Literal, NamedTuple

from textual.app import ComposeResult
from textual.containers import Vertical

from srft.harness.debug.action import ActionPane

Mode = Literal["edit", "own"]


class Words(NamedTuple):
    """thought: before the action. thinking: the model's reasoning, where it gave any apart."""

    action: str
    thought: str = ""
    thinking: str = ""


class WritingPane(Vertical):
    """mode: `None` while nothing is written."""

    DEFAULT_CSS = """
    WritingPane { height: auto; }
    WritingPane ActionPane { border: round $primary; }
    WritingPane .words { height: 4; display: none; }
    WritingPane #action { height: 7; }
    WritingPane .writing { border: round $accent; }
    """

    def __init__(self) -> None:
        super().__init__()
        self.mode: Mode | None = None

    def compose(self) -> ComposeResult:
        for name, title in (
            ("thinking", "the thinking: shift+tab, empty takes it out"),
            ("thought", "what is said before it, if anything: shift+tab"),
        ):
            pane = ActionPane(id=name, classes="words", soft_wrap=True, show_line_numbers=False)
            pane.border_title = title
            yield pane
        yield ActionPane(id="action", read_only=True, soft_wrap=True, show_line_numbers=False)

    def read(self, text: str, title: str) -> None:
        """Show an action. What is being written stays."""
        if self.mode is None:
            self._pane("action").read(text)
        self._pane("action").border_title = title

    def begin(self, mode: Mode, words: Words, title: str) -> None:
        """Let a person write, from these words."""
        self.mode = mode
        for name, text in words._asdict().items():
            pane = self._pane(name)
            pane.write(text)
            pane.set_class(True, "writing")
        self._pane("thought").display = True
        self._pane("thinking").display = bool(words.thinking)
        self._pane("action").border_title = title
        self._pane("action").focus()

    def end(self) -> None:
        """Write no more; the words stay until others come."""
        self.mode = None
        self._pane("action").set_class(False, "writing")
        for name in ("thought", "thinking"):
            self._pane(name).display = False

    @property
    def words(self) -> Words:
        return Words(*(self._pane(name).text for name in Words._fields))

    def _pane(self, name: str) -> ActionPane:
        return self.query_one(f"#{name}", ActionPane)
