"""Collect episodes: k attempts a task, in parallel, resumable.

Reads tasks and a model; writes `run.yaml`, and in the round's folder `trajectories.jsonl` (one finished episode a
line), `predictions.jsonl` and `grades.jsonl`.

    with Run("runs/first") as run:
        summary = collect(config, run, stop=threading.Event())

An episode is on file when it is finished, and only then; the same command again does the others, and those that the
world ended. A run keeps its configuration: another one is refused, except for what does not touch an episode.
"""

import platform
import queue
import subprocess
import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import yaml
from loguru import logger

from srft.agent.actions import FORMATS
from srft.agent.loop import run_episode
from srft.agent.model import Model
from srft.agent.prompt import Prompt
from srft.agent.records import Step, Trajectory
from srft.env.backends import Backend, choose_backend
from srft.env.errors import InfrastructureError, InputError, SrftError
from srft.env.grading import Grade
from srft.env.pool import WorkspacePool, WorkspaceSettings
from srft.env.swe_env import SweEnv
from srft.env.task import Task, load_tasks
from srft.harness.config import CollectConfig, differing_keys
from srft.harness.evaluate import Evaluation, Grader, Submission, evaluate, submissions_of_run
from srft.harness.models import open_model
from srft.harness.predictions import Prediction, prediction_line
from srft.harness.store import Round, Run, write_atomic

# Another value of these changes how a run is done, not what comes out.
FREE_KEYS = ("workers", "warm", "infra_retries", "images", "grading", "attempts", "only")

FAILURES_IN_A_ROW = 12
"""So many episodes in a row that the world ended mean that it is not going to get better: the run stops."""


class Job(NamedTuple):
    """One episode to do."""

    task: Task
    attempt: int


@dataclass
class Progress:
    """What is known while a run goes on. Written by the workers, read by the display."""

    episodes: int
    """To be done in all, those on file included."""
    finished: int = 0
    resumed: int = 0
    failed: int = 0
    steps: int = 0
    tokens: int = 0
    graded: int = 0
    resolved: int = 0
    running: int = 0
    started: float = field(default_factory=time.monotonic)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, **counts: int) -> None:
        with self.lock:
            for name, count in counts.items():
                setattr(self, name, getattr(self, name) + count)

    @property
    def eta_s(self) -> float | None:
        """Seconds to go at the pace so far."""
        done_now = self.finished - self.resumed
        if not done_now:
            return None
        return (time.monotonic() - self.started) / done_now * (self.episodes - self.finished)


class Summary(NamedTuple):
    """How a collection ended. `failed` episodes were ended by the world and are tried again by the same command."""

    episodes: int
    finished: int
    failed: int
    cancelled: bool
    reason: str | None
    evaluation: Evaluation | None

    @property
    def complete(self) -> bool:
        """Whether every episode is finished and has a verdict, where it is to have one."""
        return not (self.reason or self.failed or (self.evaluation and self.evaluation.not_graded))


def collect(
    config: CollectConfig,
    run: Run,
    *,
    stop: threading.Event,
    watch: Callable[[Progress], AbstractContextManager[object]] = nullcontext,
) -> Summary:
    """Collect what is missing of a run. Raises InputError, EngineError, ModelError before anything is begun.

    stop: when set, the steps under way are finished, and nothing half-done is kept. watch: entered while it goes on, to
    show the progress.
    """
    refuse_another_config(config, run)
    tasks = load_tasks(config.tasks, only=config.only or None)
    prompt, fmt = Prompt.load(config.prompt), FORMATS[config.format]
    model = open_model(config.model, settings=config.openai)
    backend = choose_backend(
        config.sandbox.kind,
        disk_budget_bytes=_gib(config.images.disk_budget_gib),
        pulls_per_minute=config.images.pulls_per_minute,
    )
    for left in backend.reap():
        logger.info("removed what a killed process left: {}", left)
    round_ = run.round(0)
    collection = _Collection(config, backend, round_, tasks, model, prompt, fmt, stop)
    write_config(config, run)
    try:
        with watch(collection.progress):
            collection.run()
            return collection.summary()
    finally:
        collection.close()
        write_predictions(round_, (t for t in finished(round_) if t.stop_reason != "infra_error"))
        write_config(config, run, images={task.image: backend.image_id(task.image) for task in tasks})


def _gib(size: float | None) -> int | None:
    return None if size is None else int(size * (1 << 30))


def finished(round_: Round) -> list[Trajectory]:
    """The last word on each episode, in the order of tasks and attempts as they came."""
    episodes: dict[tuple[str, int], Trajectory] = {}
    for trajectory in round_.trajectories.read():
        episodes[trajectory.task_id, trajectory.attempt] = trajectory
    return list(episodes.values())


def kept_config(run: Run) -> CollectConfig | None:
    """The configuration that a run was begun with; `None` where nothing was collected yet. Raises InputError."""
    path = run.path / "run.yaml"
    if not path.exists():
        return None
    try:
        return msgspec.convert(yaml.safe_load(path.read_text())["collect"], CollectConfig, strict=False)
    except (yaml.YAMLError, KeyError, TypeError, msgspec.ValidationError) as error:
        raise InputError(f"{path}: not a run's configuration ({' '.join(str(error).split())})") from None


def tasks_of_run(run: Run, *, tasks: str | None = None, only: Iterable[str] | None = None) -> list[Task]:
    """The tasks that a run was collected on, or those of another source. Raises InputError."""
    config = kept_config(run)
    source = tasks or (config.tasks if config else None)
    if source is None:
        raise InputError(
            f"{run.path}: not a run (it has no run.yaml); give --tasks and --predictions, or another --run"
        )
    return load_tasks(source, only=only or (config.only if config and not tasks else None) or None)


def refuse_another_config(config: CollectConfig, run: Run) -> None:
    """Raises InputError for a configuration that does not continue the run that is there."""
    kept = kept_config(run)
    if kept and (changed := differing_keys(kept, config, besides=FREE_KEYS)):
        raise InputError(
            f"{run.path}/run.yaml: this run was begun with another {', '.join(changed)}; continue it with the same, "
            "or give another --run"
        )


def write_config(config: CollectConfig, run: Run, *, images: dict[str, str | None] | None = None) -> None:
    """Write run.yaml: what was asked for, and what it ran on. `images`: name -> content id, once that is known."""
    content: dict[str, Any] = {
        "srft": version("srft"),
        "git": _git_commit(),
        "python": platform.python_version(),
        "versions": {name: version(name) for name in ("swebench", "docker", "gymnasium", "openai")},
        "collect": msgspec.to_builtins(config),
    }
    if images:
        content["images"] = images
    write_atomic(run.path / "run.yaml", yaml.safe_dump(content, sort_keys=False, allow_unicode=True).encode())


def _git_commit() -> str | None:
    """The commit of the source tree that runs; `None` for an installed package."""
    here = Path(__file__).resolve().parent
    asked = subprocess.run(["git", "rev-parse", "HEAD"], cwd=here, capture_output=True, text=True, check=False)
    return asked.stdout.strip() or None


def write_predictions(round_: Round, trajectories: Iterable[Trajectory]) -> None:
    """The official format, which has one prediction a task: further attempts go to predictions-1.jsonl and so on."""
    by_attempt: dict[int, list[bytes]] = {}
    for t in trajectories:
        prediction = Prediction(instance_id=t.task_id, model_name_or_path=t.model, model_patch=t.patch)
        by_attempt.setdefault(t.attempt, []).append(prediction_line(prediction))
    for attempt, rows in by_attempt.items():
        name = "predictions.jsonl" if attempt == 0 else f"predictions-{attempt}.jsonl"
        write_atomic(round_.path / name, b"".join(rows))


def _jobs(config: CollectConfig, tasks: list[Task], model: Model) -> list[Job]:
    """Every episode of the collection. A script or a recording need not have all the tasks. Raises InputError."""
    jobs, without = [], []
    for job in (Job(task, attempt) for task in tasks for attempt in range(config.attempts)):
        try:
            model.for_episode(job.task.instance_id, job.attempt, config.seed)
            jobs.append(job)
        except InputError as error:
            without.append(str(error))
    if not jobs:
        raise InputError(f"{config.model} has no replies for any of the {len(tasks)} tasks: {without[0]}")
    if without:
        logger.warning("{} of {} episodes have no replies and are left out", len(without), len(without) + len(jobs))
    return jobs


class _Collection:
    """The workers of one collection and what they share."""

    def __init__(
        self,
        config: CollectConfig,
        backend: Backend,
        round_: Round,
        tasks: list[Task],
        model: Model,
        prompt: Prompt,
        fmt: Any,
        stop: threading.Event,
    ) -> None:
        self.config, self.backend, self.round, self.model = config, backend, round_, model
        self.prompt, self.fmt, self.stop = prompt, fmt, stop
        self.tasks = {task.instance_id: task for task in tasks}
        self.jobs = _jobs(config, tasks, model)
        done = {(t.task_id, t.attempt) for t in finished(round_) if t.stop_reason != "infra_error"}
        self.pending = [job for job in self.jobs if (job.task.instance_id, job.attempt) not in done]
        resumed = len(self.jobs) - len(self.pending)
        self.progress = Progress(episodes=len(self.jobs), finished=resumed, resumed=resumed)
        settings = WorkspaceSettings(
            mode=config.sandbox.mode, network=config.sandbox.network, limits=config.sandbox.limits
        )
        self.pool = WorkspacePool(backend, settings, openers=max(1, config.warm))
        self.grader = Grader(backend, round_, workers=config.grading.workers, timeout_s=config.grading.timeout_s)
        self.reason: SrftError | None = None
        self._failures = 0

    def run(self) -> None:
        """Do the pending episodes, and grade those on file that have no verdict."""
        self.backend.prefetch(job.task for job in self.pending)
        if self.config.grading.enabled:
            for submission in self._submissions():
                self._grade(submission)
        self._upcoming: queue.SimpleQueue[int] = queue.SimpleQueue()
        for place in range(len(self.pending)):
            self._upcoming.put(place)
        workers = [
            threading.Thread(target=self._work, name=f"episode-{number}", daemon=True)
            for number in range(min(self.config.workers, len(self.pending)))
        ]
        for worker in workers:
            worker.start()
        for worker in workers:
            while worker.is_alive():
                worker.join(0.2)  # a join without a limit would keep the main thread from its signal handlers

    def _work(self) -> None:
        while not self.stop.is_set():
            try:
                place = self._upcoming.get_nowait()
            except queue.Empty:
                return
            ahead = place + self.config.workers
            if self.config.warm and ahead < len(self.pending):
                self.pool.warm(self.pending[ahead].task)
            try:
                self._do(self.pending[place])
            except SrftError as error:  # a full disk: no episode can be kept any more
                self.reason = self.reason or error
                self.stop.set()

    def _do(self, job: Job) -> None:
        self.progress.add(running=1)
        try:
            with self.backend.hold(job.task):
                trajectory = self._episode(job)
        finally:
            self.progress.add(running=-1)
        if trajectory.stop_reason == "cancelled":
            return
        self.round.trajectories.append(trajectory)
        if trajectory.stop_reason == "infra_error":
            self._failed(trajectory)
            return
        self._failures = 0
        self.progress.add(finished=1)
        if self.config.grading.enabled:
            self._grade(Submission(job.task, trajectory.patch, job.attempt))

    def _episode(self, job: Job) -> Trajectory:
        """One episode, tried again when the world ended it."""
        for retry in range(self.config.infra_retries + 1):
            env = SweEnv([job.task], backend=self.backend, pool=self.pool, grade_submission=False)
            try:
                trajectory = run_episode(
                    env,
                    self.model,
                    task=job.task,
                    prompt=self.prompt,
                    fmt=self.fmt,
                    limits=self.config.episode,
                    attempt=job.attempt,
                    seed=self.config.seed + job.attempt,
                    stop=self.stop,
                    on_step=self._count,
                )
            finally:
                env.close()
            if trajectory.stop_reason != "infra_error" or self.stop.is_set():
                break
            logger.warning(
                "{} attempt {}: {}{}",
                job.task.instance_id,
                job.attempt,
                _first_line(trajectory.detail),
                "; trying again" if retry < self.config.infra_retries else "",
            )
        return trajectory

    def _failed(self, trajectory: Trajectory) -> None:
        self.progress.add(failed=1)
        self._failures += 1
        if self._failures >= FAILURES_IN_A_ROW and self.reason is None:
            self.reason = InfrastructureError(
                f"{self._failures} episodes in a row were ended by the world, the last by: "
                f"{_first_line(trajectory.detail)}; mend it and give the same command again"
            )
            self.stop.set()

    def _count(self, step: Step) -> None:
        tokens = step.usage.completion_tokens if step.usage else None
        self.progress.add(steps=1, tokens=tokens or 0)

    def _grade(self, submission: Submission) -> None:
        self.grader.submit(submission).add_done_callback(self._graded)

    def _graded(self, future: "Future[Grade]") -> None:
        if future.cancelled():
            return
        if error := future.exception():
            self.reason = self.reason or (error if isinstance(error, SrftError) else SrftError(repr(error)))
            self.stop.set()
        elif future.result().resolved is not None:
            self.progress.add(graded=1, resolved=int(bool(future.result().resolved)))

    def _submissions(self) -> list[Submission]:
        return submissions_of_run(self.tasks, finished(self.round))

    def summary(self) -> Summary:
        """Waits for the grades that are under way."""
        evaluation = None
        if self.config.grading.enabled:
            evaluation = evaluate(self._submissions(), self.grader, stop=self.stop)
        return Summary(
            episodes=self.progress.episodes,
            finished=self.progress.finished,
            failed=self.progress.failed,
            cancelled=self.stop.is_set() and self.reason is None,
            reason=str(self.reason) if self.reason else None,
            evaluation=evaluation,
        )

    def close(self) -> None:
        self.pool.close()
        self.grader.close(wait_for_running=not self.stop.is_set())
        self.backend.close()


def _first_line(text: str | None) -> str:
    lines = (text or "no reason recorded").strip().splitlines()
    return lines[-1] if text and text.startswith("Traceback") else lines[0]
