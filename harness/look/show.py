"""One run to look at: its steps, every critic's verdicts on them, what an arm trains of them, its token rows.

Reads a run directory; locks and writes nothing, so it may be looked at while it grows.

    shown = find_run(Path("runs/first"), "django__django-11099#1", arm="srft")
    shown.trajectory.steps[3], shown.verdicts[3], shown.mask.step(3).words
"""

import difflib
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from srft.agent.records import Trajectory
from srft.critic.labels.labels import Critique, Source, StepLabel
from srft.env.errors import InputError
from srft.harness.run.entries import RunEntry
from srft.harness.run.find import find_place, round_folders
from srft.harness.run.index import Index
from srft.harness.run.run_mask import RunMask, mask_of
from srft.harness.run.store import Round
from srft.harness.run.trained import (
    arms_on_file,
    has_rows,
    open_rows,
    runs_on_file,
    trained_of,
)
from srft.harness.stages.rows import critics_used, run_facts
from srft.train.rows.mask import ARMS, Arm, MaskPolicy, label_source
from srft.train.rows.rows import Row, RowTable


class Given(NamedTuple):
    """One critic's label of a step."""

    critic: str
    source: Source
    label: StepLabel


class Shown(NamedTuple):
    """A run with all that is known of it.

    verdicts: step -> what every critic said of it, people last. arm: whose mask `mask` is; both `None` where none was
    asked for. table: the arm's rows, where they were made; rows: those of this run. other_critics: whose labels the
    rows on file use, where others were asked for.
    """

    round_: Round
    trajectory: Trajectory
    outcome: bool | None
    verdicts: dict[int, list[Given]]
    arm: Arm | None = None
    mask: RunMask | None = None
    table: RowTable | None = None
    rows: Sequence[Row] = ()
    other_critics: tuple[str, ...] = ()


def find_run(
    run: str | Path, name: str, *, arm: str | None = None, critics: Sequence[str] = (), round_number: int | None = None
) -> Shown:
    """The run of that id, beginning of an id, task, or task#attempt. Raises InputError that names near ones.

    run: a run directory, or RUN:FOLDER for an evaluation in it. arm: where none is named, the one whose rows are there,
    if there is one alone. Rounds are searched newest first.
    """
    index, entry = _find(_rounds(str(run), round_number), name)
    round_ = index.round
    outcome = index.outcome(entry).resolved
    of_run = index.critiques_of(entry.id)
    chosen = _arm(round_, arm)
    shown = Shown(round_, index.trajectory(entry), outcome, given_labels(of_run), chosen)
    if chosen is None:
        return shown
    table = open_rows(round_, chosen) if has_rows(round_, chosen) else None
    made_with = tuple(table.manifest.critics) if table else ()
    used = critics_used([chosen], critics or made_with, index.critiques, round_)
    facts = run_facts(shown.trajectory, outcome, of_run, used, chosen)._replace(tampering=index.tampers(entry))
    is_theirs = label_source(chosen) != "critic" or set(used) == set(made_with)
    on_file = runs_on_file(round_, chosen) if is_theirs else None
    policy = table.manifest.policy if table else MaskPolicy(arm=chosen)
    return shown._replace(
        mask=mask_of(facts, policy, on_file.get(entry.id) if on_file is not None else None),
        table=table,
        rows=trained_of(table, entry.id).rows if table else (),
        other_critics=() if is_theirs else made_with,
    )


def _rounds(run: str, number: int | None) -> list[Round]:
    """Where the run may be: the newest round first, or the place that is named."""
    place = find_place(run, number)
    if number is not None or place.run != Path(run):
        return [place.round]
    folders = [folder for _, folder in round_folders(place.run)]
    return [Round(folder) for folder in reversed(folders) if (folder / "trajectories.jsonl").exists()]


def _find(rounds: Sequence[Round], name: str) -> tuple[Index, RunEntry]:
    known: list[RunEntry] = []
    for round_ in rounds:
        index = round_.index()
        if match := match_run(index.standing, name):
            return index, match
        known += index.standing
    raise InputError(f"{name}: no such run in {rounds[-1].path.parent}; {_near(known, name)}")


def match_run(known: Sequence[RunEntry], name: str) -> RunEntry | None:
    """The run that is meant: by its id or the beginning of it, by task, or task#attempt. Raises InputError where
    several begin like that."""
    if exact := [found for found in known if found.id == name]:
        return exact[0]
    task, _, attempt = name.rpartition("#")
    if numbered := [found for found in known if (found.task_id, str(found.attempt)) == (task, attempt)]:
        return numbered[0]
    if of_task := [found for found in known if found.task_id == name]:
        return min(of_task, key=lambda found: found.attempt)
    starting = [found for found in known if name and found.id.startswith(name)]
    if len(starting) > 1:
        some = ", ".join(f"{found.id} ({found.task_id}#{found.attempt})" for found in starting[:5])
        raise InputError(f"{name}: {len(starting)} runs begin like that: {some}; give more of the id")
    return starting[0] if starting else None


def _near(known: Sequence[RunEntry], name: str) -> str:
    """What the user may have meant."""
    task, _, _ = name.rpartition("#")
    if attempts := sorted(found.attempt for found in known if task and found.task_id == task):
        return f"attempts of {task}: {', '.join(map(str, attempts))}"
    words = [found.task_id for found in known] + [found.id for found in known]
    near = list(dict.fromkeys(difflib.get_close_matches(name, words, n=3, cutoff=0.5)))
    if near:
        return f"did you mean {' or '.join(near)}?"
    return f"some of its tasks: {', '.join(sorted({found.task_id for found in known})[:5])}"


def _arm(round_: Round, named: str | None) -> Arm | None:
    if named is not None:
        for arm in ARMS:
            if arm == named:
                return arm
        raise InputError(f"--arm {named}: expected one of {', '.join(ARMS)}")
    made = arms_on_file(round_)
    return made[0] if len(made) == 1 else None


def given_labels(critiques: Sequence[Critique]) -> dict[int, list[Given]]:
    """Step -> every critic's last label, people's last. A person says something of the steps that they labelled; of a
    critic, which was asked about all of them, an abstention is a word too."""
    last = {critique.critic: critique for critique in critiques}
    given: dict[int, list[Given]] = {}
    for critique in sorted(last.values(), key=lambda one: (one.source == "human", one.critic)):
        for label in critique.labels:
            if critique.source != "human" or label.verdict is not None or label.reason:
                given.setdefault(label.step, []).append(Given(critique.critic, critique.source, label))
    return given
