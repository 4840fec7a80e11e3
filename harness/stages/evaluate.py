"""Grade patches and sum up: the official verdicts, with honest error bars.

Reads tasks and predictions (ours, the official formats, `gold`) or a run's trajectories; writes `grades.jsonl` and the
test logs. A patch that has a verdict in the file is not run again, so the same command resumes.

    with Run("runs/eval") as run, Grader(backend, run.round(0), workers=4) as grader:
        evaluation = evaluate(submissions, grader)
    evaluation.resolved, evaluation.interval        # 86, Interval(low=0.957, high=1.0)
"""

import threading
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import ExitStack
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Literal, Self

import msgspec

from srft.env.backends import Backend
from srft.env.grading.container import GradingContainer
from srft.env.grading.grade import OFFICIAL, Grade, grade, grade_key
from srft.env.sandbox.contract import Sandbox, SandboxSpec
from srft.env.tasks.task import Task
from srft.harness.config.config import CollectConfig
from srft.harness.run.index import Index
from srft.harness.run.store import Round
from srft.harness.statistics.statistics import Interval, mean_rate, rate_interval


@dataclass(frozen=True)
class Submission:
    """One attempt's patch for one task; `None` is an attempt that ended without one.

    state: "missing" where a predictions file has none, "not_run" where a collection has not come to it yet,
    "not_graded" where the infrastructure ended it or a person cancelled it: none of these has anything to grade.
    """

    task: Task
    patch: str | None
    attempt: int = 0
    state: Literal["given", "missing", "not_run", "not_graded"] = "given"


class Evaluation(msgspec.Struct, frozen=True, kw_only=True):
    """What the verdicts come to.

    tasks: distinct tasks. predictions: attempts at them; the outcomes are counts of these and sum up to it. missing:
    tasks that a predictions file has no patch for, which count as not resolved, as on the leaderboards. not_run:
    attempts that were asked for and that the collection has not run yet; they are in no other figure. rate: the tasks'
    mean share of resolved attempts, those that are `not_graded` (infrastructure failed) left out; `None` where there
    are no others. interval: 95 %, see `rate_interval`. resolved_any: tasks that at least one attempt resolved.
    """

    tasks: int
    predictions: int
    resolved: int
    unresolved: int
    empty: int
    not_applied: int
    not_graded: int
    missing: int
    timed_out: int
    resolved_any: int
    rate: float | None
    interval: Interval | None
    by_repository: dict[str, dict[str, int]]
    not_run: int = 0


class Grader:
    """Grades patches on some threads, each pair of task and patch once. Enter it to use it.

    container: what the tests may use. elsewhere: gives the verdict in place of this machine.
    """

    def __init__(
        self,
        backend: Backend,
        round_: Round,
        *,
        workers: int,
        timeout_s: float,
        container: GradingContainer = OFFICIAL,
        elsewhere: Callable[[Task, str | None], Grade] | None = None,
    ) -> None:
        self._backend = backend
        self._elsewhere = elsewhere
        self._round = round_
        self._timeout_s = timeout_s
        self._container = container
        self._lock = threading.Lock()
        self._known = {grade.key: grade for grade in round_.grades.read() if self._is_final(grade)}
        self._running: dict[str, Future[Grade]] = {}
        self._executor = ThreadPoolExecutor(workers, thread_name_prefix="grade")

    def _is_final(self, verdict: Grade) -> bool:
        """Whether it need not be tried again: not a failure of infrastructure, nor a timeout under a shorter limit."""
        return verdict.resolved is not None and not (verdict.timed_out and verdict.wall_s < self._timeout_s)

    def known(self, submission: Submission) -> Grade | None:
        """The verdict that is on file."""
        with self._lock:
            return self._known.get(grade_key(submission.task, submission.patch, self._container))

    def submit(self, submission: Submission) -> Future[Grade]:
        """The verdict, now or later. The future raises StorageError when it cannot be kept."""
        key = grade_key(submission.task, submission.patch, self._container)
        with self._lock:
            if key in self._known:
                done: Future[Grade] = Future()
                done.set_result(self._known[key])
                return done
            if key not in self._running:
                self._running[key] = self._executor.submit(self._grade, submission, key)
            return self._running[key]

    def _grade(self, submission: Submission, key: str) -> Grade:
        try:
            verdict = (self._elsewhere or self._here)(submission.task, submission.patch)
            self._round.grades.append(verdict)
            with self._lock:
                self._known[key] = verdict  # a failure of infrastructure too: it is tried again by the next command
            return verdict
        finally:
            with self._lock:
                self._running.pop(key, None)

    def _here(self, task: Task, patch: str | None) -> Grade:
        with ExitStack() as held:

            def open_sandbox(spec: SandboxSpec) -> Sandbox:
                held.enter_context(self._backend.hold(task))
                return self._backend.open(spec)

            return grade(
                task,
                patch,
                open_sandbox=open_sandbox,
                log_dir=self._round.logs,
                timeout_s=self._timeout_s,
                container=self._container,
            )

    def waiting(self) -> int:
        """How many patches are being graded or wait for it."""
        with self._lock:
            return len(self._running)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self, *, wait_for_running: bool = True) -> None:
        """Grade nothing more; what is being graded is waited for or left to end with the process."""
        self._executor.shutdown(wait=wait_for_running, cancel_futures=True)


def evaluate(
    submissions: Sequence[Submission],
    grader: Grader,
    *,
    stop: threading.Event | None = None,
    on_grade: Callable[[Grade], None] | None = None,
) -> Evaluation:
    """Grade all submissions and sum up. `stop`: what has no verdict by then stays ungraded, for the next time."""
    stop = stop or threading.Event()
    given = [submission for submission in submissions if submission.state == "given"]
    waiting = [(s, grader.submit(s)) for s in given if not stop.is_set() or grader.known(s) is not None]
    unfinished = {future for _, future in waiting}
    while unfinished:
        finished, unfinished = wait(unfinished, timeout=0.2, return_when=FIRST_COMPLETED)
        for future in finished:
            if on_grade is not None:
                on_grade(future.result())
        if stop.is_set():
            break
    graded = {id(submission): future.result() for submission, future in waiting if future not in unfinished}
    return summarize((submission, graded.get(id(submission))) for submission in submissions)


def summarize(verdicts: Iterable[tuple[Submission, Grade | None]]) -> Evaluation:
    """Sum up verdicts; a submission without a Grade is not graded, unless it is missing."""
    counts: Counter[str] = Counter()
    by_repository: dict[str, Counter[str]] = defaultdict(Counter)
    resolved_by_task: dict[str, list[bool]] = defaultdict(list)
    tasks = set()
    not_run = 0
    for submission, verdict in verdicts:
        if submission.state == "not_run":
            not_run += 1
            continue
        outcome = verdict.outcome if verdict else "not_graded" if submission.state == "given" else submission.state
        task = submission.task
        tasks.add(task.instance_id)
        counts.update({outcome: 1, "predictions": 1, "timed_out": int(verdict is not None and verdict.timed_out)})
        by_repository[task.repo].update({outcome: 1, "predictions": 1})
        if outcome != "not_graded":
            resolved_by_task[task.instance_id].append(outcome == "resolved")
    return Evaluation(
        tasks=len(tasks),
        predictions=counts["predictions"],
        resolved=counts["resolved"],
        unresolved=counts["unresolved"],
        empty=counts["empty"],
        not_applied=counts["not_applied"],
        not_graded=counts["not_graded"],
        missing=counts["missing"],
        timed_out=counts["timed_out"],
        resolved_any=sum(any(attempts) for attempts in resolved_by_task.values()),
        rate=mean_rate(list(resolved_by_task.values())),
        interval=rate_interval(list(resolved_by_task.values())),
        by_repository={repo: dict(sorted(row.items())) for repo, row in sorted(by_repository.items())},
        not_run=not_run,
    )


def submissions_of_run(tasks: Iterable[Task], config: CollectConfig, index: Index) -> list[Submission]:
    """Every attempt that a collection was asked for."""
    by_id = {task.instance_id: task for task in tasks}
    return [_submission(by_id[task_id], attempt, index) for task_id, attempt in config.episodes_of(by_id)]


def submissions_on_file(tasks: Iterable[Task], index: Index) -> list[Submission]:
    """Every run that is on file, as imported ones are: on one of these tasks."""
    by_id = {task.instance_id: task for task in tasks}
    return [
        _submission(by_id[task_id], attempt, index) for task_id, attempt in sorted(index.episodes) if task_id in by_id
    ]


def _submission(task: Task, attempt: int, index: Index) -> Submission:
    run = index.episodes.get((task.instance_id, attempt))
    if run is None:
        return Submission(task, None, attempt, "not_run")
    if run.unfinished:
        return Submission(task, None, attempt, "not_graded")
    return Submission(task, index.patch(run), attempt)


def as_json(evaluation: Evaluation) -> dict[str, Any]:
    """The object that `srft evaluate --json` prints."""
    return msgspec.to_builtins(evaluation)
