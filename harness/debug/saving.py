"""Saves a session: its run as a trajectory, a person's labels, and the verdicts that are known of it.

Reads and appends to a run's round 0: trajectories.jsonl, labels.jsonl (a Critique of source `human`), grades.jsonl and
the test logs. As in `srft import`, a run that was collected is refused: a collection would count this as its own.

    saved = save_run(trajectory, Path("runs/mine"), labels={3: label}, grades=[grade])
    saved.id, saved.attempt
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

import msgspec

from srft.agent.importing.importers import as_attempt
from srft.agent.records import Trajectory
from srft.critic.labels.labels import Critique, StepLabel
from srft.env.grading.grade import Grade, patch_hash
from srft.harness.look.web.people import PEOPLE_NAME
from srft.harness.run.run_yaml import refuse_collected
from srft.harness.run.store import Round, Run

FINGERPRINT = hashlib.sha256(f"debug\0{PEOPLE_NAME}".encode()).hexdigest()[:16]


class Saved(NamedTuple):
    """Where a run went. is_new: whether the trajectory was not on file before; labels: how many steps have one."""

    run: str
    id: str
    attempt: int
    is_new: bool
    stop_reason: str
    human_steps: int
    labels: int
    graded: str | None


def save_run(
    trajectory: Trajectory, folder: Path, *, labels: Mapping[int, StepLabel], grades: Iterable[Grade]
) -> Saved:
    """Add a run, as its task's next attempt; one that is on file gets the labels alone, without those that were saved
    here before and are gone now. Raises InputError, StorageError."""
    refuse_collected(folder, do="save")
    with Run(folder) as run:
        round_ = run.round(0)
        known = _on_file(trajectory, round_)
        kept = known or as_attempt(trajectory, _next_attempt(trajectory.task_id, round_))
        if known is None:
            round_.trajectories.append(kept)
        before, after = ({}, dict(labels)) if known is None else _merged(kept, round_, labels)
        if before != after:
            round_.critiques.append(_critique(kept, after))
        verdict = _add_grade(kept, round_, grades)
        return Saved(
            run=str(folder),
            id=kept.id,
            attempt=kept.attempt,
            is_new=known is None,
            stop_reason=kept.stop_reason,
            human_steps=sum(step.author != "model" for step in kept.steps),
            labels=len(labels),
            graded=verdict.outcome if verdict else None,
        )


def _on_file(trajectory: Trajectory, round_: Round) -> Trajectory | None:
    """The same messages, ending and patch, saved before."""
    for other in round_.trajectories.read():
        same = (other.task_id, other.stop_reason, other.patch) == (
            trajectory.task_id,
            trajectory.stop_reason,
            trajectory.patch,
        )
        if same and other.id == as_attempt(trajectory, other.attempt).id:
            return other
    return None


def _next_attempt(task_id: str, round_: Round) -> int:
    attempts = [run.attempt for run in round_.index().runs if run.task_id == task_id]
    return max(attempts, default=-1) + 1


def _merged(
    trajectory: Trajectory, round_: Round, labels: Mapping[int, StepLabel]
) -> tuple[dict[int, StepLabel], dict[int, StepLabel]]:
    """(what this person's last line on a run says, what the next must say): what changed here since the last save goes
    in; what was said elsewhere, in the viewer, stays, as the last line alone counts."""
    said: dict[int, StepLabel] = {}
    own: dict[int, StepLabel] = {}
    for critique in round_.critiques.read():
        if (critique.trajectory_id, critique.critic, critique.source) != (trajectory.id, PEOPLE_NAME, "human"):
            continue
        line = {label.step: label for label in critique.labels if label.verdict is not None or label.reason}
        if critique.fingerprint == FINGERPRINT:
            own = {step: label for step, label in line.items() if said.get(step) != label or own.get(step) == label}
        said = line
    changed = {step for step in own.keys() | labels.keys() if own.get(step) != labels.get(step)}
    kept = {step: label for step, label in said.items() if step not in changed}
    return said, kept | {step: labels[step] for step in changed if step in labels}


def _critique(trajectory: Trajectory, labels: Mapping[int, StepLabel]) -> Critique:
    return Critique(
        trajectory_id=trajectory.id,
        task_id=trajectory.task_id,
        critic=PEOPLE_NAME,
        fingerprint=FINGERPRINT,
        source="human",
        labels=tuple(labels.get(step.index, StepLabel(step=step.index, verdict=None)) for step in trajectory.steps),
    )


def _add_grade(trajectory: Trajectory, round_: Round, grades: Iterable[Grade]) -> Grade | None:
    """The verdict on the run's patch, where the session has one; its log is copied along."""
    wanted = patch_hash(trajectory.patch)
    verdict = next((one for one in grades if one.patch_hash == wanted and one.resolved is not None), None)
    if verdict is None or (trajectory.task_id, wanted) in round_.grades_by_patch():
        return verdict
    if verdict.log_path is not None:
        log = Path(verdict.log_path)
        target = round_.logs / log.parent.parent.name / log.parent.name
        shutil.copytree(log.parent, target, dirs_exist_ok=True)
        verdict = msgspec.structs.replace(verdict, log_path=str(target / log.name))
    round_.grades.append(verdict)
    return verdict
