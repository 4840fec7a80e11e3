"""Are srft's verdicts swebench's? Grades the same predictions with both and prints them side by side.

    python tests/official_verdicts.py --tasks ../shared/data/verified_pypi/verified_pypi.jsonl --workers 2

Reads a file of swebench-5 rows whose images are on the engine; `--only ID,ID` picks rows, `--kinds K,K` kinds. Makes
one predictions file a kind from the gold patches, runs `python -m swebench.harness.run_evaluation` on each and srft's
`grade` on the same, and prints a line a verdict and `N of N equal`. The exit code is 1 where any verdict differs.
Everything is written under `--out` (a temporary folder where none is given). Images without the `patch` program, which
the official ones have, get it from this machine, in a copy that is removed at the end.
"""

import argparse
import dataclasses
import json
import re
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import docker
import msgspec

from srft.env.docker.sandbox import DockerSandbox
from srft.env.grading.grade import Grade, grade
from srft.env.sandbox.contract import Sandbox, SandboxSpec
from srft.env.tasks.task import Task, load_tasks

ROWS = (
    "pallets__flask-5014",
    "pytest-dev__pytest-10051",
    "pytest-dev__pytest-10356",
    "psf__requests-5414",
    "sphinx-doc__sphinx-10673",
    "sphinx-doc__sphinx-11445",
    "django__django-16901",
    "django__django-16938",
    "django__django-16899",
    "django__django-17029",
    "sympy__sympy-19495",
    "sympy__sympy-23950",
    "sympy__sympy-24661",
)
MODEL = "official-verdicts"
TIMEOUT_S = 600
ODD_ROWS = 2
"""The odd kinds are about the harness, not about the row: a few rows do."""

GOLD_FILE = "/tmp/gold.patch"

PYTEST_BREAK = """
def pytest_runtest_setup(item):
    if item.nodeid == {name!r}:
        raise AssertionError("broken by the patch")
"""
DJANGO_BREAK = """

def _broken_run(self, result=None, _run=SimpleTestCase.run):
    if self._testMethodName == {name!r}:
        setattr(self, {name!r}, lambda: self.fail("broken by the patch"))
    return _run(self, result)


SimpleTestCase.run = _broken_run
"""
SYMPY_BREAK = """

_raise_on_deprecated = raise_on_deprecated


def raise_on_deprecated():
    assert sys._getframe(1).f_locals["f"].__name__ != {name!r}, "broken by the patch"
    return _raise_on_deprecated()
"""
PYTEST_SLEEP = "import time\n\n\ndef pytest_runtest_setup(item):\n    time.sleep(1000)\n"


class Verdict(NamedTuple):
    task: Task
    kind: str
    official: str
    ours: Grade

    @property
    def equal(self) -> bool:
        """An error of swebench is a verdict of not resolved, for which we have a name."""
        words = {
            "resolved": {"resolved"},
            "empty": {"empty"},
            "unresolved": {"unresolved"},
            "error": {"not_applied"} | ({"unresolved"} if self.ours.detail else set()),
        }
        return self.ours.outcome in words[self.official]


class Workshop:
    """A task's container in which patches are made."""

    def __init__(self, task: Task, sandbox: Sandbox) -> None:
        self.task = task
        self._sandbox = sandbox

    def bash(self, command: str) -> None:
        ran = self._sandbox.run(command, 60)
        assert ran.exit_code == 0, f"{self.task.instance_id}: {command}: {ran.output}"

    def diff(self, *, gold: bool, command: str = ":", files: dict[str, bytes] | None = None) -> str:
        """The patch of: the gold patch where asked for, then `files` written, then `command`, from a clean tree."""
        self.bash("git reset -q --hard && git clean -fdq")
        if gold:
            self._sandbox.write(GOLD_FILE, self.task.patch.encode())
            self.bash(f"git apply {GOLD_FILE}")
        for path, content in (files or {}).items():
            self._sandbox.write(f"/testbed/{path}", content)
        forced = f"git add -f {' '.join(files)}" if files else ":"  # a new file may be one that git ignores
        self.bash(f"{command} && git add -A && {forced} && git diff --cached --binary > /tmp/made.patch")
        return self._sandbox.read("/tmp/made.patch").decode()


def gold(shop: Workshop) -> str | None:
    return shop.task.patch


def empty_change(shop: Workshop) -> str | None:
    return shop.diff(gold=False, files={"srft_harmless.txt": b"nothing\n"})


def empty_string(_shop: Workshop) -> str | None:
    return ""


def null(_shop: Workshop) -> str | None:
    return None


def not_applying(shop: Workshop) -> str | None:
    return re.sub(r"^(diff --git a/|--- a/|\+\+\+ b/)", r"\1no/such/folder/", shop.task.patch, flags=re.MULTILINE)


def fuzz_only(shop: Workshop) -> str | None:
    """The gold patch with the outermost context line of a hunk changed: git apply refuses it, `patch` does not."""
    lines = shop.task.patch.split("\n")
    hunks = [n for n, line in enumerate(lines) if line.startswith("@@ ")]
    first = next(n + 1 for n in hunks if lines[n + 1].startswith(" "))
    lines[first] = " # this line is not in the file"
    return "\n".join(lines)


def breaks_pass_to_pass(shop: Workshop) -> str | None:
    """The gold patch, and one PASS_TO_PASS test made to fail."""
    path, template, pattern = {
        "django/django": ("django/test/testcases.py", DJANGO_BREAK, r"(test\w+) \("),
        "sympy/sympy": ("sympy/testing/runtests.py", SYMPY_BREAK, r"(test\w+)"),
    }.get(shop.task.repo, ("conftest.py", PYTEST_BREAK, r"(.+)"))
    names = [found[1] for test in shop.task.PASS_TO_PASS if (found := re.match(pattern, test))]
    if not names:
        sys.exit(f"{shop.task.instance_id}: no PASS_TO_PASS test that can be broken by its name; leave the row out")
    shop.bash(f"cat > /tmp/addition <<'END'\n{template.format(name=names[0])}END")
    return shop.diff(gold=True, command=f"cat /tmp/addition >> {path}")


def edits_tests(shop: Workshop) -> str | None:
    """No fix, and the tests that grade it replaced by one that passes."""
    paths = re.findall(r"^\+\+\+ b/(.*)$", shop.task.test_patch, flags=re.MULTILINE)
    return shop.diff(gold=False, files=dict.fromkeys(paths, b"def test_nothing():\n    assert True\n"))


def crlf(shop: Workshop) -> str | None:
    return shop.task.patch.replace("\n", "\r\n")


def binary_file(shop: Workshop) -> str | None:
    return shop.diff(gold=True, files={"srft_binary.bin": bytes(range(256)) * 4})


def white_space(_shop: Workshop) -> str | None:
    return " \n"


def lone_surrogate(shop: Workshop) -> str | None:
    return shop.task.patch + "\ud800\n"


def not_utf8(shop: Workshop) -> str | None:
    """The gold patch, and a tracked text file that `git diff` then shows as Latin-1. The patch itself is ASCII."""
    shop.bash("printf 'README.rst binary\\n' > .git/info/attributes")
    try:
        return shop.diff(gold=True, command="printf 'caf\\351\\n' >> README.rst")
    finally:
        shop.bash("rm -f .git/info/attributes")


def sleeps(shop: Workshop) -> str | None:
    return shop.diff(gold=True, files={"conftest.py": PYTEST_SLEEP.encode()})


KINDS: dict[str, Callable[[Workshop], str | None]] = {
    kind.__name__: kind
    for kind in (
        gold,
        empty_change,
        empty_string,
        null,
        not_applying,
        fuzz_only,
        breaks_pass_to_pass,
        edits_tests,
        crlf,
        binary_file,
    )
}
ODD_KINDS: dict[str, Callable[[Workshop], str | None]] = {
    kind.__name__: kind for kind in (white_space, lone_surrogate, not_utf8, sleeps)
}
TIMEOUTS_S = {"sleeps": 20}


def predictions_of(tasks: list[Task], kinds: list[str]) -> dict[str, dict[str, str | None]]:
    """{kind: {instance id: patch}}."""
    patches: dict[str, dict[str, str | None]] = {kind: {} for kind in kinds}
    for number, task in enumerate(tasks):
        with DockerSandbox(SandboxSpec(image=task.image)) as sandbox:
            shop = Workshop(task, sandbox)
            for kind in kinds:
                if kind in KINDS or number < ODD_ROWS:
                    patches[kind][task.instance_id] = (KINDS | ODD_KINDS)[kind](shop)
    return patches


def with_patch_program(tasks: list[Task], client: docker.DockerClient, out: Path) -> tuple[list[Task], list[str]]:
    """(the tasks on images that have `patch`, the images that were made for it)."""
    made: dict[str, str] = {}
    for image in sorted({task.image for task in tasks}):
        with DockerSandbox(SandboxSpec(image=image)) as sandbox:
            if sandbox.run("command -v patch").exit_code == 0:
                continue
        program = shutil.which("patch")
        if program is None:
            sys.exit(f"neither {image} nor this machine has the `patch` program; install it here")
        context = out / "patch-program"
        context.mkdir(parents=True, exist_ok=True)
        shutil.copy(program, context / "patch")
        (context / "Dockerfile").write_text(f"FROM {image}\nCOPY patch /usr/bin/patch\n")
        made[image] = f"srft/official-verdicts.{image.rsplit('/', 1)[-1]}"
        client.images.build(path=str(context), tag=made[image], rm=True, forcerm=True)
    patched = [msgspec.structs.replace(task, image=made.get(task.image, task.image)) for task in tasks]
    return patched, list(made.values())


def run_official(
    tasks: list[Task], patches: dict[str, str | None], kind: str, *, out: Path, workers: int
) -> dict[str, str]:
    """{instance id: resolved, unresolved, empty or error}, by the official command in a folder of its own."""
    folder = out / kind
    folder.mkdir(parents=True)
    # ASCII only: the official reader of rows splits at U+2028.
    rows = [json.dumps(msgspec.to_builtins(task)) for task in tasks if task.instance_id in patches]
    (folder / "tasks.jsonl").write_text("\n".join(rows) + "\n")
    predictions = [
        json.dumps({"instance_id": id_, "model_name_or_path": MODEL, "model_patch": patch})
        for id_, patch in patches.items()
    ]
    (folder / "predictions.jsonl").write_text("\n".join(predictions) + "\n")
    command = [sys.executable, "-m", "swebench.harness.run_evaluation", "--dataset_name", "tasks.jsonl"]
    command += ["--predictions_path", "predictions.jsonl", "--run_id", kind, "--max_workers", str(workers)]
    command += ["--timeout", str(TIMEOUTS_S.get(kind, TIMEOUT_S))]
    report_file = folder / f"{MODEL}.{kind}.json"
    for _ in range(5):
        # Its report lists all containers of the engine, and fails where another one of them ends meanwhile. The same
        # command again takes up the verdicts that are there.
        with (folder / "official.log").open("a") as log:
            subprocess.run(command, cwd=folder, stdout=log, stderr=subprocess.STDOUT)
        if report_file.exists():
            break
    report = json.loads(report_file.read_text())
    words = {
        "resolved": "resolved_ids",
        "unresolved": "unresolved_ids",
        "empty": "empty_patch_ids",
        "error": "error_ids",
    }
    verdicts = {id_: word for word, key in words.items() for id_ in report[key]}
    assert verdicts.keys() == patches.keys(), f"{kind}: official verdicts are missing, see {folder / 'official.log'}"
    return verdicts


def run_ours(
    tasks: list[Task], patches: dict[str, str | None], kind: str, *, out: Path, workers: int
) -> dict[str, Grade]:
    def one(task: Task) -> Grade:
        return grade(
            task,
            patches[task.instance_id],
            open_sandbox=lambda spec: DockerSandbox(dataclasses.replace(spec, labels={"srft.kind": kind})),
            log_dir=out / kind / "srft",
            timeout_s=TIMEOUTS_S.get(kind, TIMEOUT_S),
        )

    graded = [task for task in tasks if task.instance_id in patches]
    with ThreadPoolExecutor(workers) as pool:
        return {made.instance_id: made for made in pool.map(one, graded)}


def compare(tasks: list[Task], kinds: list[str], *, out: Path, workers: int) -> list[Verdict]:
    """Every verdict of both, printed as it comes."""
    client = docker.from_env(timeout=600)
    tasks, made_images = with_patch_program(tasks, client, out)
    verdicts = []
    try:
        for kind, patches in predictions_of(tasks, kinds).items():
            # A container of theirs spends 10 s waiting for its end: three times as many at once cost the same.
            official = run_official(tasks, patches, kind, out=out, workers=3 * workers)
            ours = run_ours(tasks, patches, kind, out=out, workers=workers)
            for task in tasks:
                if task.instance_id in patches:
                    verdicts.append(Verdict(task, kind, official[task.instance_id], ours[task.instance_id]))
                    print_verdict(verdicts[-1])
    finally:
        for image in made_images:
            client.images.remove(image, force=True)
    return verdicts


def print_verdict(verdict: Verdict) -> None:
    remark = "equal" if verdict.equal else "DIFFERENT"
    print(
        f"{verdict.task.instance_id:28} {verdict.kind:20} {verdict.official:11} {verdict.ours.outcome:12} {remark:9} "
        f"{verdict.ours.detail or ''}"[:180].rstrip(),
        flush=True,
    )


def print_summary(verdicts: list[Verdict]) -> None:
    print("\nkind                  rows  verdicts (official / srft)")
    for kind in dict.fromkeys(verdict.kind for verdict in verdicts):
        of_kind = [verdict for verdict in verdicts if verdict.kind == kind]
        pairs = Counter(f"{verdict.official} / {verdict.ours.outcome}" for verdict in of_kind)
        print(f"{kind:20} {len(of_kind):5}  {', '.join(f'{n} {pair}' for pair, n in pairs.items())}")
    fuzzed = sum(v.kind == "fuzz_only" and applied_by_patch_alone(v.ours) for v in verdicts)
    broken = sum(v.kind == "breaks_pass_to_pass" and failed_maintenance(v.ours) for v in verdicts)
    repositories = {verdict.task.repo for verdict in verdicts}
    print(f"{fuzzed} fuzz_only patches went in by `patch` alone; {broken} breaks_pass_to_pass patches broke one")
    print(f"{len({v.task.instance_id for v in verdicts})} rows of {len(repositories)} repositories")
    print(f"{sum(verdict.equal for verdict in verdicts)} of {len(verdicts)} equal")


def applied_by_patch_alone(made: Grade) -> bool:
    log = Path(made.log_path or "").with_name("apply.log")
    return log.is_file() and bool(re.search(r"^\$ patch .*\[exit code 0\]", log.read_text(), re.MULTILINE | re.DOTALL))


def failed_maintenance(made: Grade) -> bool:
    return made.pass_to_pass is not None and len(made.pass_to_pass.failed) > 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", required=True, help="swebench-5 rows, .jsonl")
    parser.add_argument("--only", help="instance ids, with commas (default: 13 quick rows of verified_pypi)")
    parser.add_argument("--kinds", help=f"with commas, of: {', '.join(KINDS | ODD_KINDS)} (default: all)")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--out", type=Path, help="where to write; kept (default: a temporary folder, removed)")
    args = parser.parse_args()
    tasks = load_tasks(args.tasks, only=args.only.split(",") if args.only else ROWS)
    kinds = args.kinds.split(",") if args.kinds else list(KINDS | ODD_KINDS)
    with tempfile.TemporaryDirectory(prefix="official-verdicts-") as scratch:
        verdicts = compare(tasks, kinds, out=(args.out or Path(scratch)).resolve(), workers=args.workers)
        print_summary(verdicts)
    return 0 if all(verdict.equal for verdict in verdicts) else 1


if __name__ == "__main__":
    sys.exit(main())
