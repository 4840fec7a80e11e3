"""Keys of a loop's stages: a hash of all that decides what a stage makes, so that nothing stands for something else.

Reads configurations and the tasks; writes nothing (`stages.py` keeps the keys in stages.json).

    sources = Sources.load("runs/demo/practice/train", "runs/demo/practice/test")
    stage_key("evaluate", weights_id(model), sources.held_out_digest, essence(config.evaluate))    # '9c0e1d...'

A key holds what differs from the defaults alone: an option that is new leaves the keys of old runs as they are.
"""

import hashlib
from collections.abc import Iterable
from typing import Any, NamedTuple, Self

import msgspec

from srft.env.tasks.task import Task, load_tasks
from srft.harness.config.config import EpisodesConfig, without_defaults
from srft.harness.run.run_yaml import FREE_KEYS
from srft.train.fit.recipe import Assumptions, Recipe


class Sources(NamedTuple):
    """Where the tasks lie, and hashes of all in them that an agent or a grader sees; `None` and "" where a loop that
    imports its runs has none."""

    trained: str | None
    trained_digest: str
    held_out: str | None
    held_out_digest: str

    @classmethod
    def load(cls, trained: str | None, held_out: str | None) -> Self:
        """Raises InputError."""
        trained_digest, held_out_digest = (
            "" if it is None else _tasks_digest(load_tasks(it)) for it in (trained, held_out)
        )
        return cls(trained, trained_digest, held_out, held_out_digest)


def _tasks_digest(tasks: Iterable[Task]) -> str:
    return stage_key([(task.fingerprint, task.problem_statement, task.patch) for task in tasks])


def essence(episodes: EpisodesConfig) -> dict[str, Any]:
    """What of a configuration decides what comes out. More attempts add to what is there, but are another stage."""
    free = set(FREE_KEYS) - {"attempts"}
    return {name: value for name, value in without_defaults(episodes).items() if name not in free}


def trained_by(recipe: Recipe) -> dict[str, Any]:
    """The recipe without what does not change the training."""
    return without_defaults(msgspec.structs.replace(recipe, about="", plan=Assumptions()))


def stage_key(*parts: Any) -> str:
    """Of whatever JSON can hold.

    >>> stage_key("train", {"a": 1, "b": 2}) == stage_key("train", {"b": 2, "a": 1})
    True
    """
    return hashlib.sha256(msgspec.json.encode(parts, order="sorted")).hexdigest()[:16]
