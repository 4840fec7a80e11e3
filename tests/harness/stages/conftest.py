"""What the stages' tests share."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from loguru import logger

from srft.agent.records import Trajectory
from srft.harness.run.store import Run


@pytest.fixture
def run(tmp_path) -> Callable[..., Path]:
    """Makes a run directory of these trajectories, or adds them to it."""

    def run(*trajectories: Trajectory) -> Path:
        with Run(tmp_path / "run") as made:
            for one in trajectories:
                made.round(0).trajectories.append(one)
        return tmp_path / "run"

    return run


@pytest.fixture
def logged() -> Iterator[list[str]]:
    """What is logged, a text a line."""
    lines: list[str] = []
    sink = logger.add(lines.append, format="{message}")
    yield lines
    logger.remove(sink)
