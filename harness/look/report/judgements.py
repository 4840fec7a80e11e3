"""Critiques on file: a round's labels.jsonl, streamed, what each critic said and how good it is.

    labels = read_labels(round_folder, on_file)
    judgements(labels, on_file)[0].verdicts["unresolved"]["mistake"]
    quality([(labels, on_file)])[0].recall

The verdicts of a critique are kept as a letter a step. Of a critic that judged a run twice, the last word counts. True
labels are those of people and oracles; a person's win, step by step, as in training.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from srft.critic.calibrate import Calibration, Score, calibrate
from srft.critic.labels.label_sets import HARMFUL, Judged, JudgedRun
from srft.critic.labels.labels import Critique
from srft.harness.look.report.episodes import Episode, OnFile, Tally, plus
from srft.harness.look.report.files import CritiqueLine
from srft.harness.look.report.records import Judgement, Quality
from srft.harness.run.store import JsonLines
from srft.harness.statistics.statistics import Interval

LETTERS = {"good": "g", "unnecessary": "u", "mistake": "m", "recover": "r", None: "-"}
NAMES = {letter: verdict or "abstained" for verdict, letter in LETTERS.items()}
OUTCOMES = ("resolved", "unresolved", "unknown")
TRUE_SOURCES = ("human", "oracle")
QUALITY_FIGURES = ("precision", "recall", "f1")

_HARMFUL_LETTERS = frozenset(LETTERS[verdict] for verdict in HARMFUL)


class Told(NamedTuple):
    """A critique: a letter a step, in their order."""

    verdicts: str
    fingerprint: str


@dataclass(kw_only=True)
class CriticOnFile:
    """All that one critic said of a round's runs."""

    source: str
    information: str
    told: dict[str, Told] = field(default_factory=dict)
    of_others: int = 0
    remarks: Counter[str] = field(default_factory=Counter)
    calls: int = 0
    usage: Tally = field(default_factory=Tally)
    wall_s: float | None = None


Labels = dict[str, CriticOnFile]
"""Critic -> what it said."""


def read_labels(folder: Path, on_file: OnFile | None) -> Labels:
    """Raises InputError."""
    standing = {episode.id for episode in on_file.episodes.values()} if on_file else set()
    labels: Labels = {}
    lines = JsonLines(folder / "labels.jsonl", CritiqueLine, whole=Critique)
    for line in lines.read():
        critic = labels.setdefault(line.critic, CriticOnFile(source=line.source, information=line.information))
        critic.calls += line.calls
        critic.wall_s = plus(critic.wall_s, line.wall_s)
        if line.calls or line.usage is not None:
            critic.usage.add(line.usage)
        if line.trajectory_id not in standing:
            critic.of_others += 1
            continue
        if line.source == "model" and not any(label.verdict for label in line.labels):
            continue  # it failed: the run counts as not judged
        ordered = sorted(line.labels, key=lambda label: label.step)
        critic.told[line.trajectory_id] = Told("".join(LETTERS[label.verdict] for label in ordered), line.fingerprint)
        critic.remarks.update(line.remarks)
    if on_file is not None:
        on_file.unreadable["labels.jsonl"] = len(lines.left_out)
    return labels


def judgements(labels: Labels, on_file: OnFile | None) -> list[Judgement]:
    """Each critic's verdicts by the outcome of the run."""
    finished = _finished(on_file)
    return [_judgement(name, critic, finished, on_file) for name, critic in sorted(labels.items())]


def _finished(on_file: OnFile | None) -> dict[str, tuple[str, Episode]]:
    """Trajectory id -> (task, episode), of the runs that there is something to say of."""
    if on_file is None:
        return {}
    return {one.id: (task, one) for (task, _), one in on_file.episodes.items() if not one.unfinished and one.steps}


def _judgement(
    name: str, critic: CriticOnFile, finished: Mapping[str, tuple[str, Episode]], on_file: OnFile | None
) -> Judgement:
    runs: Counter[str] = Counter()
    verdicts: dict[str, Counter[str]] = defaultdict(Counter)
    for id_, told in critic.told.items():
        if on_file is None or id_ not in finished:
            continue
        outcome = OUTCOMES[(True, False, None).index(on_file.resolved(*finished[id_]))]
        runs[outcome] += 1
        verdicts[outcome].update(NAMES[letter] for letter in told.verdicts)
    return Judgement(
        critic=name,
        source=critic.source,
        information=critic.information,
        fingerprints=sorted({told.fingerprint for told in critic.told.values()}),
        runs=dict(runs),
        verdicts={outcome: dict(verdicts[outcome]) for outcome in OUTCOMES if outcome in verdicts},
        not_judged=len(finished) - sum(runs.values()),
        of_runs_done_again=critic.of_others,
        remarks=dict(critic.remarks),
        calls=critic.calls,
        spent=critic.usage.spent(),
        wall_s=critic.wall_s,
    )


def labelled_steps(labels: Labels, on_file: OnFile, critics: Sequence[str]) -> tuple[int, dict[str, int]]:
    """(steps of finished runs with a verdict, why others have none). critics: those that count; people always do."""
    counting = [critic for name, critic in labels.items() if name in critics or critic.source == "human"]
    labelled, lost = 0, Counter[str]()
    for id_, (_, episode) in _finished(on_file).items():
        told = [critic.told[id_].verdicts for critic in counting if id_ in critic.told]
        if not told:
            lost["run not judged"] += episode.steps
            continue
        judged = sum(any(letter != "-" for letter in letters) for letters in zip(*told, strict=True))
        labelled += judged
        lost["critic abstained"] += episode.steps - judged
    return labelled, dict(+lost)


def quality(rounds: Sequence[tuple[Labels, OnFile]]) -> list[Quality]:
    """The critics against the true labels of all rounds' runs; none where there are no true labels."""
    truth: dict[str, str] = {}
    sources: dict[str, str] = {}
    episodes: dict[str, Episode] = {}
    told: dict[str, dict[str, str]] = defaultdict(dict)
    for labels, on_file in rounds:
        finished = _finished(on_file)
        for source in ("oracle", "human"):  # a person's verdict over an oracle's
            for critic in (one for one in labels.values() if one.source == source):
                for id_, one in critic.told.items():
                    if id_ not in finished:  # labelled, but the world or a person ended it
                        continue
                    truth[id_] = _over(truth.get(id_), one.verdicts)
                    sources[id_] = source
                    episodes[id_] = finished[id_][1]
        for name, critic in labels.items():
            if critic.source not in TRUE_SOURCES:
                told[name] |= {id_: one.verdicts for id_, one in critic.told.items()}
    truth = {id_: letters for id_, letters in truth.items() if set(letters) != {"-"}}
    runs = {
        name: [_judged(id_, letters, by_run[id_], episodes[id_]) for id_, letters in truth.items() if id_ in by_run]
        for name, by_run in sorted(told.items())
    }
    known = {name: judged for name, judged in runs.items() if judged}
    if not known:
        return []
    judged = Judged(
        known,
        {name: len(truth) - len(judged) for name, judged in known.items()},
        {name: len(told[name].keys() - truth.keys()) for name in known},
    )
    report = calibrate(judged)
    flag_all = report.baselines["flag_all"]
    assert flag_all is not None
    return [
        _quality(name, one, flag_all, Counter(sources[run.id] for run in known[name]))
        for name, one in report.critics.items()
    ]


def _over(before: str | None, letters: str) -> str:
    """A later source's verdicts over an earlier one's, where it has any."""
    if before is None:
        return letters
    return "".join(old if new == "-" else new for old, new in zip(before, letters, strict=True))


def _judged(id_: str, true: str, told: str, episode: Episode) -> JudgedRun:
    steps = [place for place, letter in enumerate(true) if letter != "-"]
    failed = {"1": True, "0": False, "?": None}
    return JudgedRun(
        id=id_,
        harmful=tuple(true[step] in _HARMFUL_LETTERS for step in steps),
        flagged=tuple(None if told[step] == "-" else told[step] in _HARMFUL_LETTERS for step in steps),
        places=tuple((step + 0.5) / len(true) for step in steps),
        failed_tools=tuple(failed[episode.failed_tools[step]] for step in steps),
    )


def _quality(name: str, one: Calibration, flag_all: Score, truth: Mapping[str, int]) -> Quality:
    return Quality(
        critic=name,
        truth=dict(truth),
        runs=one.runs,
        steps=one.steps,
        harmful_steps=one.harmful_steps,
        flagged_steps=int(one.flagged_steps),
        abstained_steps=one.abstained_steps,
        runs_without_verdicts=one.runs_without_verdicts,
        runs_without_truth=one.runs_without_truth,
        **{figure: getattr(one, figure) for figure in (*QUALITY_FIGURES, "flag_rate")},
        intervals={figure: ends and Interval(*ends) for figure in QUALITY_FIGURES for ends in [one.intervals[figure]]},
        random={figure: getattr(one.random, figure) for figure in QUALITY_FIGURES},
        flag_all={figure: getattr(flag_all, figure) for figure in QUALITY_FIGURES},
    )
