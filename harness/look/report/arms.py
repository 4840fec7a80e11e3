"""The arms of a round: their seeds together, each against the base model and against each other.

    arms_of({"srft.0": {...}, "srft.1": {...}, "all.0": {...}}, base)[0].interval

Reads verdicts already in memory, writes nothing. How seeds and tasks are drawn is said in
`srft.harness.statistics.paired`.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import combinations

import numpy

from srft.harness.look.report.episodes import rate_interval
from srft.harness.look.report.records import Arm
from srft.harness.look.report.stages import arm_and_seed
from srft.harness.statistics.paired import Comparison, Verdicts, compare_verdicts, rates_by_seed, seeds_interval
from srft.harness.statistics.statistics import mean_rate

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
    tasks = sorted({task for seed in seeds for task in seed})
    rate_ST = rates_by_seed(seeds, tasks)
    known = rate_ST[~numpy.isnan(rate_ST)]
    attempts = [attempts for seed in seeds for attempts in seed.values()]
    against_base = compare_verdicts([base], seeds, names=("base", arm)) if base is not None and arm != "base" else None
    return Arm(
        arm=arm,
        seeds=len(seeds),
        tasks=len(tasks),
        predictions=sum(map(len, attempts)),
        resolved=sum(map(sum, attempts)),
        rate=float(known.mean()) if known.size else None,
        interval=seeds_interval(rate_ST) if len(seeds) > 1 else rate_interval(list(seeds[0].values())),
        seed_rates={cell: mean_rate(list(seed.values())) for cell, seed in cells.items()},
        against_base=against_base,
    )


def arm_comparisons(verdicts: Mapping[str, Verdicts]) -> list[Comparison]:
    """Each two arms, paired by task, and by seed where both have several: over the seeds that both have."""
    found = []
    arms = {arm: cells for arm, cells in by_arm(verdicts).items() if arm != "base"}
    for first, second in combinations(arms, 2):
        of_first, of_second = (_by_seed(arms[arm]) for arm in (first, second))
        if len(of_first) > 1 and len(of_second) > 1:
            shared = [seed for seed in of_first if seed in of_second]
            of_first, of_second = ({seed: side[seed] for seed in shared} for side in (of_first, of_second))
        if of_first:
            found.append(compare_verdicts([*of_first.values()], [*of_second.values()], names=(first, second)))
    return [comparison for comparison in found if comparison is not None]


def _by_seed(cells: Mapping[str, Verdicts]) -> dict[int | None, Verdicts]:
    return {arm_and_seed(cell)[1]: verdicts for cell, verdicts in cells.items()}
