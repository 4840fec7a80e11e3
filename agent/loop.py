"""The episode: ask the model, read its action, act, observe, until something ends it. Every ending has a name.

Reads a task, asks a model, acts in an environment, gives a `Trajectory`. Writes nothing.

    with closing(SweEnv([task], backend="docker")) as env:
        trajectory = run_episode(env, model, task=task, prompt=Prompt.load("default"), fmt=FORMATS["backtick"])
    trajectory.stop_reason, trajectory.patch        # 'submitted', 'diff --git ...'
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Protocol

import msgspec
from loguru import logger

import srft
from srft.agent.ending import Ending, ending_of
from srft.agent.formats import ActionFormat, FormatError
from srft.agent.limits import EpisodeLimits
from srft.agent.models.answer import REASONING_FIELDS
from srft.agent.models.contract import Model, PatientModel, ReasoningWanted, Reply
from srft.agent.models.stream import OnText, StreamingModel
from srft.agent.prompt_delta import delta_encode
from srft.agent.prompts.prompt import Prompt
from srft.agent.records import Action, Step, StopReason, Trajectory
from srft.agent.storable import named
from srft.agent.tools.edit import Editor
from srft.env.errors import InfrastructureError, InputError, ModelError
from srft.env.git.patch import Patch, PatchError
from srft.env.sandbox.contract import CommandResult, Sandbox
from srft.env.tasks.task import Task


class Environment(Protocol):
    """What the loop needs of an environment; `srft.env.swe_env.SweEnv` has it."""

    @property
    def sandbox(self) -> Sandbox: ...

    @property
    def workdir(self) -> str: ...

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]: ...

    def execute(self, command: str, *, timeout_s: float) -> CommandResult: ...

    def is_submission(self, command: str, result: CommandResult | None) -> bool: ...

    def patch(self) -> Patch: ...


def run_episode(
    env: Environment,
    model: Model,
    *,
    task: Task,
    prompt: Prompt,
    fmt: ActionFormat,
    limits: EpisodeLimits | None = None,
    attempt: int = 0,
    seed: int | None = None,
    stop: threading.Event | None = None,
    on_step: Callable[[Step], None] | None = None,
) -> Trajectory:
    """One episode, from reset to patch; the arguments are `Episode`'s fields.

    Whatever happens, it gives a trajectory with all that came before. Raises InputError where the prompt is not meant
    for the action format.
    """
    check_format(prompt, fmt)
    episode = Episode(
        env=env,
        model=model,
        task=task,
        prompt=prompt,
        fmt=fmt,
        limits=limits or EpisodeLimits(),
        attempt=attempt,
        seed=seed,
        stop=stop,
        on_step=on_step,
    )
    return episode.finished(ending_of(episode.play))


def check_format(prompt: Prompt, fmt: ActionFormat) -> None:
    """Raises InputError where the prompt is not meant for the action format."""
    if fmt.name not in prompt.text.formats:
        raise InputError(
            f"prompt {prompt.name} is for the formats {', '.join(prompt.text.formats)}; got format {fmt.name}. "
            "Choose one of those, or another prompt."
        )


@dataclass(kw_only=True)
class Episode:
    """A running episode. `run_episode` plays one to its end; the debugger asks and takes step by step."""

    env: Environment
    """Where the commands run."""
    model: Model
    """Who replies; from `start` on, its view of this episode."""
    task: Task
    """What is to be done."""
    prompt: Prompt
    """The words of system prompt, task and observations."""
    fmt: ActionFormat
    """How the model writes an action."""
    limits: EpisodeLimits
    """When the episode is over."""
    attempt: int = 0
    """The how-manieth try at the task, from 0 on."""
    seed: int | None = None
    """The seed of environment and model; `None`: theirs."""
    stop: threading.Event | None = None
    """When set, the step under way is finished and the episode ends as `cancelled`."""
    on_step: Callable[[Step], None] | None = None
    """Called after each step."""

    messages: list[dict[str, Any]] = field(default_factory=list)
    """The conversation as the next request sends it."""
    steps: list[Step] = field(default_factory=list)
    """What was done: a step for each reply."""
    format_errors: int = 0
    """Replies without a readable action, in a row up to now."""
    seen_ids: Sequence[int] = ()
    """Token ids of the last prompt and reply; empty where they are not known."""
    vocabulary: str | None = None
    """Of the token ids, where it is known."""
    editor: Editor | None = None
    """The edit tool in this environment; `None` until it was reset."""
    patch: str | None = None
    """What the episode changed, taken at its end."""
    started_at: str = field(default_factory=lambda: datetime.now(UTC).isoformat(timespec="seconds"))
    """Date and time (UTC) when it began."""
    started_s: float = field(default_factory=time.monotonic)
    """The same on the monotonic clock."""
    opened_s: float = field(default_factory=time.monotonic)
    """When the environment was ready: the wait for an image or a container is not the agent's."""

    def play(self) -> Ending:
        """The episode from reset to its last step."""
        self.start()
        reason = None
        try:
            while reason is None:
                reason = self.limit_reached() or self.take(self.ask(self.model))
        except ModelError:
            if self.stop is not None and self.stop.is_set():  # the stop ended the wait for the model
                return Ending("cancelled")
            raise
        return Ending(reason)

    def start(self) -> None:
        """Reset the environment and write the opening messages."""
        self.model = self.model.for_episode(self.task.instance_id, self.attempt, self.seed)
        if self.stop is not None and isinstance(self.model, PatientModel):
            self.model = self.model.until(self.stop)
        self.env.reset(seed=self.seed, options={"task": self.task})
        self.opened_s = time.monotonic()
        self.editor = Editor(self.env.sandbox, self.env.workdir)
        opening = {
            "workdir": self.env.workdir,
            "mode": self.env.sandbox.spec.mode,
            "instructions": self.fmt.instructions,
        }
        self.messages = [
            {"role": "system", "content": self.prompt.system(self.task.view, **opening)},
            {"role": "user", "content": self.prompt.instance(self.task.view, **opening)},
        ]

    def limit_reached(self) -> StopReason | None:
        """Why no further step is taken, if so. A stop comes last: an episode that is over must not be done again."""
        seconds = time.monotonic() - self.opened_s
        reached = self.limits.reached(self.steps, seconds=seconds, format_errors=self.format_errors)
        return reached or ("cancelled" if self.stop is not None and self.stop.is_set() else None)

    def ask(self, model: Model, *, on_text: OnText | None = None) -> Reply:
        """The model's reply to the messages so far, its earlier thinking among them where the server wants that.

        on_text: gets the reply's pieces as they come, where the model can stream.
        """

        def asked() -> Reply:
            if on_text is not None and isinstance(model, StreamingModel):
                return model.stream(self.messages, tools=self.fmt.tools, on_text=on_text)
            return model.reply(self.messages, tools=self.fmt.tools)

        try:
            return asked()
        except ReasoningWanted as wanted:
            self._send_reasoning(wanted.field)
            return asked()

    def _send_reasoning(self, name: str | None) -> None:
        """Put the earlier thinking into this field of the messages so far; `None`: take it out of them."""
        steps = iter(self.steps)
        for place, message in enumerate(self.messages):
            if message["role"] == "assistant":
                kept = {key: value for key, value in message.items() if key not in REASONING_FIELDS}
                thought = next(steps).reasoning or ""
                self.messages[place] = kept | ({name: thought} if name else {})

    def take(self, reply: Reply) -> StopReason | None:
        """The reply as the next step: read its action, act, observe. Gives the reason where that ends the episode."""
        self.messages.append(self.fmt.assistant_message(reply))
        step = self.begun(reply)
        try:
            action = self.fmt.parse(reply)
        except FormatError as error:
            self._refuse(step, reply, error)
            return None
        self.format_errors = 0
        timeout_s = self.limits.command_s(seconds=time.monotonic() - self.opened_s)
        try:
            result = self._act(action, timeout_s=timeout_s)
        except InfrastructureError:
            self._add(step, action=action, error="infrastructure")
            raise
        done = {"exit_code": result.exit_code, "wall_s": result.wall_s, "timed_out": result.timed_out} if result else {}
        command = action.arguments.get("command", "submit")
        if action.tool != "edit" and self.env.is_submission(command, result):
            self._add(step, action=action, **done)
            return "submitted"
        assert result is not None
        text, elided_chars = self.prompt.observation(result, command=command, timeout_s=timeout_s)
        self.messages.append(self.fmt.render_observation(action, text))
        self._add(step, action=action, observation=text, elided_chars=elided_chars, **done)
        return None

    def begun(self, reply: Reply) -> Step:
        """The next step as far as its reply goes, which is the last message."""
        if not self.steps and (uncounted := self.limits.uncounted(reply.usage)):
            logger.warning(
                "{}: model {} does not report what limits.{} counts; that limit has no effect",
                self.task.instance_id,
                self.model.name,
                " and limits.".join(uncounted),
            )
        prompt = delta_encode(self.seen_ids, reply.prompt_token_ids)
        # As `prompts` decodes: a reply alone, without its prompt, is no beginning of the next prompt.
        self.seen_ids = () if prompt is None else (*(reply.prompt_token_ids or ()), *(reply.token_ids or ()))
        self.vocabulary = reply.vocabulary or self.vocabulary
        return Step(
            index=len(self.steps),
            content=reply.content,
            reasoning=reply.reasoning,
            tool_calls=tuple(self.messages[-1].get("tool_calls", ())),
            prompt_shared=prompt.shared if prompt else None,
            prompt_token_ids=prompt.token_ids if prompt else None,
            token_ids=reply.token_ids,
            logprobs=reply.logprobs,
            finish_reason=reply.finish_reason,
            usage=reply.usage,
            author=reply.author,
        )

    def _refuse(self, step: Step, reply: Reply, error: FormatError) -> None:
        """Answer a reply without a readable action; the last one allowed gets no answer."""
        self.format_errors += 1
        text = None
        if self.format_errors < self.limits.format_errors:
            text = self.prompt.format_error(
                str(error), finish_reason=reply.finish_reason, instructions=self.fmt.instructions
            )
            self.messages += self.fmt.render_format_error(reply, text)
        self._add(step, observation=text, error="format")

    def _act(self, action: Action, *, timeout_s: float) -> CommandResult | None:
        """What the action did. `None` where there is nothing to run."""
        if action.tool == "edit":
            assert self.editor is not None
            began_s = time.monotonic()
            edited = self.editor.run(action.arguments)
            wall_s = time.monotonic() - began_s
            return CommandResult(output=edited.text, exit_code=edited.exit_code, wall_s=wall_s)
        if action.tool == "submit" or self.env.is_submission(action.arguments["command"], None):
            return None
        return self.env.execute(action.arguments["command"], timeout_s=timeout_s)

    def _add(self, step: Step, **outcome: Any) -> None:
        self.steps.append(msgspec.structs.replace(step, **outcome))
        if self.on_step is not None:
            self.on_step(self.steps[-1])

    def finished(self, ending: Ending) -> Trajectory:
        """The record of an episode that is over, its patch taken."""
        taken = ending_of(self._take_patch)
        if taken.reason == "infra_error" and ending.reason != "infra_error":
            detail = f"the patch of an episode that ended as {ending.reason}: {taken.detail}"
            ending = Ending("infra_error", detail, taken.failure)
        told = [ending.detail, taken.detail if taken.reason is None else None]
        return named(self.trajectory(ending._replace(detail="; ".join(filter(None, told)) or None)))

    def _take_patch(self) -> Ending:
        """Take the patch, whatever the ending, where the environment was reset."""
        if self.editor is not None:
            try:
                taken = self.env.patch()
            except PatchError as error:
                self.patch = None
                return Ending(None, f"PatchError: {error}")
            self.patch = taken.text
            return Ending(None, taken.remark)
        return Ending(None)

    def trajectory(self, ending: Ending) -> Trajectory:
        """All that is known, without the id, which `named` gives: to encode the messages may fail."""
        assert ending.reason is not None
        return Trajectory(
            id="",
            task_id=self.task.instance_id,
            repo=self.task.repo,
            model=self.model.name,
            sampling=self.model.sampling,
            scaffold=f"srft-{srft.__version__}/{self.fmt.name}",
            prompt=f"{self.prompt.name}@{self.prompt.fingerprint}",
            seed=self.seed,
            attempt=self.attempt,
            messages=tuple(self.messages),
            tools=tuple(self.fmt.tools),
            steps=tuple(self.steps),
            patch=self.patch,
            stop_reason=ending.reason,
            detail=ending.detail,
            failure=ending.failure,
            started_at=self.started_at,
            wall_s=time.monotonic() - self.started_s,
            vocabulary=self.vocabulary,
        )
