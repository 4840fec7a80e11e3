"""Running episodes: what one machine needs for them, and the retries where infrastructure ended one.

Reads a configuration and an open model; writes nothing.

    runner = EpisodeRunner(config, backend, model, Prompt.load("default"), FORMATS["backtick"])
    trajectory = runner.run(task, attempt=0, stop=threading.Event())
    runner.close()
"""

import threading
from collections.abc import Callable
from contextlib import closing

from loguru import logger

from srft.agent.ending import worth_retrying
from srft.agent.formats import ActionFormat
from srft.agent.loop import run_episode
from srft.agent.models.contract import Model
from srft.agent.prompts.prompt import Prompt
from srft.agent.records import Step, Trajectory
from srft.env.backends import Backend
from srft.env.swe_env import SweEnv
from srft.env.tasks.task import Task
from srft.env.workspace import WorkspacePool, WorkspaceSettings
from srft.harness.config.config import EpisodesConfig

WARM_OPENERS = 2


class EpisodeRunner:
    """Runs episodes, from as many threads at a time as one likes."""

    def __init__(
        self, config: EpisodesConfig, backend: Backend, model: Model, prompt: Prompt, fmt: ActionFormat
    ) -> None:
        self._config, self._backend, self._model = config, backend, model
        self._prompt, self._fmt = prompt, fmt
        sandbox = config.sandbox
        settings = WorkspaceSettings(mode=sandbox.mode, network=sandbox.network, limits=sandbox.limits)
        self._pool = WorkspacePool(backend, settings, openers=WARM_OPENERS)

    def warm(self, task: Task) -> None:
        """Open a workspace of this task meanwhile: it is needed soon."""
        self._pool.warm(task)

    def run(
        self, task: Task, attempt: int, *, stop: threading.Event, on_step: Callable[[Step], None] | None = None
    ) -> Trajectory:
        """One episode, tried again when infrastructure ended it. stop: when set, it ends as `cancelled` after its
        step."""
        for tries_left in reversed(range(self._config.infra_retries + 1)):
            env = SweEnv([task], backend=self._backend, pool=self._pool, grade_submission=False)
            with closing(env):
                trajectory = run_episode(
                    env,
                    self._model,
                    task=task,
                    prompt=self._prompt,
                    fmt=self._fmt,
                    limits=self._config.episode,
                    attempt=attempt,
                    seed=self._config.seed + attempt,
                    stop=stop,
                    on_step=on_step,
                )
            if trajectory.stop_reason != "infra_error" or stop.is_set():
                break
            again = worth_retrying(trajectory) and tries_left > 0
            words = f"{first_line(trajectory.detail)}{'; trying again' if again else ''}"
            logger.warning("{} attempt {}: {}", task.instance_id, attempt, words)
            if not again:
                break
        return trajectory

    def close(self) -> None:
        self._pool.close()


def first_line(text: str | None) -> str:
    """What an error says in short: of a traceback the last line, else the first."""
    lines = (text or "no reason recorded").strip().splitlines()
    return lines[-1] if text and text.startswith("Traceback") else lines[0]
