"""mini-swe-agent's DockerEnvironment as a peer: its own virtual environment, and a worker process in it.

Its litellm pins an older openai than srft uses, hence `.venv-bench`, made when it is missing. The worker takes its own
times, so that the pipe to it counts for nothing.

    mini = open_mini()
    with mini.container("debian:12") as container:
        mini.execute_s(container, "true")
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks.docker_cli import LABEL
from benchmarks.tiny_task import ROOT
from loguru import logger

from srft.env.errors import SrftError

REQUIREMENT = "mini-swe-agent>=2.4,<3"
VENV = ROOT / ".venv-bench"


class PeerError(SrftError):
    """The peer failed at something that it can do."""


class Mini:
    """The worker process; `missing` says why there is none."""

    def __init__(self, worker: subprocess.Popen[str] | None, *, missing: str | None = None) -> None:
        self._worker = worker
        self.missing = missing

    def ask(self, request: str, **arguments: Any) -> dict[str, Any]:
        """The worker's answer to one request of `mini_worker.py`. Raises PeerError."""
        assert self._worker is not None
        assert self._worker.stdin is not None
        assert self._worker.stdout is not None
        try:
            self._worker.stdin.write(json.dumps({"request": request, **arguments}) + "\n")
            self._worker.stdin.flush()
            line = self._worker.stdout.readline()
        except BrokenPipeError:
            line = ""
        answer = json.loads(line) if line else {"error": f"the worker ended with {self._worker.wait(10)}"}
        if "error" in answer:
            raise PeerError(f"mini-swe-agent: {request}: {answer['error']}")
        return answer

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
        if self._worker is None:
            return
        if self._worker.stdin is not None:
            self._worker.stdin.close()  # the end of its input ends it
        self._worker.wait(60)


def open_mini() -> Mini:
    """The peer, or a Mini that says why it is missing."""
    python = VENV / "bin" / "python"
    if problem := _install(python):
        logger.warning("the rows against mini-swe-agent stay empty: {}", problem)
        return Mini(None, missing=f"mini-swe-agent: not measured, {problem}")
    worker = subprocess.Popen(
        [python, Path(__file__).with_name("mini_worker.py"), f"{LABEL}={os.getpid()}"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "MSWEA_SILENT_STARTUP": "1", "MSWEA_GLOBAL_CONFIG_DIR": str(VENV / "config")},
    )
    mini = Mini(worker)
    logger.info("peer: mini-swe-agent {}", mini.ask("version")["version"])
    return mini


def _install(python: Path) -> str | None:
    """Have it in its venv; a sentence where that is not possible."""
    probe = [python, "-c", "import minisweagent.environments.docker"]
    try:
        if python.exists() and subprocess.run(probe, capture_output=True, check=False, timeout=120).returncode == 0:
            return None
        logger.info("installing {} into {} (700 MB)", REQUIREMENT, VENV)
        subprocess.run([sys.executable, "-m", "venv", "--clear", VENV], capture_output=True, check=True)
        install = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", REQUIREMENT]
        subprocess.run(install, capture_output=True, check=True, text=True)
        subprocess.run(probe, capture_output=True, check=True, text=True, timeout=120)
    except subprocess.CalledProcessError as error:
        lines = (error.stderr or error.stdout or "").strip().splitlines() or [str(error)]
        return f"it cannot be installed ({lines[-1]})"
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"it cannot be installed ({error})"
    return None
