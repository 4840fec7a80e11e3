"""Critiques on file: a round's labels.jsonl, streamed, what each critic said and how good it is.

    labels = read_labels(on_file)
    judgements(labels, on_file)[0].verdicts["unresolved"]["mistake"]
    quality([(labels, on_file)])[0].recall

The verdicts of a critique are kept as a letter a step. Of a critic that judged a run twice, the last word counts. True
labels are those of people and oracles; a person's win, step by step, as in training.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from srft.critic.calibrate import Calibration, Score, calibrate
from srft.critic.labels.label_sets import HARMFUL, Judged, JudgedRun
from srft.harness.look.report.episodes import spent
from srft.harness.look.report.records import Judgement, Quality
from srft.harness.run.index import CODES, VERDICTS, CritiqueEntry, Index, RunEntry, Tally, plus
from srft.harness.statistics.statistics import Interval

OUTCOMES = ("resolved", "unresolved", "unknown")
TRUE_SOURCES = ("human", "oracle")
QUALITY_FIGURES = ("precision", "recall", "f1")

_HARMFUL_LETTERS = frozenset(code for verdict, code in CODES.items() if verdict in HARMFUL)


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
        verdicts[outcome].update(VERDICTS[letter] or "abstained" for letter in told.codes)
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
        judged = sum(any(letter != "-" for letter in letters) for letters in zip(*told, strict=True))
        labelled += judged
        lost["critic abstained"] += episode.steps - judged
    return labelled, dict(+lost)


def quality(rounds: Sequence[tuple[Labels, Index]]) -> list[Quality]:
    """The critics against the true labels of all rounds' runs; none where there are no true labels."""
    truth: dict[str, str] = {}
    sources: dict[str, str] = {}
    episodes: dict[str, RunEntry] = {}
    told: dict[str, dict[str, str]] = defaultdict(dict)
    for labels, on_file in rounds:
        finished = _finished(on_file)
        for source in ("oracle", "human"):  # a person's verdict over an oracle's
            for critic in (one for one in labels.values() if one.source == source):
                for id_, one in critic.told.items():
                    if id_ not in finished:  # labelled, but infrastructure or a person ended it
                        continue
                    truth[id_] = _over(truth.get(id_), one.codes)
                    sources[id_] = source
                    episodes[id_] = finished[id_]
        for name, critic in labels.items():
            if critic.source not in TRUE_SOURCES:
                told[name] |= {id_: one.codes for id_, one in critic.told.items()}
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


def _judged(id_: str, true: str, told: str, episode: RunEntry) -> JudgedRun:
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
