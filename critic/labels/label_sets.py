"""True labels and a critic's labels of the same runs, found and laid side by side.

Reads files of labels, or folders of them (see `label_file.py`), writes nothing.

    truth = read_truth("step_labels")
    predictions = read_predictions("step_labels/apb_critics", truth)
    judged = judged_runs(truth.runs, choose(predictions, "Qwen3-8B-Thinking"))
    judged.runs["Qwen3-8B-Thinking"][0].flagged

In a folder, NAME.jsonl or NAME.SET.jsonl (or .jsonl.gz) holds what the critic NAME says on the runs of SET; files
without labels are passed over, and named.
"""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Literal, NamedTuple

from srft.critic.labels.label_file import LabelLine, has_labels, read_json_lines, read_label_lines
from srft.critic.labels.labels import StepLabel
from srft.env.errors import InputError

HARMFUL = ("mistake",)

RunLabels = dict[str, dict[int, StepLabel]]
"""Run -> step (or message) -> label."""


class Truth(NamedTuple):
    """True labels. counted_in: what their keys count. passed_over: files without labels. unlabelled: runs in the files
    that nobody labelled. people: who labelled -> what they said, of files that name them."""

    runs: RunLabels
    counted_in: Literal["steps", "messages"]
    passed_over: tuple[str, ...]
    unlabelled: int
    people: dict[str, RunLabels]


class Predictions(NamedTuple):
    """What critics say. stems: of critics whose labels are spread over sets, each file's by its stem, NAME.SET."""

    critics: dict[str, RunLabels]
    stems: dict[str, RunLabels]


class JudgedRun(NamedTuple):
    """One run's steps that have a true verdict, in their order. Every tuple has one entry a step.

    flagged: `None` where the critic abstained. places: the step's place in the run, from 0 to below 1.
    failed_tools: whether the step's exit code was not 0 (or its time ran out, or it had no action), `None` where that
    is not known. votes: (votes for harmful, votes), `None` where there were none. confidences: the critic's, `None`
    where it gives none; no entry where it gives none in the whole run.
    """

    id: str
    harmful: tuple[bool, ...]
    flagged: tuple[bool | None, ...]
    places: tuple[float, ...]
    failed_tools: tuple[bool | None, ...] = ()
    votes: tuple[tuple[int, int] | None, ...] = ()
    confidences: tuple[float | None, ...] = ()


class Judged(NamedTuple):
    """Critic -> the runs that both it and the truth have; what was left out.

    without_verdicts: critic -> runs with true labels that it has nothing on. without_truth: critic -> runs that it has
    verdicts on and the truth has not.
    """

    runs: dict[str, list[JudgedRun]]
    without_verdicts: dict[str, int]
    without_truth: dict[str, int]


def read_truth(path: str | Path) -> Truth:
    """The true labels of a file or a folder; of a run's labels.jsonl those of people and oracles. Raises InputError.

    A person's labels of a run win over an oracle's, unless all were taken back. Of each person the last line of a
    labels.jsonl counts, and of several people's labels of a step that of the one who spoke last.
    """
    files, passed_over = _label_files(Path(path))
    by_people: dict[str, dict[str, LabelLine]] = {}
    others: dict[str, LabelLine] = {}
    for line in (line for file in files for line in read_label_lines(file)):
        if line.source not in (None, "human", "oracle"):
            continue
        before = next(iter(by_people.get(line.run, {}).values()), None) or others.get(line.run)
        if before is not None and line.source is None:
            raise InputError(f"{line.where}: the run {line.run} is already in {before.where}; keep one of them")
        if line.source == "human":
            of_run = by_people.setdefault(line.run, {})
            of_run.pop(str(line.critic), None)  # so that they stand in the order of their last words
            of_run[str(line.critic)] = line
        else:
            others[line.run] = line
    lines = [*others.values(), *(line for of_run in by_people.values() for line in of_run.values())]
    found = {run: line.labels for run, line in others.items()}
    people: dict[str, RunLabels] = {}
    for run, of_run in by_people.items():
        said = {step: label for line in of_run.values() for step, label in line.labels.items() if label.verdict}
        found |= {run: said} if said else {}
        for name, line in of_run.items():
            people.setdefault(name, {})[run] = line.labels
    if not found:
        raise InputError(f"{path}: has no true labels; expected lines of a person or an oracle")
    unlabelled = sum(not _has_verdicts(labels) for labels in found.values())
    return Truth(found, _counted_in(lines), passed_over, unlabelled, people)


def _has_verdicts(labels: Mapping[int, StepLabel]) -> bool:
    return any(label.verdict is not None for label in labels.values())


def read_predictions(path: str | Path, truth: Truth) -> Predictions:
    """What critics say, of a file or a folder. Raises InputError.

    A critic's name is that which the line gives, else the file's stem, less the name of the set.
    """
    files, _ = _label_files(Path(path))
    critics: dict[str, dict[str, LabelLine]] = {}
    stems: dict[str, RunLabels] = {}
    for file in files:
        stem = _stem(file)
        for line in read_label_lines(file):
            if line.source in ("human", "oracle"):
                continue
            if line.counted_in != truth.counted_in:
                raise InputError(
                    f"{line.where}: counts {line.counted_in}, the true labels count {truth.counted_in}; what is which "
                    "only the runs can tell: give --run, whose labels both count steps"
                )
            name = line.critic or stem.removesuffix(f".{line.set}")
            before = critics.setdefault(name, {}).get(line.run)
            if before is not None and line.critic is None:
                raise InputError(f"{line.where}: {name} already judged {line.run} in {before.where}; keep one of them")
            critics[name][line.run] = line
            if line.critic is None and name != stem:
                stems.setdefault(stem, {})[line.run] = line.labels
    if not critics:
        raise InputError(f"{path}: has no critic's labels; expected NAME.jsonl or NAME.SET.jsonl(.gz) files")
    by_name = {name: {run: line.labels for run, line in lines.items()} for name, lines in sorted(critics.items())}
    return Predictions(by_name, stems)


def choose(predictions: Predictions, critic: str | None) -> dict[str, RunLabels]:
    """One critic's predictions, or one file's by its stem; all critics' for `None`. Raises InputError."""
    critics, stems = predictions
    if critic is None:
        return critics
    chosen = critics.get(critic, stems.get(critic))
    if chosen is not None:
        return {critic: chosen}
    near = difflib.get_close_matches(critic, [*critics, *stems], n=1, cutoff=0.4)
    meant = f"did you mean {near[0]}? " if near else ""
    raise InputError(f"--critic {critic}: no such critic; {meant}Known: {', '.join(critics)}")


def _label_files(path: Path) -> tuple[list[Path], tuple[str, ...]]:
    """The files with labels in a folder and the names of those without; a file alone is taken as it is."""
    if not path.is_dir():
        return [path], ()
    candidates = sorted(file for file in path.iterdir() if file.name.endswith((".jsonl", ".jsonl.gz", ".parquet")))
    files = [file for file in candidates if _begins_with_labels(file)]
    if not files:
        raise InputError(f"{path}: no file with labels in this folder; expected .jsonl, .jsonl.gz or .parquet files")
    return files, tuple(file.name for file in candidates if file not in files)


def _begins_with_labels(file: Path) -> bool:
    first = next(read_json_lines(file), None)
    return first is not None and has_labels(first[1])


def _stem(file: Path) -> str:
    return file.name.removesuffix(".gz").removesuffix(".jsonl").removesuffix(".json").removesuffix(".parquet")


def _counted_in(lines: Iterable[LabelLine]) -> Literal["steps", "messages"]:
    first = None
    for line in lines:
        first = first or line
        if line.counted_in != first.counted_in:
            raise InputError(
                f"{line.where}: counts {line.counted_in}, but {first.where} counts {first.counted_in}; give one kind"
            )
    assert first is not None  # the caller has checked that there are lines
    return first.counted_in


def judged_runs(
    truth: Mapping[str, Mapping[int, StepLabel]],
    predictions: Mapping[str, Mapping[str, Mapping[int, StepLabel]]],
    *,
    harmful: Collection[str] = HARMFUL,
    lengths: Mapping[str, int] | None = None,
    failed_tools: Mapping[str, Mapping[int, bool | None]] | None = None,
) -> Judged:
    """True and predicted labels laid side by side. truth: run -> step -> label; predictions: critic -> the same.

    Steps without a true verdict are left out, and runs without any. lengths: the runs' steps; where not given, the
    labelled steps are all.
    """
    truth = {run: true for run, true in truth.items() if any(label.verdict is not None for label in true.values())}
    runs: dict[str, list[JudgedRun]] = {}
    for critic, by_run in predictions.items():
        runs[critic] = [
            _judged_run(
                run,
                true,
                by_run[run],
                harmful=frozenset(harmful),
                length=None if lengths is None else lengths[run],
                failed=None if failed_tools is None else failed_tools[run],
            )
            for run, true in truth.items()
            if run in by_run
        ]
    missing = {critic: len(truth) - len(judged) for critic, judged in runs.items()}
    unknown = {critic: len(by_run.keys() - truth.keys()) for critic, by_run in predictions.items()}
    return Judged(runs, missing, unknown)


def _judged_run(
    run: str,
    true: Mapping[int, StepLabel],
    predicted: Mapping[int, StepLabel],
    *,
    harmful: frozenset[str],
    length: int | None,
    failed: Mapping[int, bool | None] | None,
) -> JudgedRun:
    steps = sorted(step for step, label in true.items() if label.verdict is not None)
    labels = [predicted.get(step) for step in steps]
    sure = tuple(None if one is None else one.confidence for one in labels)
    places = [(place + 0.5) / len(steps) for place in range(len(steps))]
    return JudgedRun(
        id=run,
        harmful=tuple(true[step].verdict in harmful for step in steps),
        flagged=tuple(None if one is None or one.verdict is None else one.verdict in harmful for one in labels),
        places=tuple(places if length is None else [(step + 0.5) / length for step in steps]),
        failed_tools=() if failed is None else tuple(failed.get(step) for step in steps),
        votes=tuple(_votes(one, harmful) for one in labels),
        confidences=sure if any(one is not None for one in sure) else (),
    )


def _votes(label: StepLabel | None, harmful: frozenset[str]) -> tuple[int, int] | None:
    """An abstaining vote is one for not harmful, as it is in the mask."""
    if label is None or not label.votes:
        return None
    return sum(count for verdict, count in label.votes.items() if verdict in harmful), sum(label.votes.values())
