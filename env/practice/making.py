"""Practice tasks: bugs put into small projects, tried in containers, written as a swebench-5 task repo.

Reads families (modules/), packages of an index and git directories; writes below `out`:

    train/, test/          task repos
    practice.json          the configuration, every task's family, kind, file, line and function, and every count
    trials.jsonl           what became of each mutant that was tried: the same command resumes from there

    summary = make_practice(PracticeConfig(train=100, test=40), Path("practice"), backend=choose_backend("auto"))

The same configuration and seed give the same tasks, to the byte.
"""

import queue
import random
import shutil
import tempfile
import threading
from collections import Counter, deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

import msgspec

from srft.env.backends import Backend
from srft.env.errors import InputError
from srft.env.identity import MAY_CHANGE, decides_by
from srft.env.practice.bench import Bench
from srft.env.practice.choice import held_out, in_order, shares, split_families
from srft.env.practice.families import families
from srft.env.practice.issue_text import Length
from srft.env.practice.mutations import Mutant
from srft.env.practice.record import Manifest, SourceRecord, TaskRecord, TrialFile, kept_manifest, write_manifest
from srft.env.practice.sources import Source, family_source, package_name, package_source, packages_id
from srft.env.practice.task_repo import write_repo, write_task
from srft.env.practice.trials import Project, Trial, open_project

AT_LEAST_0 = msgspec.Meta(ge=0)
AT_LEAST_1 = msgspec.Meta(ge=1)


class PracticeConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What `srft practice` makes."""

    train: Annotated[int, AT_LEAST_0]
    """The number of tasks to train on."""
    test: Annotated[int, AT_LEAST_0]
    """The number of held-out tasks."""
    families: tuple[str, ...] = ()
    """Families of our own modules; () means all of them, unless packages are named."""
    packages: Annotated[tuple[str, ...], decides_by(packages_id)] = ()
    """Packages to inject bugs into: NAME==VERSION of an index, or a git directory."""
    requirements: tuple[str, ...] = ()
    """What the packages' tests need besides pytest."""
    split: Literal["family", "mutant"] = "family"
    """`family` keeps the test tasks' families out of training; `mutant` takes other mutants of the same families."""
    issue: Length = "full"
    """The length of the issue: `short` ones are one sentence and a script."""
    seed: int = 0
    """The seed of the drawing of bugs."""
    runs: Annotated[int, AT_LEAST_1] = 2
    """How often each test suite is run; tests that do not end the same each time are dropped."""
    workers: Annotated[int, AT_LEAST_1, MAY_CHANGE] = 2
    """Containers at a time."""


class Counts(NamedTuple):
    """How far it is. wanted: tasks in all."""

    wanted: int
    kept: int = 0
    tried: int = 0
    resumed: int = 0


class PracticeSummary(msgspec.Struct, frozen=True, kw_only=True):
    """What came of it. dropped: {why: mutants that were tried and not kept}. missing: tasks fewer than were asked for.

    finished: False where it was stopped; run the same command to resume.
    """

    train: int
    test: int
    missing: int
    tried: int
    kept: int
    dropped: dict[str, int]
    kinds: dict[str, int]
    sources: int
    finished: bool
    resumed: bool = False


def make_practice(
    config: PracticeConfig,
    out: Path,
    *,
    backend: Backend,
    stop: threading.Event | None = None,
    watch: Callable[[Counts], object] = lambda _: None,
) -> PracticeSummary:
    """Make the tasks that are asked for, or as many as there are bugs that tests see.

    stop: when set, the mutants under way are finished and kept on file, and no task is written. watch: called when a
    mutant was tried. Raises InputError (another configuration made what is there; no such family; a package whose
    tests do not run), EngineError, ImageError, SandboxDied.
    """
    if config.train + config.test == 0:
        raise InputError("no tasks asked for; give --train and --test, say --train 100 --test 40")
    sources = _sources(config)
    there = kept_manifest(out, _settings(config), {source.name: source.fingerprint for source in sources})
    if there is not None:
        return _summary(there, resumed=True)
    out.mkdir(parents=True, exist_ok=True)
    write_manifest(out, Manifest(finished=False, settings=_settings(config)))
    workshop = _Workshop(config, out, backend, stop or threading.Event(), watch)
    try:
        with ThreadPoolExecutor(config.workers, thread_name_prefix="practice") as pool:
            workshop.open(sources, pool)
            parts = _chosen(workshop, config, pool)
    except _Stopped:
        records = {name: _source_record(project, workshop.tried[name]) for name, project in workshop.projects.items()}
        return _summary(Manifest(finished=False, settings=_settings(config), sources=records))
    return _summary(_write(out, parts, workshop, config))


def _settings(config: PracticeConfig) -> dict[str, Any]:
    """What decides which tasks come out."""
    settings: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(config))  # as practice.json gives it back
    del settings["workers"]
    settings["packages"] = [package_name(package) for package in config.packages]
    return settings


def _sources(config: PracticeConfig) -> list[Source]:
    """In the order of their names. Raises InputError."""
    names = config.families or (() if config.packages else families())
    sources = [family_source(name) for name in names]
    sources += [package_source(package, requirements=config.requirements) for package in config.packages]
    twice = [name for name, count in Counter(source.name for source in sources).items() if count > 1]
    if twice:
        raise InputError(f"named twice: {', '.join(twice)}; name each family and package once")
    if config.split == "family" and config.train and config.test and len(sources) < 2:
        raise InputError(
            f"--split family needs two families or packages, one to train on and one to test on, and there is "
            f"{sources[0].name} alone; take --split mutant, or name more"
        )
    return sorted(sources, key=lambda source: source.name)


class _Stopped(Exception):
    """The caller wants an end."""


class _Workshop:
    """One making: the projects, and what was tried in each so far."""

    def __init__(
        self,
        config: PracticeConfig,
        out: Path,
        backend: Backend,
        stop: threading.Event,
        watch: Callable[[Counts], object],
    ) -> None:
        self._config = config
        self._backend = backend
        self._stop = stop
        self._watch = watch
        self._file = TrialFile(out / "trials.jsonl")
        self._known = self._file.read()
        self._resumed = 0
        self.projects: dict[str, Project] = {}
        self.tried: dict[str, list[Trial]] = {}
        self._waiting: dict[str, list[Mutant]] = {}

    def open(self, sources: Sequence[Source], pool: ThreadPoolExecutor) -> None:
        """Have the sources' images, and what their own tests do."""
        with tempfile.TemporaryDirectory(prefix="srft-practice-") as folder:
            opened = pool.map(lambda source: self._opened(source, Path(folder, source.name)), sources)
            for project in opened:
                name = project.source.name
                self.projects[name] = project
                self.tried[name] = []
                draw = random.Random(f"{self._config.seed} {name}")
                self._waiting[name] = in_order(project.mutants, draw)[::-1]

    def _opened(self, source: Source, folder: Path) -> Project:
        if self._stop.is_set():
            raise _Stopped
        return open_project(source, self._backend, folder, runs=self._config.runs)

    def kept(self, name: str) -> list[Trial]:
        return [trial for trial in self.tried[name] if trial.outcome == "kept"]

    def fill(self, names: Sequence[str], total: int, pool: ThreadPoolExecutor) -> None:
        """Try mutants until `total` are kept, as evenly over the projects as they have them."""
        while missing := total - sum(len(self.kept(name)) for name in names):
            active = [name for name in names if self._waiting[name]]
            if not active:
                return
            for name, count in shares(missing, active).items():
                self._try(name, count, pool)

    def _try(self, name: str, count: int, pool: ThreadPoolExecutor) -> None:
        """Try the next mutants of a project until `count` more are kept."""
        goal = len(self.kept(name)) + count
        project, waiting = self.projects[name], self._waiting[name]
        with ExitStack() as stack:
            benches: queue.SimpleQueue[Bench] = queue.SimpleQueue()
            for _ in range(self._config.workers):
                benches.put(stack.enter_context(project.bench(self._backend)))
            begun: deque[tuple[Mutant, Future[Trial]]] = deque()
            # At the end, those that were begun and are not needed are waited for: the next part may want them.
            stack.callback(lambda: wait([future for _, future in begun]))
            while len(self.kept(name)) < goal and (waiting or begun):
                while waiting and len(begun) < self._config.workers and not self._stop.is_set():
                    mutant = waiting.pop()
                    begun.append((mutant, pool.submit(self._trial, project, benches, mutant)))
                if not begun:
                    raise _Stopped
                self._note(name, begun.popleft()[1].result())
            waiting += [mutant for mutant, _ in reversed(begun)]

    def _trial(self, project: Project, benches: "queue.SimpleQueue[Bench]", mutant: Mutant) -> Trial:
        known = self._known.get((project.key, mutant.id))
        if known is not None and known.mutant == mutant:
            return known
        bench = benches.get()
        try:
            return project.try_mutant(bench, mutant)
        finally:
            benches.put(bench)

    def _note(self, name: str, trial: Trial) -> None:
        """Results come here in the order of the mutants, however quick each was: the outcome hangs on nothing else."""
        self.tried[name].append(trial)
        if (trial.source, trial.mutant.id) in self._known:
            self._resumed += 1
        else:
            self._file.append(trial)
        tried = [trial for trials in self.tried.values() for trial in trials]
        kept = sum(trial.outcome == "kept" for trial in tried)
        wanted = self._config.train + self._config.test
        self._watch(Counts(wanted=wanted, kept=kept, tried=len(tried), resumed=self._resumed))


Parts = dict[str, list[tuple[str, Trial]]]
"""{train or test: [(name of the source, trial)]}."""


def _chosen(workshop: _Workshop, config: PracticeConfig, pool: ThreadPoolExecutor) -> Parts:
    draw = random.Random(f"{config.seed} split")
    names = list(workshop.projects)
    if config.split == "family":
        train, test = split_families(names, config.train, config.test, draw)
        parts: Parts = {}
        for part, of_part, count in (("train", train, config.train), ("test", test, config.test)):
            workshop.fill(of_part, count, pool)
            parts[part] = [(name, trial) for name in of_part for trial in workshop.kept(name)]
        return parts
    workshop.fill(names, config.train + config.test, pool)
    kept = {name: workshop.kept(name) for name in names}
    out = held_out(kept, share=config.test / (config.train + config.test), draw=draw)
    parts = {"train": [], "test": []}
    for name, trials in kept.items():
        for trial in trials:
            parts["test" if (name, trial.mutant.id) in out else "train"].append((name, trial))
    return parts


def _write(out: Path, parts: Parts, workshop: _Workshop, config: PracticeConfig) -> Manifest:
    records = []
    for part, trials in parts.items():
        shutil.rmtree(out / part, ignore_errors=True)  # what a killed process wrote
        if not trials:
            continue
        write_repo(out / part, part)
        for name, trial in trials:
            project, mutant = workshop.projects[name], trial.mutant
            records.append(
                TaskRecord(
                    instance_id=write_task(
                        out / part, project, trial, seed=config.seed, split=part, length=config.issue
                    ),
                    part=part,
                    family=name,
                    kind=mutant.kind,
                    path=mutant.path,
                    line=mutant.line,
                    function=mutant.function,
                )
            )
    manifest = Manifest(
        finished=True,
        settings=_settings(config),
        missing=config.train + config.test - len(records),
        kinds=dict(sorted(Counter(record.kind for record in records).items())),
        sources={name: _source_record(project, workshop.tried[name]) for name, project in workshop.projects.items()},
        tasks=tuple(records),
    )
    write_manifest(out, manifest)
    return manifest


def _source_record(project: Project, tried: Sequence[Trial]) -> SourceRecord:
    outcomes = Counter(trial.outcome for trial in tried)
    kept = outcomes.pop("kept", 0)
    return SourceRecord(
        version=project.source.version,
        fingerprint=project.source.fingerprint,
        mutants=len(project.mutants) + project.not_called,
        not_called=project.not_called,
        unreliable_tests=project.unreliable,
        tried=len(tried),
        kept=kept,
        dropped=dict(sorted(outcomes.items())),
    )


def _summary(manifest: Manifest, *, resumed: bool = False) -> PracticeSummary:
    parts = Counter(task.part for task in manifest.tasks)
    dropped: Counter[str] = Counter()
    for source in manifest.sources.values():
        dropped.update(source.dropped)
    return PracticeSummary(
        train=parts["train"],
        test=parts["test"],
        missing=manifest.missing,
        tried=sum(source.tried for source in manifest.sources.values()),
        kept=sum(source.kept for source in manifest.sources.values()),
        dropped=dict(sorted(dropped.items())),
        kinds=manifest.kinds,
        sources=len(manifest.sources),
        finished=manifest.finished,
        resumed=resumed,
    )
