"""What is known of a run besides itself: the task's reference fix.

Reads the tasks that a run was collected on: files alone, never the hub.

    book = TaskBook(named=None)
    book.fix(place, "a__b-1")                 # Fix(patch=..., problem=None), or the reason why there is none
"""

from pathlib import Path
from typing import NamedTuple

from srft.env.errors import InputError
from srft.env.tasks.task import load_tasks
from srft.harness.look.web.places import Place
from srft.harness.run.evidence import tasks_source


class Fix(NamedTuple):
    """patch: `None` where it is not known, and then `problem` says why."""

    patch: str | None
    problem: str | None = None


class TaskBook:
    """The reference fixes of the tasks, read when they are first asked for. named: where the tasks lie, if a person
    says so; else what the run's configuration says, if that is a file or a folder here."""

    def __init__(self, named: str | None) -> None:
        self._named = named
        self._fixes: dict[str, dict[str, str]] = {}

    def fix(self, place: Place, task_id: str) -> Fix:
        try:
            source = self._named or tasks_source(place.run, place.round)
            if source is None:
                return Fix(
                    None, "The tasks of this run are not known; give --tasks to srft view to see the reference fix."
                )
            if not Path(source).exists():
                return Fix(
                    None,
                    f"The tasks are not at {source} on this machine; give --tasks to see the reference fix.",
                )
            if source not in self._fixes:
                self._fixes[source] = {task.instance_id: task.patch for task in load_tasks(source)}
        except InputError as error:
            return Fix(None, str(error))
        patch = self._fixes[source].get(task_id)
        return Fix(patch, None if patch is not None else f"{source} has no task {task_id}")
