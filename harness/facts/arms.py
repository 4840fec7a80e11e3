"""The arms of a round: their seeds together, each against the base model and against each other.

    arms_of({"srft.0": {...}, "srft.1": {...}, "all.0": {...}}, base)[0].interval

Reads verdicts already in memory, writes nothing. What seeds can show is said in `srft.harness.statistics.paired`.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import combinations

from srft.harness.facts.records import Arm
from srft.harness.facts.stages import arm_and_seed
from srft.harness.statistics.paired import Comparison, Verdicts, arm_interval, compare_arms
from srft.harness.statistics.statistics import mean_rate, rate_interval

ORDER = ("base", "all", "resolved", "unresolved_masked", "tool_error", "random", "srft", "human", "oracle")
"""From what is expected to be worst to best; other names follow."""


def cell_order(cell: str) -> tuple[int, str, int]:
    """A key to sort cells by: arms as in `ORDER`, then seeds.

    >>> sorted(["srft.10", "oracle", "srft.2", "base", "other"], key=cell_order)
    ['base', 'srft.2', 'srft.10', 'oracle', 'other']
    """
    arm, seed = arm_and_seed(cell)
    return ORDER.index(arm) if arm in ORDER else len(ORDER), arm, -1 if seed is None else seed


def by_arm(verdicts: Mapping[str, Verdicts]) -> dict[str, dict[str, Verdicts]]:
    """Arm -> cell -> verdicts."""
    arms: dict[str, dict[str, Verdicts]] = {}
    for cell in sorted(verdicts, key=cell_order):
        arms.setdefault(arm_and_seed(cell)[0], {})[cell] = verdicts[cell]
    return arms


def arms_of(verdicts: Mapping[str, Verdicts], base: Verdicts | None) -> list[Arm]:
    """Each arm with its seeds."""
    return [_arm(arm, cells, base) for arm, cells in by_arm(verdicts).items()]


def _arm(arm: str, cells: Mapping[str, Verdicts], base: Verdicts | None) -> Arm:
    seeds = list(cells.values())
    attempts = [attempts for seed in seeds for attempts in seed.values()]
    seed_rates = {cell: mean_rate(list(seed.values())) for cell, seed in cells.items()}
    known = [rate for rate in seed_rates.values() if rate is not None]
    against_base = None
    if base is not None and arm != "base":
        against_base = compare_arms([base], seeds, names=("base", arm), first_is_given=True)
    return Arm(
        arm=arm,
        seeds=len(seeds),
        tasks=len({task for seed in seeds for task in seed}),
        predictions=sum(map(len, attempts)),
        resolved=sum(map(sum, attempts)),
        rate=sum(known) / len(known) if known else None,
        interval=arm_interval(seeds) if len(seeds) > 1 else rate_interval(list(seeds[0].values())),
        seed_rates=seed_rates,
        against_base=against_base,
    )


def arm_comparisons(verdicts: Mapping[str, Verdicts]) -> list[Comparison]:
    """Each two arms, all their seeds together."""
    arms = {arm: [*cells.values()] for arm, cells in by_arm(verdicts).items() if arm != "base"}
    found = [compare_arms(arms[one], arms[two], names=(one, two)) for one, two in combinations(arms, 2)]
    return [comparison for comparison in found if comparison is not None]
