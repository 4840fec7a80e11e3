"""Runs and rounds by name: what a command is about, and that a mistyped one makes nothing."""

import pytest
from typer.testing import CliRunner

from srft.env.errors import InputError
from srft.harness.cli import app
from srft.harness.run.find import find_place, find_round, find_run, places_of
from tests import tiny
from tests.harness.loop_run import LoopRun, episode


@pytest.fixture
def run(tmp_path):
    """runs/demo: rounds 1 and 2 with trajectories, 0 and 3 without; an evaluation in round 2. runs/other beside it."""
    with LoopRun(tmp_path / "runs" / "demo") as run:
        for number in (0, 3):
            run.round(number)
        for number in (1, 2):
            run.add(run.round(number), episode(f"t-{number}"), True)
        run.evaluation(2, "srft", {"h-1": [True]})
    with LoopRun(tmp_path / "runs" / "other") as other:
        other.add(other.round(0), episode("t-1"), True)
    return tmp_path / "runs" / "demo"


def tree(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def test_the_newest_round_with_trajectories_unless_one_is_named(run):
    assert [find_round(run, number) for number in (None, 1, 2)] == [2, 1, 2]
    assert find_place(str(run), None) == (run, run / "round-002")
    assert find_place(f"{run}:round-002/evaluation/srft", None) == (run, run / "round-002" / "evaluation" / "srft")
    assert list(places_of(run)) == [
        run / "round-001",
        run / "round-002",
        run / "round-002" / "evaluation" / "srft",
    ]


@pytest.mark.parametrize(
    ("name", "number", "message"),
    [
        ("dmo", None, r"dmo: no such run directory; check --run; did you mean .*runs/demo\?"),
        ("zzzzzz", None, r"zzzzzz: no such run directory; check --run; runs in .*runs: demo, other$"),
        ("demo/round-001", None, r"round-001: not a run directory \(it has no round-000\); check --run"),
        ("demo", 7, r"demo: no round 7; check --round: there are rounds 0, 1, 2, 3, 0, 3 without trajectories"),
        ("demo", 3, r"demo: round 3 has no trajectories; check --round \(there are rounds 0, 1, 2, 3"),
        ("other", 7, r"other: no round 7; check --round: there is round 0$"),
        ("demo:round-001/evaluation/all", None, r"expected one of round-001, round-002, round-002/evaluation/srft"),
        ("demo:round-001", 1, r"names a folder, and --round 1 another"),
        ("dmo:round-001", None, r"dmo: no such run directory"),
    ],
)
def test_a_mistyped_name_is_refused_with_what_there_is(run, name, number, message):
    with pytest.raises(InputError, match=message):
        find_place(f"{run.parent}/{name}", number)


def test_a_run_without_trajectories(tmp_path):
    with LoopRun(tmp_path / "run") as run:
        run.round(0)
    assert find_run(tmp_path / "run") == tmp_path / "run"
    with pytest.raises(InputError, match="no trajectories in it; collect or import some first"):
        find_round(tmp_path / "run", None)


COMMANDS = {
    "export": ("--format", "axolotl", "--out", "OUT/data.jsonl", "--arm", "all"),
    "rows": ("--tokenizer", "nowhere", "--arm", "all"),
    "evaluate": (),
    "critique": ("--critic", "tool_error"),
    "train": ("--model", "nowhere"),
    "show": ("t-1",),
    "report": (),
    "calibrate": ("--labels", "human"),
    "view": ("--no-browser",),
}
WITHOUT_ROUNDS = {"report", "calibrate", "view"}


def invoke(name, *arguments):
    return CliRunner().invoke(app, [name, *map(str, arguments)])


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("wrong", ["typo", "round", "no run"])
def test_a_command_on_what_is_not_there_makes_nothing(run, command, wrong):
    if wrong == "round" and command in WITHOUT_ROUNDS:
        pytest.skip("the command is about all rounds")
    (run.parent / "notes").mkdir()
    before = tree(run.parent)
    path = {"typo": run.parent / "dmo", "round": run, "no run": run.parent / "notes"}[wrong]
    options = [option.replace("OUT", str(run.parent / "out")) for option in COMMANDS[command]]
    done = invoke(command, *options, "--run", path, *(("--round", 7) if wrong == "round" else ()))
    assert isinstance(done.exception, InputError), done.output
    no_run = "the folder is empty" if command == "view" else "not a run directory"  # view takes folders of runs too
    said = {"typo": "did you mean", "round": "no round 7", "no run": no_run}[wrong]
    assert said in str(done.exception)
    assert tree(run.parent) == before


def test_an_import_and_an_evaluation_of_nothing_make_nothing(tmp_path):
    tasks = tiny.write_tasks(tmp_path / "tasks.jsonl", 1)
    (tmp_path / "bad.jsonl").write_text("{}\n")
    before = tree(tmp_path)
    for arguments in (
        ("import", tmp_path / "nothing.jsonl"),
        ("import", tmp_path / "bad.jsonl"),
        ("evaluate", "--tasks", tasks, "--predictions", tmp_path / "nothing.jsonl"),
        ("evaluate", "--tasks", tasks, "--predictions", tmp_path / "bad.jsonl"),
        ("evaluate", "--tasks", tmp_path / "no.jsonl", "--predictions", "gold"),
        ("evaluate", "--tasks", tasks, "--predictions", "gold", "--round", 7),
    ):
        done = invoke(*arguments, "--run", tmp_path / "new")
        assert isinstance(done.exception, InputError), done.output
        assert tree(tmp_path) == before
