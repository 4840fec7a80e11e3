"""The debugger in a terminal: the conversation, the action, the facts; keys alone, from 80x24 on.

Reads and writes what its session does. Containers and models work in a thread of their own, one job at a time, so that
the panes stay alive; what cannot be done meanwhile is refused with a word.

    app = DebugApp(session, begin=lambda session: [], run="runs/mine")
    app.run()
    session.close()
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

from textual import events
from textual.app import App, ComposeResult
from textual.binding import BindingType
from textual.containers import Horizontal, Vertical
from textual.message import Message
from textual.notifications import SeverityLevel
from textual.widgets import Static

from srft.agent.models.human import HumanModel, action_text
from srft.agent.records import Step
from srft.critic.labels.labels import Critique, StepLabel
from srft.env.errors import SrftError
from srft.env.grading.grade import Grade
from srft.harness.debug import shown
from srft.harness.debug.conversation import Conversation
from srft.harness.debug.facts import facts_of
from srft.harness.debug.jobs import Done, Jobs
from srft.harness.debug.keys import KEYS, KNOWN, OWN_ACTIONS, WHILE_WRITING, KeysLine, help_text
from srft.harness.debug.screens import ChoiceScreen, Labelled, LabelScreen, LineScreen, TextScreen
from srft.harness.debug.session import Session
from srft.harness.debug.writing import Mode, Words, WritingPane
from srft.train.rows.show import inert

NARROW = 78
"""Columns below which the facts have no place."""


class DebugApp(App[None]):
    """The terminal app over one session, which the caller closes.

    begin: called after the start, in the work thread; gives lines to be told. run: where `save` proposes to go.
    failure: why it could not start.
    """

    TITLE = "srft debug"
    ENABLE_COMMAND_PALETTE = False
    CSS_PATH = Path(__file__).with_name("app.tcss")
    BINDINGS: ClassVar[list[BindingType]] = list(KEYS)

    class Piece(Message):
        """Some of the reply that is coming."""

        def __init__(self, text: str) -> None:
            super().__init__()
            self.text = text

    def __init__(self, session: Session, *, begin: Callable[[Session], list[str]], run: str | None) -> None:
        super().__init__()
        self._session, self._begin, self._run = session, begin, run
        self.failure: str | None = None
        self._jobs = Jobs(self)
        self._coming = ""
        self._told: dict[int, StepLabel] = {}  # the critic's, by the number of the point behind the step
        self._selected = -1
        self._has_started = False
        self._is_leaving = False  # told what is unsaved, and nothing has happened since

    def compose(self) -> ComposeResult:
        with Horizontal(id="panes"):
            with Vertical(id="left"):
                conversation = Conversation()
                conversation.border_title = "conversation"
                yield conversation
                yield WritingPane()
            facts = Static(id="facts")
            facts.border_title = "facts"
            yield facts
        yield Static(id="status")
        yield KeysLine()

    def on_mount(self) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            loop.add_signal_handler(number, self.exit)
        self._conversation.focus()
        self._fit_width(self.size.width)
        # What is asked for is known at once; a container may take half a minute.
        task = self._session.task
        issue = shown.message_text(f"the issue of {task.instance_id}", task.problem_statement, whole=True)
        self._conversation.put([issue], selected=-1, to_end=False)
        self._work("starting the container", self._start, self._started)

    def on_resize(self, event: events.Resize) -> None:
        self._fit_width(event.size.width)

    def _fit_width(self, width: int) -> None:
        """Leave the facts out where they would take a third of the line."""
        self.query_one("#facts").display = width >= NARROW

    def _start(self) -> list[str]:
        self._session.start()
        self._has_started = True
        return self._begin(self._session)

    def _started(self, lines: list[str]) -> None:
        for line in lines:
            self.notify(f"the replay differs from the recording: {line}", severity="warning", timeout=15)
        self._show()
        self._go_on()

    # ---- one job at a time ----

    def _work(
        self,
        name: str,
        do: Callable[[], Any],
        then: Callable[[Any], None],
        *,
        failed: Callable[[], None] | None = None,
    ) -> None:
        """Do it in the work thread, then the rest here; `failed` where it raised. Refused while another is done."""
        if not self._refused():
            self._jobs.begin(name, do, then=then, failed=failed or self._show)
            self._say(f"{name} ...")

    def _refused(self) -> bool:
        if self._jobs.name is not None:
            self.notify(f"not now: {self._jobs.name}", severity="warning")
        return self._jobs.name is not None

    @property
    def is_busy(self) -> bool:
        return self._jobs.name is not None

    def on_done(self, done: Done) -> None:
        self._jobs.ended()
        self._say("ready")
        try:
            result = done.job.result()  # a bug of ours ends the app here, with its traceback
        except SrftError as error:
            if not self._has_started:
                self.failure = str(error)
                self.exit()
                return
            self.notify(str(error), title=done.name, severity="error", timeout=10)
            done.failed()
            return
        done.then(result)

    def notify(
        self,
        message: str,
        *,
        title: str = "",
        severity: SeverityLevel = "information",
        timeout: float | None = None,
        markup: bool = False,
    ) -> None:
        """Tell it in a corner, inert: an error may quote a server or a command, and textual prints what it is given."""
        super().notify(inert(message), title=inert(title), severity=severity, timeout=timeout, markup=markup)

    def _say(self, words: str) -> None:
        self.query_one("#status", Static).update(shown.Text(words, no_wrap=True, overflow="ellipsis"))

    # ---- the panes ----

    @property
    def _conversation(self) -> Conversation:
        return self.query_one(Conversation)

    @property
    def _writing(self) -> WritingPane:
        return self.query_one(WritingPane)

    def _show(self, *, select_last: bool = True) -> None:
        """Bring the panes up to date with the session."""
        session = self._session
        if select_last:
            self._selected = session.step - 1
        at = len(session.lines.here.points[0].messages) + self._selected
        self._conversation.put(shown.conversation_texts(session, self._told), selected=at, to_end=select_last)
        self.query_one("#facts", Static).update(shown.facts_text(facts_of(session)))
        self._show_action()

    def _show_action(self) -> None:
        proposal, writing = self._session.proposal, self._writing
        self._is_leaving = False
        is_over = self._session.lines.tip.finished is not None
        title = shown.action_title(proposal, writing=writing.mode, is_over=is_over)
        writing.read(action_text(proposal.action) if proposal and proposal.action else "", title)
        self.query_one(KeysLine).tell(writing=writing.mode is not None)
        self.refresh_bindings()

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """While an action is written, letters are letters."""
        if action not in OWN_ACTIONS:
            return True
        if len(self.screen_stack) > 1:
            return False
        return (action in WHILE_WRITING) == (self._writing.mode is not None)

    def on_key(self, event: events.Key) -> None:
        """Say what a key is not for; letters of an action, and keys of what lies over the panes, are not asked."""
        if self._writing.mode is None and len(self.screen_stack) == 1 and event.key not in KNOWN:
            name = event.character if event.is_printable and event.character else event.key
            self.notify(f"{name} does nothing; ? shows all keys", severity="warning", timeout=3)

    def action_help(self) -> None:
        self.push_screen(TextScreen("keys", help_text()))

    # ---- what comes next ----

    def _go_on(self) -> None:
        """Ask for the next reply, where there is somebody to ask."""
        is_over = self._session.lines.tip.finished is not None
        if not is_over and not isinstance(self._session.episode.model, HumanModel):
            self.action_ask()

    def action_ask(self) -> None:
        self._coming = ""
        self._work("asking the model", lambda: self._session.ask(self._piece), lambda _: self._show())

    def _piece(self, text: str) -> None:
        self.post_message(self.Piece(text))

    def on_debug_app_piece(self, piece: Piece) -> None:
        """Show the reply as far as it has come; what is there already stays as it is."""
        self._coming += piece.text
        place = len(self._session.lines.here.points[0].messages) + self._session.step
        self._conversation.grow(place, shown.proposal_text(self._session.step, self._coming, None))

    def _taken(self, _: Step) -> None:
        self._show()
        self._go_on()

    def action_approve(self) -> None:
        self._work("doing the step", self._session.approve, self._taken)

    def action_edit(self) -> None:
        if self._refused():
            return
        if self._session.proposal is None:
            self.notify("there is no reply to edit; n asks the model, t is your own action", severity="warning")
            return
        action = self._session.proposal.action
        self._write("edit", Words(action_text(action) if action else "", *self._session.words()))

    def action_write(self) -> None:
        if not self._refused():
            self._write("own", Words(""))

    def _write(self, mode: Mode, words: Words) -> None:
        """Let the person write, from these words."""
        self._writing.begin(mode, words, "")
        self._show_action()

    def action_do_it(self) -> None:
        """Do what was written; where it cannot be done, it stays there to be corrected."""
        (action, thought, thinking), mode = self._writing.words, self._writing.mode
        if mode is None:
            return

        def do() -> Step:
            if mode == "edit":
                return self._session.edit(action, thought=thought, thinking=thinking)
            return self._session.write(action, thought=thought)

        self.action_leave()
        words = Words(action, thought, thinking)
        self._work("doing the step", do, self._taken, failed=lambda: self._write(mode, words))

    def action_leave(self) -> None:
        self._writing.end()
        self._show_action()
        self._conversation.focus()

    def action_rewind(self) -> None:
        self.push_screen(LineScreen("rewind to before step", str(max(0, self._selected))), self._rewind)

    def _rewind(self, written: str | None) -> None:
        if written is None:
            return
        if not written.isdecimal():
            self.notify(f"{written}: expected a step's number", severity="error")
            return
        self._work(f"going back to before step {written}", lambda: self._session.rewind(int(written)), self._moved)

    def _moved(self, _: Any) -> None:
        self._show()

    def action_forks(self) -> None:
        lines = shown.fork_lines(self._session.lines.listed())

        def chosen(number: int | None) -> None:
            if number is not None:
                self._work(f"going to fork {number}", lambda: self._session.fork(number), self._moved)

        self.push_screen(ChoiceScreen("forks", lines, at=self._session.lines.here.number), chosen)

    # ---- what is to be known ----

    def action_diff(self) -> None:
        def then(diff: str | None) -> None:
            self.push_screen(TextScreen("diff so far", shown.diff_text(diff)))

        self._work("taking the diff", self._session.diff, then)

    def action_tests(self) -> None:
        def then(grade: Grade) -> None:
            self._show(select_last=False)
            self.push_screen(TextScreen("hidden tests", shown.grade_text(grade, log=shown.log_of(grade))))

        self._work("running the hidden tests", self._session.tests, then)

    def action_critic(self) -> None:
        """Its word on the selected step, then on the whole run, which is what it judges."""
        step = self._selected

        def then(told: Critique) -> None:
            points = self._session.lines.here.points
            self._told |= {points[label.step + 1].number: label for label in told.labels}
            self._show(select_last=False)
            self.push_screen(TextScreen("critic", shown.critique_text(told, step=step)))

        self._work("asking the critic", self._session.critique, then)

    def action_open(self) -> None:
        """The selected step, nothing folded; the opening messages where there is none."""
        steps = self._session.episode.steps
        if 0 <= self._selected < len(steps):
            text = shown.step_text(steps[self._selected], label=None, told=None, whole=True)
        else:
            messages = self._session.lines.here.points[0].messages
            parts = [shown.message_text(str(one["role"]), str(one["content"]), whole=True) for one in messages]
            text = shown.Text("\n\n").join(parts)
        self.push_screen(TextScreen(f"step {self._selected}" if self._selected >= 0 else "opening", text))

    def action_select(self, by: int) -> None:
        """Select the next step or the one before; before the first, the opening messages."""
        self._selected = max(-1, min(self._session.step - 1, self._selected + by))
        self._conversation.select(len(self._session.lines.here.points[0].messages) + self._selected)

    # ---- what stays ----

    def action_label(self) -> None:
        step = self._selected
        if step < 0:
            self.notify("no step is selected; j and k select one", severity="warning")
            return

        def said(labelled: Labelled | None) -> None:
            if labelled is not None:
                self._session.label(step, labelled.verdict, reason=labelled.reason)
                self._show(select_last=False)

        self.push_screen(LabelScreen(step), said)

    def action_save(self) -> None:
        def chosen(folder: str | None) -> None:
            if folder is not None:
                self._run = folder
                self._work(f"saving into {folder}", lambda: self._session.save(folder), self._saved)

        self.push_screen(LineScreen("save this run into", self._run or "runs/debug"), chosen)

    def _saved(self, saved: Any) -> None:
        new = "saved" if saved.is_new else "on file before"
        words = f"{new} as attempt {saved.attempt} ({saved.stop_reason}, {shown.counted(saved.labels, 'label')}); "
        words += f"srft show --run {saved.run} {self._session.task.instance_id}#{saved.attempt}"
        if saved.stop_reason == "cancelled":
            words += "; not submitted, so no arm trains on it"
        self.notify(words, title=saved.run, timeout=10)
        self._show(select_last=False)

    async def action_quit(self) -> None:
        """Leave; where something is unsaved, at the second time."""
        unsaved = [f"fork {number}" for number in self._session.unsaved()]
        if unsaved == [f"fork {self._session.lines.here.number}"]:
            unsaved = ["this run"]
        if self._writing.mode is not None:
            unsaved.append("what you are writing")
        if self._is_leaving or not unsaved:
            self.exit()
            return
        self._is_leaving = True
        title = f"unsaved: {', '.join(unsaved)}"
        self.notify("once more leaves, s saves", title=title, severity="warning", timeout=10)

    async def action_interrupt(self) -> None:
        """Ctrl-C, wherever the person is."""
        await self.action_quit()
