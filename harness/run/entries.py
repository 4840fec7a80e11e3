"""A line of trajectories.jsonl, labels.jsonl or grades.jsonl in short: what tables, masks and figures need of it.

    entry = entry_of(trajectory, offset=0)
    entry.steps, entry.usage.cost_usd, entry.tool_error         # 42, 0.31, "gmg..."

Made where the index reads a file (`file_index.py`), kept by it, and read by everything that counts runs.
"""

from collections.abc import Iterable
from functools import lru_cache, reduce
from typing import TypeVar

import msgspec

from srft.agent.records import Step, StopReason, Trajectory, Usage
from srft.critic.labels.labels import Critique, Evidence, Information, Source, StepLabel, Verdict
from srft.critic.rules.rules import ToolErrorCritic
from srft.env.grading.grade import Grade, patch_hash
from srft.env.grading.grade import Outcome as GradeOutcome
from srft.env.grading.tampering import tampering

CODES: dict[Verdict | None, str] = {"good": "g", "unnecessary": "u", "mistake": "m", "recover": "r", None: "-"}
VERDICTS: dict[str, Verdict | None] = {code: verdict for verdict, code in CODES.items()}

ENDED_BY_INFRASTRUCTURE = "ended by infrastructure"
CANCELLED = "cancelled"
UNFINISHED = {"infra_error": ENDED_BY_INFRASTRUCTURE, "cancelled": CANCELLED}
"""Stop reasons of episodes that say nothing of the model -> why."""

TOOL_ERROR = ToolErrorCritic()


class Entry(msgspec.Struct, frozen=True, array_like=True):
    """A line in short. offset: where it begins."""

    offset: int


class Tally(msgspec.Struct, array_like=True):
    """Sums over replies, of which some say what they cost. unknown: those that do not.

    costs_usd: of each reply that says it: sums of sums would depend on how the replies are grouped.
    """

    replies: int = 0
    unknown: int = 0
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    costs_usd: list[float] = []

    @property
    def cost_usd(self) -> float | None:
        """`None` where no reply says."""
        return total(self.costs_usd)

    def add(self, usage: Usage | None) -> None:
        self.replies += 1
        if usage is None:
            self.unknown += 1
            return
        self.prompt_tokens = plus(self.prompt_tokens, usage.prompt_tokens)
        self.completion_tokens = plus(self.completion_tokens, usage.completion_tokens)
        if usage.cost_usd is not None:
            self.costs_usd.append(usage.cost_usd)

    def add_all(self, other: "Tally") -> None:
        self.replies += other.replies
        self.unknown += other.unknown
        self.prompt_tokens = plus(self.prompt_tokens, other.prompt_tokens)
        self.completion_tokens = plus(self.completion_tokens, other.completion_tokens)
        self.costs_usd += other.costs_usd


N = TypeVar("N", int, float)


def plus(one: N | None, other: N | None) -> N | None:
    """The sum of what is known.

    >>> plus(None, 2), plus(1, 2), plus(None, None) is None
    (2, 3, True)
    """
    return other if one is None else one if other is None else one + other


def total(values: Iterable[N | None]) -> N | None:
    """The sum of what is known, one after the other; `None` where nothing is."""
    return reduce(plus, values, None)


class RunEntry(Entry, frozen=True, array_like=True):
    """A Trajectory in short."""

    id: str
    task_id: str
    repo: str
    model: str
    attempt: int
    stop_reason: StopReason
    patch_hash: str
    recorded_resolved: bool | None = None
    wall_s: float | None = None
    steps: int = 0
    """How many."""
    usage: Tally = msgspec.field(default_factory=Tally)
    """Of the steps: what their replies cost."""
    format_errors: int = 0
    """Steps whose reply held no action that could be read."""
    timed_out_steps: int = 0
    cut_observations: int = 0
    failed_tools: str = ""
    """A letter a step: 1 the command failed, 0 it did not, ? not known."""
    tool_error: str = ""
    """The rule `tool_error`'s verdicts, a letter a step (see `CODES`)."""
    tampering: bool = False
    """Whether the patch changes the tests' machinery, by its text."""
    partial: dict[str, int] = {}
    """What some of the model's replies came with -> how many came without it."""

    @property
    def unfinished(self) -> str | None:
        """Why it says nothing of the model, `None` where it does."""
        return UNFINISHED.get(self.stop_reason)

    @property
    def tokens(self) -> int | None:
        """Of all prompts and replies; `None` where no step says."""
        return plus(self.usage.prompt_tokens, self.usage.completion_tokens)

    @property
    def cost_usd(self) -> float | None:
        """`None` where no step says."""
        return self.usage.cost_usd


class CritiqueEntry(Entry, frozen=True, array_like=True):
    """A Critique in short, without its reasons."""

    trajectory_id: str
    task_id: str
    critic: str
    source: Source
    fingerprint: str
    information: Information
    steps: tuple[int, ...] | None
    """Which, where they are not all of them in their order."""
    verdicts: str
    """A letter a step, see `CODES`."""
    confidences: tuple[float | None, ...] | None
    calls: int
    usage: Usage | None
    wall_s: float | None
    remarks: dict[str, int]

    def critique(self) -> Critique:
        """The Critique without its reasons and costs: all that masks depend on."""
        steps = self.steps or range(len(self.verdicts))
        if self.confidences is None:
            labels = tuple(map(label_of, steps, self.verdicts))
        else:
            labels = tuple(map(label_of, steps, self.verdicts, self.confidences))
        return Critique(
            trajectory_id=self.trajectory_id,
            task_id=self.task_id,
            critic=self.critic,
            fingerprint=self.fingerprint,
            source=self.source,
            information=self.information,
            labels=labels,
        )

    def labels(self) -> dict[int, StepLabel]:
        """Step -> label, without the abstentions: what `effective_labels` says of this one critic alone."""
        return {label.step: label for label in self.critique().labels if label.verdict is not None}

    @property
    def says_something(self) -> bool:
        """As `srft.critic.labels.labels.says_something`: a model that gave no verdict at all has failed."""
        return self.source != "model" or bool(self.verdicts.strip("-"))

    @property
    def codes(self) -> str:
        """The verdicts in the order of their steps."""
        if self.steps is None:
            return self.verdicts
        return "".join(code for _, code in sorted(zip(self.steps, self.verdicts, strict=True)))


@lru_cache(maxsize=1 << 14)
def label_of(step: int, code: str, confidence: float | None = None) -> StepLabel:
    """Shared, as they never change: a table of 20,000 runs asks for a million of them."""
    return StepLabel(step=step, verdict=VERDICTS[code], confidence=confidence)


class GradeEntry(Entry, frozen=True, array_like=True):
    """A Grade in short."""

    task_id: str
    patch_hash: str | None
    resolved: bool | None
    outcome: GradeOutcome
    timed_out: bool
    grader: str
    tampering: bool = False


def failed_tool(step: Step) -> bool | None:
    """Whether the step's command failed, `None` where that is not known."""
    if step.timed_out or step.error == "format":
        return True
    if step.exit_code is None:
        return False if step.observation is None else None
    return step.exit_code != 0


def entry_of(run: Trajectory, offset: int = -1) -> RunEntry:
    """A trajectory in short. offset: where its line begins, if it is on file."""
    same = ("id", "task_id", "repo", "model", "attempt", "stop_reason", "recorded_resolved", "wall_s")
    usage = Tally()
    for step in run.steps:
        usage.add(step.usage)
    return RunEntry(
        offset=offset,
        **{name: getattr(run, name) for name in same},
        patch_hash=patch_hash(run.patch),
        steps=len(run.steps),
        usage=usage,
        format_errors=sum(step.error == "format" for step in run.steps),
        timed_out_steps=sum(step.timed_out for step in run.steps),
        cut_observations=sum(step.elided_chars > 0 for step in run.steps),
        failed_tools="".join({True: "1", False: "0", None: "?"}[failed_tool(step)] for step in run.steps),
        tool_error=tool_error_codes(run),
        tampering=bool(tampering(run.patch, repo=run.repo)),
        partial=_partial(run),
    )


def tool_error_codes(run: Trajectory) -> str:
    """The rule `tool_error`'s verdicts, a letter a step."""
    return "".join(CODES[label.verdict] for label in TOOL_ERROR.judge(run, Evidence()).labels)


def entry_of_patch(task_id: str, hash_: str) -> RunEntry:
    """The entry of a patch that came without its run."""
    repo = task_id.rpartition("-")[0].replace("__", "/")
    return RunEntry(-1, "", task_id, repo, "", 0, "submitted", hash_)


def _partial(run: Trajectory) -> dict[str, int]:
    replies = [step for step in run.steps if step.author == "model"]
    found = {
        "token ids": [step.token_ids is not None for step in replies],
        "log-probabilities": [step.logprobs is not None for step in replies],
    }
    return {name: has.count(False) for name, has in found.items() if any(has) and not all(has)}


def critique_entry(told: Critique, offset: int) -> CritiqueEntry:
    same = ("trajectory_id", "task_id", "critic", "source", "fingerprint", "information", "calls", "usage", "wall_s")
    steps = tuple(label.step for label in told.labels)
    confidences = tuple(label.confidence for label in told.labels)
    return CritiqueEntry(
        offset=offset,
        **{name: getattr(told, name) for name in (*same, "remarks")},
        steps=None if steps == tuple(range(len(steps))) else steps,
        verdicts="".join(CODES[label.verdict] for label in told.labels),
        confidences=confidences if any(value is not None for value in confidences) else None,
    )


def grade_entry(grade: Grade, offset: int) -> GradeEntry:
    same = ("patch_hash", "resolved", "outcome", "timed_out", "grader")
    kept = {name: getattr(grade, name) for name in same}
    return GradeEntry(offset=offset, task_id=grade.instance_id, tampering=bool(grade.tampering), **kept)
