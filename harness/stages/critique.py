"""Critique a round: a verdict for every step of every run, in parallel, resumable.

Reads a round's trajectories, grades and, for some information arms, test logs and tasks; appends to its `labels.jsonl`,
one critique a line, each as soon as it is there.

    with Run("runs/first") as run:
        summary = critique(CritiqueConfig(critic="http://127.0.0.1:8000/v1#qwen"), run, stop=threading.Event())

A judge reads what is not resolved, unless `outcome` says `all`: no arm masks resolved runs. A run is not judged again
where this critic, identified by its fingerprint, has judged it on the evidence that there is now: one that was graded
anew, or whose reference fix is another, is judged again. Of each critic the last line of a run counts, so what is
asked for again, after other settings, is written once more, at no cost. What infrastructure ended is left out, and so
is a run without steps. A critic that fails costs one run, whatever it fails with; the same command tries it again. A
line of a model's that has no verdict at all is a failure of an earlier version: that run is judged again. `batch.py`
asks by batch files, `ceiling.py` keeps to an amount of dollars, `critique_plan.py` says before what it will cost.
"""

import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Annotated, Literal, NamedTuple, NoReturn

import msgspec
from loguru import logger

from srft.agent.models.openai import NotAnswered, OpenAIConfig, Send
from srft.agent.records import Trajectory, Usage
from srft.critic.judge.config import JudgeConfig
from srft.critic.judge.judge import Judge, JudgeFailed, add_usage
from srft.critic.labels.labels import (
    SHOWN,
    Critic,
    Critique,
    Information,
    StepLabel,
    check_complete,
    critique_by,
    says_something,
)
from srft.env.errors import InfrastructureError, InputError, ModelError, StorageError
from srft.env.identity import ADDS, MAY_CHANGE, adds_by, decides_by, key
from srft.harness.config.config import MORE_THAN_0, RayConfig
from srft.harness.config.identity import critic_id, tasks_id
from srft.harness.run.evidence import EvidenceBook
from srft.harness.run.find import find_round
from srft.harness.run.run_yaml import config_folder, kept_config, tasks_of_round
from srft.harness.run.store import Round, Run, UnreadableRecord
from srft.harness.stages.batch import Batch, BatchConfig
from srft.harness.stages.ceiling import Ceiling
from srft.harness.stages.cluster import Cluster
from srft.harness.stages.critics import check_critic, closing_critic, open_critic
from srft.harness.stages.critique_plan import Cost, CritiqueAssumptions, CritiquePlan, cost_of, hours, nobody, summed
from srft.harness.stages.hooks import Hooks, HooksConfig
from srft.harness.stages.jobs import FAILURES_IN_A_ROW, POLL_S, JobFailed, run_jobs
from srft.harness.stages.progress import Progress
from srft.harness.stages.subjects import Subjects, subjects_of

OUTCOMES = {True: "resolved", False: "unresolved", None: "unknown"}


class CritiqueConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Everything `srft critique` does."""

    critic: Annotated[str, decides_by(critic_id)]
    """`tool_error`, `edits`, `exploit`, `file:FILE`, `oracle` (of the demonstrator's runs), `oracle:FILE`, an
    endpoint's URL (`http://HOST/v1#NAME`), or `judge`, whose model then is in the settings `judge`."""
    judge: JudgeConfig = JudgeConfig()
    """How a judge is asked."""
    round: Annotated[int, msgspec.Meta(ge=0)] | None = None
    """The round; the newest with trajectories unless given."""
    only: Annotated[tuple[str, ...], ADDS] = ()
    """The runs on these tasks alone."""
    outcome: Annotated[Literal["auto", "all", "unresolved"], ADDS] = "auto"
    """Which runs: `all`, or those that are not known to be resolved (`unresolved`). `auto`: a judge, which costs, reads
    those that are not resolved; a rule or a file of labels reads all."""
    tasks: Annotated[str | None, adds_by(tasks_id)] = None
    """Where the reference fixes come from; the tasks that the run was collected on unless given."""
    workers: Annotated[int, msgspec.Meta(gt=0), MAY_CHANGE] = 4
    """Runs at a time."""
    max_usd: Annotated[Annotated[float, MORE_THAN_0] | None, MAY_CHANGE] = None
    """US dollars that this critic's labels of the round may cost, earlier commands included. No run is begun that would
    go over it; a larger ceiling resumes."""
    batch: Annotated[BatchConfig, MAY_CHANGE] = BatchConfig()
    """Ask by batch files."""
    plan: Annotated[CritiqueAssumptions, MAY_CHANGE] = CritiqueAssumptions()
    """What `--plan` and `max_usd` assume."""
    ray: RayConfig = RayConfig()
    """Ask a judge from many machines."""
    hooks: Annotated[HooksConfig, MAY_CHANGE] = HooksConfig()
    """A command or a webhook to tell when the critique ends and when it fails."""


@dataclass(kw_only=True)
class Runs(Progress):
    """How far a critique is. without: runs that the critic has no opinion on. waiting: runs whose questions are in a
    batch that is not answered yet."""

    judged: int = 0
    without: int = 0
    waiting: int = 0
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
        return self.plus_calls(critique.calls, critique.usage, critique.wall_s)

    def plus_calls(self, calls: int, usage: Usage | None, wall_s: float | None = None) -> "Spent":
        total = add_usage(Usage(**{name: getattr(self, name) for name in Usage.__struct_fields__}), usage)
        assert total is not None
        return Spent(calls=self.calls + calls, wall_s=self.wall_s + (wall_s or 0.0), **msgspec.structs.asdict(total))


class Summary(msgspec.Struct, frozen=True, kw_only=True):
    """What is on file of this critic now, and how it came about.

    trajectories: the runs to be judged: `resumed` (on file before), `judged` (now), `failed`, `without` (the critic
    has no opinion on them), `waiting` (for a batch) and those not come to. failures: run -> why. skipped: runs left
    out, by reason. runs, verdicts: outcome -> how many runs; outcome -> verdict (or "abstained") -> how many steps.
    remarks: summed over the critiques. spent_now, spent: by this command, runs that failed included; by all critiques
    on file. seconds: this command's.
    """

    critic: str
    fingerprint: str
    information: Information
    trajectories: int
    resumed: int
    judged: int
    failed: int
    without: int
    waiting: int
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

    stop: when set, the runs under way are finished and no other is begun. watch: entered while it runs.
    """
    round_ = run.round(find_round(run.path, config.round))
    batch = _batch(config, round_)
    critic, evidence, subjects = _read(config, round_, send=batch.send if batch else None)
    evidence.refuse_missing(subjects.missing, run=run.path)
    for told in subjects.again:
        round_.critiques.append(told)
    if subjects.pending and (batch is None or config.batch.until != "written"):
        check_critic(critic)
    if isinstance(critic, Judge):
        critic.until(stop)
    with closing_critic(critic), _cluster(config, critic) as cluster:
        asked = cluster.judge(critic) if cluster and isinstance(critic, Judge) else critic
        ceiling = _ceiling(config, round_, critic, evidence)
        stage = _Stage(config, round_, asked, evidence, subjects, stop=stop, ceiling=ceiling)
        hooks = Hooks(config.hooks, run.path)
        with hooks.failures(), watch(stage.progress), run.live.stage("critique", round_.path, stage.progress.counts):
            if batch is not None and isinstance(critic, Judge):
                _by_batches(stage, batch, critic)
            elif reason := stage.run():
                stage.give_up(reason)
        summary = stage.summary()
        hooks.stage("critique", round_.path, wall_s=summary.seconds, figures=msgspec.to_builtins(summary))
        if not summary.complete:
            reason = summary.reason or ("stopped" if summary.cancelled else "some runs are not judged")
            run.live.incomplete(reason)
            hooks.stopped(reason)
        return summary


def _ceiling(config: CritiqueConfig, round_: Round, critic: Critic, evidence: EvidenceBook) -> Ceiling | None:
    """What keeps to `max_usd`; a rule costs nothing."""
    if config.max_usd is None or not isinstance(critic, Judge):
        return None
    on_file = (told.usage for told in round_.critiques.read() if told.critic == critic.name and told.usage)
    spent = sum(usage.cost_usd or 0.0 for usage in on_file)

    def estimate(trajectory: Trajectory) -> float | None:
        try:
            return cost_of(critic, trajectory, evidence.of(trajectory), config.plan).usd(critic.config)
        except ModelError:  # it fails without a call
            return 0.0

    return Ceiling(config.max_usd, spent=spent, estimate=estimate)


def plan_critique(config: CritiqueConfig, run: Run) -> CritiquePlan:
    """What `critique` would ask and what that costs; nobody is asked, nothing is written. Raises InputError."""
    round_ = run.round(find_round(run.path, config.round))
    critic, evidence, subjects = _read(config, round_, send=nobody)
    evidence.refuse_missing(subjects.missing, run=run.path)
    pending = [it for it in round_.index().standing if it.id in subjects.pending]
    cost = Cost()
    failing: dict[str, str] = {}
    if isinstance(critic, Judge):
        read = round_.trajectories.read_at(it.offset for it in pending)
        cost, failing = summed(critic, ((run, evidence.of(run)) for run in read), config.plan)
    asked = critic.config if isinstance(critic, Judge) else config.judge
    return CritiquePlan(
        critic=critic.name,
        runs=dict(Counter(OUTCOMES[subjects.outcomes[it.id]] for it in pending)),
        steps=sum(it.steps for it in pending),
        resumed=len(subjects.outcomes) - len(pending),
        skipped=dict(subjects.skipped),
        failing=failing,
        cost=cost,
        usd=cost.usd(asked),
        usd_by_batch=cost.usd(asked, share=config.batch.price_share),
        hours=hours(cost, config.plan, workers=config.workers),
        counted_by=asked.openai.tokenizer or "an estimate",
    )


def _batch(config: CritiqueConfig, round_: Round) -> Batch | None:
    """The files of a judge that is asked by batches. Raises InputError."""
    if not config.batch.enabled:
        return None
    if config.ray.address:
        raise InputError("critique: a batch is asked from one machine; leave out --batch or ray.address")
    critic = open_critic(config.critic, judge=config.judge, send=nobody)
    if not isinstance(critic, Judge):
        raise InputError(f"critique: {critic.name} asks no server; leave out --batch")
    return Batch(round_.path / "batch" / critic.fingerprint, config.batch)


def _by_batches(stage: "_Stage", batch: Batch, judge: Judge) -> None:
    """Judge with the answers that there are, put what is to be asked into batches, and begin again when they are there.
    Raises ModelError."""
    client, until = judge.client, stage.config.batch.until
    while not stage.stop.is_set():
        if until != "written" or not batch.under_way:
            batch.submit(client)
        while not batch.fetch(client):
            if until != "answered":
                break
            if stage.stop.wait(stage.config.batch.poll_s):
                return
        reason = stage.run()
        if stage.stop.is_set() or batch.under_way:
            return
        if not batch.wanted:
            if reason:
                stage.give_up(reason)
            return
        batch.write()
        if until == "written":
            return
        batch.submit(client)
        if until == "submitted":
            return


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


def _read(config: CritiqueConfig, round_: Round, *, send: Send | None = None) -> tuple[Critic, EvidenceBook, Subjects]:
    judge = config.judge
    if config.batch.enabled and send is not nobody:
        judge = msgspec.structs.replace(judge, openai=_at_share(judge.openai, config.batch.price_share))
    critic = open_critic(
        config.critic, judge=judge, tasks=lambda: tasks_of_round(round_, tasks=config.tasks), send=send
    )
    information: Information = getattr(critic, "information", "none")
    gold_patches = _gold_patches(config, round_) if "gold_patch" in SHOWN[information] else None
    evidence = EvidenceBook(round_, information=information, gold_patches=gold_patches)
    wants_resolved = config.outcome == "all" or (config.outcome == "auto" and not isinstance(critic, Judge))
    subjects = subjects_of(round_, critic, evidence, only=config.only, wants_resolved=wants_resolved)
    return critic, evidence, subjects


def _at_share(openai: OpenAIConfig, share: float) -> OpenAIConfig:
    """The same with a share of its prices."""
    names = ("usd_per_million_prompt", "usd_per_million_completion", "usd_per_million_cached")
    prices = {name: value * share for name in names if (value := getattr(openai, name)) is not None}
    return msgspec.structs.replace(openai, **prices)


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


class _Stage:
    """The workers and what they share."""

    def __init__(
        self,
        config: CritiqueConfig,
        round_: Round,
        critic: Critic,
        evidence: EvidenceBook,
        subjects: Subjects,
        *,
        stop: threading.Event,
        ceiling: Ceiling | None,
    ) -> None:
        self.config, self.round, self.critic, self.evidence = config, round_, critic, evidence
        self.subjects, self.stop = subjects, stop
        resumed = len(subjects.outcomes) - len(subjects.pending)
        self.progress = Runs(total=len(subjects.outcomes), resumed=resumed)
        self.reason: str | None = None
        self.failures: dict[str, str] = {}
        self._spent_now = Spent()
        self._lock = threading.Lock()
        self._left = set(subjects.pending)
        self._ceiling = ceiling
        self._refused: str | None = None

    def run(self) -> str | None:
        """Judge the pending runs, no more of them in memory than there are workers; why not all, where the ceiling
        keeps one from being begun."""
        self._refused = None
        self.progress.waiting = 0
        if self._ceiling:
            self._ceiling.begin()
        given_up = run_jobs(self._begun(), self._judge, workers=self.config.workers, stop=self.stop, name="critique")
        if given_up is not None:
            self.reason = (
                f"the critic failed on {FAILURES_IN_A_ROW} runs in a row, the last time with: {given_up}; fix it and "
                "give the same command again"
            )
        return self._refused

    def _begun(self) -> Iterator[Trajectory]:
        """The pending runs, each when a worker is free and as far as the ceiling allows."""
        standing = self.round.index().standing
        for trajectory in self.round.trajectories.read_at(run.offset for run in standing if run.id in self._left):
            if self._ceiling is not None:
                while self.progress.running and self._ceiling.waits(trajectory):
                    if self.stop.wait(POLL_S):
                        return
                if refused := self._ceiling.refuses(trajectory):
                    self._refused = refused
                    return
            self.progress.begin_episode(trajectory.task_id, trajectory.attempt)
            yield trajectory

    def _judge(self, trajectory: Trajectory) -> None:
        """Raises JobFailed, InputError, StorageError."""
        try:
            told = self._told(trajectory)
            if told is not None:
                check_complete(
                    told.labels, steps=len(trajectory.steps), where=f"critic {told.critic} on {trajectory.id}"
                )
                self.round.critiques.append(told)
            self._ended(trajectory, told)
        except (InputError, StorageError):
            raise
        except NotAnswered:
            self.progress.add(waiting=1)
        except (InfrastructureError, UnreadableRecord) as error:
            failed = error if isinstance(error, JudgeFailed) else JudgeFailed("")
            self._count(Spent().plus_calls(failed.calls, failed.usage), trajectory)
            if not self.stop.is_set():  # a critic that was stopped while it waited has not failed
                self._fail(trajectory, str(error))
        except Exception as error:  # noqa: BLE001 - a fault of ours over one run's answer costs that run, never the others
            logger.opt(exception=error).debug("{}", trajectory.id)
            self._count(Spent(), trajectory)
            self._fail(trajectory, f"a fault of srft, please report it: {type(error).__name__}: {error}")
        finally:
            self.progress.end_episode(trajectory.task_id, trajectory.attempt)

    def _ended(self, trajectory: Trajectory, told: Critique | None) -> None:
        self._left.discard(trajectory.id)
        if told is None:
            self.progress.add(done=1, without=1)
            return
        self._count(Spent().plus(told), trajectory)
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

    def _count(self, spent: Spent, trajectory: Trajectory) -> None:
        """Add what a run has cost."""
        usage = Usage(**{name: getattr(spent, name) for name in Usage.__struct_fields__})
        with self._lock:
            self._spent_now = self._spent_now.plus_calls(spent.calls, usage, spent.wall_s)
            self.progress.cost_usd = self._spent_now.cost_usd
        if self._ceiling is not None:
            self._ceiling.ended(trajectory.id, spent.cost_usd if spent.calls else 0.0)

    def give_up(self, reason: str) -> None:
        """Begin nothing more, for this reason."""
        self.reason = self.reason or reason
        self.stop.set()

    def _fail(self, trajectory: Trajectory, error: str) -> NoReturn:
        subject = f"{trajectory.task_id} attempt {trajectory.attempt}"
        logger.warning("{} ({}): {}", subject, trajectory.id, error)
        self.progress.fail(subject, error)
        with self._lock:
            self._left.discard(trajectory.id)
            self.failures[subject] = error
        raise JobFailed(subject, error)

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
            waiting=self.progress.waiting,
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
