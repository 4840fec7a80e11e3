"""What is trained of a run, step by step: what an arm's rows hold, or where it is in none, what the policy would do.

Reads nothing itself. A page, `srft show` and a table all ask here, so that they say the same.

    on_file = runs_on_file(round_, "srft")
    mask = mask_of(facts, policy, on_file.get(run_id) if on_file is not None else None)
    mask.step(3).words, mask.is_stale                      # "cut", False
    mask.summary()                                         # "1 of 5 steps masked, 1 cut"
"""

from collections import Counter
from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

import numpy
from numpy.typing import NDArray

from srft.train.rows.mask import MaskPolicy, RunFacts, RunInRows, left_out, step_weights

State = Literal["trained", "masked", "cut", "overlong", "duplicate", "no_action", "not_rendered"]

WHY_NOT: dict[str, str] = {
    "masked": "its weight is 0: no loss on what the model wrote here",
    "cut": "in no row: the row had reached its greatest length before this step",
    "overlong": "its row was too long and was dropped",
    "duplicate": "another run has the same row",
    "no_action": "only actions are trained, and this step has none that can be read",
    "not_rendered": "the template writes no reply for it",
}
"""State of a step that is not trained -> the reason."""

LEFT_OUT: dict[str, str] = {
    "infra_error": "an infrastructure error ended it",
    "cancelled": "a person stopped it",
    "no_steps": "it has no steps",
    "per_task": "enough other runs of its task are trained on",
    "outcome_unknown": "its outcome is not known",
    "unresolved": "it did not resolve its task",
    "resolved": "it resolved its task",
    "tampering": "its patch changes how the tests run",
    "unlabelled": "too few of its steps have a label",
    "history_rewritten": "the template rewrites its history",
}
"""Why an arm leaves a run out -> the same in words. Other reasons are a renderer's, and are words already."""


class StepMask(NamedTuple):
    """What is trained of a step.

    words: for a badge, say "masked", or "would be masked" where the run is in no rows yet. why: the reason where it is
    not trained. later: what it becomes when the rows are made again, `None` where that is the same.
    """

    state: State
    weight: float
    words: str
    why: str | None
    later: str | None

    @property
    def is_trained(self) -> bool:
        return self.state == "trained"


class RunMask(NamedTuple):
    """What is trained of a run in an arm.

    is_on_file: whether rows say so; else the run is in no rows yet, and this is what the policy would do. left_out: why
    the arm does not train on the run at all; then `weight_S` is `None`. not_trained: see `RunInRows`. now: what the
    policy gives with the labels and the outcome as they are now. thinking: what becomes of the thinking of its steps.
    """

    is_on_file: bool
    left_out: str | None
    weight_S: NDArray[numpy.float32] | None
    not_trained: Mapping[int, str]
    thinking: Literal["trained", "masked", "left_out"] | None
    now_left_out: str | None
    now_S: NDArray[numpy.float32] | None

    @property
    def left_out_words(self) -> str | None:
        return self.left_out and LEFT_OUT.get(self.left_out, self.left_out)

    @property
    def is_stale(self) -> bool:
        """Whether the rows on file are older than the labels or the outcome, so that made again they would differ."""
        if not self.is_on_file or (self.left_out and (self.now_left_out or self.left_out not in _BY_POLICY)):
            return False
        if self.weight_S is None or self.now_S is None:
            return True
        differs_S = self.weight_S != self.now_S
        return any(int(step) not in self.not_trained for step in numpy.flatnonzero(differs_S))

    @property
    def masked(self) -> int | None:
        """How many steps are masked: those that are cut are not; `None` where the run is left out."""
        return None if self.weight_S is None else self.counts.get("masked", 0)

    @property
    def later(self) -> str | None:
        """What the rows hold of the run when they are made again, in words; `None` where that is the same."""
        if not self.is_stale:
            return None
        if self.now_S is None:
            return f"leave this run out: {LEFT_OUT.get(self.now_left_out or '', self.now_left_out)}"
        return f"mask {len(self.now_S) - int(numpy.count_nonzero(self.now_S))} of {_steps(len(self.now_S))}"

    def step(self, step: int) -> StepMask | None:
        """`None` where the run is left out."""
        if self.weight_S is None:
            return None
        weight = float(self.weight_S[step])
        state: Any = self.not_trained.get(step) or ("trained" if weight else "masked")
        words = _words(state, weight)
        later = None
        if self.is_stale and self.now_S is not None and state in ("trained", "masked"):
            then = _words("trained" if self.now_S[step] else "masked", float(self.now_S[step]))
            later = then if then != words else None
        return StepMask(state, weight, words if self.is_on_file else f"would be {words}", WHY_NOT.get(state), later)

    @property
    def counts(self) -> dict[str, int]:
        """State -> steps, without those that are 0."""
        if self.weight_S is None:
            return {}
        others = Counter(self.not_trained.values())
        masked_S = self.weight_S == 0
        masked_S[list(self.not_trained)] = False
        masked = int(numpy.count_nonzero(masked_S))
        trained = len(self.weight_S) - masked - others.total()
        counts = {"trained": trained, "masked": masked, **others}
        return {state: counts[state] for state in ("trained", *WHY_NOT) if counts.get(state)}

    @property
    def gaps(self) -> list[tuple[str, str]]:
        """The steps that are not trained for another reason than a weight of 0: ("102 to 144", "...")."""
        by_reason: dict[str, list[int]] = {}
        for step, reason in sorted(self.not_trained.items()):
            by_reason.setdefault(reason, []).append(step)
        return [(_ranges(steps), WHY_NOT.get(reason, reason)) for reason, steps in by_reason.items()]

    def summary(self) -> str:
        """In words: "1 of 3 steps masked, 1 cut"; that the run is left out; that it is in no rows yet."""
        start = "" if self.is_on_file else "if rows were made now: "
        if self.left_out:
            return f"{start}leaves this run out: {self.left_out_words}"
        assert self.weight_S is not None
        others = {state: count for state, count in self.counts.items() if state not in ("trained", "masked")}
        more = "".join(f", {count} {STATE_WORDS[state]}" for state, count in others.items())
        return f"{start}{self.masked} of {_steps(len(self.weight_S))} masked{more}"


STATE_WORDS: dict[str, str] = {
    "cut": "cut",
    "overlong": "in no row",
    "duplicate": "in no row",
    "no_action": "not trained",
    "not_rendered": "in no row",
}
"""State of a step that is neither trained nor masked -> its badge."""

_BY_POLICY = frozenset(LEFT_OUT) - {"per_task", "history_rewritten"}
"""The reasons that `srft.train.rows.mask.left_out` gives for one run, without looking at others."""


def _steps(count: int) -> str:
    return f"{count} step{'' if count == 1 else 's'}"


def _words(state: str, weight: float) -> str:
    if state == "trained":
        return "trained" if weight == 1 else f"trained, weight {weight:g}"
    return STATE_WORDS.get(state, state)


def _ranges(steps: list[int]) -> str:
    """
    >>> _ranges([1, 3, 4, 5])
    '1, 3 to 5'
    """
    ranges: list[list[int]] = []
    for step in steps:
        if ranges and ranges[-1][-1] == step - 1:
            ranges[-1].append(step)
        else:
            ranges.append([step])
    return ", ".join(str(one[0]) if len(one) == 1 else f"{one[0]} to {one[-1]}" for one in ranges)


def mask_of(facts: RunFacts, policy: MaskPolicy, on_file: RunInRows | None) -> RunMask:
    """What is trained of a run. on_file: what became of it in the rows; `None` where it is in none yet."""
    now_left_out = left_out(facts, policy)
    now_S = None if now_left_out else step_weights(facts, policy)
    thinking: Any = "masked" if policy.train == "action" else "trained"
    if on_file is None:
        thinking = "masked" if policy.train == "action" else None  # whether the template writes it is not known yet
        return RunMask(False, now_left_out, now_S, {}, thinking, now_left_out, now_S)
    weight_S = None if on_file.left_out else on_file.weight_S(facts.steps)
    thinking = "left_out" if on_file.thinking_left_out else thinking
    return RunMask(True, on_file.left_out, weight_S, on_file.not_trained, thinking, now_left_out, now_S)
