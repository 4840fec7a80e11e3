"""Collect episodes: k attempts a task, in parallel, resumable.

Reads tasks and a model; writes `run.yaml`, and in the round's folder `trajectories.jsonl` (one finished episode a
line), `predictions.jsonl` and `grades.jsonl`.

    with Run("runs/first") as run:
        summary = collect(config, run, stop=threading.Event())

An episode is on file when it is finished, and only then; the same command again does the others, and those that the
world ended. A run keeps its configuration: another one is refused, except for what does not touch an episode.
"""

import functools
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from loguru import logger

from srft.agent.formats import FORMATS
from srft.agent.models.contract import Model
from srft.agent.prompts.prompt import Prompt
from srft.env.backends import Backend
from srft.env.errors import InfrastructureError, InputError, SrftError
from srft.env.grading.grade import Grade
from srft.env.tasks.task import Task, load_tasks
from srft.harness.config.config import CollectConfig
from srft.harness.run.predictions import write_predictions
from srft.harness.run.run_yaml import refuse_another_backend, refuse_another_config, write_config
from srft.harness.run.store import Round, Run, UnreadableRecord
from srft.harness.stages.backend import open_backend
from srft.harness.stages.cluster import Cluster, RemoteEpisodes
from srft.harness.stages.episodes import EpisodeRunner, first_line
from srft.harness.stages.evaluate import Evaluation, Grader, Submission, as_json, evaluate, submissions_of_run
from srft.harness.stages.hooks import Hooks
from srft.harness.stages.jobs import FAILURES_IN_A_ROW, JobFailed, run_jobs
from srft.harness.stages.models import check_model, close_model, configured_model
from srft.harness.stages.progress import Progress


class Job(NamedTuple):
    """One episode to do."""

    task: Task
    attempt: int


@dataclass(kw_only=True)
class Episodes(Progress):
    """How far a collection is. `failed` episodes are not done: the same command again tries them. grading: how many
    patches are being graded or wait for it."""

    graded: int = 0
    resolved: int = 0
    grading: Callable[[], int] = lambda: 0

    @property
    def finished(self) -> int:
        return self.resumed + self.done

    @property
    def after(self) -> str:
        return f"grading {count}" if (count := self.grading()) else ""


class Summary(NamedTuple):
    """How a collection ended. `failed` episodes were ended by infrastructure; the same command tries them again."""

    episodes: int
    finished: int
    failed: int
    cancelled: bool
    reason: str | None
    evaluation: Evaluation | None

    @property
    def complete(self) -> bool:
        """Whether every episode is finished and has a verdict, where it is to have one."""
        ungraded = self.evaluation is not None and self.evaluation.not_graded > 0
        return self.finished == self.episodes and not self.failed and not ungraded and self.reason is None


def collect(
    config: CollectConfig,
    run: Run,
    *,
    stop: threading.Event,
    watch: Callable[[Episodes], AbstractContextManager[object]] = nullcontext,
    into: Round | None = None,
    model: Model | None = None,
) -> Summary:
    """Collect what is missing of a run. Raises InputError, EngineError, ModelError before anything is begun.

    stop: when set, the steps under way are finished, and nothing half-done is kept. watch: entered while it runs, to
    show the progress. into: another place than the run's round 0; the configuration then lies there too. model: one
    that is open already, in the place of the one that the configuration names; it stays open.
    """
    round_ = run.round(0) if into is None else into
    folder = run.path if into is None else into.path
    refuse_another_config(config, folder, round_)
    tasks = load_tasks(config.tasks, only=config.only or None)
    prompt, fmt = Prompt.load(config.prompt), FORMATS[config.format]
    if fmt.name not in prompt.text.formats:
        raise InputError(
            f"prompt {config.prompt} is for {', '.join(prompt.text.formats)}; got format {fmt.name}: change one of them"
        )
    with ExitStack() as opened:
        asked = model
        if asked is None:
            asked = configured_model(config, tasks)
            opened.callback(close_model, asked)
        backend = _backend(config, folder)
        cluster = opened.enter_context(_cluster(config, is_open=model is not None))
        collection = _Collection(config, backend, round_, tasks, asked, prompt, fmt, stop, cluster)
        if collection.pending:
            check_model(asked)
        write_config(config, folder, backend=backend.name)
        try:
            hooks = Hooks(config.hooks, run.path)
            telling = run.live.stage("collect", round_.path, collection.progress.counts)
            with hooks.failures(), watch(collection.progress), telling:
                collection.run()
                summary = collection.summary()
            _tell_end(summary, hooks, run, round_, wall_s=time.monotonic() - collection.progress.started)
            return summary
        finally:
            write_predictions(round_)
            images = {task.image: backend.image_id(task.image) for task in tasks}
            write_config(config, folder, backend=backend.name, images=images)
            collection.close()


def _tell_end(summary: Summary, hooks: Hooks, run: Run, round_: Round, *, wall_s: float) -> None:
    """To those who look at the run, and to its hooks."""
    counts = {name: getattr(summary, name) for name in ("episodes", "finished", "failed")}
    verdicts = as_json(summary.evaluation) if summary.evaluation else {}
    hooks.stage("collect", round_.path, wall_s=wall_s, figures=counts | verdicts)
    if not summary.complete:
        reason = summary.reason or ("stopped" if summary.cancelled else "some episodes failed or are not graded")
        run.live.incomplete(reason)
        hooks.stopped(reason)


def _backend(config: CollectConfig, folder: Path) -> Backend:
    """What the episodes run in, without what killed processes left there. Raises InputError, EngineError."""
    backend = open_backend(config.sandbox.kind, config.images)
    refuse_another_backend(backend.name, folder)
    for left in backend.reap():
        logger.info("removed what a killed process left: {}", left)
    return backend


def _cluster(config: CollectConfig, *, is_open: bool) -> AbstractContextManager[Cluster | None]:
    if config.ray.address is None:
        return nullcontext()
    if is_open:
        raise InputError(
            "ray.address is set, and the model is served in this process, where no other machine can ask it"
        )
    return Cluster(config.ray)


def _jobs(config: CollectConfig, tasks: list[Task], model: Model) -> list[Job]:
    """Every episode of the collection. A script or a recording need not have all the tasks. Raises InputError."""
    jobs, without = [], []
    by_id = {task.instance_id: task for task in tasks}
    for job in (Job(by_id[task_id], attempt) for task_id, attempt in config.episodes_of(by_id)):
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
        cluster: Cluster | None,
    ) -> None:
        self.config, self.backend, self.round, self.stop = config, backend, round_, stop
        self.jobs = _jobs(config, tasks, model)
        reasons = {episode: entry.stop_reason for episode, entry in round_.index().episodes.items()}
        before = [reasons.get((job.task.instance_id, job.attempt)) for job in self.jobs]
        self.pending = [job for job, reason in zip(self.jobs, before, strict=True) if reason is None]
        # What infrastructure ended before comes last: it must not keep the others waiting for ever.
        self.pending += [job for job, reason in zip(self.jobs, before, strict=True) if reason == "infra_error"]
        resumed = len(self.jobs) - len(self.pending)
        self.progress = Episodes(total=len(self.jobs), resumed=resumed)
        self.runner: EpisodeRunner | RemoteEpisodes
        if cluster is None:
            self.runner = EpisodeRunner(config, backend, model, prompt, fmt)
            elsewhere = None
        else:
            self.runner = cluster.episodes(config)
            elsewhere = functools.partial(cluster.grade, config, log_dir=round_.logs)
        self.grader = Grader(
            backend,
            round_,
            workers=config.grading.workers,
            timeout_s=config.grading.timeout_s,
            container=config.grading.container,
            elsewhere=elsewhere,
        )
        self.progress.grading = self.grader.waiting
        self.reason: SrftError | None = None

    def run(self) -> None:
        """Do the pending episodes. Raises StorageError when they cannot be kept."""
        if isinstance(self.runner, EpisodeRunner):
            self.backend.prefetch(job.task for job in self.pending)
        failure = run_jobs(self._warmed(), self._do, workers=self.config.workers, stop=self.stop, name="episode")
        if failure is not None and self.reason is None:
            self.reason = InfrastructureError(
                f"the episodes of {FAILURES_IN_A_ROW} tasks in a row were ended by infrastructure, the last by: "
                f"{first_line(str(failure))}; fix it and give the same command again"
            )

    def _warmed(self) -> Iterator[Job]:
        """The pending episodes; when one is taken, the workspace of a later one is opened meanwhile."""
        for place, job in enumerate(self.pending):
            ahead = place + self.config.workers
            if self.config.warm and ahead < len(self.pending):
                self.runner.warm(self.pending[ahead].task)
            yield job

    def _do(self, job: Job) -> None:
        """Raises JobFailed where infrastructure ended it."""
        episode = (job.task.instance_id, job.attempt)
        self.progress.begin_episode(*episode)
        try:
            on_step = functools.partial(self.progress.step, *episode)
            trajectory = self.runner.run(job.task, job.attempt, stop=self.stop, on_step=on_step)
            if trajectory is None or trajectory.stop_reason == "cancelled":
                return
            self.round.trajectories.append(trajectory)
            if trajectory.stop_reason == "infra_error":
                raise InfrastructureError(trajectory.detail or "no reason recorded")
        except (InfrastructureError, UnreadableRecord) as error:
            self.progress.fail(f"{job.task.instance_id}#{job.attempt}", first_line(str(error)))
            raise JobFailed(job.task.instance_id, str(error)) from error
        finally:
            self.progress.end_episode(*episode)
        self.progress.add(done=1)
        if self.config.grading.enabled:
            submission = Submission(job.task, trajectory.patch, job.attempt)
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
        by_task: dict[str, Task] = {job.task.instance_id: job.task for job in self.jobs}
        return submissions_of_run(by_task.values(), self.config, self.round.index())

    def summary(self) -> Summary:
        """Waits for the grades that are under way."""
        evaluation = None
        if self.config.grading.enabled:
            evaluation = evaluate(self._submissions(), self.grader, stop=self.stop)
        return Summary(
            episodes=self.progress.total,
            finished=self.progress.finished,
            failed=self.progress.failed,
            cancelled=self.stop.is_set() and self.reason is None,
            reason=str(self.reason) if self.reason else None,
            evaluation=evaluation,
        )

    def close(self) -> None:
        self.grader.close(wait_for_running=not self.stop.is_set())
        self.runner.close()
        self.backend.close()
