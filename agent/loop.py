"""The episode: ask, parse, act, observe, until something ends it. Every ending has a name.

Reads a task, asks a model, acts in an environment, gives a `Trajectory`. Writes nothing.

    with closing(SweEnv([task], backend="docker")) as env:
        trajectory = run_episode(env, model, task=task, prompt=Prompt.load("default"), fmt=FORMATS["backtick"])
    trajectory.stop_reason, trajectory.patch        # 'submitted', 'diff --git ...'
"""

from __future__ import annotations

import threading
import time
import traceback
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple, Protocol, TypeVar

import msgspec
from loguru import logger

import srft
from srft.agent.formats import ActionFormat, FormatError
from srft.agent.models.answer import REASONING_FIELDS
from srft.agent.models.contract import ContextOverflow, Model, PatientModel, ReasoningWanted, Reply, well_formed
from srft.agent.models.stream import OnText, StreamingModel
from srft.agent.prompt_delta import delta_encode
from srft.agent.prompts.prompt import Prompt
from srft.agent.records import Action, Failure, Step, StopReason, Trajectory, trajectory_id
from srft.agent.tools.edit import Editor
from srft.env.errors import InfrastructureError, InputError, ModelError, SrftError
from srft.env.git.patch import PatchError
from srft.env.sandbox.contract import CommandResult, Sandbox
from srft.env.tasks.task import Task

S = TypeVar("S", bound=msgspec.Struct)


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

    def patch(self) -> str: ...


class EpisodeLimits(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """When an episode is over. `None`: no limit. All are looked at before each request, so the step under way ends.

    tokens: sampled in the whole episode. context_tokens: prompt and reply of one request. wall_s: from the first
    request on. format_errors: in a row.
    """

    steps: int | None = 100
    tokens: int | None = None
    context_tokens: int | None = None
    wall_s: float | None = 3600.0
    cost_usd: float | None = None
    command_timeout_s: float = 60.0
    format_errors: int = 3

    def __post_init__(self) -> None:
        for field in self.__struct_fields__:
            value = getattr(self, field)
            if value is not None and not value > 0:
                raise InputError(f"limits.{field} is {value}; expected more than 0, or null for no limit")


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
    """One episode, from reset to patch. Whatever happens in it, there is a trajectory with all that came before.

    stop: when set, the step under way is finished and the episode ends as `cancelled`. on_step: called after each step.
    Raises InputError where the prompt is not meant for the action format.
    """
    check_format(prompt, fmt)
    episode = Episode(env, model, task, prompt, fmt, limits or EpisodeLimits(), attempt, seed, stop, on_step)
    return episode.finished(ending_of(episode.play))


def check_format(prompt: Prompt, fmt: ActionFormat) -> None:
    """Raises InputError where the prompt is not meant for the action format."""
    if fmt.name not in prompt.text.formats:
        raise InputError(
            f"prompt {prompt.name} is for the formats {', '.join(prompt.text.formats)}; got format {fmt.name}"
        )


def worth_retrying(trajectory: Trajectory) -> bool:
    """Whether the episode is to be begun anew at once, because the world ended it.

    A wrong script or a bug of ours would end it again; and what the model's client could not get in minutes of trying
    is not got by sampling all steps again.
    """
    by_model = (trajectory.detail or "").startswith(MODEL_FAILED)
    return trajectory.stop_reason == "infra_error" and trajectory.failure == "world" and not by_model


MODEL_FAILED = f"{ModelError.__name__}: "
"""How the detail of an episode begins that ended because the model could not be asked."""


class Ending(NamedTuple):
    """Why something ended, what there is to say about it, and whose failure it was, if one."""

    reason: StopReason | None
    detail: str | None = None
    failure: Failure | None = None


def ending_of(work: Callable[[], Ending]) -> Ending:
    """The boundary of an episode: here exceptions turn into endings."""
    try:
        return work()
    except ContextOverflow as error:
        return Ending("context_limit", str(error))
    except ModelError as error:
        return Ending("infra_error", well_formed(f"{MODEL_FAILED}{error}"), "world")
    except SrftError as error:
        return Ending("infra_error", well_formed(f"{type(error).__name__}: {error}"), _failure(error))
    except Exception:  # noqa: BLE001 - our own bug costs this episode, never the batch
        return Ending("infra_error", well_formed(traceback.format_exc()), "bug")


def _failure(error: SrftError) -> Failure:
    if isinstance(error, InfrastructureError):
        return "world"
    return "input" if isinstance(error, InputError) else "bug"


def named(trajectory: Trajectory) -> Trajectory:
    """The trajectory with its id. One that could not be read back is our bug: it is repaired, and ends as an
    infra_error."""
    try:
        _DECODER.decode(msgspec.json.encode(trajectory))
    except Exception:  # noqa: BLE001 - the boundary of an episode: this too costs one episode, never the batch
        detail = f"the record of an episode that ended as {trajectory.stop_reason}: {traceback.format_exc()}"
        trajectory = msgspec.structs.replace(
            _repaired(trajectory), stop_reason="infra_error", detail=well_formed(detail), failure="bug"
        )
    content_id = trajectory_id(
        task_id=trajectory.task_id,
        model=trajectory.model,
        attempt=trajectory.attempt,
        messages=trajectory.messages,
    )
    return msgspec.structs.replace(trajectory, id=content_id)


_DECODER = msgspec.json.Decoder(Trajectory)


def _repaired(trajectory: Trajectory) -> Trajectory:
    """The trajectory with what JSON cannot hold replaced, and without those values that would not be read back."""
    storable: Trajectory = _storable(trajectory)
    steps = tuple(_readable(step) for step in storable.steps)
    return _readable(msgspec.structs.replace(storable, steps=steps))


def _readable(record: S) -> S:
    """The record with a field's default in the place of a value that is not of the field's type."""
    replaced = {}
    for field in msgspec.structs.fields(type(record)):
        try:
            msgspec.json.decode(msgspec.json.encode(getattr(record, field.name)), type=field.type)
        except msgspec.MsgspecError:
            default: Any = () if field.name in ("messages", "steps") else {} if field.name == "sampling" else None
            replaced[field.name] = default if field.default is msgspec.NODEFAULT else field.default
    return msgspec.structs.replace(record, **replaced)


def _storable(value: Any) -> Any:
    """The value with what JSON cannot hold mended: lone surrogates replaced, unknown objects as their repr."""
    if isinstance(value, str):
        return well_formed(value)
    if isinstance(value, msgspec.Struct):
        fields = {name: _storable(getattr(value, name)) for name in value.__struct_fields__}
        return msgspec.structs.replace(value, **fields)
    if isinstance(value, dict):
        return {_storable(name): _storable(member) for name, member in value.items()}
    if isinstance(value, list | tuple):
        return tuple(_storable(member) for member in value)
    return value if value is None or isinstance(value, bool | int | float) else well_formed(repr(value))


class Episode:
    """The state of a running episode: the messages and the steps, and what they cost.

    `run_episode` plays one to its end; the debugger asks and takes step by step.
    """

    def __init__(
        self,
        env: Environment,
        model: Model,
        task: Task,
        prompt: Prompt,
        fmt: ActionFormat,
        limits: EpisodeLimits,
        attempt: int,
        seed: int | None,
        stop: threading.Event | None,
        on_step: Callable[[Step], None] | None,
    ) -> None:
        self.env, self.model, self.task, self.prompt, self.fmt = env, model, task, prompt, fmt
        self.limits, self.attempt, self.seed, self.stop, self.on_step = limits, attempt, seed, stop, on_step
        self.messages: list[dict[str, Any]] = []
        self.steps: list[Step] = []
        self.editor: Editor | None = None
        self.patch: str | None = None
        self.format_errors = 0
        self.seen_ids: Sequence[int] = ()
        self.vocabulary: str | None = None
        self.started_at = datetime.now(UTC).isoformat(timespec="seconds")
        self.started_s = self.opened_s = time.monotonic()

    def play(self) -> Ending:
        """The episode from reset to its last step."""
        self.start()
        try:
            while (reason := self.limit_reached() or self.step()) is None:
                pass
        except ModelError:
            if self.stop is not None and self.stop.is_set():  # it was waited for no longer
                return Ending("cancelled")
            raise
        return Ending(reason)

    def start(self) -> None:
        """Reset the environment and write the opening messages."""
        self.model = self.model.for_episode(self.task.instance_id, self.attempt, self.seed)
        if self.stop is not None and isinstance(self.model, PatientModel):
            self.model = self.model.until(self.stop)
        self.env.reset(seed=self.seed, options={"task": self.task})
        self.opened_s = time.monotonic()  # the wait for an image or a container is not the agent's
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

    def step(self) -> StopReason | None:
        """Ask, parse, act, observe."""
        return self.take(self.ask(self.model))

    def ask(self, model: Model, *, on_text: OnText | None = None) -> Reply:
        """The model's reply to the messages so far, its earlier thinking among them where the server wants that.

        on_text: gets the reply's pieces as they come, where the model can stream.
        """
        try:
            return self.ask_once(model, on_text)
        except ReasoningWanted as wanted:
            self.send_reasoning(wanted.field)
            return self.ask_once(model, on_text)

    def ask_once(self, model: Model, on_text: OnText | None) -> Reply:
        if on_text is not None and isinstance(model, StreamingModel):
            return model.stream(self.messages, tools=self.fmt.tools, on_text=on_text)
        return model.reply(self.messages, tools=self.fmt.tools)

    def send_reasoning(self, field: str | None) -> None:
        """Put the earlier thinking into this field of the messages so far, or take it out of them."""
        steps = iter(self.steps)
        for place, message in enumerate(self.messages):
            if message["role"] == "assistant":
                kept = {name: value for name, value in message.items() if name not in REASONING_FIELDS}
                thought = next(steps).reasoning or ""
                self.messages[place] = kept | ({field: thought} if field else {})

    def take(self, reply: Reply) -> StopReason | None:
        """A reply as the episode's next step: parse, act, observe."""
        self.messages.append(self.fmt.assistant_message(reply))
        step = self.asked(reply)
        try:
            action = self.fmt.parse(reply)
        except FormatError as error:
            self.refuse(step, reply, error)
            return None
        self.format_errors = 0
        timeout_s = self.command_timeout_s()
        try:
            result = self.act(action, timeout_s=timeout_s)
        except InfrastructureError:
            self.add(step, action=action, error="infrastructure")
            raise
        command = action.arguments.get("command", "submit")
        if action.tool != "edit" and self.env.is_submission(command, result):
            self.add(step, action=action, **_outcome(result))
            return "submitted"
        assert result is not None
        text, elided_chars = self.prompt.observation(result, command=command, timeout_s=timeout_s)
        self.messages.append(self.fmt.render_observation(action, text))
        self.add(step, action=action, observation=text, elided_chars=elided_chars, **_outcome(result))
        return None

    def limit_reached(self) -> StopReason | None:
        """Why no further step is taken, if so."""
        limits, usages = self.limits, [step.usage for step in self.steps if step.usage]
        tokens = sum(usage.completion_tokens or 0 for usage in usages)
        context = sum((usages[-1].prompt_tokens or 0, usages[-1].completion_tokens or 0)) if usages else 0
        reached: tuple[tuple[StopReason, bool], ...] = (
            ("format_errors", self.format_errors >= limits.format_errors),
            ("step_limit", _reached(len(self.steps), limits.steps)),
            ("token_limit", _reached(tokens, limits.tokens)),
            ("cost_limit", _reached(sum(usage.cost_usd or 0.0 for usage in usages), limits.cost_usd)),
            ("wall_limit", _reached(time.monotonic() - self.opened_s, limits.wall_s)),
            ("context_limit", _reached(context, limits.context_tokens)),
            # Last: an episode that is over anyway must not be done again.
            ("cancelled", self.stop is not None and self.stop.is_set()),
        )
        return next((reason for reason, over in reached if over), None)

    def asked(self, reply: Reply) -> Step:
        """The step as far as the reply goes."""
        prompt = delta_encode(self.seen_ids, reply.prompt_token_ids)
        # As `prompts` decodes: a reply alone, without its prompt, is no beginning of the next prompt.
        self.seen_ids = () if prompt is None else (*(reply.prompt_token_ids or ()), *(reply.token_ids or ()))
        self.vocabulary = reply.vocabulary or self.vocabulary
        self.check_usage(reply)
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

    def check_usage(self, reply: Reply) -> None:
        """Say once an episode that a limit cannot be watched."""
        usage, limits = reply.usage, self.limits
        unknown = [
            name
            for name, limit, value in (
                ("tokens", limits.tokens, usage and usage.completion_tokens),
                ("context_tokens", limits.context_tokens, usage and usage.prompt_tokens),
                ("cost_usd", limits.cost_usd, usage and usage.cost_usd),
            )
            if limit is not None and value is None
        ]
        if unknown and not self.steps:
            logger.warning(
                "{}: model {} does not report what limits.{} counts; that limit has no effect",
                self.task.instance_id,
                self.model.name,
                " and limits.".join(unknown),
            )

    def command_timeout_s(self) -> float:
        """A command's limit, or what is left of the episode's time where that is less."""
        if self.limits.wall_s is None:
            return self.limits.command_timeout_s
        left_s = self.limits.wall_s - (time.monotonic() - self.opened_s)
        return min(self.limits.command_timeout_s, max(1.0, left_s))

    def act(self, action: Action, *, timeout_s: float) -> CommandResult | None:
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

    def refuse(self, step: Step, reply: Reply, error: FormatError) -> None:
        """Answer a reply without a readable action; the last one allowed stays without an answer."""
        self.format_errors += 1
        text = None
        if self.format_errors < self.limits.format_errors:
            text = self.prompt.format_error(
                str(error), finish_reason=reply.finish_reason, instructions=self.fmt.instructions
            )
            self.messages += self.fmt.render_format_error(reply, text)
        self.add(step, observation=text, error="format")

    def add(self, step: Step, **outcome: Any) -> None:
        self.steps.append(msgspec.structs.replace(step, **outcome))
        if self.on_step is not None:
            self.on_step(self.steps[-1])

    def finished(self, ending: Ending) -> Trajectory:
        """The record of an episode that is over, its patch taken."""
        taken = ending_of(self.take_patch)
        if taken.reason == "infra_error" and ending.reason != "infra_error":
            detail = f"the patch of an episode that ended as {ending.reason}: {taken.detail}"
            ending = Ending("infra_error", detail, taken.failure)
        return named(self.trajectory(ending._replace(detail=ending.detail or taken.detail)))

    def take_patch(self) -> Ending:
        """Done on every ending of an episode whose environment was reset."""
        if self.editor is not None:
            try:
                self.patch = self.env.patch()
            except PatchError as error:
                self.patch = None
                return Ending(None, f"PatchError: {error}")
        return Ending(None)

    def trajectory(self, ending: Ending) -> Trajectory:
        """All that is known, without the id: to encode the messages may fail."""
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


def _reached(value: float, limit: float | None) -> bool:
    return limit is not None and value >= limit


def _outcome(result: CommandResult | None) -> dict[str, Any]:
    if result is None:
        return {}
    return {"exit_code": result.exit_code, "wall_s": result.wall_s, "timed_out": result.timed_out}
