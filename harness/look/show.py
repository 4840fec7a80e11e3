"""One run to look at: its steps, every critic's verdicts on them, the weights that an arm gives them, its token rows.

Reads a run directory; locks and writes nothing, so it may be looked at while it grows.

    shown = find_run(Path("runs/first"), "django__django-11099#1", arm="srft")
    shown.trajectory.steps[3], shown.verdicts[3], shown.weights[3]
"""

import difflib
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy
from numpy.typing import NDArray

from srft.agent.records import Trajectory
from srft.critic.labels.labels import Critique, Source, StepLabel
from srft.env.errors import InputError
from srft.harness.run.find import find_place, round_folders
from srft.harness.run.index import Index, RunEntry
from srft.harness.run.store import Round
from srft.harness.run.trained import TrainedRun, arms_on_file, has_rows, open_rows, trained_of
from srft.harness.stages.rows import critics_used, run_facts
from srft.train.rows.mask import ARMS, Arm, MaskPolicy, left_out, step_weights
from srft.train.rows.rows import Row, RowTable


class Given(NamedTuple):
    """One critic's label of a step."""

    critic: str
    source: Source
    label: StepLabel


class Shown(NamedTuple):
    """A run with all that is known of it.

    verdicts: step -> every critic's label, people's last. arm: whose mask `weights` is, a step; both `None` where none
    was asked for. left_out: why the arm does not train on the run at all (then `weights` is `None`). table: the arm's
    rows, where they were made; trained: what they hold of this run.
    """

    round_: Round
    trajectory: Trajectory
    outcome: bool | None
    verdicts: dict[int, list[Given]]
    arm: Arm | None
    left_out: str | None
    weights: NDArray[numpy.float32] | None
    table: RowTable | None
    trained: TrainedRun | None

    @property
    def rows(self) -> list[Row]:
        return self.trained.rows if self.trained else []

    @property
    def is_stale(self) -> bool:
        """Whether the rows hold other weights than the run's labels give now: newer labels, or another critic's."""
        return self.weights is not None and self.trained is not None and self.trained.is_stale(self.weights)


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
    shown = Shown(round_, index.trajectory(entry), outcome, _verdicts(of_run), chosen, None, None, None, None)
    if chosen is None:
        return shown
    table = open_rows(round_, chosen) if has_rows(round_, chosen) else None
    policy = table.manifest.policy if table else MaskPolicy(arm=chosen)
    used = critics_used([chosen], critics or (table.manifest.critics if table else ()), index.critiques, round_)
    facts = run_facts(shown.trajectory, outcome, of_run, used, chosen)._replace(tampering=index.tampers(entry))
    reason = left_out(facts, policy)
    return shown._replace(
        left_out=reason,
        weights=None if reason else step_weights(facts, policy),
        table=table,
        trained=trained_of(table, entry.id) if table else None,
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
        if match := _match(index.standing, name):
            return index, match
        known += index.standing
    raise InputError(f"{name}: no such run in {rounds[-1].path.parent}; {_near(known, name)}")


def _match(known: Sequence[RunEntry], name: str) -> RunEntry | None:
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


def _verdicts(critiques: Sequence[Critique]) -> dict[int, list[Given]]:
    """Of a critic that judged twice the last word counts."""
    last = {critique.critic: critique for critique in critiques}
    verdicts: dict[int, list[Given]] = {}
    for critique in sorted(last.values(), key=lambda critique: (critique.source == "human", critique.critic)):
        for label in critique.labels:
            if critique.source == "human" and label.verdict is None and not label.reason:
                continue  # a person says something of the steps that they labelled
            verdicts.setdefault(label.step, []).append(Given(critique.critic, critique.source, label))
    return verdicts
