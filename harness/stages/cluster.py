"""Episodes, grading and critiques on the machines of a Ray cluster: what threads do on one machine, elsewhere.

Reads what it is handed; the records and test logs come back and are written by the caller, so that a run lies on one
machine. Each node needs srft, its own container engine, and a way to the tasks' images and to the endpoints.

    with Cluster(RayConfig(address="auto")) as cluster:
        trajectory = cluster.episodes(config).run(task, 0, stop=threading.Event())
        grade = cluster.grade(config, task, patch, log_dir=round_.logs)

Which tasks come next, how many are under way, and what is kept is decided where it always is (`collect.py`,
`critique.py`): here a thread waits for a node in the place of a container.
"""

from __future__ import annotations

import functools
import logging
import socket
import tempfile
import threading
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self

import msgspec

from srft.agent.formats import FORMATS
from srft.agent.prompts.prompt import Prompt
from srft.agent.records import Step, Trajectory
from srft.critic.judge.config import JudgeConfig
from srft.critic.judge.judge import Judge
from srft.critic.labels.labels import Critique, Evidence
from srft.env.backends import Backend
from srft.env.errors import InfrastructureError, InputError
from srft.env.grading.grade import Grade, grade
from srft.env.sandbox.contract import Sandbox, SandboxSpec
from srft.env.tasks.task import Task
from srft.harness.config.config import CollectConfig, ImagesConfig, RayConfig
from srft.harness.stages.backend import open_backend
from srft.harness.stages.episodes import EpisodeRunner
from srft.harness.stages.models import close_model, configured_model

POLL_S = 0.5
CONNECT_S = 10.0
NODE_RETRIES = 2
"""How often Ray does a task again whose node died."""


class Cluster:
    """A connection to Ray. Enter it to use it."""

    def __init__(self, config: RayConfig) -> None:
        try:
            import ray
        except ImportError as error:
            raise InputError(f"ray.address is set and ray is missing ({error}): pip install 'srft[ray]'") from None
        self._config, self._ray = config, ray
        self._began = False

    def __enter__(self) -> Self:
        if not self._ray.is_initialized():
            try:
                _reach(self._config.address)
                self._ray.init(address=self._config.address, log_to_driver=False, logging_level=logging.WARNING)
            except (OSError, ValueError, RuntimeError) as error:
                raise InputError(f"ray.address {self._config.address}: no cluster answers ({error})") from None
            self._began = True
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._began:
            self._ray.shutdown()

    def call(self, function: Callable[..., Any], *arguments: Any, stop: threading.Event | None = None) -> Any:
        """What the function gives on some node; `None` where it was stopped. Raises InfrastructureError."""
        task = self._ray.remote(function).options(num_cpus=self._config.cpus, max_retries=NODE_RETRIES)
        reference = task.remote(*arguments)
        while not self._ray.wait([reference], timeout=POLL_S)[0]:
            if stop is not None and stop.is_set():
                self._ray.cancel(reference, force=True)
                return None
        try:
            return self._ray.get(reference)
        except self._ray.exceptions.RayTaskError as error:
            if isinstance(error.cause, InputError):
                raise error.cause from None
            raise InfrastructureError(str(error.cause)) from error
        except self._ray.exceptions.RayError as error:
            raise InfrastructureError(f"a Ray node failed: {error}") from error

    def episodes(self, config: CollectConfig) -> RemoteEpisodes:
        return RemoteEpisodes(self, config)

    def grade(self, config: CollectConfig, task: Task, patch: str | None, *, log_dir: Path) -> Grade:
        """The verdict of a node; the test logs are written below `log_dir` here."""
        graded: RemoteGrade = self.call(_grade, config, task, patch)
        for name, content in graded.logs.items():
            path = log_dir / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        if graded.log is None:
            return graded.grade
        return msgspec.structs.replace(graded.grade, log_path=str(log_dir / graded.log))

    def judge(self, judge: Judge) -> RemoteJudge:
        return RemoteJudge(self, judge)


def _reach(address: str | None) -> None:
    """Raises OSError where HOST:PORT takes no connection: Ray itself would try for minutes."""
    host, _, port = (address or "").removeprefix("ray://").rpartition(":")
    if port.isdigit():
        socket.create_connection((host, int(port)), timeout=CONNECT_S).close()


class RemoteEpisodes:
    """As EpisodeRunner, elsewhere. A model in this process cannot be asked from there."""

    def __init__(self, cluster: Cluster, config: CollectConfig) -> None:
        self._cluster, self._config = cluster, config

    def warm(self, task: Task) -> None:
        """Nothing: which node an episode will run on is not known."""

    def run(
        self, task: Task, attempt: int, *, stop: threading.Event, on_step: Callable[[Step], None] | None = None
    ) -> Trajectory | None:
        """One episode on some node; `None` where it was stopped before its end."""
        trajectory: Trajectory | None = self._cluster.call(_episode, self._config, task, attempt, stop=stop)
        if trajectory is not None and on_step is not None:
            for step in trajectory.steps:
                on_step(step)
        return trajectory

    def close(self) -> None:
        """Nothing: the nodes' workers end with the cluster's job."""


class RemoteJudge:
    """A judge that is asked from the nodes."""

    def __init__(self, cluster: Cluster, judge: Judge) -> None:
        self._cluster, self._config = cluster, judge.config
        self.name, self.source, self.fingerprint, self.settings = (
            judge.name,
            judge.source,
            judge.fingerprint,
            judge.settings,
        )
        self.information = judge.information

    def judge(self, trajectory: Trajectory, evidence: Evidence) -> Critique | None:
        critique: Critique | None = self._cluster.call(_judge, self._config, trajectory, evidence)
        return critique


class RemoteGrade(NamedTuple):
    """logs: the files of the grading, by their path below the log folder; log: the one that the grade names."""

    grade: Grade
    log: str | None
    logs: dict[str, bytes]


# What a node does. Its worker processes live on, so what is costly to open is opened once in each.


@functools.lru_cache(maxsize=1)
def _backend(kind: str, images: ImagesConfig) -> Backend:
    return open_backend(kind, images)


@functools.lru_cache(maxsize=1)
def _judge_of(config: bytes) -> Judge:
    return Judge(msgspec.json.decode(config, type=JudgeConfig))


def _episode(config: CollectConfig, task: Task, attempt: int) -> Trajectory:
    backend = _backend(config.sandbox.kind, config.images)
    model = configured_model(config, [task])
    runner = EpisodeRunner(config, backend, model, Prompt.load(config.prompt), FORMATS[config.format])
    try:
        return runner.run(task, attempt, stop=threading.Event())
    finally:
        runner.close()
        close_model(model)


def _grade(config: CollectConfig, task: Task, patch: str | None) -> RemoteGrade:
    backend = _backend(config.sandbox.kind, config.images)

    with tempfile.TemporaryDirectory(prefix="srft-grading-") as name, ExitStack() as held:

        def open_sandbox(spec: SandboxSpec) -> Sandbox:
            held.enter_context(backend.hold(task))
            return backend.open(spec)

        folder, asked = Path(name).resolve(), config.grading
        verdict = grade(
            task,
            patch,
            open_sandbox=open_sandbox,
            log_dir=folder,
            timeout_s=asked.timeout_s,
            container=asked.container,
        )
        logs = {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
        log = str(Path(verdict.log_path).resolve().relative_to(folder)) if verdict.log_path else None
    return RemoteGrade(verdict, log, logs)


def _judge(config: JudgeConfig, trajectory: Trajectory, evidence: Evidence) -> Critique | None:
    return _judge_of(msgspec.json.encode(config)).judge(trajectory, evidence)
