"""Which label of a step counts: asked here by rows, masks, tables, pages and figures alike.

    labels_of_arm("srft", told, critics=["judge"], tool_error=index.standing[3].tool_error)[2].verdict
    labels_by(told, critics=["judge"])             # people's first, else those of these critics

Reads the short records of `index.py`, or whole critiques; what they come to is decided in
`srft.critic.labels.labels.effective_labels` and nowhere else.
"""

from collections.abc import Sequence
from typing import TypeVar

from srft.critic.labels.labels import Critique, StepLabel, effective_labels, is_by
from srft.harness.run.entries import CODES, CritiqueEntry, label_of
from srft.train.rows.mask import Arm, label_source

Told = Critique | CritiqueEntry
T = TypeVar("T", Critique, CritiqueEntry, Told)


def labels_by(told: Sequence[Told], *, critics: Sequence[str]) -> dict[int, StepLabel]:
    """Step -> the label that counts, of all that was said of a run, oldest first."""
    counting = _counting(told, critics)
    if len(counting) == 1 and isinstance(counting[0], CritiqueEntry):  # nearly all: twenty times as fast
        return counting[0].labels()
    return effective_labels(
        [one.critique() if isinstance(one, CritiqueEntry) else one for one in counting], critics=critics
    )


def labels_of_arm(arm: Arm, told: Sequence[Told], *, critics: Sequence[str], tool_error: str) -> dict[int, StepLabel]:
    """The labels that an arm's mask is made of. critics: whose the arms srft and random use. tool_error: that rule's
    verdicts on the run, a letter a step; it need not have been asked."""
    source = label_source(arm)
    if source is None:
        return {}
    if source == "tool_error":
        return {step: label_of(step, code) for step, code in enumerate(tool_error) if code != CODES[None]}
    if source == "human":
        return labels_by(told, critics=())
    if source == "oracle":
        oracles = [one for one in told if one.source == "oracle"]
        return labels_by(oracles, critics=[one.critic for one in oracles])
    return labels_by(told, critics=critics)


def codes_by(told: Sequence[CritiqueEntry], *, critics: Sequence[str], steps: int) -> str:
    """The verdicts that count, a letter a step, see `CODES`."""
    counting = _counting(told, critics)
    if len(counting) == 1 and counting[0].steps is None:
        return counting[0].verdicts
    labels = labels_by(counting, critics=critics)
    return "".join(CODES[labels[step].verdict if step in labels else None] for step in range(steps))


def _counting(told: Sequence[T], critics: Sequence[str]) -> list[T]:
    """What people and these critics said."""
    return [one for one in told if one.source == "human" or any(is_by(one, name) for name in critics)]
