"""The whole making: task repos that load, come out the same, go on after a stop, and refuse another configuration."""

import threading
from pathlib import Path

import msgspec
import pytest

from srft.env.backends import Backend
from srft.env.errors import InputError
from srft.env.grading.grade import grade
from srft.env.practice import Counts, PracticeConfig, make_practice
from srft.env.practice.record import read_manifest
from srft.env.sandbox.contract import SandboxSpec
from srft.env.tasks.task import load_tasks

CONFIG = PracticeConfig(families=("bank_ledger", "rate_limiter"), train=2, test=2, split="family", seed=3)


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def made(backend: Backend, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("practice") / "out"
    summary = make_practice(CONFIG, out, backend=backend)
    assert (summary.train, summary.test, summary.missing, summary.finished) == (2, 2, 0, True)
    assert summary.tried == summary.kept + sum(summary.dropped.values())
    return out


def test_the_tasks(made: Path) -> None:
    train, test = load_tasks(str(made / "train")), load_tasks(str(made / "test"))
    assert [len(train), len(test)] == [2, 2]
    assert {task.repo for task in train}.isdisjoint(task.repo for task in test)
    manifest = read_manifest(made)
    assert manifest is not None
    assert {task.instance_id: task.part for task in manifest.tasks} == {
        **{task.instance_id: "train" for task in train},
        **{task.instance_id: "test" for task in test},
    }
    for task in train + test:
        assert task.instance_id.startswith(f"practice__{task.repo.removeprefix('practice/')}-")
        assert (task.base_commit, task.log_parser, task.eval_type) == ("base", "parse_log_pytest", "pass_and_fail")
        assert task.patch.count("\n@@ ") == 1
        assert not any(line in task.problem_statement for line in task.patch.split("\n") if len(line) > 20)
    assert len({task.image for task in train + test}) == 4


def test_the_same_again(made: Path, backend: Backend, tmp_path: Path) -> None:
    other = msgspec.structs.replace(CONFIG, workers=1)
    make_practice(other, tmp_path / "again", backend=backend)
    assert files(tmp_path / "again") == files(made)
    before = files(made)
    assert make_practice(CONFIG, made, backend=backend).resumed
    assert files(made) == before


def test_a_stop_keeps_what_was_tried(made: Path, backend: Backend, tmp_path: Path) -> None:
    out, stop = tmp_path / "stopped", threading.Event()

    def watch(counts: Counts) -> None:
        if counts.tried == 1:
            stop.set()

    summary = make_practice(CONFIG, out, backend=backend, stop=stop, watch=watch)
    assert (summary.finished, summary.train) == (False, 0)
    tried = (out / "trials.jsonl").read_bytes()
    assert 1 <= tried.count(b"\n") < (made / "trials.jsonl").read_bytes().count(b"\n")
    (out / "trials.jsonl").write_bytes(tried + b'{"source": "torn')
    seen: list[Counts] = []
    assert make_practice(CONFIG, out, backend=backend, watch=seen.append).finished
    assert seen[-1].resumed == tried.count(b"\n")
    assert files(out) == files(made)


def test_another_configuration_is_refused(made: Path, backend: Backend) -> None:
    with pytest.raises(InputError, match=r"practice.json: begun with seed=3; give the same, or another --out"):
        make_practice(msgspec.structs.replace(CONFIG, seed=4), made, backend=backend)


def test_a_folder_of_somebody_else_is_refused(backend: Backend, tmp_path: Path) -> None:
    (tmp_path / "train").mkdir()
    with pytest.raises(InputError, match=r"has train/ or test/ but no practice.json"):
        make_practice(CONFIG, tmp_path, backend=backend)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"train": 0, "test": 0}, "no tasks asked for"),
        ({"families": ("bank_ledger",), "split": "family"}, "needs two families or packages"),
        ({"families": ("bank_ledger", "bank_ledger")}, "named twice: bank_ledger"),
    ],
)
def test_what_cannot_be_made(changes: dict, message: str, backend: Backend, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=message):
        make_practice(msgspec.structs.replace(CONFIG, **changes), tmp_path / "out", backend=backend)


def test_gold_resolves_and_nothing_does_not(made: Path, backend: Backend) -> None:
    for task in load_tasks(str(made / "test")):
        backend.ensure_image(task)
        with backend.open(SandboxSpec(image=task.image)) as sandbox:
            assert sandbox.run("git status --porcelain && git log --oneline | wc -l").output == "1\n"
            touched = sandbox.run("touch new.txt && git add -A && git diff --cached").output
        assert grade(task, task.patch, open_sandbox=backend.open, log_dir=None).outcome == "resolved"
        assert grade(task, touched, open_sandbox=backend.open, log_dir=None).outcome == "unresolved"
