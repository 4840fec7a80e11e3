"""mini-swe-agent's DockerEnvironment as a peer: its own virtual environment, and a worker process in it.

Its litellm pins an older openai than srft uses, hence `.venv-bench`, made when it is missing. The worker takes its own
times, so that the pipe to it counts for nothing.

    mini = open_mini()
    with mini.container("debian:12") as container:
        mini.execute_s(container, "true")
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks.docker_cli import LABEL
from benchmarks.tiny_task import ROOT
from benchmarks.worker import Worker, install
from loguru import logger

REQUIREMENT = "mini-swe-agent>=2.4,<3"
VENV = ROOT / ".venv-bench"


class Mini:
    """The worker process; `missing` says why there is none."""

    def __init__(self, worker: Worker | None, *, missing: str | None = None) -> None:
        self._worker = worker
        self.missing = missing

    def ask(self, request: str, **arguments: Any) -> dict[str, Any]:
        """The worker's answer to one request of `mini_worker.py`. Raises PeerError."""
        assert self._worker is not None
        return self._worker.ask(request=request, **arguments)

    @contextmanager
    def container(self, image: str) -> Iterator[str | None]:
        """A container of its own; `None` where the peer is missing."""
        if self._worker is None:
            yield None
            return
        container = self.ask("start", image=image)["container"]
        try:
            yield container
        finally:
            self.ask("stop", container=container)

    def execute_s(self, container: str, command: str) -> float:
        """The seconds that one command took."""
        return float(self.ask("execute", container=container, command=command)["wall_s"])

    def close(self) -> None:
        """End the worker. What it started goes with `remove_leftovers`."""
        if self._worker is not None:
            self._worker.close()


def open_mini() -> Mini:
    """The peer, or a Mini that says why it is missing."""
    if problem := install(VENV, [[REQUIREMENT]], probe="import minisweagent.environments.docker", size="700 MB"):
        logger.warning("the rows against mini-swe-agent stay empty: {}", problem)
        return Mini(None, missing=f"mini-swe-agent: not measured, {problem}")
    worker = Worker(
        "mini-swe-agent",
        [VENV / "bin" / "python", Path(__file__).with_name("mini_worker.py"), f"{LABEL}={os.getpid()}"],
        env={"MSWEA_SILENT_STARTUP": "1", "MSWEA_GLOBAL_CONFIG_DIR": str(VENV / "config")},
    )
    mini = Mini(worker)
    logger.info("peer: mini-swe-agent {}", mini.ask("version")["version"])
    return mini
