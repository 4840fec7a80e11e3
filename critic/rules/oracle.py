"""The critic that knows: the true verdicts of the demonstrator's runs.

Reads a trajectory and its task, plans the run again from what its `sampling` records, gives a `Critique` with source
"oracle"; writes nothing.

    critic = OracleCritic([task])
    critic.judge(trajectory, Evidence()).labels[3].verdict          # 'mistake'

A run that was cut short is the beginning of its plan. A run that is anything else is an InputError.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Any

import msgspec

from srft.agent.demonstrator.demonstrator import PLAN_VERSION, Demonstrator, planned, recorded_of
from srft.agent.models.contract import Reply
from srft.agent.records import Step, Trajectory
from srft.critic.labels.labels import Critique, Evidence, Source, StepLabel, critique_by
from srft.env.errors import InputError
from srft.env.tasks.task import Task


class OracleCritic:
    """tasks: those that the runs are on. Its verdicts need no grade, and its fingerprint does not depend on the tasks:
    a run on another version of a task is refused, as its steps are not those of the plan."""

    name = "oracle"
    source: Source = "oracle"

    def __init__(self, tasks: Iterable[Task]) -> None:
        self._tasks = {task.instance_id: task for task in tasks}
        self.settings: dict[str, Any] = {"plan_version": PLAN_VERSION}
        content = msgspec.json.encode((self.name, self.settings), order="sorted")
        self.fingerprint = hashlib.sha256(content).hexdigest()[:16]

    def judge(self, trajectory: Trajectory, evidence: Evidence) -> Critique:
        """The plan's verdict for every step; the evidence is not looked at.

        Raises InputError for a run of another model, one on an unknown task, and one that is not the plan's.
        """
        where = f"run {trajectory.id} ({trajectory.task_id} attempt {trajectory.attempt})"
        recorded = recorded_of(trajectory.sampling)
        if recorded is None or trajectory.model != Demonstrator.name:
            raise InputError(
                f"{where}: is of the model {trajectory.model}; the critic oracle knows the verdicts of the model "
                f"{Demonstrator.name} alone; take another critic, or oracle:FILE"
            )
        if (task := self._tasks.get(trajectory.task_id)) is None:
            raise InputError(f"{where}: its task is not among the oracle's tasks; give the run's own with --tasks")
        steps, replies = planned(task, recorded, trajectory.attempt)
        for step in trajectory.steps:
            if step.index >= len(replies) or not _is_planned(step, replies[step.index]):
                raise InputError(
                    f"{where}, step {step.index}: is not the demonstrator's step there; the run was made on another "
                    "version of the task or of srft: collect it again, or give its tasks with --tasks"
                )
        labels = [
            StepLabel(step=step.index, verdict=known.verdict, reason=known.reason)
            for step, known in zip(trajectory.steps, steps, strict=False)  # a run may have been cut short
        ]
        return critique_by(self, trajectory, labels=labels)


def _is_planned(step: Step, reply: Reply) -> bool:
    return (step.content, step.tool_calls) == (reply.content, reply.tool_calls)
