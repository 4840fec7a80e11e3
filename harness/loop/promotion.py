"""Whether a round's model takes the place of the one before: a statistical rule over the held-out tasks.

    decide(Promotion(), before, after).promoted        # verdicts: task -> resolved, one an attempt

Reads verdicts already in memory, writes nothing.
"""

from __future__ import annotations

from typing import Annotated, Any, NamedTuple

import msgspec

from srft.harness.look.format import interval_text, points
from srft.harness.statistics.paired import Comparison, Estimate, Verdicts, compare_models, shared_rates
from srft.train.rows.mask import Arm


class Promotion(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """When a new model takes the place of the one before."""

    arm: Arm | None = None
    """Whose model; the first of `arms` unless given. Of several seeds it is the first: the best would reward luck."""
    margin: Annotated[float, msgspec.Meta(ge=0, le=1)] = 0.0
    """By how much its share of resolved held-out tasks may be below that of the model before."""
    level: Annotated[float, msgspec.Meta(gt=0, lt=1)] = 0.2
    """How often a model that is worse by exactly the margin is rolled back. 0.05 rolls back only what is clearly worse,
    0.5 goes by the measured difference alone, 0.95 promotes only what is shown not to be worse."""

    def text(self) -> str:
        """The rule as the report prints it."""
        below = f"-{100 * self.margin:g}" if self.margin else "0"
        return (
            f"rolled back if the true difference is below {below} points with {100 * (1 - self.level):g} % confidence "
            f"(margin {self.margin:g}, level {self.level:g})"
        )


LEAST_SHARED = 0.5
"""Of the held-out tasks, the share with a verdict for both models below which nothing is decided."""


class Decision(NamedTuple):
    """comparison: `None` where too little is graded to compare. bound: what the true difference is below, at the
    rule's confidence."""

    promoted: bool
    comparison: Comparison | None
    bound: float | None
    why: str

    def figures(self) -> dict[str, Any]:
        """What stages.json keeps of it, `None` where nothing was compared."""
        one = self.comparison
        return {
            "tasks": one and one.tasks,
            "difference": one and one.difference,
            "interval": one and one.interval,
            "gained": one and one.only_second,
            "lost": one and one.only_first,
            "bound": self.bound,
        }


def decide(rule: Promotion, before: Verdicts, after: Verdicts, *, tasks: int, missing: int = 0) -> Decision:
    """tasks: held out. missing: attempts of the two evaluations that are not on file: one was interrupted.

    An attempt that was not graded is no failure: it is in neither list of verdicts.
    """
    if missing:
        return Decision(False, None, None, f"the evaluation is not complete: {missing} attempts are missing")
    sides = shared_rates([before], [after])
    if sides is None or len(sides.tasks) < LEAST_SHARED * tasks:
        shared = 0 if sides is None else len(sides.tasks)
        return Decision(False, None, None, f"only {shared} of {tasks} tasks have a verdict for both models")
    estimate = sides.estimate()
    bound = float(estimate.bound(1 - rule.level))
    promoted = bool(is_promoted(rule, estimate))
    one = compare_models(before, after)
    assert one is not None
    interval = interval_text(one.interval, signed=True)
    why = f"{points(one.difference)} (95 % interval {interval}), at most {points(bound)} by the rule's confidence"
    return Decision(promoted, one, bound, why)


def is_promoted(rule: Promotion, estimate: Estimate) -> Any:
    """Of one estimated difference, or of an array of them."""
    return estimate.bound(1 - rule.level) >= -rule.margin - _ROUNDING


_ROUNDING = 1e-9
