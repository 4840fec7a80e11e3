"""A critic's records: a `Critique`, one verdict a step; and several critiques of one run combined.

Stored as JSON, one critique a line: one trajectory as one critic, told by its fingerprint, saw it.

    labels = effective_labels(critiques_of_one_trajectory, critics=["judge", "exploit"])
    labels[3].verdict                       # 'mistake'; a step that nobody judged is missing

The verdicts are those of Step Rejection Fine-Tuning (arXiv 2605.10674). `None` is an abstention, never a verdict.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal, NamedTuple, Protocol

import msgspec

from srft.agent.records import Trajectory, Usage
from srft.env.errors import InputError

SCHEMA_VERSION = 1

FILE_PREFIX = "file:"
"""Begins the name of a file of people's labels; no person who labels here is called so."""

Verdict = Literal["good", "unnecessary", "mistake", "recover"]
Source = Literal["model", "rule", "human", "oracle"]
JudgeInformation = Literal["none", "outcome_if_known", "outcome", "test_log", "gold_patch"]
Information = Literal["none", "outcome_if_known", "outcome", "test_log", "gold_patch", "fix_alone"]

# From the one that weighs most: where critics disagree, the step gets the first of these that any of them gave.
SEVERITY: tuple[Verdict, ...] = ("mistake", "unnecessary", "recover", "good")


class StepLabel(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One step's verdict.

    confidence: from 0 to 1, `None` where the critic gives none. votes: verdict -> count, where there were several; an
    abstention counts as "abstained".
    """

    step: int
    verdict: Verdict | None
    confidence: float | None = None
    reason: str | None = None
    votes: dict[str, int] = {}


class Critique(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One critic's word on one trajectory. `labels` has every step once, in their order.

    critic: its name, by which it is asked for. fingerprint: a hash of all that its verdicts depend on (model, prompt,
    settings, information) besides the run and what is known of it. information: what the critic was shown besides
    the run. evidence: a hash of that (`evidence_id`). Of one run, equal fingerprints with equal evidence need not be
    asked twice. calls, usage: what it cost. remarks: counts of what went wrong and was repaired, say {"repaired": 1}.
    """

    schema_version: int = SCHEMA_VERSION
    trajectory_id: str
    task_id: str
    critic: str
    fingerprint: str
    source: Source
    information: Information = "none"
    evidence: str = ""
    labels: tuple[StepLabel, ...]
    calls: int = 0
    usage: Usage | None = None
    wall_s: float | None = None
    remarks: dict[str, int] = {}


class Evidence(NamedTuple):
    """What is known of a run besides the run itself. A critic uses what its information arm allows."""

    resolved: bool | None = None
    test_log: str | None = None
    gold_patch: str | None = None


SHOWN: dict[Information, tuple[str, ...]] = {
    "none": (),
    "outcome_if_known": ("resolved",),
    "outcome": ("resolved",),
    "test_log": ("resolved", "test_log"),
    "gold_patch": ("resolved", "gold_patch"),
    "fix_alone": ("gold_patch",),
}
"""What each information arm shows of the evidence, all of which must be known but for `outcome_if_known`. `fix_alone`
is a rule's, whose verdicts are to be compared with the outcome; of a run on a task without a fix it has no opinion."""


def evidence_id(evidence: Evidence, information: Information) -> str:
    """A hash of what a critic is shown of the evidence; "" for one that is shown nothing.

    >>> evidence_id(Evidence(resolved=True), "none")
    ''
    >>> evidence_id(Evidence(resolved=True), "outcome") == evidence_id(Evidence(resolved=False), "outcome")
    False
    """
    shown = [getattr(evidence, name) for name in SHOWN[information]]
    if information == "outcome_if_known" and evidence.resolved is None:
        return ""
    return hashlib.sha256(msgspec.json.encode(shown)).hexdigest()[:16] if shown else ""


class Critic(Protocol):
    """Something that judges runs. Shared by the worker threads.

    settings: what went into the fingerprint, for the record.
    """

    @property
    def name(self) -> str: ...

    @property
    def source(self) -> Source: ...

    @property
    def fingerprint(self) -> str: ...

    @property
    def settings(self) -> dict[str, Any]: ...

    def judge(self, trajectory: Trajectory, evidence: Evidence) -> Critique | None:
        """A verdict for every step; `None` where the critic has no opinion on this run (a file without it).

        Raises InfrastructureError when it cannot be had.
        """
        ...


def critique_by(
    critic: Critic,
    trajectory: Trajectory,
    *,
    labels: Iterable[StepLabel],
    remarks: Mapping[str, int] | None = None,
    **more: Any,
) -> Critique:
    """A critic's word on a trajectory, under the names of both. Remarks that count nothing are left out."""
    return Critique(
        trajectory_id=trajectory.id,
        task_id=trajectory.task_id,
        critic=critic.name,
        fingerprint=critic.fingerprint,
        source=critic.source,
        labels=tuple(labels),
        remarks={name: count for name, count in (remarks or {}).items() if count},
        **more,
    )


def says_something(critique: Critique) -> bool:
    """Whether a run counts as judged by it. A model that gave no verdict at all has failed; a rule may find nothing."""
    return critique.source != "model" or any(label.verdict is not None for label in critique.labels)


def effective_labels(critiques: Iterable[Critique], *, critics: Sequence[str]) -> dict[int, StepLabel]:
    """Step -> its label, of one trajectory's critiques. Steps without any verdict are missing.

    critics: the names of those that count; `name@fingerprint` takes what that critic said with these settings. A
    person's verdict wins over every other, whether named or not: those given here over those of label files, and among
    several people that of the one who spoke last.
    Of whoever judged twice, person or critic, the last critique counts alone: a verdict that is not in it was taken
    back. Where several critics judge a step, the verdict that stands first
    in `SEVERITY` counts.
    """
    last: dict[str, Critique] = {}
    people: dict[str, Critique] = {}
    for critique in critiques:
        if critique.source == "human":
            people.pop(critique.critic, None)  # so that they stand in the order of their last words
            people[critique.critic] = critique
        elif says_something(critique):
            last |= {name: critique for name in critics if is_by(critique, name)}
    labels: dict[int, StepLabel] = {}
    for critique in last.values():
        for label in critique.labels:
            if label.verdict is None:
                continue
            before = labels.get(label.step)
            if before is None or _severity(label) < _severity(before):
                labels[label.step] = label
    for critique in sorted(people.values(), key=lambda told: not told.critic.startswith(FILE_PREFIX)):
        labels |= {label.step: label for label in critique.labels if label.verdict is not None}
    return labels


class Signed(Protocol):
    """What bears the name of a critic and a hash of its settings: a Critique, or a short form of one."""

    @property
    def critic(self) -> str: ...

    @property
    def fingerprint(self) -> str: ...


def is_by(critique: Signed, name: str) -> bool:
    """Whether a critique is of the critic that is named: `judge`, or `judge@3f2a0c9d12ab34cd` with its fingerprint."""
    return name in (critique.critic, f"{critique.critic}@{critique.fingerprint}")


def _severity(label: StepLabel) -> int:
    assert label.verdict is not None
    return SEVERITY.index(label.verdict)


def check_complete(labels: Sequence[StepLabel], *, steps: int, where: str) -> None:
    """Raises InputError unless the labels are steps 0 to `steps` - 1 in order, each once."""
    found = [label.step for label in labels]
    if found != list(range(steps)):
        raise InputError(f"{where}: labels for the steps {found}; expected each of 0 to {steps - 1} once, in order")
