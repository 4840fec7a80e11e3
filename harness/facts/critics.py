"""Critics beside the truth: labels of people and oracles, or what the runs came to.

    measure_critics(Path("runs/first"), labels="human").report.critics["judge"].recall
    quality([round_.index()])[0].recall                                # the same figure, as report.json has it
    critics_by_outcome(Path("runs/first"))["judge"].separation.auc

Reads a run's labels.jsonl and the short records of its trajectories; writes nothing. A person's label wins over an
oracle's, step by step, as in training. Of a critic that judged a run twice the last word counts; a critique without a
single verdict counts as none. Runs that infrastructure or a person ended are left out.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import msgspec

from srft.critic.calibrate import Calibration, Score, calibrate
from srft.critic.calibrate import Report as CalibrationReport
from srft.critic.labels.label_file import FileCritic
from srft.critic.labels.label_sets import (
    HARMFUL,
    Judged,
    Predictions,
    RunLabels,
    choose,
    judged_runs,
    read_predictions,
    read_truth,
)
from srft.critic.labels.labels import Evidence
from srft.critic.separation import ByOutcome, by_outcome
from srft.critic.separation import Judgement as JudgedCritique
from srft.env.errors import InputError
from srft.harness.facts.records import Quality
from srft.harness.run.entries import CritiqueEntry, RunEntry
from srft.harness.run.find import find_run, round_folders
from srft.harness.run.index import Index
from srft.harness.run.labels import labels_by
from srft.harness.run.store import Round
from srft.harness.statistics.statistics import Interval

TRUE_SOURCES = ("human", "oracle")
QUALITY_FIGURES = ("precision", "recall", "f1")

_FAILED = {"1": True, "0": False, "?": None}
_MISTAKES = {"m": True, "g": False}
"""Of the rule tool_error's letters; the others are not judged."""


class Measured(NamedTuple):
    """What `srft calibrate` prints. remarks: what is to be said of it besides, in sentences."""

    report: CalibrationReport
    remarks: list[str]


@dataclass(kw_only=True)
class Labelled:
    """What a run's rounds have of the truth, and of critics beside it."""

    truth: RunLabels = field(default_factory=dict)
    sources: dict[str, str] = field(default_factory=dict)
    """Run -> whose its truth is: "human" where a person said anything of it."""
    people: dict[str, RunLabels] = field(default_factory=dict)
    critics: dict[str, RunLabels] = field(default_factory=dict)
    """Critic -> its last words."""
    by_settings: dict[str, dict[str, RunLabels]] = field(default_factory=dict)
    """Critic -> critic@fingerprint -> its last words with these settings."""
    trained_on: dict[str, set[str]] = field(default_factory=dict)
    """Critic -> runs on tasks that it was trained on."""
    lengths: dict[str, int] = field(default_factory=dict)
    failed_tools: dict[str, dict[int, bool | None]] = field(default_factory=dict)
    unfinished: int = 0
    """Runs left out, as infrastructure or a person ended them."""

    def judged(self, critics: Mapping[str, RunLabels], harmful: Collection[str] = HARMFUL) -> Judged:
        sizes, failed = self.lengths, self.failed_tools
        return judged_runs(self.truth, critics, harmful=harmful, lengths=sizes, failed_tools=failed)

    def named(self, path: Path, asked: str | None) -> dict[str, RunLabels]:
        """Each critic's last words; where it spoke with several settings, those of each. Raises InputError."""
        if not self.critics:
            raise InputError(f"{path}: no critic has judged it yet; run srft critique --run {path} first")
        if asked is not None:
            every = {name: runs for named in self.by_settings.values() for name, runs in named.items()}
            return choose(Predictions({**self.critics, **every}, {}), asked)
        several = {critic: named for critic, named in self.by_settings.items() if len(named) > 1}
        return {
            name: runs
            for critic, last in self.critics.items()
            for name, runs in several.get(critic, {critic: last}).items()
        }


def read_labelled(
    indexes: Iterable[Index], file: FileCritic | None = None, *, sources: Collection[str] = TRUE_SOURCES
) -> Labelled:
    """file: where the true labels are, in the place of those on file. sources: whose labels on file are true."""
    found = Labelled()
    for index in indexes:
        for run in index.standing:
            if run.unfinished:
                found.unfinished += bool(index.told(run.id))
                continue
            told = [one for one in index.told(run.id) if one.says_something]
            if file is None:
                _add_truth(found, run, [one for one in told if one.source in sources])
            elif (given := file.judge(index.trajectory(run), Evidence())) is not None:
                found.truth[run.id] = labels_by([given], critics=[given.critic])
                found.sources[run.id] = given.source
            _add_critics(found, run, told)
            if run.id in found.truth:
                found.lengths[run.id] = run.steps
                found.failed_tools[run.id] = {step: _FAILED[letter] for step, letter in enumerate(run.failed_tools)}
    return found


def _add_truth(found: Labelled, run: RunEntry, told: Sequence[CritiqueEntry]) -> None:
    if labels := labels_by(told, critics=[one.critic for one in told]):
        found.truth[run.id] = labels
        found.sources[run.id] = "human" if any(one.source == "human" for one in told) else "oracle"
    for one in told:
        if one.source == "human":
            found.people.setdefault(one.critic, {})[run.id] = one.labels()


def _add_critics(found: Labelled, run: RunEntry, told: Sequence[CritiqueEntry]) -> None:
    for one in told:
        if one.source in TRUE_SOURCES:
            continue
        # Of runs without true labels it counts that they were judged, and nothing else.
        labels = {label.step: label for label in one.critique().labels} if run.id in found.truth else {}
        settings = found.by_settings.setdefault(one.critic, {})
        found.critics.setdefault(one.critic, {})[run.id] = labels
        settings.setdefault(f"{one.critic}@{one.fingerprint}", {})[run.id] = labels
        if one.remarks.get("trained_on_this_task"):
            found.trained_on.setdefault(one.critic, set()).add(run.id)


# ---- srft calibrate ----


def measure_critics(run: Path, *, labels: str, critic: str | None = None, harmful: Sequence[str] = HARMFUL) -> Measured:
    """The critics of a run. labels: "human" for those in it, an oracle's too where there are any; "oracle" for those of
    oracles alone; or a file. Raises InputError."""
    sources = ("oracle",) if labels == "oracle" else TRUE_SOURCES
    found = read_labelled(_indexes(run), None if labels in TRUE_SOURCES else FileCritic(labels), sources=sources)
    if not found.truth:
        raise InputError(f"{run}: no true labels for any of its runs; label some, or give --labels FILE")
    chosen = found.named(run, critic)
    return Measured(calibrate(found.judged(chosen, harmful), people=found.people), list(_remarks(found, chosen)))


def _remarks(found: Labelled, chosen: Mapping[str, RunLabels]) -> Iterator[str]:
    for name, runs in chosen.items():
        trained_on = found.trained_on.get(name.partition("@")[0], set())
        if count := len(trained_on & found.truth.keys() & runs.keys()):
            yield f"{name}: {count:,} of these runs are on tasks that it was trained on, so its figures flatter it"
    if found.unfinished:
        yield f"left out, as infrastructure or a person ended them: {found.unfinished:,} runs with labels"


def measure_files(labels: str, predictions: str, *, critic: str | None, harmful: Sequence[str]) -> Measured:
    """The critics in files of labels, against the true labels in another. Raises InputError."""
    truth = read_truth(labels)
    chosen = choose(read_predictions(predictions, truth), critic)
    remarks = [f"passed over, since without labels: {', '.join(truth.passed_over)}"] if truth.passed_over else []
    if truth.unlabelled:
        remarks.append(f"left out, since nobody labelled them: {truth.unlabelled:,} runs")
    return Measured(calibrate(judged_runs(truth.runs, chosen, harmful=harmful), people=truth.people), remarks)


def critics_by_outcome(run: Path, *, critic: str | None = None) -> dict[str, ByOutcome]:
    """Verdicts by outcome, and whether each critic's score of a run tells resolved from unresolved. Raises
    InputError."""
    told = [
        JudgedCritique(
            msgspec.structs.replace(one.critique(), remarks=one.remarks),
            index.outcome(entry).resolved,
            [_MISTAKES.get(code) for code in entry.tool_error],
        )
        for index in _indexes(run)
        for entry in index.standing
        if not entry.unfinished
        for one in index.told(entry.id)
        if one.source not in TRUE_SOURCES and critic in (None, one.critic) and one.says_something
    ]
    if not told:
        whose = f"by {critic} " if critic else ""
        raise InputError(f"{run}: no verdicts {whose}on any of its runs; run srft critique --run {run} first")
    return by_outcome(told)


def _indexes(run: Path) -> Iterator[Index]:
    return (Round(folder).index() for _, folder in round_folders(find_run(run)))


# ---- report.json ----


def quality(indexes: Sequence[Index]) -> list[Quality]:
    """The critics against the true labels of all rounds' runs; none where there are no true labels."""
    found = read_labelled(indexes)
    judged = found.judged(dict(sorted(found.critics.items())))
    known = Judged({name: runs for name, runs in judged.runs.items() if runs}, *judged[1:])
    if not known.runs:
        return []
    report = calibrate(known)
    flag_all = report.baselines["flag_all"]
    assert flag_all is not None
    return [
        _quality(name, one, flag_all, Counter(found.sources[run.id] for run in known.runs[name]))
        for name, one in report.critics.items()
    ]


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
