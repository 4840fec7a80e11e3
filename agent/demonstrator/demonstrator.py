"""The demonstrator: a scripted teacher that knows the bug, and errs at given rates.

Reads tasks with their reference fixes; replies as a fallible engineer would; writes nothing. It needs no observation:
what it does is a plan, a pure function of the task, the configuration, the seed and the attempt, and each step of
the plan has its true verdict.

    steps = plan(task, rates=ErrorRates(wrong_edit=1.0, revert=1.0), seed=7, attempt=0)
    [step.verdict for step in steps]        # ['good', ..., 'mistake', ..., 'recover', 'good', ...]
    Demonstrator([task]).for_episode(task.instance_id, attempt=0, seed=7).reply([]).content

A plan whose last step is good leaves the files as the reference fix would; every other plan leaves them otherwise. A
task whose patch is more than changed lines of one file is an InputError (see `fix.py`).
"""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal, NamedTuple

import msgspec

from srft.agent.demonstrator.fix import Edit, Fix, edit_command, quoted, quoted_path, read_fix
from srft.agent.demonstrator.issue import example, names, visible_tests
from srft.agent.demonstrator.phrases import Style, thought
from srft.agent.demonstrator.wrong_edits import habitual_slip_of, slip_of
from srft.agent.formats import FORMATS, FormatError
from srft.agent.models.contract import Reply
from srft.env.errors import InputError
from srft.env.tasks.task import Task

FormatName = Literal["backtick", "xml", "json", "native"]
Verdict = Literal["good", "unnecessary", "mistake", "recover"]

PLAN_VERSION = 2
"""Raise it when the same arguments give another plan than before."""

LONG_FILE = 150
"""Of a file that is to be changed below this line, only the surroundings are read."""

AROUND = 15

LINES_AFTER = (3, 8, 20, LONG_FILE)
"""Of a function, the lines that the short style reads after its `def`: few numbers, as they cannot be known before."""

NEEDLESS = ("git status", "ls -la", "python --version", "pwd", "git branch", "df -h .")


class ErrorRates(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How often the demonstrator errs: probabilities from 0 to 1, each of one decision."""

    wrong_file: float = 0.15
    """In a run, that it goes to another file first; half of these times it also changes that file, and takes the change
    back."""
    wrong_edit: float = 0.6
    """In the other runs, that the first fix is wrong."""
    revert: float = 0.3
    """After a wrong fix, that it is checked, taken back, and made right."""
    ignore_tests: float = 0.5
    """Of the wrong fixes that are kept, the share that is submitted after a check whose result is passed over; the
    others are submitted unchecked. So a run is right with probability (1 - unfinished) * (1 - wrong_edit * (1 -
    revert)) * (1 - spoil)."""
    unfinished: float = 0.1
    """In a run, that it is submitted without a fix having been tried."""
    unnecessary: float = 0.2
    """In a run, that one needless look is taken."""
    spoil: float = 0.0
    """After a right fix, that it is changed once more, into a wrong one, and submitted."""

    def __post_init__(self) -> None:
        for name in self.__struct_fields__:
            if not 0 <= getattr(self, name) <= 1:
                raise InputError(f"demonstrator.rates.{name} is {getattr(self, name)}; expected 0 to 1, a probability")


class DemonstratorConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The settings of `--model demonstrator`."""

    rates: ErrorRates = ErrorRates()
    style: Style = "full"
    """`full` finds the code, reads, reproduces, edits, tests; `short` does it in the fewest tokens, for small models:
    it reads the function, edits, and hands in, and checks a change only where it is to be taken back or kept against
    the result."""
    habits: bool = False
    """The wrong edit of a line is the same in every run. Mistakes that are drawn anew each time average out over many
    runs, and a model that learns from all of them makes none; those of a habit it learns."""


class PlannedStep(NamedTuple):
    """One step: the command ("submit" hands in), the words before it, and what it is worth."""

    command: str
    thought: str
    verdict: Verdict
    reason: str

    def reply(self, index: int, *, format: FormatName) -> Reply:
        """The step in an action format. index: its place in the run, which names a native call."""
        submits = self.command == "submit"
        if format == "backtick":
            return Reply(content=f"{self.thought}\n\n```bash\n{self.command}\n```", finish_reason="stop")
        if format == "xml":
            name = "submit" if submits else "bash"
            parameter = "" if submits else f"<parameter=command>\n{self.command}\n</parameter>\n"
            content = f"{self.thought}\n\n<function={name}>\n{parameter}</function>"
            return Reply(content=content, finish_reason="stop")
        name, arguments = "submit" if submits else "bash", {} if submits else {"command": self.command}
        if format == "json":
            call = json.dumps({"name": name, "arguments": arguments}, ensure_ascii=False)
            return Reply(content=f"{self.thought}\n\n<tool_call>\n{call}\n</tool_call>", finish_reason="stop")
        function = {"name": name, "arguments": json.dumps(arguments, ensure_ascii=False)}
        made = {"id": f"call_{index}", "type": "function", "function": function}
        return Reply(content=self.thought, tool_calls=(made,), finish_reason="tool_calls")


class Errors(NamedTuple):
    """The errors of one run. Those after a wrong edit are drawn whether there is one or not."""

    wrong_file: bool
    wrong_edit: bool
    revert: bool
    ignore_tests: bool
    unfinished: bool
    unnecessary: bool
    spoil: bool


def draw_errors(rates: ErrorRates, rng: random.Random) -> Errors:
    """Draw the errors of a run. Every number is drawn whatever the rates are, so a higher rate only adds errors."""
    return Errors(*(rng.random() < getattr(rates, name) for name in Errors._fields))


def plan(
    task: Task, *, rates: ErrorRates, seed: int | None, attempt: int, style: Style = "full", habits: bool = False
) -> tuple[PlannedStep, ...]:
    """Every step of a run. The same arguments give the same steps in every process.

    Raises InputError for a task whose patch is more than changed lines of one file.
    """
    content = json.dumps([task.instance_id, task.patch, task.problem_statement, task.test_patch, style, seed, attempt])
    rng = random.Random(int.from_bytes(hashlib.sha256(content.encode()).digest()))
    errors = draw_errors(rates, rng)
    planner = _Planner(task, read_fix(task.patch, where=task.instance_id), style, rng, habits=habits)
    planner.play(errors)
    return tuple(planner.steps)


class _Planner:
    """Builds the steps of a run, one after the other."""

    def __init__(self, task: Task, fix: Fix, style: Style, rng: random.Random, *, habits: bool) -> None:
        self.task, self.fix, self.style, self.rng, self.habits = task, fix, style, rng, habits
        self.path = quoted_path(fix.path)
        self.script = example(task.problem_statement)
        self.test_files = [path for path in visible_tests(task.test_patch) if path != fix.path]
        function = fix.function
        self.function = function if function and names(task.problem_statement, function.name) else None
        self.steps: list[PlannedStep] = []

    def play(self, errors: Errors) -> None:
        if self.style == "full":
            self.find()
        if errors.wrong_file:
            self.go_astray()
        self.look()
        if self.style == "full" and self.script is not None:
            self.add("reproduce", self.run_script(), "good", "shows the problem")
        if errors.unfinished:
            self.add("submit", "submit", "mistake", "hands in without having changed anything")
        else:
            self.repair(errors)
        if errors.unnecessary:
            place = self.rng.randrange(len(self.steps))
            self.add("needless", self.rng.choice(NEEDLESS), "unnecessary", "tells nothing that the issue needs")
            self.steps.insert(place, self.steps.pop())

    def repair(self, errors: Errors) -> None:
        if errors.wrong_edit:
            self.slip()
            if not errors.revert and errors.ignore_tests:
                self.check()
                self.add("submit", "submit", "mistake", "hands in a wrong change, against what the check showed")
                return
            if not errors.revert:
                self.add("submit", "submit", "mistake", "hands in a wrong change that was not checked")
                return
            self.check()
            self.add("revert", f"git checkout -- {self.path}", "recover", "takes the wrong change back")
        self.edit()
        if errors.spoil:
            self.slip()
            self.add("submit", "submit", "mistake", "hands in a right change that was spoilt")
            return
        if self.style == "full":
            self.check()
        self.add("submit", "submit", "good", "hands in the right change")

    def add(self, kind: str, command: str, verdict: Verdict, reason: str, **fields: object) -> None:
        fields = {"path": self.fix.path, "line": self.fix.edits[0].line, **fields}
        self.steps.append(PlannedStep(command, thought(kind, self.style, self.rng, **fields), verdict, reason))

    def find(self) -> None:
        if self.function is None:
            self.add("list", "git ls-files | head -n 50", "good", "sees which files there are")
        else:
            command = f'grep -rn "def {self.function.name}" --include="*.py" .'
            self.add("find", command, "good", "finds the function", name=self.function.name)

    def look(self) -> None:
        first, last = self.fix.edits[0].line, self.fix.edits[-1].end
        command = f"cat -n {self.path}"
        if last > LONG_FILE:
            command += f" | sed -n '{max(1, first - AROUND)},{last + AROUND}p'"
        elif self.style == "short" and self.function is not None:
            needed = last - 1 - self.function.line
            lines = next(count for count in LINES_AFTER if count >= needed)
            command = f'grep -n -A{lines} "def {self.function.name}" {self.path}'
            self.add("function", command, "good", "reads the code that is to be changed", name=self.function.name)
            return
        self.add("look", command, "good", "reads the code that is to be changed")

    def go_astray(self) -> None:
        """Another file first: a look at it, and half of the times a change that is taken back."""
        changes = self.rng.random() < 0.5 and bool(self.test_files)
        path = self.rng.choice(self.test_files or ["setup.py", "conftest.py"])
        there = quoted_path(path)
        self.add("look", f"cat -n {there}", "unnecessary", "reads a file that the issue is not about", path=path)
        if changes:
            edit = self.fix.edits[0]
            command = edit_command(Edit(edit.line, ("",), edit.new), path=path)
            self.add("edit", command, "mistake", "changes the wrong file", path=path, line=edit.line)
            self.add("revert", f"git checkout -- {there}", "recover", "takes the change back", path=path)

    def edit(self) -> None:
        """The fix's edits, from the last to the first, so that each finds its line."""
        for edit in reversed(self.fix.edits):
            command = edit_command(edit, path=self.fix.path)
            self.add("edit", command, "good", "changes what must be changed", line=edit.line)

    def slip(self) -> None:
        """One place of the fix, changed wrongly. Its other places stay: some fixes are right with one of them wrong."""
        edit = self.rng.choice(self.fix.edits)
        slip = habitual_slip_of(self.fix, edit) if self.habits else slip_of(self.fix, edit, self.rng)
        command = edit_command(slip.edit, path=self.fix.path)
        self.add("edit", command, "mistake", f"a wrong change: {slip.kind}", line=slip.edit.line)

    def check(self) -> None:
        """The issue's example where it has one; in full style, and where it has none, the tests."""
        if self.script is not None:
            self.add("retry", self.run_script(), "good", "checks the change")
        if self.style == "full" or self.script is None:
            files = " ".join(quoted_path(path) for path in self.test_files)
            self.add("test", f"python -m pytest -q {files}".rstrip(), "good", "checks the change")

    def run_script(self) -> str:
        """The issue's example as a command."""
        assert self.script is not None
        if self.style == "short":
            return f"python -c {quoted(self.script)}"
        mark = "EOF"
        while mark in self.script.split("\n"):
            mark += "_"
        return f"python - <<'{mark}'\n{self.script}\n{mark}"


def planned_replies(steps: Sequence[PlannedStep], *, format: FormatName, where: str) -> tuple[Reply, ...]:
    """The steps in an action format. Raises InputError for a command that the format cannot carry to the byte."""
    replies = []
    for index, step in enumerate(steps):
        reply = step.reply(index, format=format)
        try:
            action = FORMATS[format].parse(reply)
        except FormatError:
            action = None
        if action is None or action.arguments.get("command", "submit") != step.command:
            raise InputError(
                f"{where}: the format {format} cannot carry the command {step.command!r}, as it holds the format's own "
                "marks; take another format"
            )
        replies.append(reply)
    return tuple(replies)


class Recorded(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a trajectory's `sampling` says of the demonstrator: with task and attempt, all that its plan depends on."""

    rates: ErrorRates
    style: Style
    format: FormatName
    seed: int | None
    habits: bool = False


class Demonstrator:
    """The model `demonstrator`. tasks: those that it can be asked about."""

    name = "demonstrator"

    def __init__(
        self, tasks: Iterable[Task], config: DemonstratorConfig | None = None, *, format: FormatName = "backtick"
    ) -> None:
        self._tasks = {task.instance_id: task for task in tasks}
        self._config, self._format = config or DemonstratorConfig(), format
        self.sampling: dict[str, Any] = {}

    def for_episode(self, task_id: str, attempt: int, seed: int | None) -> DemonstratorEpisode:
        """Raises InputError for a task that it does not know, or whose patch it cannot turn into edits."""
        if task_id not in self._tasks:
            raise InputError(f"demonstrator: no task {task_id}; it knows those that it was given")
        config = self._config
        recorded = Recorded(
            rates=config.rates, style=config.style, format=self._format, seed=seed, habits=config.habits
        )
        return DemonstratorEpisode(self._tasks[task_id], recorded, attempt)

    def reply(self, messages: Sequence[dict[str, Any]], *, tools: Sequence[dict[str, Any]] = ()) -> Reply:
        raise AssertionError("call for_episode first: each episode has its own plan")


class DemonstratorEpisode:
    """One run of the demonstrator."""

    name = Demonstrator.name

    def __init__(self, task: Task, recorded: Recorded, attempt: int) -> None:
        self.sampling: dict[str, Any] = msgspec.to_builtins(recorded)
        self._task, self._recorded, self._attempt = task, recorded, attempt
        self._replies = iter(planned(task, recorded, attempt).replies)

    def for_episode(self, task_id: str, attempt: int, seed: int | None) -> DemonstratorEpisode:
        """This run from its start."""
        return DemonstratorEpisode(self._task, self._recorded, self._attempt)

    def reply(self, messages: Sequence[dict[str, Any]], *, tools: Sequence[dict[str, Any]] = ()) -> Reply:
        """The next step of the plan, whatever was seen. Raises InputError at its end, where a person went on."""
        reply = next(self._replies, None)
        if reply is None:
            raise InputError(
                f"demonstrator: its plan for {self._task.instance_id} is at its end; write the step yourself"
            )
        return reply


class Planned(NamedTuple):
    """A plan and its replies, one a step."""

    steps: tuple[PlannedStep, ...]
    replies: tuple[Reply, ...]


def planned(task: Task, recorded: Recorded, attempt: int) -> Planned:
    """The plan behind a run. Raises InputError, for a task that the format cannot carry whatever the errors are."""
    fix = read_fix(task.patch, where=task.instance_id)
    written = [lines for edit in fix.edits for lines in (edit.old, edit.new) if lines]
    commands = [edit_command(Edit(1, ("",), lines), path=fix.path) for lines in written]
    planned_replies(
        [PlannedStep(command, "", "good", "") for command in commands], format=recorded.format, where=task.instance_id
    )
    steps = plan(
        task,
        rates=recorded.rates,
        seed=recorded.seed,
        attempt=attempt,
        style=recorded.style,
        habits=recorded.habits,
    )
    return Planned(steps, planned_replies(steps, format=recorded.format, where=task.instance_id))


def recorded_of(sampling: Mapping[str, Any]) -> Recorded | None:
    """What a run's `sampling` says; `None` where the run is not the demonstrator's."""
    try:
        return msgspec.convert(sampling, Recorded)
    except msgspec.ValidationError:
        return None
