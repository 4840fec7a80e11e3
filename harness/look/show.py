"""One run to look at: its steps, every critic's verdicts on them, the weights that an arm gives them, its token rows.

Reads a run directory; locks and writes nothing, so it may be looked at while it grows.

    shown = find_run(Path("runs/first"), "django__django-11099#1", arm="srft")
    shown.trajectory.steps[3], shown.verdicts[3], shown.weights[3]
"""

import difflib
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec
import numpy
from numpy.typing import NDArray

from srft.agent.records import Trajectory
from srft.critic.labels.labels import Critique, Source, StepLabel
from srft.env.errors import InputError
from srft.harness.run.store import JsonLines, Round, resolved
from srft.harness.stages.rows import critics_used, critiques_by_run, run_facts
from srft.train.rows.mask import ARMS, Arm, MaskPolicy, Part, left_out, step_weights
from srft.train.rows.rows import Row, RowTable
from srft.train.rows.show import rows_of_run


class Name(msgspec.Struct, frozen=True, kw_only=True):
    """What a trajectory is asked for by."""

    id: str
    task_id: str
    attempt: int


class Given(NamedTuple):
    """One critic's label of a step."""

    critic: str
    source: Source
    label: StepLabel


class Shown(NamedTuple):
    """A run with all that is known of it.

    verdicts: step -> every critic's label, people's last. arm: whose mask `weights` is, a step; both `None` where none
    was asked for. left_out: why the arm does not train on the run at all (then `weights` is `None`). table: the arm's
    rows, where they were made; rows: those of this run.
    """

    round_: Round
    trajectory: Trajectory
    outcome: bool | None
    verdicts: dict[int, list[Given]]
    arm: Arm | None
    left_out: str | None
    weights: NDArray[numpy.float32] | None
    table: RowTable | None
    rows: list[Row]


def find_run(
    run: Path, name: str, *, arm: str | None = None, critics: Sequence[str] = (), round_number: int | None = None
) -> Shown:
    """The run of that id, beginning of an id, task, or task#attempt. Raises InputError that names near ones.

    arm: where none is named, the one whose rows are there, if there is one alone. Rounds are searched newest first.
    """
    rounds = _rounds(run, round_number)
    round_, trajectory = _find(rounds, name)
    critiques = critiques_by_run(round_)
    of_run = critiques.get(trajectory.id, [])
    outcome = resolved(trajectory, round_.grades_by_patch())
    chosen = _arm(round_, arm)
    shown = Shown(round_, trajectory, outcome, _verdicts(of_run), chosen, None, None, None, [])
    if chosen is None:
        return shown
    folder = round_.path / "rows" / chosen
    table = RowTable.open(folder) if (folder / "rows.json").exists() else None
    policy = table.manifest.policy if table else MaskPolicy(arm=chosen)
    used = critics_used([chosen], critics or (table.manifest.critics if table else ()), critiques, round_)
    facts = run_facts(trajectory, outcome, of_run, used, chosen)
    reason = left_out(facts, policy)
    return shown._replace(
        left_out=reason,
        weights=None if reason else step_weights(facts, policy),
        table=table,
        rows=rows_of_run(table, trajectory.id) if table else [],
    )


def rows_command(shown: Shown) -> str:
    """What makes the missing rows."""
    return f"srft rows --run {shown.round_.path.parent} --tokenizer D --arm {shown.arm or 'srft'}"


def is_stale(shown: Shown) -> bool:
    """Whether the run's rows hold other weights than its labels give now: newer labels, or another critic's."""
    if shown.weights is None or shown.table is None:
        return False
    for row in shown.rows:
        trained = row.weights > 0
        if (row.weights[trained] != shown.weights[row.step_index[trained]]).any():
            return True
        whole = shown.table.manifest.policy.train == "thought_and_action"
        if whole and (shown.weights[row.step_index[(row.part != Part.CONTEXT) & ~trained]] > 0).any():
            return True
    return False


def _rounds(run: Path, number: int | None) -> list[Round]:
    folders = sorted(run.glob("round-*"), reverse=True) if number is None else [run / f"round-{number:03d}"]
    rounds = [Round(folder) for folder in folders if (folder / "trajectories.jsonl").exists()]
    if not rounds:
        where = run if number is None else folders[0]
        raise InputError(f"{where}: no runs in it; check --run and --round, or collect or import some first")
    return rounds


def _find(rounds: Sequence[Round], name: str) -> tuple[Round, Trajectory]:
    known: list[Name] = []
    for round_ in rounds:
        names = JsonLines(round_.trajectories.path, Name, whole=Trajectory)
        last = {(found.task_id, found.attempt): (place, found) for place, found in names.read_with_offsets()}
        standing = list(last.values())
        if matches := _matches([found for _, found in standing], name):
            place = next(place for place, found in standing if found is matches)
            return round_, round_.trajectories.at(place)
        known += [found for _, found in standing]
    near = _near(known, name)
    raise InputError(f"{name}: no such run in {rounds[-1].path.parent}; {near}")


def _matches(known: Sequence[Name], name: str) -> Name | None:
    """The run that is meant. Raises InputError where several begin like that."""
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


def _near(known: Sequence[Name], name: str) -> str:
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
    made = [arm for arm in ARMS if (round_.path / "rows" / arm / "rows.json").exists()]
    return made[0] if len(made) == 1 else None


def _verdicts(critiques: Sequence[Critique]) -> dict[int, list[Given]]:
    """Of a critic that judged twice the last word counts."""
    last = {critique.critic: critique for critique in critiques}
    verdicts: dict[int, list[Given]] = {}
    for critique in sorted(last.values(), key=lambda critique: (critique.source == "human", critique.critic)):
        for label in critique.labels:
            verdicts.setdefault(label.step, []).append(Given(critique.critic, critique.source, label))
    return verdicts
