"""A critic of one's own: a small model that learned verdicts from labels, and how it is asked.

Reads runs and labels; writes nothing. What it is trained on and what it is asked are made here, so they are the same.

    lessons(run, labels, FormConfig(), resolved=False)          # conversations of one reply each, for `srft rows`
    critic = TrainedCritic(form, model, id="3f2a...", trained_on=frozenset({"flask__flask-1"}))
    critic.judge(trajectory, Evidence(resolved=False)).labels[3]

A question shows the task and some steps with what they saw, and asks for their verdicts; the reply has a line a step:

    0 good
    1 mistake

A longer run takes several questions, each with the commands before it in a line each. Lines of a run that read like
the question's own marks are moved in by a space, so that no run can forge a step. A verdict's confidence is the
probability that the model gave to its word, where the model says it. A step without a line is an abstention.
"""

from __future__ import annotations

import hashlib
import math
import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Annotated, Any, Literal, NamedTuple, Protocol

import msgspec

from srft.agent.models.contract import ContextOverflow, Reply
from srft.agent.records import Step, Trajectory
from srft.critic.judge.judge import add_usage
from srft.critic.judge.prompt import elide
from srft.critic.labels.label_file import VERDICTS
from srft.critic.labels.labels import Critique, Evidence, Source, StepLabel, Verdict, critique_by
from srft.env.errors import InputError, ModelError

VERSION = 1
"""Part of the fingerprints of rows and critics: raise it when the same settings give other questions or replies, or
read them otherwise."""

SYSTEM = (
    "You judge the steps of a software engineer's run. A step is good, unnecessary, a mistake, or recover, which "
    "undoes a mistake."
)

_AT_LEAST_1 = msgspec.Meta(ge=1)
_MARKS = re.compile(r"^(?=(?:Task|Before|Step|Saw|Outcome|Verdicts)\b)", re.MULTILINE)
_LINE = re.compile(rf"^[ \t]*(\d{{1,9}})[ \t:.]+({'|'.join(VERDICTS)})[ \t]*(?:[:.][ \t]*(.*?))?[ \t]*$", re.MULTILINE)
_LINE_TOKENS = 12
_CHARS_PER_TOKEN = 2.5


class FormConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How a run is shown to a trained critic, and what it answers. Kept with the rows and the model."""

    information: Literal["none", "outcome"] = "outcome"
    """What it is told besides the run."""
    reasons: bool = False
    """Whether replies give the labels' reasons behind the verdicts; a small model learns more from the verdicts."""
    question_chars: Annotated[int, _AT_LEAST_1] = 6000
    """The most characters of the steps of one question, so that question and reply fit the model's context."""
    steps: Annotated[int, _AT_LEAST_1] = 20
    """The most steps that one question asks about."""
    task_chars: Annotated[int, _AT_LEAST_1] = 2000
    """Where the task is cut in its middle."""
    content_chars: Annotated[int, _AT_LEAST_1] = 1500
    """Where what a step thinks and does is cut."""
    observation_chars: Annotated[int, _AT_LEAST_1] = 1000
    """Where what a step sees is cut."""
    reason_chars: Annotated[int, _AT_LEAST_1] = 120
    """Where a reason is cut."""

    @property
    def reply_tokens(self) -> int:
        """The most that a reply may take."""
        reason = math.ceil(self.reason_chars / _CHARS_PER_TOKEN) if self.reasons else 0
        return (self.steps + 1) * (_LINE_TOKENS + reason)


class Question(NamedTuple):
    """What is asked about some steps. messages: the conversation that a reply goes behind."""

    steps: tuple[int, ...]
    messages: tuple[dict[str, Any], ...]


def questions(run: Trajectory, form: FormConfig, *, resolved: bool | None, asked: Sequence[int]) -> list[Question]:
    """The questions about the steps that are asked about, in their order; each of those shown is in one of them.

    resolved: the run's outcome, which is shown where the form wants it. Raises InputError where it is not known then.
    """
    if form.information == "outcome" and resolved is None:
        raise InputError(
            f"run {run.id} ({run.task_id}): its outcome is not known, and the critic is told it; grade the run first, "
            "or train a critic with form.information none"
        )
    texts = [_step_text(step, form) for step in run.steps]
    found = []
    for window in _windows(texts, form):
        wanted = tuple(step for step in window if step in set(asked))
        if wanted:
            text = _question_text(run, texts, window, wanted, form=form, resolved=resolved)
            messages = ({"role": "system", "content": SYSTEM}, {"role": "user", "content": text})
            found.append(Question(wanted, messages))
    return found


def _windows(texts: Sequence[str], form: FormConfig) -> Iterator[range]:
    """As many steps at a time as fit, one at least."""
    first = 0
    while first < len(texts):
        end, used = first + 1, len(texts[first])
        while end < min(len(texts), first + form.steps) and used + len(texts[end]) <= form.question_chars:
            used += len(texts[end])
            end += 1
        yield range(first, end)
        first = end


def _question_text(
    run: Trajectory,
    texts: Sequence[str],
    window: range,
    wanted: Sequence[int],
    *,
    form: FormConfig,
    resolved: bool | None,
) -> str:
    parts = [f"Task:\n{_own(elide(_task(run), form.task_chars))}"]
    if before := _before(run.steps[: window.start], room_chars=form.question_chars // 4):
        parts.append("Before:\n" + "\n".join(before))
    parts += [elide(texts[step], form.question_chars) for step in window]
    if window.stop < len(texts):
        parts.append(f"Outcome: {len(texts) - window.stop} more steps follow.")
    else:
        parts.append(f"Outcome: the run ended ({run.stop_reason}).")
    if form.information == "outcome":
        parts[-1] += f" The task was {'' if resolved else 'not '}resolved."
    return "\n\n".join([*parts, f"Verdicts of the steps {', '.join(map(str, wanted))}:"])


def _task(run: Trajectory) -> str:
    """The user messages before the first reply, a shown example left out."""
    opening = run.messages[run.demo_messages :]
    end = next((place for place, message in enumerate(opening) if message.get("role") == "assistant"), len(opening))
    return "\n\n".join(_text(message.get("content")) for message in opening[:end] if message.get("role") == "user")


def _text(content: Any) -> str:
    if isinstance(content, list):
        return "\n".join(str(part["text"]) for part in content if isinstance(part, dict) and "text" in part)
    return str(content or "")


def _step_text(step: Step, form: FormConfig) -> str:
    calls = [f"{call['function'].get('name')} {call['function'].get('arguments')}" for call in step.tool_calls]
    did = "\n".join(filter(None, [step.reasoning, step.content, *calls]))
    text = f"Step {step.index}:\n{_own(elide(did, form.content_chars))}"
    if step.observation is not None:
        text += f"\nSaw{_ending(step)}:\n{_own(elide(step.observation, form.observation_chars))}"
    return text


def _ending(step: Step) -> str:
    """How the command ended, where it did not end well."""
    if step.error == "format":
        return " (no action could be read)"
    if step.timed_out:
        return " (out of time)"
    return f" (exit code {step.exit_code})" if step.exit_code else ""


def _own(text: str) -> str:
    """A text of the run's, in which no line reads like a mark of the question."""
    return _MARKS.sub(" ", text)


def _before(steps: Sequence[Step], *, room_chars: int) -> list[str]:
    """A line for each of the last steps, as far back as there is room."""
    lines: list[str] = []
    for step in reversed(steps):
        arguments = step.action.arguments if step.action else {}
        said = str(arguments.get("command") or step.content).strip().partition("\n")[0]
        line = f"{step.index}: {said[:80]}"
        room_chars -= len(line) + 1
        if room_chars < 0:
            break
        lines.insert(0, line)
    return lines


def reply_text(labels: Mapping[int, StepLabel], steps: Sequence[int], form: FormConfig) -> str:
    """What a critic is to reply about these steps, each of which has a verdict.

    >>> reply_text({3: StepLabel(step=3, verdict="mistake", reason="wrong file")}, [3], FormConfig(reasons=True))
    '3 mistake: wrong file'
    """
    return "\n".join(_line(labels[step], form) for step in steps)


def _line(label: StepLabel, form: FormConfig) -> str:
    reason = " ".join((label.reason or "").split())[: form.reason_chars] if form.reasons else ""
    return f"{label.step} {label.verdict}" + (f": {reason}" if reason else "")


class Said(NamedTuple):
    """A step's line in a reply. place: where the verdict's word begins in it."""

    verdict: Verdict
    reason: str | None
    place: tuple[int, int]


def read_reply(text: str, steps: Sequence[int]) -> dict[int, Said]:
    """Step -> what a reply says of it; only steps that were asked about, and of several lines the first.

    >>> sorted((step, said.verdict) for step, said in read_reply("0 good\\n1 mistake: wrong\\n7 good", [0, 1]).items())
    [(0, 'good'), (1, 'mistake')]
    """
    found: dict[int, Said] = {}
    for line in _LINE.finditer(text):
        step = int(line[1])
        if step in steps and step not in found:
            found[step] = Said(line[2], line[3] or None, line.span(2))  # type: ignore[arg-type]
    return found


def lessons(
    run: Trajectory, labels: Mapping[int, StepLabel], form: FormConfig, *, resolved: bool | None
) -> list[Trajectory]:
    """The run's questions with the replies that its labels give: each as a run of one step, so that what renders, cuts
    and weighs runs does so with these too. Steps without a verdict are shown and not asked about. Raises InputError."""
    known = [step.index for step in run.steps if step.index in labels and labels[step.index].verdict is not None]
    return [
        _lesson(run, question, reply_text(labels, question.steps, form))
        for question in questions(run, form, resolved=resolved, asked=known)
    ]


def _lesson(run: Trajectory, question: Question, reply: str) -> Trajectory:
    return Trajectory(
        id=run.id,
        task_id=run.task_id,
        repo=run.repo,
        model="labels",
        sampling={},
        scaffold="srft critic",
        prompt="critic",
        seed=None,
        attempt=run.attempt,
        messages=(*question.messages, {"role": "assistant", "content": reply}),
        steps=(Step(index=0, content=reply, finish_reason="stop"),),
        patch=None,
        stop_reason="submitted",
    )


class Asked(Protocol):
    """A model that answers a conversation; see `srft.agent.models.contract.Model`."""

    @property
    def name(self) -> str: ...

    def reply(self, messages: Sequence[dict[str, Any]], *, tools: Sequence[dict[str, Any]] = ()) -> Reply: ...


class Opened(NamedTuple):
    """A model that is ready. pieces: token ids to their texts, one each; `None` where only a server knows them."""

    model: Asked
    pieces: Callable[[Sequence[int]], list[str]] | None
    close: Callable[[], None]


class TrainedCritic:
    """A critic like any other, by a model that `srft train` made from rows of `srft rows --for critic`. Shared by
    threads; its model is opened when it is first asked.

    id: a hash of the model's weights. trained_on: tasks whose labels it has seen: of runs on them, the remark
    `trained_on_this_task` says that its verdicts are no measure of it. Other remarks, counted: `questions`, `missing`
    (steps without a line), `truncated` (replies that were cut off), `too_long` (questions beyond the context).
    """

    source: Source = "model"

    def __init__(
        self,
        form: FormConfig,
        open_model: Callable[[], Opened],
        *,
        id: str,
        name: str = "critic",
        trained_on: frozenset[str] = frozenset(),
    ) -> None:
        self.form, self.name, self._trained_on = form, name, trained_on
        self.information = form.information
        self.settings: dict[str, Any] = {"version": VERSION, "weights": id, "form": msgspec.to_builtins(form)}
        content = msgspec.json.encode(("trained", self.settings), order="sorted")
        self.fingerprint = hashlib.sha256(content).hexdigest()[:16]
        self._open_model, self._lock = open_model, threading.Lock()
        self._opened: Opened | None = None

    def check(self) -> None:
        """Open the model. Raises InputError, ModelError."""
        self._model()

    def close(self) -> None:
        """Give the model's memory back; asked again, it is opened again."""
        with self._lock:
            if self._opened is not None:
                self._opened.close()
            self._opened = None

    def _model(self) -> Opened:
        with self._lock:
            if self._opened is None:
                self._opened = self._open_model()
            return self._opened

    def judge(self, trajectory: Trajectory, evidence: Evidence) -> Critique:
        """Raises InputError where the outcome is wanted and not known, ModelError also where no verdict came."""
        started = time.monotonic()
        every = range(len(trajectory.steps))
        asking = _Asking(self._model())
        for question in questions(trajectory, self.form, resolved=evidence.resolved, asked=every):
            asking.ask(question)
        if every and not asking.labels:
            raise ModelError(
                f"model {asking.opened.model.name}: no verdict on any of the {len(every)} steps (its last reply: "
                f"{elide(asking.last, 200)!r}); check that it was trained on rows of srft rows --for critic"
            )
        labels = [asking.labels.get(step, StepLabel(step=step, verdict=None)) for step in every]
        asking.remarks["missing"] = len(every) - len(asking.labels)
        asking.remarks["trained_on_this_task"] = int(trajectory.task_id in self._trained_on)
        return critique_by(
            self,
            trajectory,
            labels=labels,
            remarks=asking.remarks,
            information=self.information,
            calls=asking.remarks["questions"],
            usage=asking.usage,
            wall_s=time.monotonic() - started,
        )


class _Asking:
    """The questions about one run, and what came of them."""

    def __init__(self, opened: Opened) -> None:
        self.opened = opened
        self.labels: dict[int, StepLabel] = {}
        self.remarks = {"questions": 0, "truncated": 0, "too_long": 0}
        self.usage: Any = None
        self.last = ""

    def ask(self, question: Question) -> None:
        try:
            reply = self.opened.model.reply(question.messages)
        except ContextOverflow:
            self.remarks["too_long"] += 1
            return
        self.remarks["questions"] += 1
        self.remarks["truncated"] += reply.finish_reason == "length"
        self.usage, self.last = add_usage(self.usage, reply.usage), reply.content
        for step, said in read_reply(reply.content, question.steps).items():
            self.labels[step] = StepLabel(
                step=step,
                verdict=said.verdict,
                confidence=_probability(reply, said.place, self.opened.pieces),
                reason=said.reason,
            )


def _probability(
    reply: Reply, place: tuple[int, int], pieces: Callable[[Sequence[int]], list[str]] | None
) -> float | None:
    """What the model gave to the tokens that begin in a place of its reply; `None` where it does not say, or where the
    tokens are not those of the text."""
    if pieces is None or reply.token_ids is None or reply.logprobs is None:
        return None
    texts = pieces(reply.token_ids)
    if not "".join(texts).startswith(reply.content):
        return None
    first, end = place
    total, begins = 0.0, 0
    for text, logprob in zip(texts, reply.logprobs, strict=True):
        if begins < end and begins + len(text) > first:
            total += logprob
        begins += len(text)
    return round(min(math.exp(total), 1.0), 4)
