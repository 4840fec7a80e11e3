"""The mask: from verdicts to a weight for each step, and from those to a weight for each token.

Reads a run's length, outcome and labels; writes nothing. This is the only place that decides what carries loss.

    facts = RunFacts(run_id="a1", steps=4, resolved=False, labels={2: StepLabel(step=2, verdict="mistake")})
    step_weights(facts, MaskPolicy(arm="srft"))                          # array([1., 1., 0., 1.])
    token_weights(step_index_T, part_T, weight_S, train="action")        # one float a token

Arms are policies over the same stored runs (arXiv 2605.10674 and its ablations):

    all                 every run, every step
    resolved            resolved runs alone (rejection fine-tuning)
    unresolved_masked   unresolved runs alone, their steps weighted by verdict
    srft                resolved runs whole, unresolved ones weighted by verdict
    random              as srft, but in each run the same weights fall on steps drawn at random
    tool_error, human, oracle    as srft, with labels from that source (`label_source`)
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from enum import IntEnum
from typing import Annotated, Literal, NamedTuple

import msgspec
import numpy
from numpy.typing import NDArray

from srft.agent.records import StopReason
from srft.critic.labels.labels import StepLabel, Verdict

Arm = Literal["all", "resolved", "unresolved_masked", "srft", "random", "tool_error", "human", "oracle"]
ARMS: tuple[Arm, ...] = ("all", "resolved", "unresolved_masked", "srft", "random", "tool_error", "human", "oracle")
MASKED_ARMS = frozenset(ARMS) - {"all", "resolved"}

Weight = Annotated[float, msgspec.Meta(ge=0, le=1000)]


class Part(IntEnum):
    """What a token is. Everything but CONTEXT was written by the model."""

    CONTEXT = 0
    THOUGHT = 1
    ACTION = 2
    END = 3


class MaskPolicy(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How labels become weights."""

    arm: Arm = "srft"
    """Which policy it is."""
    good: Weight = 1.0
    """The weight of a step with the verdict good."""
    unnecessary: Weight = 1.0
    """The weight of a step with the verdict unnecessary."""
    mistake: Weight = 0.0
    """The weight of a step with the verdict mistake."""
    recover: Weight = 1.0
    """The weight of a step with the verdict recover."""
    unlabelled: Weight = 1.0
    """The weight of a step without a verdict, or with one whose confidence is below `min_confidence`."""
    min_confidence: Annotated[float, msgspec.Meta(ge=0, le=1)] | None = None
    """The least confidence of a verdict that counts; `null`: every verdict counts."""
    mask_resolved: bool = False
    """Whether the steps of resolved runs are weighted by verdict too."""
    train: Literal["thought_and_action", "action"] = "thought_and_action"
    """Which part of a step carries loss; its end-of-turn token always does."""
    failed_submit: Weight | None = None
    """The weight of an unresolved run's submission in the masked arms; `null`: as its verdict says."""
    labelled_share: Annotated[float, msgspec.Meta(ge=0, le=1)] = 0.5
    """The least share of a run's steps that must have a verdict for the run to count as labelled."""
    seed: int = 0
    """The seed of the arm `random`."""

    def weight_of(self, verdict: Verdict) -> float:
        weight: float = getattr(self, verdict)
        return weight


class RunFacts(NamedTuple):
    """What the mask of a run depends on. steps: how many it has. is_chosen: whether it is among the runs of its task
    that are trained on (`RowSettings.per_task`). tampering: whether its patch changes the tests' machinery, so that its
    verdict says little (`srft.env.grading.tampering`)."""

    run_id: str
    steps: int
    resolved: bool | None
    labels: Mapping[int, StepLabel]
    stop_reason: StopReason = "submitted"
    is_chosen: bool = True
    tampering: bool = False


def label_source(arm: Arm) -> Literal["critic", "tool_error", "human", "oracle"] | None:
    """Where an arm's labels come from; `None` for the arms that need none.

    >>> label_source("srft"), label_source("tool_error"), label_source("all")
    ('critic', 'tool_error', None)
    """
    if arm not in MASKED_ARMS:
        return None
    if arm in ("tool_error", "human", "oracle"):
        return arm
    return "critic"


def left_out(facts: RunFacts, policy: MaskPolicy) -> str | None:
    """Why the arm does not train on this run at all, `None` where it does.

    An episode that infrastructure ended or a person broke off says nothing of the model.
    A run of unknown outcome belongs to no arm that treats resolved and unresolved runs differently. A masked arm needs
    labels for a run that it would mask: with too few of them, it would be trained whole under the name of `srft`.
    A resolved run whose patch tampers with the tests is no example of a solution.
    """
    if facts.stop_reason in ("infra_error", "cancelled"):
        return facts.stop_reason
    if facts.steps == 0:
        return "no_steps"
    if not facts.is_chosen:
        return "per_task"
    if policy.arm == "all":
        return None
    if facts.resolved is None:
        return "outcome_unknown"
    if policy.arm == "resolved" and not facts.resolved:
        return "unresolved"
    if policy.arm == "unresolved_masked" and facts.resolved:
        return "resolved"
    if facts.resolved and facts.tampering:
        return "tampering"
    if _is_masked(facts, policy) and not _is_labelled(facts, policy):
        return "unlabelled"
    return None


def _is_labelled(facts: RunFacts, policy: MaskPolicy) -> bool:
    judged = sum(label.verdict is not None for label in facts.labels.values())
    return judged > 0 and judged >= policy.labelled_share * facts.steps


def _is_masked(facts: RunFacts, policy: MaskPolicy) -> bool:
    return policy.arm in MASKED_ARMS and (policy.mask_resolved or not facts.resolved)


def step_weights(facts: RunFacts, policy: MaskPolicy) -> NDArray[numpy.float32]:
    """(S,) one weight a step, of a run that is not `left_out`."""
    weight_S = numpy.ones(facts.steps, dtype=numpy.float32)
    if not _is_masked(facts, policy):
        return weight_S
    for step in range(facts.steps):
        weight_S[step] = _label_weight(facts.labels.get(step), policy)
    if policy.failed_submit is not None and facts.stop_reason == "submitted" and not facts.resolved:
        weight_S[-1] = policy.failed_submit
    if policy.arm == "random":
        _generator(facts.run_id, policy.seed).shuffle(weight_S)
    return weight_S


def _label_weight(label: StepLabel | None, policy: MaskPolicy) -> float:
    if label is None or label.verdict is None:
        return policy.unlabelled
    unsure = label.confidence is not None and label.confidence < (policy.min_confidence or 0.0)
    return policy.unlabelled if unsure else policy.weight_of(label.verdict)


def _generator(run_id: str, seed: int) -> numpy.random.Generator:
    """One a run, so that a run's mask does not depend on which others are there."""
    digest = hashlib.sha256(f"{seed} {run_id}".encode()).digest()
    return numpy.random.default_rng(int.from_bytes(digest[:8]))


def token_weights(
    step_index_T: NDArray[numpy.int32],
    part_T: NDArray[numpy.uint8],
    weight_S: NDArray[numpy.float32],
    *,
    train: Literal["thought_and_action", "action"],
) -> NDArray[numpy.float32]:
    """(T,) a token's weight: its step's where the token is of a trained part, else 0.

    With `train="action"` a step without a readable action carries no loss at all: its end-of-turn token alone would
    teach the model to stop before it has acted.
    """
    written_T = part_T != Part.CONTEXT
    weight_T = numpy.zeros(len(part_T), dtype=numpy.float32)
    weight_T[written_T] = weight_S[step_index_T[written_T]]
    if train == "action":
        acting = numpy.zeros(len(weight_S), dtype=bool)
        acting[step_index_T[part_T == Part.ACTION]] = True
        weight_T[part_T == Part.THOUGHT] = 0.0
        weight_T[written_T] *= acting[step_index_T[written_T]]
    return weight_T
