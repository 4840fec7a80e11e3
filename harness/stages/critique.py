"""Critique a round: a verdict for every step of every run, in parallel, resumable.

Reads a round's trajectories, grades and, for some information arms, test logs and tasks; appends to its `labels.jsonl`,
one critique a line, each as soon as it is there.

    with Run("runs/first") as run:
        summary = critique(CritiqueConfig(critic="http://127.0.0.1:8000/v1#qwen"), run, stop=threading.Event())

A run is not judged again where this critic, identified by its fingerprint, has judged it on the evidence that there is
now: one that was graded anew, or whose reference fix is another, is judged again. Of each critic the last line of a run
counts, so what is asked for again, after other settings, is written once more, at no cost. What infrastructure ended is
left out, and so is a run without steps. A critic that fails costs one run, whatever it fails with; the same command
tries it again. A line of a model's that has no verdict at all is a failure of an earlier version: that run is judged
again.
"""

import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Annotated, NamedTuple

import msgspec
from loguru import logger

from srft.agent.records import Trajectory, Usage
from srft.critic.judge.config import JudgeConfig
from srft.critic.judge.judge import Judge, add_usage
from srft.critic.labels.labels import (
    SHOWN,
    Critic,
    Critique,
    Information,
    StepLabel,
    check_complete,
    critique_by,
    evidence_id,
    says_something,
)
from srft.env.errors import InfrastructureError, InputError, StorageError
from srft.env.identity import ADDS, MAY_CHANGE, adds_by, decides_by, key
from srft.harness.config.config import RayConfig
from srft.harness.config.identity import critic_id, tasks_id
from srft.harness.run.evidence import EvidenceBook
from srft.harness.run.find import find_round
from srft.harness.run.index import RunEntry
from srft.harness.run.run_yaml import config_folder, kept_config, tasks_of_round
from srft.harness.run.store import Round, Run, UnreadableRecord
from srft.harness.stages.cluster import Cluster
from srft.harness.stages.critics import check_critic, closing_critic, open_critic
from srft.harness.stages.progress import Progress

FAILURES_IN_A_ROW = 12
"""When the critic failed on so many runs in a row, it is not going to get better: the stage stops."""

OUTCOMES = {True: "resolved", False: "unresolved", None: "unknown"}


class CritiqueConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Everything `srft critique` does.

    critic: `tool_error`, `edits`, `exploit`, `file:FILE`, `oracle` (of the demonstrator's runs), `oracle:FILE`, an
    endpoint's URL (`http://HOST/v1#NAME`), or `judge`, whose model then stands in the settings `judge`. only: the runs
    on these tasks. tasks: where the reference fixes come from; those that the run was collected on unless given.
    round: the newest with trajectories unless given. only_unresolved: leave the resolved runs out. ray: ask a judge
    from many machines.
    """

    critic: Annotated[str, decides_by(critic_id)]
    judge: JudgeConfig = JudgeConfig()
    round: Annotated[int, msgspec.Meta(ge=0)] | None = None
    only: Annotated[tuple[str, ...], ADDS] = ()
    tasks: Annotated[str | None, adds_by(tasks_id)] = None
    workers: Annotated[int, msgspec.Meta(gt=0), MAY_CHANGE] = 4
    only_unresolved: Annotated[bool, ADDS] = False
    ray: RayConfig = RayConfig()


@dataclass(kw_only=True)
class Runs(Progress):
    """How far a critique is. without: runs that the critic has no opinion on."""

    judged: int = 0
    without: int = 0
    mistakes: int = 0
    calls: int = 0


class Spent(msgspec.Struct, frozen=True, kw_only=True):
    """What critiques cost; `None` where no server said a figure. wall_s: of the critiques, one after the other."""

    calls: int = 0
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    cached_tokens: int | None = None
    cost_usd: float | None = None
    wall_s: float = 0.0

    def plus(self, critique: Critique) -> "Spent":
        usage = add_usage(Usage(**{name: getattr(self, name) for name in Usage.__struct_fields__}), critique.usage)
        assert usage is not None
        wall_s = self.wall_s + (critique.wall_s or 0.0)
        return Spent(calls=self.calls + critique.calls, wall_s=wall_s, **msgspec.structs.asdict(usage))


class Summary(msgspec.Struct, frozen=True, kw_only=True):
    """What is on file of this critic now, and how it came about.

    trajectories: the runs to be judged: `resumed` (on file before), `judged` (now), `failed`, `without` (the critic has
    no opinion on them) and those not come to. failures: run -> why. skipped: runs left out, by reason. runs, verdicts:
    outcome -> how many runs; outcome -> verdict (or "abstained") -> how many steps. remarks: summed over the critiques.
    spent_now, spent: by this command; by all critiques on file. seconds: this command's.
    """

    critic: str
    fingerprint: str
    information: Information
    trajectories: int
    resumed: int
    judged: int
    failed: int
    without: int
    skipped: dict[str, int]
    failures: dict[str, str]
    runs: dict[str, int]
    verdicts: dict[str, dict[str, int]]
    remarks: dict[str, int]
    spent_now: Spent
    spent: Spent
    seconds: float
    cancelled: bool
    reason: str | None

    @property
    def complete(self) -> bool:
        return self.resumed + self.judged + self.without == self.trajectories


def critique(
    config: CritiqueConfig,
    run: Run,
    *,
    stop: threading.Event,
    watch: Callable[[Runs], AbstractContextManager[object]] = nullcontext,
) -> Summary:
    """Judge what is not judged yet. Raises InputError, ModelError before anything is begun.

    stop: when set, the runs under way are finished and no other is begun. watch: entered while it goes on.
    """
    round_ = run.round(find_round(run.path, config.round))
    critic, evidence, subjects = _read(config, round_)
    evidence.refuse_missing(subjects.missing, run=run.path)
    for told in subjects.again:
        round_.critiques.append(told)
    if subjects.pending:
        check_critic(critic)
    if isinstance(critic, Judge):
        critic.until(stop)
    with closing_critic(critic), _cluster(config, critic) as cluster:
        asked = cluster.judge(critic) if cluster and isinstance(critic, Judge) else critic
        stage = _Stage(config, round_, asked, evidence, subjects, stop)
        with watch(stage.progress):
            stage.run()
        return stage.summary()


class Standing(NamedTuple):
    """What a critique of a round depends on. key: a hash of the critic, the runs and the evidence on them.
    is_last_word: whether nothing that it said is followed by what the same critic said with other settings."""

    key: str
    is_last_word: bool


def standing(config: CritiqueConfig, round_: Round) -> Standing:
    """Whether a critique is what it would be now; nobody is asked. Raises InputError."""
    critic, _, subjects = _read(config, round_)
    told_by = key("critique", critic.name, critic.fingerprint, sorted(subjects.evidence.items()))
    return Standing(told_by, is_last_word=not subjects.again)


def _read(config: CritiqueConfig, round_: Round) -> tuple[Critic, EvidenceBook, "_Subjects"]:
    critic = open_critic(config.critic, judge=config.judge, tasks=lambda: tasks_of_round(round_, tasks=config.tasks))
    information: Information = getattr(critic, "information", "none")
    gold_patches = _gold_patches(config, round_) if "gold_patch" in SHOWN[information] else None
    evidence = EvidenceBook(round_, information=information, gold_patches=gold_patches)
    return critic, evidence, _subjects(round_, critic, evidence, config)


def _cluster(config: CritiqueConfig, critic: Critic) -> AbstractContextManager[Cluster | None]:
    """A rule needs no other machine: it is done before one is asked."""
    return Cluster(config.ray) if config.ray.address and isinstance(critic, Judge) else nullcontext()


def _gold_patches(config: CritiqueConfig, round_: Round) -> dict[str, str]:
    folder = config_folder(round_)
    if config.tasks is None and kept_config(folder) is None:
        raise InputError(
            f"{folder}: the reference fixes are wanted, and where the tasks lie is not on file; give --tasks"
        )
    return {task.instance_id: task.patch for task in tasks_of_round(round_, tasks=config.tasks)}


class _Subjects(NamedTuple):
    """What is to be judged, and what of it is on file.

    outcomes: run -> its outcome, of all that are to be judged; evidence: run -> a hash of what the critic is shown of
    it. pending: those not on file. again: what is on file, but is not this critic's last word. spoken: those on which
    it has said something, with whatever settings. missing: see EvidenceBook.
    """

    outcomes: dict[str, bool | None]
    evidence: dict[str, str]
    pending: set[str]
    again: list[Critique]
    spoken: set[str]
    skipped: Counter[str]
    missing: dict[str, list[str]]


def _subjects(round_: Round, critic: Critic, evidence: EvidenceBook, config: CritiqueConfig) -> _Subjects:
    index = round_.index()
    on_file = _on_file(round_, critic)
    subjects = _Subjects({}, {}, set(), [], set(on_file.last), Counter(), defaultdict(list))
    known_tasks = set()
    for run in index.standing:
        known_tasks.add(run.task_id)
        outcome = index.outcome(run).resolved
        if reason := _skipped(run, outcome, config):
            subjects.skipped[reason] += 1
            continue
        subjects.outcomes[run.id] = outcome
        told, given = _told_on(run, on_file, evidence)
        subjects.evidence[run.id] = given
        if told is None and (what := evidence.missing(run)):
            subjects.missing[what].append(f"{run.task_id} attempt {run.attempt}")
        if told is None:
            subjects.pending.add(run.id)
        elif on_file.last.get(run.id) != (critic.fingerprint, given):
            subjects.again.append(_once_more(told, critic.name))
    if unknown := sorted(set(config.only) - known_tasks):
        raise InputError(f"{round_.path}: no run on {', '.join(unknown)}; check the ids given to --only")
    return subjects


def _told_on(run: RunEntry, on_file: "_OnFile", evidence: EvidenceBook) -> tuple[Critique | None, str]:
    """What is on file of a run, and a hash of the evidence that counts: what is there now, else what was there then."""
    if evidence.missing(run) is not None:
        told = on_file.judged.get(run.id)
        return told, told.evidence if told else ""
    given = evidence_id(evidence.of(run), evidence.information)
    return on_file.of.get((run.id, given)), given


class _OnFile(NamedTuple):
    """What a critic said of a round's runs.

    of: (run, evidence) -> what was said with these settings; judged: run -> the last of it. last: run -> fingerprint
    and evidence of this critic's last word, with whatever settings.
    """

    of: dict[tuple[str, str], Critique]
    judged: dict[str, Critique]
    last: dict[str, tuple[str, str]]


def _on_file(round_: Round, critic: Critic) -> _OnFile:
    on_file = _OnFile({}, {}, {})
    for told in round_.critiques.read():
        if not says_something(told):
            continue
        if told.critic == critic.name:
            on_file.last[told.trajectory_id] = (told.fingerprint, told.evidence)
        if told.fingerprint == critic.fingerprint and told.source == critic.source:
            on_file.of[told.trajectory_id, told.evidence] = on_file.judged[told.trajectory_id] = told
    return on_file


def _once_more(told: Critique, name: str) -> Critique:
    """A critique as this critic's last word; it costs nothing a second time."""
    return msgspec.structs.replace(told, critic=name, calls=0, usage=None, wall_s=None)


def _skipped(run: RunEntry, outcome: bool | None, config: CritiqueConfig) -> str | None:
    if config.only and run.task_id not in config.only:
        return "not named by --only"
    if run.stop_reason == "infra_error":
        return "ended by the world"
    if not run.steps:
        return "no steps"
    return "resolved" if config.only_unresolved and outcome else None


class _Stage:
    """The workers and what they share."""

    def __init__(
        self,
        config: CritiqueConfig,
        round_: Round,
        critic: Critic,
        evidence: EvidenceBook,
        subjects: _Subjects,
        stop: threading.Event,
    ) -> None:
        self.config, self.round, self.critic, self.evidence = config, round_, critic, evidence
        self.subjects, self.stop = subjects, stop
        resumed = len(subjects.outcomes) - len(subjects.pending)
        self.progress = Runs(total=len(subjects.outcomes), resumed=resumed)
        self.reason: str | None = None
        self.failures: dict[str, str] = {}
        self._spent_now = Spent()
        self._failed_in_a_row = 0
        self._lock = threading.Lock()

    def run(self) -> None:
        """Judge the pending runs, no more of them in memory than there are workers."""
        running: set[Future[None]] = set()
        with ThreadPoolExecutor(self.config.workers, thread_name_prefix="critique") as executor:
            for trajectory in self._pending():
                while len(running) >= self.config.workers:
                    running = self._finished(running)
                if self.stop.is_set():
                    break
                running.add(executor.submit(self._judge, trajectory))
            while running:
                running = self._finished(running)

    def _pending(self) -> Iterator[Trajectory]:
        standing = self.round.index().standing
        yield from self.round.trajectories.read_at(run.offset for run in standing if run.id in self.subjects.pending)

    def _finished(self, running: set[Future[None]]) -> set[Future[None]]:
        """Wait for one to end; returns the others. Raises what is more than a failure of the critic."""
        done, others = wait(running, timeout=0.5, return_when=FIRST_COMPLETED)
        for future in done:
            future.result()
        return others

    def _judge(self, trajectory: Trajectory) -> None:
        self.progress.add(running=1)
        try:
            told = self._told(trajectory)
            if told is not None:
                check_complete(
                    told.labels, steps=len(trajectory.steps), where=f"critic {told.critic} on {trajectory.id}"
                )
                self.round.critiques.append(told)
        except (InputError, StorageError):
            raise
        except (InfrastructureError, UnreadableRecord) as error:
            if not self.stop.is_set():  # a critic that was stopped while it waited has not failed
                self._failed(trajectory, str(error))
            return
        except Exception as error:  # noqa: BLE001 - a fault of ours over one run's answer costs that run, never the others
            logger.opt(exception=error).debug("{}", trajectory.id)
            self._failed(trajectory, f"a fault of srft, please report it: {type(error).__name__}: {error}")
            return
        finally:
            self.progress.add(running=-1)
        if told is None:
            self.progress.add(done=1, without=1)
            return
        with self._lock:
            self._failed_in_a_row = 0
            self._spent_now = self._spent_now.plus(told)
        tokens = (told.usage.prompt_tokens or 0) + (told.usage.completion_tokens or 0) if told.usage else 0
        mistakes = sum(label.verdict == "mistake" for label in told.labels)
        self.progress.add(done=1, judged=1, steps=len(told.labels), mistakes=mistakes, calls=told.calls, tokens=tokens)

    def _told(self, trajectory: Trajectory) -> Critique | None:
        """The critic's word, with a hash of what it was shown."""
        told = self.critic.judge(trajectory, self.evidence.of(trajectory))
        given = self.subjects.evidence[trajectory.id]
        if told is not None:
            return msgspec.structs.replace(told, evidence=given)
        if trajectory.id not in self.subjects.spoken:
            return None
        # It had an opinion with other settings, say a label file that had this run: that is taken back.
        nothing = [StepLabel(step=step.index, verdict=None) for step in trajectory.steps]
        return critique_by(self.critic, trajectory, labels=nothing, evidence=given)

    def _failed(self, trajectory: Trajectory, error: str) -> None:
        logger.warning("{} attempt {} ({}): {}", trajectory.task_id, trajectory.attempt, trajectory.id, error)
        self.progress.add(done=1, failed=1)
        with self._lock:
            self.failures[f"{trajectory.task_id} attempt {trajectory.attempt}"] = error
            self._failed_in_a_row += 1
            if self._failed_in_a_row < FAILURES_IN_A_ROW or self.reason is not None:
                return
            self.reason = (
                f"the critic failed on {FAILURES_IN_A_ROW} runs in a row, the last time with: {error}; fix it and "
                "give the same command again"
            )
        self.stop.set()

    def summary(self) -> Summary:
        spent, remarks = Spent(), Counter[str]()
        last: dict[str, Critique] = {}
        for told in self.round.critiques.read():
            if told.fingerprint != self.critic.fingerprint or told.trajectory_id not in self.subjects.outcomes:
                continue
            if says_something(told):
                spent = spent.plus(told)
                last[told.trajectory_id] = told
        for told in last.values():
            remarks.update(told.remarks)
        runs, verdicts = _shares(last, self.subjects.outcomes)
        return Summary(
            critic=self.critic.name,
            fingerprint=self.critic.fingerprint,
            information=getattr(self.critic, "information", "none"),
            trajectories=self.progress.total,
            resumed=self.progress.resumed,
            judged=self.progress.judged,
            failed=self.progress.failed,
            without=self.progress.without,
            skipped=dict(self.subjects.skipped),
            failures=self.failures,
            runs=runs,
            verdicts=verdicts,
            remarks=dict(sorted(remarks.items())),
            spent_now=self._spent_now,
            spent=spent,
            seconds=time.monotonic() - self.progress.started,
            cancelled=self.stop.is_set() and self.reason is None,
            reason=self.reason,
        )


def _shares(
    critiques: Mapping[str, Critique], outcomes: Mapping[str, bool | None]
) -> tuple[dict[str, int], dict[str, dict[str, int]]]:
    """(outcome -> runs, outcome -> verdict -> steps); abstentions count as "abstained"."""
    runs: Counter[str] = Counter()
    verdicts: dict[str, Counter[str]] = defaultdict(Counter)
    for trajectory_id, told in critiques.items():
        outcome = OUTCOMES[outcomes[trajectory_id]]
        runs[outcome] += 1
        verdicts[outcome].update(label.verdict or "abstained" for label in told.labels)
    return dict(runs), {outcome: dict(counts) for outcome, counts in verdicts.items()}
