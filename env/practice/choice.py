"""Chooses which mutants are tried, in which order, and which of those kept become training or test tasks.

in_order(mutants, random.Random(7))                          # all kinds and functions early
shares(30, ["ledger", "matrix"])                             # {"ledger": 15, "matrix": 15}
held_out(trials, 5, random.Random(7))                        # five of them, spread over the functions
"""

import random
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence

from srft.env.practice.mutations import Mutant
from srft.env.practice.trials import Trial


def in_order(found: Iterable[Mutant], draw: random.Random) -> list[Mutant]:
    """The mutants so that any beginning of the list is spread over kinds, and within a kind over functions."""
    by_kind: dict[str, list[Mutant]] = defaultdict(list)
    for mutant in found:
        by_kind[mutant.kind].append(mutant)
    kinds = sorted(by_kind)
    draw.shuffle(kinds)
    for kind in kinds:
        draw.shuffle(by_kind[kind])
    taken: Counter[tuple[str, str]] = Counter()
    ordered = []
    while kinds:
        for kind in list(kinds):
            waiting = by_kind[kind]
            place = min(range(len(waiting)), key=lambda n: taken[waiting[n].path, waiting[n].function])
            mutant = waiting.pop(place)
            taken[mutant.path, mutant.function] += 1
            ordered.append(mutant)
            if not waiting:
                kinds.remove(kind)
    return ordered


def shares(total: int, names: Sequence[str]) -> dict[str, int]:
    """A number split evenly, the first names taking what is left over.

    >>> shares(5, ["a", "b"])
    {'a': 3, 'b': 2}
    """
    if not names:
        return {}
    each, left = divmod(total, len(names))
    return {name: each + (place < left) for place, name in enumerate(names)}


def split_families(names: Sequence[str], train: int, test: int, draw: random.Random) -> tuple[list[str], list[str]]:
    """(training families, test families), in the proportion of the tasks, at least one each where tasks are wanted."""
    shuffled = list(names)
    draw.shuffle(shuffled)
    if not (train and test):
        return (shuffled, []) if train else ([], shuffled)
    count = min(max(1, round(len(shuffled) * test / (train + test))), len(shuffled) - 1)
    return shuffled[count:], shuffled[:count]


def held_out(kept: Mapping[str, Sequence[Trial]], *, share: float, draw: random.Random) -> set[tuple[str, str]]:
    """{(source, mutant's id)} of a share of the kept trials of every source, in turn from each of its functions.

    What is rounded is carried on to the next source, so that the shares are right in all, however small the sources.
    """
    out: set[tuple[str, str]] = set()
    seen = 0
    for name in sorted(kept, key=lambda name: (len(kept[name]), name)):
        seen += len(kept[name])
        chosen = over_functions(kept[name], round(share * seen) - len(out), draw)
        out |= {(name, trial.mutant.id) for trial in chosen}
    return out


def over_functions(kept: Sequence[Trial], count: int, draw: random.Random) -> list[Trial]:
    """`count` of the trials in turn from every function, those with the most mutants first."""
    by_function: dict[tuple[str, str], list[Trial]] = defaultdict(list)
    for trial in kept:
        by_function[trial.mutant.path, trial.mutant.function].append(trial)
    groups = sorted(by_function.values(), key=lambda group: (-len(group), group[0].mutant.function))
    for group in groups:
        draw.shuffle(group)
    chosen: list[Trial] = []
    while len(chosen) < count and any(groups):
        for group in groups:
            if group and len(chosen) < count:
                chosen.append(group.pop())
    return chosen
