"""Mutation testing: changes one thing in a file and asks whether the file's own tests notice.

    make mutants FILES="train/rows/mask.py"                       # its tests: tests/train/rows/test_mask.py
    python -m tests.mutants train/rows/rows.py --tests tests/train/rows/test_render.py --sample 100 --seed 1

Works on a copy of the tree for each worker, never on the tree itself. A worker imports the libraries once and forks for
each mutant, so a mutant costs its tests and not their imports. Prints the killed and the survivors of each file, and of
every survivor its line and its change (`mutations.py` has the kinds). Mutants that no test can tell from the code are
in `mutants.yaml`, each with the reason; an entry there that is killed or gone makes the command fail.

Why not a library: cosmic-ray takes 4 s a mutant here, writes into the working tree, and changes neither statements nor
strings; mutmut leaves all outside functions alone and cannot import a package through links.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from queue import Empty, Queue
from typing import NamedTuple

import yaml

from tests.mutations import Mutant, mutations

ROOT = Path(__file__).resolve().parents[1]


class Outcome(NamedTuple):
    """mutants: of one file, each with "killed", "timeout" or "survived"."""

    file: str
    mutants: list[tuple[Mutant, str]]


def run(file: str, tests: list[str], *, root: Path = ROOT, sample: int | None = None, seed: int = 0) -> Outcome:
    """Runs the tests against each mutant of a file. Raises SystemExit where they fail without one."""
    chosen = mutations((root / file).read_text(encoding="utf-8"))
    if sample is not None and sample < len(chosen):
        chosen = sorted(random.Random(seed).sample(chosen, sample), key=lambda mutant: mutant.line)
    waiting: Queue[int] = Queue()
    for number in range(len(chosen)):
        waiting.put(number)
    told: dict[int, str] = {}
    problems: list[str] = []

    def work() -> None:
        with tempfile.TemporaryDirectory(prefix="srft-mutants-") as folder, suppress(Empty):
            copy = _copy(root, Path(folder, "tree"))
            command = [sys.executable, "-m", "tests.mutants", "--worker", file, *tests]
            env = os.environ | {
                "PYTHONPATH": f"{copy / 'src'}{os.pathsep}{copy}",
                "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",  # they take seconds, and no test needs one
            }
            pipe = subprocess.PIPE
            with subprocess.Popen(command, cwd=copy, env=env, stdin=pipe, stdout=pipe, text=True) as worker:
                assert worker.stdin
                assert worker.stdout
                first = worker.stdout.readline().strip()
                problems.extend([first] if first != "survived" else [])
                while not problems:
                    number = waiting.get_nowait()
                    worker.stdin.write(json.dumps(chosen[number].source) + "\n")
                    worker.stdin.flush()
                    told[number] = worker.stdout.readline().strip()

    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if problems:
        raise SystemExit(
            f"{file}: its tests do not pass without a mutant ({' '.join(tests)}). Fix them, then try again."
        )
    assert set(told) == set(range(len(chosen))), "every mutant has its outcome"
    assert set(told.values()) <= {"killed", "timeout", "survived"}, "a worker does not end before its work"
    return Outcome(file, [(mutant, told[number]) for number, mutant in enumerate(chosen)])


def _copy(root: Path, folder: Path) -> Path:
    """The tree without what is made in it; the small models are linked."""

    def made(place: str, names: list[str]) -> list[str]:
        at_top = ("runs", "build", "dist", ".git", ".models") if Path(place) == root else ()
        return [name for name in names if name in (*at_top, "__pycache__") or name.startswith(".venv")]

    shutil.copytree(root, folder, symlinks=True, ignore=made)
    if (root / ".models").exists():
        (folder / ".models").symlink_to((root / ".models").resolve())
    return folder


def worker(file: Path, tests: list[str]) -> None:
    """Tests first the file as it is, then each source that comes in, a JSON text a line; writes an outcome a line."""
    imported = Path("imported.json")
    first = _tested(tests, limit_s=600, imported=imported)
    for name in json.loads(imported.read_text()) if imported.exists() else ():
        with suppress(ImportError):
            import_module(name)
    begun = time.monotonic()
    again = (
        first if first != "survived" else _tested(tests, limit_s=600)
    )  # the libraries are imported by now, which must not matter
    limit_s = max(3.0, 8 * (time.monotonic() - begun))
    print(again, flush=True)
    for line in sys.stdin:
        file.write_text(json.loads(line), encoding="utf-8")
        for compiled in (file.parent / "__pycache__").glob(f"{file.stem}.*"):
            compiled.unlink()  # two mutants of one second and one size would look the same
        print(_tested(tests, limit_s=limit_s), flush=True)


def _tested(tests: list[str], *, limit_s: float, imported: Path | None = None) -> str:
    """The outcome of the tests in a process of their own. imported: where it writes the libraries it has imported."""
    if not (child := os.fork()):
        os.setpgid(0, 0)
        for descriptor in (1, 2):
            os.dup2(os.open(os.devnull, os.O_WRONLY), descriptor)
        code = 1
        with suppress(BaseException):
            import pytest

            code = int(pytest.main(["-x", "-q", "-p", "no:cacheprovider", "-p", "no:randomly", *tests]))
            here = str(Path.cwd())
            libraries = [name for name, module in sys.modules.items() if getattr(module, "__file__", None)]
            libraries = [name for name in libraries if not str(sys.modules[name].__file__).startswith(here)]
            if imported:
                imported.write_text(json.dumps([name for name in libraries if name != "__main__"]))
        os._exit(code)
    until = time.monotonic() + limit_s
    while (ended := os.waitpid(child, os.WNOHANG)) == (0, 0):
        if time.monotonic() > until:
            os.killpg(child, signal.SIGKILL)
            os.waitpid(child, 0)
            return "timeout"
        time.sleep(0.005)
    with suppress(ProcessLookupError):
        os.killpg(child, signal.SIGKILL)  # what the tests left running
    return "survived" if ended[1] == 0 else "killed"


def report(outcome: Outcome, equivalent: list[dict[str, str]], *, whole: bool) -> tuple[str, bool]:
    """What is printed of a file, and whether its entries in mutants.yaml are right. whole: no sample was taken."""
    reasons = {(entry["where"], entry["change"]): entry["reason"] for entry in equivalent}
    survived = [mutant for mutant, told in outcome.mutants if told == "survived"]
    unknown = [mutant for mutant in survived if (mutant.where, mutant.change) not in reasons]
    stale = reasons.keys() - {(mutant.where, mutant.change) for mutant in survived} if whole else set()
    counted = len(outcome.mutants) - (len(survived) - len(unknown))
    killed = counted - len(unknown)
    slow = sum(told == "timeout" for _, told in outcome.mutants)
    lines = [
        f"{outcome.file}: {killed} of {counted} mutants killed ({100 * killed / max(counted, 1):.0f} %, {slow} by the "
        f"time limit), {len(unknown)} survived, {len(survived) - len(unknown)} more are equivalent"
    ]
    lines += [f"  survived  {outcome.file}:{mutant.line} {mutant.where}: {mutant.change}" for mutant in unknown]
    lines += [f"  mutants.yaml: {where}: {change}: killed or gone; remove it" for where, change in sorted(stale)]
    return "\n".join(lines), not stale


def own_tests(file: str) -> list[str]:
    """The tests of a file, by its place: `train/rows/mask.py` has `tests/train/rows/test_mask.py` and `test_mask_*.py`,
    but for those of a file with a longer name."""
    path = Path(file)
    longer = {other.stem for other in (ROOT / path.parent).glob(f"{path.stem}_*.py")}
    found = (ROOT / "tests" / path.parent).glob(f"test_{path.stem}*.py")
    own = [test.relative_to(ROOT) for test in found if re.fullmatch(rf"test_{path.stem}(_\w+)?", test.stem)]
    return sorted(str(test) for test in own if not any(test.stem.startswith(f"test_{name}") for name in longer))


def main() -> None:
    parser = argparse.ArgumentParser(description="Runs the tests of files against changed copies of these files.")
    parser.add_argument("files", nargs="+")
    parser.add_argument("--tests", nargs="*", default=[], help="further test files, for all of the files")
    parser.add_argument("--sample", type=int, help="so many mutants of each file, drawn at random")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    listed = yaml.safe_load(Path(__file__).with_suffix(".yaml").read_text(encoding="utf-8")) or {}
    right = True
    for file in options.files:
        outcome = run(file, [*own_tests(file), *options.tests], sample=options.sample, seed=options.seed)
        text, entries_right = report(outcome, listed.get(file, []), whole=options.sample is None)
        print(text, flush=True)
        right = right and entries_right
    sys.exit(0 if right else 1)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--worker"]:
        worker(Path(sys.argv[2]), sys.argv[3:])
    else:
        main()
