"""The tasks of a loop: where they lie, and what they are.

sources = Sources.load("runs/demo/practice/train", "runs/demo/practice/test")
sources.trained, sources.trained_ids          # the path; task id -> a hash of all that an agent or a grader sees
"""

from collections.abc import Mapping
from typing import NamedTuple, Self

from srft.env.tasks.task import load_tasks
from srft.harness.config.identity import task_ids


class Sources(NamedTuple):
    """The tasks that are collected on, and those that are held out; `None` where a loop that imports its runs has
    none."""

    trained: str | None = None
    held_out: str | None = None
    trained_ids: Mapping[str, str] = {}
    held_out_ids: Mapping[str, str] = {}

    @classmethod
    def load(cls, trained: str | None, held_out: str | None) -> Self:
        """Raises InputError."""
        trained_ids, held_out_ids = ({} if it is None else task_ids(load_tasks(it)) for it in (trained, held_out))
        return cls(trained, held_out, trained_ids, held_out_ids)
