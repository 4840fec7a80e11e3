"""The next step to look at: a mistake, a disagreement, one that this person has not labelled; over all runs of a table.

Reads the short records; writes nothing.

    find_next(place, ids, judges, "anna", run_id="9f2c", after=3, kind="disagreement")     # Found("a1b2", 7) or None
    waiting(place, entry, judges, "anna")["mistake"]                                       # [1, 7]: of one run
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from srft.critic.labels.labels import StepLabel
from srft.env.errors import InputError
from srft.harness.look.web.arms import effective_codes
from srft.harness.look.web.places import Place
from srft.harness.run.entries import CODES, RunEntry

KINDS = ("mistake", "disagreement", "unlabelled")
"""mistake: the verdict that counts. disagreement: critics, people or both gave different verdicts. unlabelled: this
person has not said anything of it."""


class Found(NamedTuple):
    """A step of a run."""

    run_id: str
    step: int


def waiting(place: Place, entry: RunEntry, judges: Sequence[str], person: str) -> dict[str, list[int]]:
    """Kind -> the steps of a run that are of it."""
    letters = {told.critic: _letters(told.labels(), entry.steps) for told in place.told(entry.id)}  # the last of each
    own = letters.get(person, "-" * entry.steps)
    counting = effective_codes(place, entry, judges)
    steps = range(entry.steps)
    return {
        "mistake": [step for step in steps if counting[step] == "m"],
        "disagreement": [step for step in steps if len({said[step] for said in letters.values()} - {"-"}) > 1],
        "unlabelled": [step for step in steps if own[step] == "-"],
    }


def find_next(
    place: Place, run_ids: Sequence[str], judges: Sequence[str], person: str, *, run_id: str, after: int, kind: str
) -> Found | None:
    """The next step of that kind behind step `after` of a run, then in the runs that follow, then from the beginning.

    run_ids: the runs in the order of the table. Raises InputError.
    """
    if kind not in KINDS:
        raise InputError(f"kind {kind}: expected one of {', '.join(KINDS)}")
    at = run_ids.index(run_id) if run_id in run_ids else 0
    for number, name in enumerate([*run_ids[at:], *run_ids[:at], *run_ids[at : at + 1]]):
        steps = waiting(place, place.by_id[name], judges, person)[kind]
        is_first = number == 0 and name == run_id
        if found := [step for step in steps if not is_first or step > after]:
            return Found(name, found[0])
    return None


def _letters(labels: Mapping[int, StepLabel], steps: int) -> str:
    return "".join(CODES[labels[step].verdict] if step in labels else "-" for step in range(steps))
