"""The guard between what is trained on and what is evaluated on.

    refuse_contamination(manifest.task_ids, manifest.repos, evaluation=load_tasks("SWE-bench/SWE-bench_Verified"))

A task that was trained on, or another task of the same repository, is no measure of what a model has learned.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Literal

from srft.env.errors import InputError
from srft.env.tasks.task import Task

By = Literal["repository", "instance"]

# SWE-smith mirrors a repository as swesmith/owner__name.commit.
_MIRROR = re.compile(r"^swesmith/(?P<owner>.+?)__(?P<name>.+)\.[0-9a-f]{7,40}$")


def repository(repo: str) -> str:
    """A repository's name, whichever collection of tasks spells it.

    >>> repository("swesmith/pandas-dev__pandas.95280573"), repository("Pallets/Flask")
    ('pandas-dev/pandas', 'pallets/flask')
    """
    mirrored = _MIRROR.match(repo)
    name = f"{mirrored['owner']}/{mirrored['name']}" if mirrored else repo
    return name.lower()


def refuse_contamination(
    task_ids: Iterable[str], repos: Iterable[str], *, evaluation: Sequence[Task], by: By = "repository"
) -> None:
    """Raises InputError where the evaluation tasks and what is trained on overlap.

    by: "repository" refuses a shared instance or repository, "instance" a shared instance only.
    """
    trained_ids = set(task_ids)
    if shared := sorted(task.instance_id for task in evaluation if task.instance_id in trained_ids):
        raise InputError(
            f"{len(shared)} of the {len(evaluation)} evaluation tasks are trained on ({_some(shared)}); leave their "
            "runs out of the training, or evaluate on other tasks"
        )
    if by == "instance":
        return
    trained_repos = {repository(repo) for repo in repos}
    if shared := sorted({task.repo for task in evaluation if repository(task.repo) in trained_repos}):
        raise InputError(
            f"{len(shared)} repositories of the evaluation tasks are trained on ({_some(shared)}); leave their runs "
            "out of the training, evaluate on other repositories, or say contamination: instance to compare "
            "instances alone"
        )


def _some(names: list[str]) -> str:
    return ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
