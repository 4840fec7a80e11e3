"""What critics and people said of a folder's runs.

    labels = read_labels(on_file)
    judgements(labels, on_file)[0].verdicts["unresolved"]["mistake"]

The verdicts of a critique are kept as a letter a step. Of a critic that judged a run twice, the last word counts.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from srft.harness.facts.episodes import spent
from srft.harness.facts.records import Judgement
from srft.harness.run.entries import VERDICTS, CritiqueEntry, RunEntry, Tally, plus
from srft.harness.run.index import Index

OUTCOMES = ("resolved", "unresolved", "unknown")


@dataclass(kw_only=True)
class CriticOnFile:
    """All that one critic said of a round's runs."""

    source: str
    information: str
    told: dict[str, CritiqueEntry] = field(default_factory=dict)
    of_others: int = 0
    calls: int = 0
    usage: Tally = field(default_factory=Tally)
    wall_s: float | None = None


Labels = dict[str, CriticOnFile]
"""Critic -> what it said."""


def read_labels(on_file: Index | None) -> Labels:
    labels: Labels = {}
    for told in on_file.critiques if on_file else ():
        critic = labels.setdefault(told.critic, CriticOnFile(source=told.source, information=told.information))
        critic.calls += told.calls
        critic.wall_s = plus(critic.wall_s, told.wall_s)
        if told.calls or told.usage is not None:
            critic.usage.add(told.usage)
        if on_file is None or told.trajectory_id not in on_file.by_id:
            critic.of_others += 1
            continue
        if not told.says_something:
            continue  # it failed: the run counts as not judged
        critic.told[told.trajectory_id] = told
    return labels


def judgements(labels: Labels, on_file: Index | None) -> list[Judgement]:
    """Each critic's verdicts by the outcome of the run."""
    finished = _finished(on_file)
    return [_judgement(name, critic, finished, on_file) for name, critic in sorted(labels.items())]


def _finished(on_file: Index | None) -> dict[str, RunEntry]:
    """Trajectory id -> the run, of those that there is something to say of."""
    if on_file is None:
        return {}
    return {one.id: one for one in on_file.attempts.values() if not one.unfinished and one.steps}


def _judgement(name: str, critic: CriticOnFile, finished: Mapping[str, RunEntry], on_file: Index | None) -> Judgement:
    runs: Counter[str] = Counter()
    verdicts: dict[str, Counter[str]] = defaultdict(Counter)
    remarks: Counter[str] = Counter()
    for id_, told in critic.told.items():
        remarks.update(told.remarks)
        if on_file is None or id_ not in finished:
            continue
        outcome = OUTCOMES[(True, False, None).index(on_file.outcome(finished[id_]).resolved)]
        runs[outcome] += 1
        for letter, count in Counter(told.codes).items():
            # A person says something of the steps that they labelled, and has not abstained from the others.
            if letter != "-" or critic.source != "human":
                verdicts[outcome][VERDICTS[letter] or "abstained"] += count
    return Judgement(
        critic=name,
        source=critic.source,
        information=critic.information,
        fingerprints=sorted({told.fingerprint for told in critic.told.values()}),
        runs=dict(runs),
        verdicts={outcome: dict(verdicts[outcome]) for outcome in OUTCOMES if outcome in verdicts},
        not_judged=len(finished) - sum(runs.values()),
        of_runs_done_again=critic.of_others,
        remarks=dict(remarks),
        calls=critic.calls,
        spent=spent(critic.usage),
        wall_s=critic.wall_s,
    )


def labelled_steps(labels: Labels, on_file: Index, critics: Sequence[str]) -> tuple[int, dict[str, int]]:
    """(steps of finished runs with a verdict, why others have none). critics: those that count; people always do."""
    counting = [critic for name, critic in labels.items() if name in critics or critic.source == "human"]
    labelled, lost = 0, Counter[str]()
    for id_, episode in _finished(on_file).items():
        told = [critic.told[id_].codes for critic in counting if id_ in critic.told]
        if not told:
            lost["run not judged"] += episode.steps
            continue
        if len(told) == 1:
            judged = len(told[0]) - told[0].count("-")
        else:
            judged = sum(any(letter != "-" for letter in letters) for letters in zip(*told, strict=True))
        labelled += judged
        lost["critic abstained"] += episode.steps - judged
    return labelled, dict(+lost)
