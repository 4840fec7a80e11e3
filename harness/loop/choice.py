"""Chooses the tasks that a round collects on, and the number of episodes of each.

    attempts_by_task(config, 3, ["a-1", "a-2"], [{"a-1": [True, True]}])      # {"a-2": 4}

Reads verdicts already in memory, writes nothing.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated

import msgspec

if TYPE_CHECKING:
    from srft.harness.loop.loop_config import LoopConfig

AtLeast0 = Annotated[int, msgspec.Meta(ge=0)]
AtLeast1 = Annotated[int, msgspec.Meta(ge=1)]


class Choice(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which tasks a round collects on, and how many episodes of each, where the student itself is collected from."""

    portions: AtLeast1 = 1
    """The tasks are dealt into so many portions, by their ids. Round 1 collects on the first, and each further round
    has the next one too. A teacher is asked on the round's own portion alone, and on all tasks when each had its
    round."""
    new: AtLeast1 | None = None
    """Episodes of a task on which the student was not collected from before; `collect.attempts` unless given."""
    unsolved: AtLeast0 | None = None
    """Episodes of a task that the student tried and does not solve reliably; `collect.attempts` unless given."""
    solved: AtLeast0 = 0
    """Episodes of a task that it does."""
    reliable: AtLeast1 = 2
    """A task is solved reliably when all its episodes since the last one that failed are at least so many: all
    episodes of the round in which one failed count as failed."""


def portion(task_id: str, portions: int) -> int:
    """Which portion a task belongs to, from 0 on: the same whatever other tasks there are."""
    return int.from_bytes(hashlib.sha256(task_id.encode()).digest()[:8]) % portions


def attempts_by_task(
    config: LoopConfig, number: int, task_ids: Iterable[str], before: Sequence[Mapping[str, Sequence[bool]]]
) -> dict[str, int]:
    """Task id -> how many episodes of it the round collects; of a task that is not in it, none.

    number: of the round, 1 for the first. before: of each earlier round that collected from the student, task -> its
    verdicts; an episode that was not graded has none.
    """
    portions, own = config.choose.portions, number - 1
    if config.teacher(number) != "student":
        is_over = own >= portions
        return {one: config.collect.attempts for one in task_ids if is_over or portion(one, portions) == own}
    asked = {
        one: _of_student(config, [of_round[one] for of_round in before if of_round.get(one)])
        for one in task_ids
        if portion(one, portions) <= own
    }
    return {one: episodes for one, episodes in asked.items() if episodes}


def _of_student(config: LoopConfig, tried: Sequence[Sequence[bool]]) -> int:
    """tried: the verdicts on the task of each round that tried it."""
    choose, usual = config.choose, config.collect.attempts
    if not tried:
        return usual if choose.new is None else choose.new
    since_failure = itertools.takewhile(all, reversed(tried))
    if sum(map(len, since_failure)) >= choose.reliable:
        return choose.solved
    return usual if choose.unsolved is None else choose.unsolved


def most_attempts(config: LoopConfig) -> int:
    """The most episodes of one task in a round: so far apart are the seeds of two rounds."""
    choose = config.choose
    return max(config.collect.attempts, choose.new or 0, choose.unsolved or 0, choose.solved)


def most_episodes(config: LoopConfig, tasks: int) -> list[int]:
    """Round by round, how many episodes are collected if the student solves no task reliably."""
    return [_most_of_round(config, tasks, number) for number in range(1, config.rounds + 1)]


def _most_of_round(config: LoopConfig, tasks: int, number: int) -> int:
    choose, usual = config.choose, config.collect.attempts
    teacher = config.teacher(number)
    if teacher is None:
        return 0  # it imports its runs
    portions = choose.portions
    own = round(tasks / portions) if number <= portions else 0
    if teacher != "student":
        return (own or tasks) * usual
    asked_before = any(config.teacher(it) == "student" for it in range(1, number))
    known = round(tasks * min(number - 1, portions) / portions)
    new = own if asked_before else own + known
    again = known if asked_before else 0
    return new * (choose.new or usual) + again * (usual if choose.unsolved is None else choose.unsolved)
