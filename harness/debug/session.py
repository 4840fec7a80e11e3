"""One task in hand: a live workspace, the conversation, and a snapshot before each step. No terminal in it.

Reads a task, a model, and recorded runs to replay; writes into a run what `save` is asked to (see `saving.py`).

    with Session.open(config, critic="tool_error") as session:
        session.ask()                                    # the model's next reply; nothing is done yet
        session.edit("ls -la")                           # done with another action: a step, its author `edited`
        session.write("cat answer.txt", thought="Look.")  # a step of one's own, its author `human`
        session.rewind(1)                                # files, conversation and edits as before step 1: a new fork
        session.diff(), session.tests().outcome, session.critique().labels
        session.save("runs/mine")

A step is taken by the loop's own `Episode`, so that what is saved is what `run_episode` would have left. Reply k of a
script, a recording or the demonstrator belongs to step k, whoever wrote the steps before; an endpoint is asked anew.
What a rewind cannot bring back are processes and, in persistent mode, variables: it gives a fresh shell.

One thread at a time; `close` may come from any.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self

import msgspec

from srft.agent.demonstrator.demonstrator import DemonstratorEpisode
from srft.agent.ending import Ending, ending_of
from srft.agent.formats import FORMATS, FormatError
from srft.agent.loop import Episode, check_format
from srft.agent.models.contract import ContextOverflow, Model, Reply
from srft.agent.models.human import HumanModel, action_of, edited, thought_of, typed
from srft.agent.models.scripted import ScriptedEpisode, recorded_reply
from srft.agent.prompts.prompt import Prompt
from srft.agent.records import Action, Step, Trajectory, Usage
from srft.agent.storable import named
from srft.critic.judge.judge import add_usage
from srft.critic.labels.labels import Critic, Critique, StepLabel, Verdict, check_complete
from srft.env.backends import Backend
from srft.env.errors import InfrastructureError, InputError
from srft.env.grading.grade import Grade
from srft.env.swe_env import SweEnv
from srft.env.tasks.task import Task, load_tasks
from srft.env.workspace import WorkspaceSettings
from srft.harness.config.config import CollectConfig
from srft.harness.debug.lines import Lines, Point
from srft.harness.debug.saving import Saved, save_run
from srft.harness.debug.scratch import Scratch
from srft.harness.run.evidence import EvidenceBook
from srft.harness.stages.backend import open_backend
from srft.harness.stages.evaluate import Grader, Submission
from srft.harness.stages.models import check_model, close_model, configured_model

HUMAN = "human"
"""The model that is a person."""


class Proposal(NamedTuple):
    """A reply that is not taken yet. action: `None` where none can be read from it, which `problem` says."""

    reply: Reply
    action: Action | None
    problem: str | None


class Session:
    """One episode, in hand. Enter it to start; `close` leaves nothing behind."""

    def __init__(
        self,
        task: Task,
        model: Model,
        *,
        backend: Backend,
        config: CollectConfig,
        critics: Callable[[], Critic],
    ) -> None:
        prompt, fmt = Prompt.load(config.prompt), FORMATS[config.format]
        check_format(prompt, fmt)
        sandbox = config.sandbox
        settings = WorkspaceSettings(mode=sandbox.mode, network=sandbox.network, limits=sandbox.limits)
        self.task, self.config, self._model, self._backend = task, config, model, backend
        self._critics = critics
        self._critic: Critic | None = None
        self._env = SweEnv([task], backend=backend, settings=settings, grade_submission=False)
        # A person takes the time it takes.
        limits = msgspec.structs.replace(config.episode, wall_s=None)
        self.episode = Episode(
            env=self._env, model=model, task=task, prompt=prompt, fmt=fmt, limits=limits, seed=config.seed
        )
        self.lines = Lines()
        self.proposal: Proposal | None = None
        self._labels: dict[int, StepLabel] = {}  # by the number of the point behind the step
        self._saved: dict[int, StepLabel | None] = {}  # the label it was saved with, by the number of the point
        self._verdicts: dict[int, Grade] = {}  # by the number of the point
        self.spent: Usage | None = None
        self._points = 0
        self.scratch = Scratch()
        self._round = self.scratch.round
        asked = config.grading
        self._grader = Grader(backend, self._round, workers=1, timeout_s=asked.timeout_s, container=asked.container)

    @classmethod
    def open(cls, config: CollectConfig, *, critics: Callable[[], Critic]) -> Session:
        """The session that a configuration describes, not started. Raises InputError, EngineError, ModelError."""
        tasks = load_tasks(config.tasks, only=config.only)
        if len(tasks) != 1:
            raise InputError(f"{config.tasks}: expected one task to debug, got {len(tasks)}; name its id")
        model = HumanModel() if config.model == HUMAN else configured_model(config, tasks)
        backend = open_backend(config.sandbox.kind, config.images)
        backend.reap()
        check_model(model)
        return cls(tasks[0], model, backend=backend, config=config, critics=critics)

    def start(self) -> None:
        """Open the workspace and write the opening messages. Raises ImageError, EngineError, SandboxDied."""
        self.episode.start()
        self._arrive(None)

    # ---- what comes next ----

    def ask(self, on_text: Callable[[str], None] | None = None) -> Proposal:
        """The model's next reply, kept as the proposal. Asked again, an endpoint may say something else.

        on_text: gets its pieces as they come, where the model can stream. Raises InputError where the episode is over
        or a script is at its end, ModelError; a conversation that is too long ends the episode: see `stop_reason`.
        """
        self._refuse_over()
        self.proposal = None
        try:
            reply = self.episode.ask(self._model_now(), on_text=on_text)
        except ContextOverflow as error:
            over = self.episode.finished(Ending("context_limit", str(error)))
            self.lines.end(replace(self.lines.tip, finished=over))
            raise InputError(f"the episode is over: the conversation does not fit the model ({error})") from None
        self.spent = add_usage(self.spent, reply.usage)
        self.proposal = self._read(reply)
        return self.proposal

    def _read(self, reply: Reply) -> Proposal:
        try:
            return Proposal(reply, self.episode.fmt.parse(reply), None)
        except FormatError as error:
            return Proposal(reply, None, str(error))

    def _model_now(self) -> Model:
        """The model, a script at its reply for this step."""
        if isinstance(self.episode.model, ScriptedEpisode | DemonstratorEpisode):
            model = self._model.for_episode(self.task.instance_id, self.episode.attempt, self.episode.seed)
            for _ in self.episode.steps:
                model.reply(())
            return model
        return self.episode.model

    def approve(self) -> Step:
        """Take the proposal as it is; the model is asked for one where there is none."""
        proposal = self.proposal or self.ask()
        return self._take(proposal.reply)

    def edit(
        self, text: str, *, tool: str | None = None, thought: str | None = None, thinking: str | None = None
    ) -> Step:
        """Take the proposal with another action. text: as `human.action_text` writes it; tool: "edit" where that
        is arguments of the edit tool, else as it was. thought, thinking: other words before it, see `human.edited`.
        Raises InputError; the proposal then stays."""
        proposal = self.proposal or self.ask()
        before = proposal.action
        tool = tool or (before.tool if before else "bash")
        action = action_of(text, tool=tool, fmt=self.episode.fmt)
        old_thought, old_thinking = self.words()
        is_same = before is not None and (action.tool, action.arguments) == (before.tool, before.arguments)
        if is_same and thought in (None, old_thought) and thinking in (None, old_thinking):
            return self._take(proposal.reply)
        given = {"thought": thought, "thinking": thinking}
        return self._take(edited(proposal.reply, action, fmt=self.episode.fmt, index=self.step, **given))

    def words(self) -> tuple[str, str]:
        """(the thought, the thinking) of the proposal; empty where there is none."""
        if self.proposal is None:
            return "", ""
        return thought_of(self.proposal.reply, fmt=self.episode.fmt), self.proposal.reply.reasoning or ""

    def write(self, text: str, *, thought: str = "", tool: str = "bash") -> Step:
        """Take an action of one's own; a proposal is discarded. Raises InputError."""
        self._refuse_over()
        action = action_of(text, tool=tool, fmt=self.episode.fmt)
        return self._take(typed(action, thought=thought, fmt=self.episode.fmt, index=self.step))

    def _take(self, reply: Reply) -> Step:
        self._refuse_over()
        self.proposal = None
        before = self.step
        ending = ending_of(lambda: Ending(self.episode.take(reply) or self.episode.limit_reached()))
        if self.step == before:
            self._return_to(self.lines.tip)
            raise InputError(f"step {before} cannot be taken ({ending.detail}); the session is as it was before it")
        self._arrive(ending if ending.reason else None)
        return self.episode.steps[-1]

    def replay(self, run: Trajectory, *, to: int | None = None) -> list[str]:
        """Take the first `to` steps of a recorded run, all unless given; what came out otherwise than recorded.

        Raises InputError where the run has fewer steps.
        """
        count = len(run.steps) if to is None else to
        if not 0 <= count <= len(run.steps):
            raise InputError(f"--to {count}: the recorded run has {len(run.steps)} steps")
        differing = []
        for recorded in run.steps[:count]:
            step = self._take(recorded_reply(recorded))
            if step.error == "format" and recorded.error != "format":
                differing.append(f"step {step.index}: no action could be read; is --format the recorded run's?")
            elif recorded.exit_code is not None and step.exit_code != recorded.exit_code:
                differing.append(f"step {step.index}: exit code {step.exit_code}, recorded {recorded.exit_code}")
            if self.lines.tip.finished is not None:
                break
        self._saved |= {point.number: None for point in self.lines.here.points}  # on file where they came from
        return differing

    # ---- where it stands ----

    @property
    def step(self) -> int:
        """The index of the step to come."""
        return len(self.episode.steps)

    def _refuse_over(self) -> None:
        finished = self.lines.tip.finished
        if finished is not None:
            raise InputError(
                f"the episode is over ({finished.stop_reason}): rewind to a step before its end, or go to another fork"
            )

    def _arrive(self, ending: Ending | None) -> None:
        """A point for where the episode is now."""
        episode, snapshot, directory = self.episode, None, None
        assert episode.editor is not None
        try:
            if ending is None:
                snapshot = self._env.sandbox.snapshot()
                directory = self._directory()
        except InfrastructureError as error:
            ending = Ending("infra_error", f"no snapshot after step {self.step - 1}: {error}", "world")
        point = Point(
            number=self._points,
            messages=tuple(episode.messages),
            steps=tuple(episode.steps),
            format_errors=episode.format_errors,
            seen_ids=episode.seen_ids,
            editor=episode.editor.copy(),
            directory=directory,
            snapshot=snapshot,
            finished=episode.finished(ending) if ending else None,
        )
        self._points += 1
        self.lines.arrive(point)

    def _directory(self) -> str | None:
        """Where a persistent shell stands: a restored one begins elsewhere."""
        if self._env.sandbox.spec.mode != "persistent":
            return None
        return self._env.sandbox.run("pwd", 10).output.removesuffix("\n")

    def rewind(self, step: int) -> None:
        """Go back to before that step; what was done since stays as a fork. Raises InputError, EngineError."""
        self._return_to(self.lines.point(step))
        self.lines.fork(step)

    def fork(self, number: int) -> None:
        """Go to the end of another fork. Raises InputError, EngineError."""
        self._return_to(self.lines.end_of(number))
        self.lines.switch(number)

    def _return_to(self, point: Point) -> None:
        """Bring the files, then the episode back to a point. Where that fails, the line is still the one it was: its
        caller changes it afterwards."""
        if point.snapshot is not None:
            self._env.sandbox.restore(point.snapshot)
            if point.directory is not None:
                self._env.sandbox.run(f"cd -- {shlex.quote(point.directory)}", 10)
        self.proposal = None
        episode = self.episode
        episode.messages, episode.steps = list(point.messages), list(point.steps)
        episode.format_errors, episode.seen_ids = point.format_errors, point.seen_ids
        episode.editor = point.editor.copy()
        episode.patch = point.finished.patch if point.finished else None

    # ---- what is to be known ----

    def diff(self) -> str | None:
        """What was changed so far; nothing that runs in the sandbox is disturbed. `None` where an episode ended without
        a patch. Raises PatchError."""
        finished = self.lines.tip.finished
        return finished.patch if finished else self._env.patch(kill=False).text

    def tests(self) -> Grade:
        """The official verdict on the diff so far, by the hidden tests in a fresh container."""
        verdict = self._grader.submit(Submission(self.task, self.diff())).result()
        self._verdicts[self.lines.tip.number] = verdict
        return verdict

    def verdict(self) -> Grade | None:
        """What is known of this place without running the tests."""
        tip = self.lines.tip
        known = self._grader.known(Submission(self.task, tip.finished.patch)) if tip.finished else None
        return self._verdicts.get(tip.number, known)

    def trajectory(self) -> Trajectory:
        """The run as it is; `cancelled` where it is not over. Raises PatchError."""
        finished = self.lines.tip.finished
        if finished is not None:
            return finished
        # The episode's own patch is for its end: one that cannot be taken there must not leave this one in its place.
        run = self.episode.trajectory(Ending("cancelled"))
        return named(msgspec.structs.replace(run, patch=self.diff()))

    def critique(self) -> Critique:
        """The critic's word on the run so far. Raises InputError where it needs more than is known, ModelError."""
        if not self.episode.steps:
            raise InputError("there is no step yet for the critic to judge; take one first")
        self._critic = self._critic or self._critics()
        critic, run = self._critic, self.trajectory()
        book = EvidenceBook(
            self._round,
            information=getattr(critic, "information", "none"),
            gold_patches={self.task.instance_id: self.task.patch},
        )
        if missing := book.missing(run):
            raise InputError(f"critic {critic.name}: it is to see the {missing}, which is not known yet; run the tests")
        told = critic.judge(run, book.of(run))
        if told is None:
            raise InputError(f"critic {critic.name}: it has no opinion on this run")
        check_complete(told.labels, steps=len(run.steps), where=f"critic {critic.name}")
        self.spent = add_usage(self.spent, told.usage)
        return told

    # ---- what stays ----

    def label(self, step: int, verdict: Verdict | None, *, reason: str | None = None) -> StepLabel:
        """One's own word on a step of this line; a verdict of `None` takes it back. Raises InputError."""
        if not 0 <= step < self.step:
            raise InputError(f"step {step}: not taken yet; this line has {self.step} steps")
        label = StepLabel(step=step, verdict=verdict, reason=reason)
        number = self.lines.here.points[step + 1].number
        if verdict is None:
            self._labels.pop(number, None)
        else:
            self._labels[number] = label
        return label

    def labels(self) -> dict[int, StepLabel]:
        """Step -> one's own word, of this line."""
        points = self.lines.here.points[1 : self.step + 1]
        return {step: self._labels[point.number] for step, point in enumerate(points) if point.number in self._labels}

    def save(self, folder: str | Path) -> Saved:
        """Add this line to a run, with the labels that were given and the verdicts that are known.

        Raises InputError, StorageError.
        """
        if not self.episode.steps:
            raise InputError("there is no step yet to save; take one first")
        saved = save_run(self.trajectory(), Path(folder), labels=self.labels(), grades=self._round.grades.read())
        self._saved |= {point.number: self._labels.get(point.number) for point in self.lines.here.points}
        return saved

    def unsaved(self) -> list[int]:
        """The forks with a step or a label that no `save` has written."""
        return [
            line.number
            for line in self.lines.all
            if any(
                point.number not in self._saved or self._saved[point.number] != self._labels.get(point.number)
                for point in line.points[1:]
            )
        ]

    def close(self, *, wait_for_tests: bool = True) -> None:
        """Remove the container, its snapshots and the scratch files but the tests' logs, and close the model.
        Idempotent."""
        self._env.close()
        self._grader.close(wait_for_running=wait_for_tests)
        self._backend.close()
        close_model(self._model)
        self.scratch.clear()

    def __enter__(self) -> Self:
        with ExitStack() as undo:
            undo.callback(self.close)
            self.start()
            undo.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
