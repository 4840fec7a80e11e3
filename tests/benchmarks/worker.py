"""A long-lived process of a peer: JSON objects on its stdin and stdout, a line each; and a virtual environment for it.

worker = Worker("TRL", [python, "trl_worker.py"], env={})
worker.ask(steps=2)["wall_s"]
worker.close()
"""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from itertools import chain
from pathlib import Path
from typing import Any

from loguru import logger

from srft.env.errors import SrftError


class PeerError(SrftError):
    """The peer failed at something that it can do."""


class Worker:
    """name: for messages. What the process says on stderr is kept and shown when it fails."""

    def __init__(self, name: str, command: Sequence[str | Path], *, env: dict[str, str]) -> None:
        self.name = name
        self._said = tempfile.TemporaryFile()  # noqa: SIM115  closed in close()
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._said,
            text=True,
            env={**os.environ, **env},
        )

    def ask(self, **request: Any) -> dict[str, Any]:
        """The answer to one request. Raises PeerError."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(request) + "\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            pass  # it has ended, and `hear` says how
        return self.hear()

    def hear(self) -> dict[str, Any]:
        """The next answer. Raises PeerError."""
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        answer: dict[str, Any] = json.loads(line) if line else {"error": self._end()}
        if "error" in answer:
            raise PeerError(f"{self.name}: {answer['error']}")
        return answer

    def _end(self) -> str:
        code = self._process.wait(10)
        self._said.seek(0)
        return f"the worker ended with {code}; it said: {self._said.read().decode(errors='replace').strip()[-1000:]}"

    def close(self) -> None:
        """End the process: the end of its input ends it."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        try:
            self._process.wait(60)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()
        self._said.close()


def install(venv: Path, requirements: Sequence[Sequence[str]], *, probe: str, size: str) -> str | None:
    """Have a peer in its venv; a sentence where that is not possible.

    requirements: what pip is asked for, one call after the other. probe: an import that works once it is there.
    """
    python = venv / "bin" / "python"
    check = [python, "-c", probe]
    try:
        if python.exists() and subprocess.run(check, capture_output=True, check=False, timeout=120).returncode == 0:
            return None
        logger.info("installing {} into {} ({})", ", ".join(chain(*requirements)), venv, size)
        subprocess.run([sys.executable, "-m", "venv", "--clear", venv], capture_output=True, check=True, text=True)
        for wanted in requirements:
            pip = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *wanted]
            subprocess.run(pip, capture_output=True, check=True, text=True)
        subprocess.run(check, capture_output=True, check=True, text=True, timeout=120)
    except subprocess.CalledProcessError as error:
        lines = (error.stderr or error.stdout or "").strip().splitlines() or [str(error)]
        return f"it cannot be installed ({lines[-1]})"
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"it cannot be installed ({error})"
    return None
