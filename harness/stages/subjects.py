"""What a critique is about: the runs of a round that are to be judged, and what of it is on file.

    subjects = subjects_of(round_, critic, evidence, only=(), wants_resolved=False)
    subjects.pending, subjects.skipped       # {"run-3"}, Counter({"resolved": 2})

Reads a round's index and its labels, writes nothing.
"""

from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import NamedTuple

import msgspec

from srft.critic.labels.labels import Critic, Critique, evidence_id, says_something
from srft.env.errors import InputError
from srft.harness.run.entries import ENDED_BY_INFRASTRUCTURE, RunEntry
from srft.harness.run.evidence import EvidenceBook
from srft.harness.run.store import Round


class Subjects(NamedTuple):
    """What is to be judged, and what of it is on file.

    outcomes: run -> its outcome, of all that are to be judged; evidence: run -> a hash of what the critic is shown of
    it. pending: those not on file. again: what is on file, but is not this critic's last word. spoken: those on which
    it has said something, with whatever settings. missing: see EvidenceBook.
    """

    outcomes: dict[str, bool | None]
    evidence: dict[str, str]
    pending: set[str]
    again: list[Critique]
    spoken: set[str]
    skipped: Counter[str]
    missing: dict[str, list[str]]


def subjects_of(
    round_: Round, critic: Critic, evidence: EvidenceBook, *, only: Sequence[str], wants_resolved: bool
) -> Subjects:
    """only: the runs on these tasks, all unless given. wants_resolved: whether resolved runs are judged too. Raises
    InputError for a task that no run is on."""
    index = round_.index()
    on_file = _on_file(round_, critic)
    subjects = Subjects({}, {}, set(), [], set(on_file.last), Counter(), defaultdict(list))
    known_tasks = set()
    without_outcome: list[str] = []
    for run in index.standing:
        known_tasks.add(run.task_id)
        outcome = index.outcome(run).resolved
        if reason := _skipped(run, outcome, only=only, wants_resolved=wants_resolved):
            subjects.skipped[reason] += 1
            continue
        told, given = _told_on(run, on_file, evidence)
        what = evidence.missing(run) if told is None else None
        if what == "outcome" and critic.source == "rule":  # one run without a grade costs that run
            without_outcome.append(f"{run.task_id} attempt {run.attempt}")
            continue
        subjects.outcomes[run.id] = outcome
        subjects.evidence[run.id] = given
        if what is not None:
            subjects.missing[what].append(f"{run.task_id} attempt {run.attempt}")
        if told is None:
            subjects.pending.add(run.id)
        elif on_file.last.get(run.id) != (critic.fingerprint, given):
            subjects.again.append(_once_more(told, critic.name))
    if without_outcome and subjects.outcomes:
        subjects.skipped["outcome unknown"] = len(without_outcome)
    elif without_outcome:
        subjects.missing["outcome"] = without_outcome
    if unknown := sorted(set(only) - known_tasks):
        raise InputError(f"{round_.path}: no run on {', '.join(unknown)}; check the ids given to --only")
    return subjects


def _told_on(run: RunEntry, on_file: "_OnFile", evidence: EvidenceBook) -> tuple[Critique | None, str]:
    """What is on file of a run, and a hash of the evidence that counts: what is there now, else what was there then."""
    if evidence.missing(run) is not None:
        told = on_file.judged.get(run.id)
        return told, told.evidence if told else ""
    given = evidence_id(evidence.of(run), evidence.information)
    return on_file.of.get((run.id, given)), given


class _OnFile(NamedTuple):
    """What a critic said of a round's runs.

    of: (run, evidence) -> what was said with these settings; judged: run -> the last of it. last: run -> fingerprint
    and evidence of this critic's last word, with whatever settings.
    """

    of: dict[tuple[str, str], Critique]
    judged: dict[str, Critique]
    last: dict[str, tuple[str, str]]


def _on_file(round_: Round, critic: Critic) -> _OnFile:
    on_file = _OnFile({}, {}, {})
    for told in round_.critiques.read():
        if not says_something(told):
            continue
        if told.critic == critic.name:
            on_file.last[told.trajectory_id] = (told.fingerprint, told.evidence)
        if told.fingerprint == critic.fingerprint and told.source == critic.source:
            on_file.of[told.trajectory_id, told.evidence] = on_file.judged[told.trajectory_id] = told
    return on_file


def _once_more(told: Critique, name: str) -> Critique:
    """A critique as this critic's last word; it costs nothing a second time."""
    return msgspec.structs.replace(told, critic=name, calls=0, usage=None, wall_s=None)


def _skipped(run: RunEntry, outcome: bool | None, *, only: Sequence[str], wants_resolved: bool) -> str | None:
    if only and run.task_id not in only:
        return "not named by --only"
    if run.stop_reason == "infra_error":
        return ENDED_BY_INFRASTRUCTURE
    if not run.steps:
        return "no steps"
    return "resolved" if outcome and not wants_resolved else None
