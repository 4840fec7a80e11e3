"""Mutants tried: which of them the tests see, reliably, and how each shows.

    project = Project.open(source, backend, folder, runs=2)       # its image built, its own tests run
    trial = project.try_mutant(bench, mutant)                     # Trial(outcome="kept", fail_to_pass=(...), ...)

A test counts when it passes in every run of the unbroken project. A mutant is kept when at least one such test fails
with it, and the same ones do in every run.
"""

import ast
from collections.abc import Mapping
from pathlib import Path
from typing import Literal, NamedTuple, cast

import msgspec

from srft.env.backends import Backend
from srft.env.errors import InputError, SandboxDied
from srft.env.practice.bench import PATIENCE, Bench, TestRun
from srft.env.practice.code import FUNCTIONS
from srft.env.practice.git_store import File, is_plain_path
from srft.env.practice.mutations import Mutant, mutants
from srft.env.practice.sources import EXCLUDED, Source, is_source, is_test, read_tar
from srft.env.practice.symptom import Symptom, symptom
from srft.env.practice.syntax import parse
from srft.env.practice.visible_tests import NoSuchTest, path_of, without_tests
from srft.env.tasks.task import Task

Reason = Literal[
    "kept", "no test sees it", "timed out", "not collected", "crashed", "flaky", "test has no function of its own"
]


class Trial(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What became of a mutant. source: the fingerprint of what it was tried in, and how often."""

    source: str
    mutant: Mutant
    outcome: Reason
    fail_to_pass: tuple[str, ...] = ()
    pass_to_pass: tuple[str, ...] = ()
    symptom: Symptom | None = None


class Project(NamedTuple):
    """A source with its image, its files and what its own tests do.

    key: a hash of the source and the runs. reliable: the tests that pass each time; how many others there are:
    unreliable. mutants: those in functions that some test calls; how many others: not_called.
    """

    source: Source
    key: str
    runs: int
    image: str
    files: dict[str, File]
    tests: tuple[str, ...]
    reliable: frozenset[str]
    unreliable: int
    patience_s: float
    mutants: tuple[Mutant, ...]
    not_called: int

    def bench(self, backend: Backend) -> Bench:
        bench = Bench(backend, image=self.image, name=self.source.name, tests=self.tests, gold=self.files)
        bench.patience_s = self.patience_s
        return bench

    def applied(self, mutant: Mutant) -> dict[str, bytes]:
        return {mutant.path: mutant.applied(self.files[mutant.path].content)}

    def try_mutant(self, bench: Bench, mutant: Mutant) -> Trial:
        """Run the tests on it, more than once where the first run sees it. Raises EngineError, ImageError."""
        changed = self.applied(mutant)
        run, told = bench.probe(changed)
        failed = self._failed(run)
        for number in range(self.runs):
            if number:
                run = bench.run(changed)
            if run.outcome in {"timed out", "not collected", "crashed"}:
                return self._dropped(mutant, run.outcome)
            if not failed:
                return self._dropped(mutant, "no test sees it")
            if self._failed(run) != failed:
                return self._dropped(mutant, "flaky")
        try:
            self.visible(failed)
        except NoSuchTest:
            return self._dropped(mutant, "test has no function of its own")
        try:
            shown = symptom(bench, changed, told["failures"], sorted(failed), self.test_contents)
        except SandboxDied:
            bench.close()
            return self._dropped(mutant, "crashed")
        return Trial(
            source=self.key,
            mutant=mutant,
            outcome="kept",
            fail_to_pass=tuple(sorted(failed)),
            pass_to_pass=tuple(sorted(self.reliable - failed)),
            symptom=shown,
        )

    @property
    def test_contents(self) -> dict[str, bytes]:
        return {path: self.files[path].content for path in self.tests}

    def _failed(self, run: TestRun) -> frozenset[str]:
        return frozenset(test for test in self.reliable if run.statuses.get(test) not in {"PASSED", "XFAIL"})

    def _dropped(self, mutant: Mutant, outcome: str) -> Trial:
        return Trial(source=self.key, mutant=mutant, outcome=cast(Reason, outcome))

    def visible(self, fail_to_pass: frozenset[str]) -> dict[str, bytes]:
        """{test file: what an agent sees of it}, for the files that lose tests. Raises NoSuchTest."""
        paths = sorted({path_of(test) for test in fail_to_pass})
        return {path: without_tests(path, self.files[path].content, fail_to_pass) for path in paths}


def open_project(source: Source, backend: Backend, folder: Path, *, runs: int) -> Project:
    """Build a source's image and run its own tests in it. folder: for the image's Dockerfile and context.

    Raises InputError where its tests cannot be run, ImageError, EngineError, SandboxDied.
    """
    image = f"srft/practice.{source.name}:source-{source.fingerprint[:8]}"
    task = _image_task(source, image, folder)
    backend.ensure_image(task)
    with backend.hold(task):
        return _opened(source, backend, image, runs)


def _image_task(source: Source, image: str, folder: Path) -> Task:
    folder.mkdir(parents=True, exist_ok=True)
    copies = [("testbed/", "/testbed/")] if source.whole is not None else []
    (folder / "Dockerfile").write_text(source.dockerfile(copies=copies))
    write_files(folder / "source", source.context)
    write_files(folder / "testbed", source.whole or {})
    return Task(
        instance_id=f"source of {source.title}",
        repo=f"practice/{source.name}",
        base_commit="base",
        problem_statement="",
        patch="",
        test_patch="",
        FAIL_TO_PASS=(),
        PASS_TO_PASS=(),
        image=image,
        eval_script="",
        log_parser="",
        eval_type="",
        source=str(folder),
    )


def write_files(folder: Path, files: Mapping[str, File]) -> None:
    for path, file in files.items():
        target = folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        if file.is_link:
            target.unlink(missing_ok=True)
            target.symlink_to(file.content.decode())
        else:
            target.write_bytes(file.content)
            target.chmod(0o755 if file.mode & 0o100 else 0o644)


def _opened(source: Source, backend: Backend, image: str, runs: int) -> Project:
    with Bench(backend, image=image, name=source.name, tests=(), gold={}) as bench:
        files = dict(source.whole) if source.whole is not None else read_tar(bench.archive(EXCLUDED))
    tests = tuple(sorted(path for path in files if is_test(path) and is_plain_path(path)))
    if not tests:
        raise InputError(f"{source.title}: no test files (test_*.py) in it, so no bug in it can be seen")
    with Bench(backend, image=image, name=source.name, tests=tests, gold=files) as bench:
        own = [bench.run({}) for _ in range(runs)]
        names = {name for run in own for name in run.statuses}
        reliable = frozenset(name for name in names if all(run.statuses.get(name) == "PASSED" for run in own))
        if not reliable or own[0].outcome not in {"passed", "failed"}:
            raise InputError(
                f"{source.title}: its own tests do not run ({own[0].outcome}: {own[0].output.strip()[-800:]}); name "
                "what they need with --requirement, or take another package"
            )
        bench.patience_s = max(PATIENCE, PATIENCE * own[0].wall_s)
        called = {(path, line) for path, line in bench.probe({}, calls=True)[1]["calls"]}
    all_mutants = [mutant for path in sorted(files) if is_source(path) for mutant in _mutants_of(path, files[path])]
    seen = _called_alone(all_mutants, files, called)
    return Project(
        source=source,
        key=f"{source.fingerprint}.{runs}",
        runs=runs,
        image=image,
        files=files,
        tests=tests,
        reliable=reliable,
        unreliable=len(names - reliable),
        patience_s=max(PATIENCE, PATIENCE * own[0].wall_s),
        mutants=tuple(seen),
        not_called=len(all_mutants) - len(seen),
    )


def _mutants_of(path: str, file: File) -> list[Mutant]:
    if file.is_link or b"\r" in file.content:
        return []
    try:
        file.content.decode()
        return mutants(path, file.content)
    except (SyntaxError, UnicodeDecodeError):  # a template, or a file for another version of Python
        return []


def _called_alone(found: list[Mutant], files: Mapping[str, File], called: set[tuple[str, int]]) -> list[Mutant]:
    """The mutants in functions that were called; outside of functions, in files that were imported."""
    functions = {path: _functions(files[path].content) for path in {mutant.path for mutant in found}}
    imported = {path for path, _ in called}
    seen = []
    for mutant in found:
        path = f"/testbed/{mutant.path}"
        around = [first for first, last in functions[mutant.path] if first <= mutant.line <= last]
        if (path, max(around)) in called if around else path in imported:
            seen.append(mutant)
    return seen


def _functions(source: bytes) -> list[tuple[int, int]]:
    """(first line, decorators included, last line) of every function."""
    nodes = [node for node in ast.walk(parse(source)) if isinstance(node, FUNCTIONS)]
    return [
        (min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)]), node.end_lineno or node.lineno)
        for node in nodes
    ]
