"""A person's labels, and how far critics agree with them.

Appends to a place's labels.jsonl, a Critique of source `human` for each word: all that this person has said of the run
by then, so that its last line is enough, and a verdict that is not in it was taken back. A label is on disk when
`label` returns, and it wins over every critic's in `effective_labels`, hence in `srft rows` and `srft show`.

    person = Person("human")
    person.label(place, entry, step=3, verdict="mistake", reason="wrong file")
    agreement(place, "human", run_id=entry.id)
"""

import hashlib
from collections.abc import Iterable
from typing import NamedTuple

import msgspec

from srft.critic.agreement import cohen_kappa
from srft.critic.labels.labels import FILE_PREFIX, Critique, StepLabel, Verdict
from srft.env.errors import InputError
from srft.harness.look.web.places import Place
from srft.harness.run.entries import CODES, CritiqueEntry, RunEntry
from srft.harness.run.labels import labels_by

PEOPLE_NAME = "human"
REASON_CHARS = 10_000


class Person:
    """Someone who labels. name: as which critic their labels are kept."""

    def __init__(self, name: str) -> None:
        self.name = name

    def said(self, place: Place, entry: RunEntry) -> dict[int, StepLabel]:
        """Step -> the label that this person gave it last, of a run."""
        own = [
            told for told in place.index.critiques_of(entry.id) if told.source == "human" and told.critic == self.name
        ]
        return {label.step: label for label in own[-1].labels} if own else {}

    def label(
        self,
        place: Place,
        entry: RunEntry,
        *,
        step: int,
        verdict: Verdict | None = None,
        reason: str | None = None,
        take_back: bool = False,
    ) -> dict[int, StepLabel]:
        """Give a step a verdict, or a comment; `None` leaves the verdict or the comment as it was.

        take_back: the step's verdict is taken back, so that the critics' counts again; the comment stays.
        Returns all that the person said of the run. Raises InputError, StorageError.
        """
        if take_back and verdict is not None:
            raise InputError(f"step {step}: a verdict is either given ({verdict}) or taken back, not both")
        if not 0 <= step < entry.steps:
            raise InputError(f"step {step}: the run {entry.id} has the steps 0 to {entry.steps - 1}")
        if reason is not None and len(reason) > REASON_CHARS:
            raise InputError(f"the comment has {len(reason):,} characters; expected at most {REASON_CHARS:,}")
        if place.critics().get(self.name, "human") != "human" or self.name.startswith(FILE_PREFIX):
            raise InputError(f"--as {self.name}: a critic is named so; label under another name")
        with place.lock, place.round.critiques.alone() as append:
            place.refresh()  # what another viewer of this person appended: the next line says all of it again
            labels = self.said(place, entry)
            before = labels.get(step, StepLabel(step=step, verdict=None))
            kept = None if take_back else before.verdict
            labels[step] = StepLabel(
                step=step,
                verdict=kept if verdict is None else verdict,
                reason=before.reason if reason is None else reason or None,
            )
            append(self._critique(entry, labels))
            place.refresh()
        return labels

    def _critique(self, entry: RunEntry, labels: dict[int, StepLabel]) -> Critique:
        return Critique(
            trajectory_id=entry.id,
            task_id=entry.task_id,
            critic=self.name,
            fingerprint=hashlib.sha256(f"view\0{self.name}".encode()).hexdigest()[:16],
            source="human",
            labels=tuple(labels.get(step, StepLabel(step=step, verdict=None)) for step in range(entry.steps)),
        )


class Agreement(NamedTuple):
    """A critic, or another person, beside a person, over steps that both gave a verdict.

    same: of the four verdicts. found, missed, false_alarms: with the person's mistakes as the truth. kappa: Cohen's, of
    mistake or not; `None` where one of them calls all steps the same.
    """

    critic: str
    steps: int
    same: int
    found: int
    missed: int
    false_alarms: int
    kappa: float | None
    is_person: bool = False


def agreement(place: Place, person: str, *, run_id: str | None = None) -> list[Agreement]:
    """Every critic and every other person that shares steps with the person, by name. run_id: in this run alone."""
    runs = [run_id] if run_id else list(dict.fromkeys(told.trajectory_id for told in place.human_told(person)))
    pairs: dict[str, list[tuple[str, str]]] = {}
    people = set()
    for run in runs:
        told = place.told(run)
        own = _codes([one for one in told if one.source == "human" and one.critic == person], person)
        last = {one.critic: one for one in told if one.critic != person}
        people |= {one.critic for one in last.values() if one.source == "human"}
        for critic, one in last.items():
            pairs.setdefault(critic, []).extend(_both(own, _codes([one], critic)))
    return [
        _agreement(critic, both)._replace(is_person=critic in people) for critic, both in sorted(pairs.items()) if both
    ]


def _codes(told: Iterable[CritiqueEntry], critic: str) -> dict[int, str]:
    """Step -> letter, of one person's or one critic's words on a run."""
    labels = labels_by(list(told), critics=[critic])
    return {step: CODES[label.verdict] for step, label in labels.items()}


def _both(own: dict[int, str], other: dict[int, str]) -> list[tuple[str, str]]:
    return [(code, other[step]) for step, code in own.items() if step in other]


def _agreement(critic: str, both: list[tuple[str, str]]) -> Agreement:
    found = sum(own == other == "m" for own, other in both)
    own, others = sum(own == "m" for own, _ in both), sum(other == "m" for _, other in both)
    kappa = float(cohen_kappa(both=found, first=own, second=others, items=len(both)))
    same = sum(own == other for own, other in both)
    known = None if kappa != kappa else kappa
    return Agreement(critic, len(both), same, found, own - found, others - found, known)


class Word(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a page sends when a person labels a step. arm, critic: what the page shows, as in its address.

    take_back: as in `Person.label`.
    """

    place: str
    run: str
    step: int
    verdict: Verdict | None = None
    reason: str | None = None
    take_back: bool = False
    arm: str = ""
    critic: str = ""
