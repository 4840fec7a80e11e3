"""`srft import`: what it adds, what it counts, and that twice is once."""

import json
import re
import signal
import subprocess
import sys
import threading
import time

import pytest
import typer
from typer.testing import CliRunner

from srft.agent.importing.columns import datasets
from srft.agent.importing.importers import read_runs
from srft.agent.importing.readers import Tally
from srft.env.errors import InputError
from srft.harness.commands.import_runs import import_runs as command
from srft.harness.config.config import CollectConfig
from srft.harness.debug.saving import save_run
from srft.harness.run.store import Run
from srft.harness.stages.collect import collect
from srft.harness.stages.import_runs import OTHER_OUTCOME, OTHER_TASK, Choice, import_runs


def chat(task_id, *replies, **more):
    messages = [{"role": "user", "content": "T"}]
    for reply in replies:
        messages += [{"role": "assistant", "content": reply}, {"role": "user", "content": "seen"}]
    return {"instance_id": task_id, "messages": messages, **more}


def written(path, *runs):
    path.write_text("".join(json.dumps(run) + "\n" for run in runs))
    return path


@pytest.fixture
def run(tmp_path):
    with Run(tmp_path / "run") as run:
        yield run


def on_file(run):
    return [(it.task_id, it.attempt, it.recorded_resolved) for it in run.round(0).trajectories.read()]


def test_the_same_again_adds_nothing_and_attempts_go_on(tmp_path, run):
    first = written(tmp_path / "a.jsonl", chat("t", "a", resolved=True), chat("u", "b"), chat("t", "c", "d"))
    second = written(tmp_path / "b.jsonl", chat("t", "a", resolved=True), chat("t", "e"), chat("t", "e"))
    imported = import_runs([first], run)
    assert (imported.read, imported.added, imported.on_file, imported.steps) == (3, 3, 0, 4)
    assert (imported.resolved, imported.unresolved, imported.unknown) == (1, 0, 2)
    assert imported.stop_reasons == {"submitted (how it ended is not recorded)": 3}
    again = import_runs([first, second], run)
    assert (again.read, again.added, again.on_file, again.steps) == (6, 1, 5, 1)
    assert on_file(run) == [("t", 0, True), ("u", 0, None), ("t", 1, None), ("t", 2, None)]
    ids = [it.id for it in run.round(0).trajectories.read()]
    assert len(set(ids)) == 4
    assert import_runs([second, first], run).added == 0
    assert [it.id for it in run.round(0).finished()] == ids


def test_a_run_is_imported_or_collected_never_both(tmp_path, run):
    runs = written(tmp_path / "a.jsonl", chat("t", "a"))
    import_runs([runs], run)
    with pytest.raises(InputError, match=r"has trajectories but no run\.yaml, so they were imported"):
        collect(CollectConfig(tasks="tasks.jsonl", model="script:x"), run, stop=threading.Event())
    assert not (run.path / "run.yaml").exists()
    (tmp_path / "collected").mkdir()
    (tmp_path / "collected" / "run.yaml").write_text("collect: {}\n")
    with Run(tmp_path / "collected") as collected:
        with pytest.raises(InputError, match="episodes were collected in this run"):
            import_runs([runs], collected)
        assert on_file(collected) == []


@pytest.mark.parametrize("file", ["run.yaml", "loop.yaml", "round-000/run.yaml", "round-001/evaluation/base/run.yaml"])
@pytest.mark.parametrize("do", ["import", "save"])
def test_nothing_is_added_to_what_was_collected(tmp_path, file, do):
    """By a collection, or by a loop, which keeps its collections' files in its rounds."""
    collected = tmp_path / "collected"
    (collected / file).parent.mkdir(parents=True)
    (collected / file).write_text("collect: {}\n")
    runs = written(tmp_path / "a.jsonl", chat("t", "a"))
    (read,) = read_runs(runs, format="auto", tally=Tally())
    adding = {
        "import": lambda: import_runs([runs], Run(collected)),
        "save": lambda: save_run(read, collected, labels={}, grades=[]),
    }
    with pytest.raises(InputError, match=rf"\(it has a {re.escape(file)}\).*{do} into another run"):
        adding[do]()
    assert not list(collected.rglob("trajectories.jsonl"))


def test_a_report_gives_the_verdicts(tmp_path, run):
    runs = written(tmp_path / "a.jsonl", chat("t", "a"), chat("u", "b", resolved=False), chat("v", "c"), chat("w", "d"))
    report = tmp_path / "report.json"
    report.write_text(json.dumps({"resolved_ids": ["t"], "unresolved_ids": ["u"], "error_ids": ["v"]}))
    imported = import_runs([runs], run, report=report)
    assert on_file(run) == [("t", 0, True), ("u", 0, False), ("v", 0, False), ("w", 0, None)]
    assert (imported.resolved, imported.unresolved, imported.unknown, imported.unreported) == (1, 2, 1, 1)


@pytest.mark.parametrize(
    ("runs", "message"),
    [
        (
            [chat("u", "x"), chat("t", "a", resolved=False)],
            "t is resolved there, and its run came with the verdict not",
        ),
        ([chat("t", "a", patch="1"), chat("t", "b", patch="2")], "t has runs with different patches here"),
    ],
)
def test_a_report_of_other_runs_is_refused_before_anything_is_added(tmp_path, run, runs, message):
    (tmp_path / "report.json").write_text(json.dumps({"resolved_ids": ["t"]}))
    with pytest.raises(InputError) as error:
        import_runs([written(tmp_path / "a.jsonl", *runs)], run, report=tmp_path / "report.json")
    assert message in str(error.value)
    assert on_file(run) == []


def test_a_report_may_be_of_attempts_with_one_patch(tmp_path, run):
    (tmp_path / "report.json").write_text(json.dumps({"t": {"resolved": True}}))
    runs = written(tmp_path / "a.jsonl", chat("t", "a", patch="1"), chat("t", "b", patch="1"))
    assert import_runs([runs], run, report=tmp_path / "report.json").resolved == 2


@pytest.fixture
def run_command():
    app = typer.Typer()
    app.command("import")(command)
    app.command("other")(lambda: None)
    return lambda *arguments: CliRunner().invoke(app, ["import", *map(str, arguments)])


def test_the_command_says_what_it_did(tmp_path, run_command):
    runs = written(tmp_path / "a.jsonl", chat("t", "a", resolved=True), chat("u"))
    done = run_command(runs, "--run", tmp_path / "run", "--json")
    assert done.exit_code == 0
    assert json.loads(done.stdout) == {
        "read": 1,
        "added": 1,
        "on_file": 0,
        "resolved": 1,
        "unresolved": 0,
        "unknown": 0,
        "steps": 1,
        "steps_with_exit_code": 0,
        "patches": 0,
        "tools": 0,
        "stop_reasons": {"submitted (how it ended is not recorded)": 1},
        "formats": {str(runs): "chat"},
        "damaged": [],
        "damaged_runs": 0,
        "dropped": {"no reply of a model in it": 1},
        "left_out": {"messages after the last reply": 1},
        "unreported": None,
        "not_found": [],
        "stopped": False,
    }
    assert not (tmp_path / "run" / "run.yaml").exists()
    shown = run_command(runs, "--run", tmp_path / "run").stdout
    assert "on file already" in shown
    assert "dropped: no reply of a model in it" in shown
    assert "nothing is new; 1 source, read as chat" in " ".join(shown.split())
    assert "unresolved" not in shown


def test_damage_is_named_and_fails_the_command_after_the_rest_is_added(tmp_path, run_command):
    runs = written(tmp_path / "a.jsonl", chat("t", "a"), {"messages": 3}, chat("u", "b"))
    done = run_command(runs, "--run", tmp_path / "run")
    assert done.exit_code == 1
    assert "1 damaged runs were left out:" in done.stderr
    assert "a.jsonl:2: messages: expected a list of objects, got int" in done.stderr
    with Run(tmp_path / "run") as run:
        assert on_file(run) == [("t", 0, None), ("u", 0, None)]


def test_a_file_without_any_run_is_the_users_to_mend(tmp_path, run_command):
    (tmp_path / "a.jsonl").write_text("nonsense\n")
    done = run_command(tmp_path / "a.jsonl", "--run", tmp_path / "run")
    assert isinstance(done.exception, InputError)
    assert "a.jsonl:1: not JSON" in str(done.exception)


def test_a_choice_of_runs(tmp_path, run):
    runs = written(
        tmp_path / "a.jsonl",
        *[chat(task, str(n), resolved=n % 2 == 0) for n, task in enumerate("ttuuvv")],
        chat("t", "unknown"),
    )
    imported = import_runs([runs], run, choice=Choice(outcome="unresolved", only=("t", "u", "x")))
    assert on_file(run) == [("t", 0, False), ("u", 0, False)]
    assert imported.dropped == {OTHER_TASK: 2, OTHER_OUTCOME: 3}
    assert imported.not_found == ["x"]
    imported = import_runs([runs], run, choice=Choice(limit=3))
    assert (imported.read, imported.added, imported.on_file, imported.not_found) == (3, 2, 1, [])
    again = import_runs([runs], run, choice=Choice(limit=3))
    assert (again.added, again.on_file) == (0, 3)


def test_many_attempts_of_one_task_take_no_longer_each(tmp_path, run):
    """Each is hashed once, not once for every attempt before it."""
    text = "x" * 20_000
    runs = written(tmp_path / "a.jsonl", *[chat("t", f"{n}{text}") for n in range(1500)])
    assert import_runs([runs], run).added == 1500
    assert import_runs([runs], run, choice=Choice(limit=50)).on_file == 50


def test_a_stop_keeps_what_is_on_file_and_the_same_command_goes_on(tmp_path, run):
    runs = written(tmp_path / "a.jsonl", *[chat("t", str(n)) for n in range(5)])
    stop = threading.Event()
    stop.set()
    imported = import_runs([runs], run, stop=stop)
    assert (imported.added, imported.stopped) == (1, True)
    assert import_runs([runs], run).added == 4


def test_a_killed_import_goes_on_where_it_was(tmp_path):
    runs = written(tmp_path / "a.jsonl", *[chat("t", f"{n} {'x' * 3000}") for n in range(1500)])
    folder = tmp_path / "run"
    command = [sys.executable, "-m", "srft.harness.cli", "import", str(runs), "--run", str(folder)]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as process:
        file = folder / "round-000" / "trajectories.jsonl"
        while not file.exists() or file.stat().st_size < 300_000:
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
    with Run(folder) as run:
        before = on_file(run)
        assert 0 < len(before) < 1500
        assert import_runs([runs], run).added == 1500 - len(before)
        assert on_file(run) == [("t", n, None) for n in range(1500)]


def test_a_mistyped_name_makes_no_folder(tmp_path, run_command):
    for name in (str(tmp_path / "none.jsonl"), str(written(tmp_path / "b.jsonl", {"rows": 1}))):
        done = run_command(name, "--run", tmp_path / "run")
        assert isinstance(done.exception, InputError)
        assert not (tmp_path / "run").exists()


def test_columns_and_tools_of_any_dataset(tmp_path, run_command):
    said = [{"role": "assistant", "content": "", "tool_calls": [{"function": {"name": "bash", "arguments": "{}"}}]}]
    runs = written(tmp_path / "a.jsonl", {"name": "t", "dialogue": said, "passed": 1})
    (tmp_path / "tools.json").write_text('[{"name": "bash"}]')
    changes = ("columns.messages=dialogue", "columns.outcome=passed", "columns.task=name")
    sets = [word for change in changes for word in ("--set", change)]
    done = run_command(runs, "--run", tmp_path / "run", *sets, "--tools", tmp_path / "tools.json")
    assert done.exit_code == 0, done.output
    with Run(tmp_path / "run") as run:
        (trajectory,) = run.round(0).trajectories.read()
    assert (trajectory.task_id, trajectory.recorded_resolved) == ("t", True)
    assert trajectory.tools == ({"type": "function", "function": {"name": "bash"}},)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([], "nothing to import; name a Hub dataset, a file or a folder"),
        (["FILE", "--outcome", "good"], "--outcome good: expected resolved, unresolved, all"),
        (["FILE", "--tools", "none.json"], "none.json: cannot be read"),
        (["FILE", "--set", "columns.talk=x"], "--set columns.talk=x: Object contains unknown field `talk`"),
        (["FILE", "--set", "columns.task=x", "--format", "openhands"], "openhands is the file of a program"),
    ],
)
def test_a_wrong_option_is_named(tmp_path, run_command, options, message):
    runs = str(written(tmp_path / "a.jsonl", chat("t", "a")))
    done = run_command(*[runs if option == "FILE" else option for option in options], "--run", tmp_path / "run")
    assert isinstance(done.exception, InputError)
    assert message in str(done.exception)
    assert not (tmp_path / "run").exists()


def test_the_list_names_every_dataset(run_command):
    shown = run_command("--list").stdout
    assert all(name in shown for dataset in datasets().values() for name in (dataset.name, *dataset.also))
    assert set(json.loads(run_command("--list", "--json").stdout)["datasets"]) == set(datasets())


def test_the_recorded_runs(shared_data, run):
    path = shared_data / "trajectories" / "gemini3pro_mini_verified.jsonl.gz"
    if not path.is_file():
        pytest.skip(f"no {path}")
    imported = import_runs([path], run)
    assert (imported.added, imported.resolved, imported.unresolved, imported.unknown) == (246, 179, 67, 0)
    assert (imported.steps, imported.stop_reasons, imported.damaged) == (10222, {"submitted": 246}, [])
    assert import_runs([path], run).added == 0
