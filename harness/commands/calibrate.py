"""`srft calibrate`: a critic against true labels."""

from pathlib import Path
from typing import Annotated, Any, NamedTuple

import msgspec
import typer

from srft.env.errors import InputError
from srft.harness.commands.options import JsonOption, RunOption, print_json, required

_TRUE_SOURCES = ("human", "oracle")
_FAILED = {"1": True, "0": False, "?": None}
_MISTAKES = {"m": True, "g": False}
"""Of the rule tool_error's letters; the others are not judged."""


def calibrate(
    labels: Annotated[
        str | None,
        typer.Option(
            "--labels",
            metavar="DIR|FILE|human|oracle|outcome",
            help="True labels; with --run, `human` or `oracle`: those in the run; `outcome`: what its runs came to.",
        ),
    ] = None,
    predictions: Annotated[
        str | None, typer.Option("--predictions", metavar="DIR|FILE", help="What critics say: NAME.SET.jsonl(.gz).")
    ] = None,
    critic: Annotated[
        str | None, typer.Option("--critic", metavar="NAME", help="This one; all where left out.")
    ] = None,
    run: RunOption = None,
    harmful: Annotated[
        str, typer.Option("--harmful", metavar="VERDICT,VERDICT", help="The verdicts that count as harmful.")
    ] = "mistake",
    json: JsonOption = False,
) -> None:
    """Measure critics against true labels: precision, recall, F1, kappa, first error, next to what needs no critic.

    Intervals are 95 % intervals over whole runs. Nothing is written.

    Example: `srft calibrate --labels human.jsonl --predictions judge.jsonl`

    Example: `srft calibrate --run runs/first --labels human --critic judge`

    Example: `srft calibrate --run runs/first --labels outcome` says whether critics tell resolved runs from others.
    """
    counted = _verdicts(harmful)
    if run is not None and predictions is not None:
        raise InputError("--run and --predictions exclude each other: a run's critics stand in its labels.jsonl")
    if labels == "outcome":
        _by_outcome(required(run, "--run"), critic=critic, json=json)
        return
    if run is not None:
        _report(_of_run(Path(run), labels=required(labels, "--labels"), critic=critic, harmful=counted), critic, json)
    else:
        files = required(labels, "--labels"), required(predictions, "--predictions (or --run)")
        _report(_of_files(*files, critic=critic, harmful=counted), critic, json)


class _Inputs(NamedTuple):
    """judged: see `label_sets.Judged`. people: who labelled -> what they said. remarks: what is to be said of it."""

    judged: Any
    people: dict[str, Any]
    remarks: list[str]


def _report(inputs: _Inputs, critic: str | None, json: bool) -> None:
    from srft.critic.calibrate import calibrate as measure
    from srft.harness.look.calibrated import print_report

    report = measure(inputs.judged, people=inputs.people)
    for remark in inputs.remarks:
        typer.echo(f"srft: {remark}", err=True)
    if json:
        print_json(_as_json(report, critic))
    else:
        print_report(report)


def _of_files(labels: str, predictions: str, *, critic: str | None, harmful: tuple[str, ...]) -> _Inputs:
    from srft.critic.labels.label_sets import choose, judged_runs, read_predictions, read_truth

    truth = read_truth(labels)
    chosen = choose(read_predictions(predictions, truth), critic)
    remarks = [f"passed over, since without labels: {', '.join(truth.passed_over)}"] if truth.passed_over else []
    if truth.unlabelled:
        remarks.append(f"left out, since nobody labelled them: {truth.unlabelled:,} runs")
    return _Inputs(judged_runs(truth.runs, chosen, harmful=harmful), truth.people, remarks)


def _verdicts(harmful: str) -> tuple[str, ...]:
    from srft.critic.labels.label_file import VERDICTS

    names = tuple(name.strip() for name in harmful.split(",") if name.strip())
    if not names or set(names) - set(VERDICTS):
        raise InputError(f"--harmful {harmful}: expected some of {', '.join(VERDICTS)}, with commas between")
    return names


def _of_run(path: Path, *, labels: str, critic: str | None, harmful: tuple[str, ...]) -> _Inputs:
    """The labels of a run's own trajectories; nothing is locked, as nothing is written."""
    from srft.critic.labels.label_file import FileCritic
    from srft.critic.labels.label_sets import Predictions, choose, judged_runs
    from srft.critic.labels.labels import Evidence
    from srft.harness.run.labels import labels_by

    on_file = {"human": _TRUE_SOURCES, "oracle": ("oracle",)}.get(labels)
    file = None if on_file else FileCritic(labels)
    told_by = _Told()
    truth: dict[str, Any] = {}
    people: dict[str, dict[str, Any]] = {}
    lengths: dict[str, int] = {}
    failed: dict[str, dict[int, bool | None]] = {}
    for index, run in _standing(path):
        told = index.told(run.id)
        told_by.add(run, told)
        for one in told:
            if one.source == "human" and file is None:
                people.setdefault(one.critic, {})[run.id] = one.labels()
        if file is None:
            true: list[Any] = [one for one in told if one.source in (on_file or ())]
        else:
            given = file.judge(index.trajectory(run), Evidence())
            true = [] if given is None else [given]
        if true:
            truth[run.id] = labels_by(true, critics=[one.critic for one in true])
            lengths[run.id] = run.steps
            failed[run.id] = {step: _FAILED[letter] for step, letter in enumerate(run.failed_tools)}
    if not truth:
        raise InputError(f"{path}: no true labels for any of its runs; label some, or give --labels FILE")
    said = told_by.by_name(path, critic)
    chosen = choose(Predictions(said, {}), critic)
    judged = judged_runs(truth, chosen, harmful=harmful, lengths=lengths, failed_tools=failed)
    return _Inputs(judged, people, told_by.remarks(chosen, truth))


def _standing(path: Path) -> Any:
    """(index, run) of every run that stands in the rounds."""
    from srft.harness.run.find import find_run, round_folders
    from srft.harness.run.store import Round

    indexes = [Round(folder).index() for _, folder in round_folders(find_run(path))]
    return [(index, run) for index in indexes for run in index.standing]


class _Told:
    """What critics said, by critic and by critic@fingerprint: one critic under several prompts is several."""

    def __init__(self) -> None:
        self._last: dict[str, dict[str, Any]] = {}
        self._by_settings: dict[str, dict[str, dict[str, Any]]] = {}
        self._trained_on: dict[str, set[str]] = {}

    def add(self, run: Any, told: Any) -> None:
        for one in told:
            if one.source not in _TRUE_SOURCES:
                labels = {label.step: label for label in one.critique().labels}
                name = f"{one.critic}@{one.fingerprint}"
                self._last.setdefault(one.critic, {})[run.id] = labels
                self._by_settings.setdefault(one.critic, {}).setdefault(name, {})[run.id] = labels
                if one.remarks.get("trained_on_this_task"):
                    self._trained_on.setdefault(one.critic, set()).add(run.id)

    def by_name(self, path: Path, asked: str | None) -> dict[str, Any]:
        """Each critic's last words, and where it spoke with several settings each of them. Raises InputError."""
        if not self._last:
            raise InputError(f"{path}: no critic has judged it yet; run srft critique --run {path} first")
        several = {critic: named for critic, named in self._by_settings.items() if len(named) > 1}
        if asked is not None:
            return {
                **self._last,
                **{name: runs for named in self._by_settings.values() for name, runs in named.items()},
            }
        return {
            name: runs
            for critic, last in self._last.items()
            for name, runs in (several.get(critic) or {critic: last}).items()
        }

    def remarks(self, chosen: Any, truth: Any) -> list[str]:
        counts = {
            name: len(self._trained_on.get(name.partition("@")[0], set()) & truth.keys() & runs.keys())
            for name, runs in chosen.items()
        }
        return [
            f"{name}: {count:,} of these runs are on tasks that it was trained on, so its figures flatter it"
            for name, count in counts.items()
            if count
        ]


def _by_outcome(run: str, *, critic: str | None, json: bool) -> None:
    """Verdict shares by outcome, and whether each critic's score of a run tells resolved from unresolved."""
    from srft.critic.separation import Judgement, by_outcome
    from srft.harness.look.calibrated import print_outcomes

    told = [
        Judgement(
            msgspec.structs.replace(one.critique(), remarks=one.remarks),
            index.outcome(entry).resolved,
            [_MISTAKES.get(code) for code in entry.tool_error],
        )
        for index, entry in _standing(Path(run))
        for one in index.told(entry.id)
        if one.source not in _TRUE_SOURCES and critic in (None, one.critic)
    ]
    if not told:
        whose = f"by {critic} " if critic else ""
        raise InputError(f"{run}: no verdicts {whose}on any of its runs; run srft critique --run {run} first")
    found = by_outcome(told)
    if json:
        print_json(found)
    else:
        print_outcomes(found)


def _as_json(report: Any, critic: str | None) -> Any:
    if critic is None:
        return report
    calibration = report.critics[critic]
    content: dict[str, Any] = {"critic": critic, **msgspec.structs.asdict(calibration)}
    more = {"ideals": report.ideals, "people": report.people}
    return content | more | {"baselines": {**report.baselines, "random": calibration.random}}
