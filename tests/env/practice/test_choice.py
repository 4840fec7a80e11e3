"""Which mutants are tried and which are held out."""

import doctest
import random
from collections import Counter

import pytest

from srft.env.practice import choice
from srft.env.practice.choice import held_out, in_order, over_functions, shares, split_families
from srft.env.practice.mutations import Mutant
from srft.env.practice.trials import Trial


def mutant(number: int, kind: str = "comparison", function: str = "f") -> Mutant:
    return Mutant(
        id=f"{number:08x}", kind=kind, path="m.py", line=number, function=function, start=number, old="<", new=">"
    )


def test_the_docstrings_tell_the_truth() -> None:
    assert doctest.testmod(choice).failed == 0


def test_an_order_begins_with_every_kind_and_function() -> None:
    found = [
        mutant(10 * k + f, kind, function)
        for k, kind in enumerate("abc")
        for f, function in enumerate(["f", "f", "f", "g"])
    ]
    ordered = in_order(found, random.Random(1))
    assert sorted(one.id for one in ordered) == sorted(one.id for one in found)
    assert Counter(one.kind for one in ordered[:6]) == {"a": 2, "b": 2, "c": 2}
    assert Counter(one.function for one in ordered[:6]) == {"f": 3, "g": 3}
    assert in_order(found, random.Random(1)) == ordered


def test_shares_of_nothing() -> None:
    assert shares(3, []) == {}
    assert shares(1, ["a", "b"]) == {"a": 1, "b": 0}


def test_families_are_split_in_the_proportion_of_the_tasks() -> None:
    names = [f"n{number}" for number in range(10)]
    train, test = split_families(names, 80, 20, random.Random(0))
    assert (len(train), len(test), sorted(train + test)) == (8, 2, sorted(names))
    assert [len(part) for part in split_families(names[:2], 1000, 1, random.Random(0))] == [1, 1]
    assert split_families(names, 0, 5, random.Random(0))[0] == []
    assert split_families(names, 5, 0, random.Random(0))[1] == []


def trials(functions: list[str]) -> list[Trial]:
    return [Trial(source="s", mutant=mutant(n, function=f), outcome="kept") for n, f in enumerate(functions)]


def test_held_out_ones_are_spread_over_functions() -> None:
    kept = trials(["f"] * 6 + ["g"] * 3 + ["h"])
    out = over_functions(kept, 5, random.Random(0))
    assert Counter(trial.mutant.function for trial in out) == {"f": 2, "g": 2, "h": 1}
    assert len(over_functions(kept, 99, random.Random(0))) == 10


def test_a_share_of_every_source_is_held_out() -> None:
    kept = {"a": trials(["f"] * 10), "b": trials(["f"] * 5), "c": trials(["f"])}
    out = held_out(kept, share=0.25, draw=random.Random(0))
    assert Counter(name for name, _ in out) == {"a": 2, "b": 2}
    assert held_out(kept, share=0.25, draw=random.Random(0)) == out
    assert held_out(kept, share=0, draw=random.Random(0)) == set()
    assert len(held_out(kept, share=1, draw=random.Random(0))) == 16


@pytest.mark.parametrize(("train", "test", "sources"), [(3, 2, 5), (60, 20, 38), (200, 50, 38), (240, 40, 6)])
def test_the_parts_are_as_large_as_asked_for(train: int, test: int, sources: int) -> None:
    kept = {
        name: trials(["f"] * count) for name, count in shares(train + test, [f"s{n}" for n in range(sources)]).items()
    }
    assert len(held_out(kept, share=test / (train + test), draw=random.Random(0))) == test
