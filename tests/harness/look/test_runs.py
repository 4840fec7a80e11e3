"""`srft runs`: every run below a folder, each place with its score."""

import json

from srft.harness.run.stages import Stages
from srft.harness.run.store import Run
from tests.harness.loop_run import LoopRun, episode


def test_every_run_below_a_folder_is_listed_with_its_scores(srft, tmp_path):
    with LoopRun(tmp_path / "runs" / "deep" / "one") as run:
        run.evaluation(0, "base", {"a-1": [False], "a-2": [False]})
        run.add(run.round(1), episode("b-1", model="teacher"), resolved=True)
        run.evaluation(1, "srft", {"a-1": [True], "a-2": [False]})
    with LoopRun(tmp_path / "runs" / "two") as run:
        run.evaluation(0, "base", {"a-1": [None]})
    told = json.loads(srft("runs", tmp_path / "runs", "--json").stdout)["runs"]
    by_name = {one["name"].removeprefix(f"{tmp_path}/runs/"): one for one in told}
    assert set(by_name) == {"deep/one", "two"}
    one = by_name["deep/one"]
    assert one["rounds"] == 1
    places = {place["folder"]: (place["tasks"], place["resolved"], place["rate"]) for place in one["places"]}
    assert places["round-000/evaluation/base"] == (2, 0, 0.0)
    assert places["round-001/evaluation/srft"] == (2, 1, 0.5)
    assert next(place["models"] for place in one["places"] if place["folder"] == "round-001") == {"teacher": 1}
    assert by_name["two"]["places"][0]["rate"] is None
    shown = srft("runs", tmp_path / "runs").stdout.splitlines()
    assert [line.split()[0].removeprefix(f"{tmp_path}/runs/") for line in shown] == [
        *("deep/one", "round-000/evaluation/base", "round-001", "round-001/evaluation/srft"),
        *("two", "round-000/evaluation/base"),
    ]
    assert (one["state"], one["score"]["folder"], one["problem"]) == (None, "round-001/evaluation/srft", None)
    assert "2 episodes  50.0 % (" in shown[3]
    assert "not graded" in shown[5]


def test_a_broken_run_costs_that_run_and_states_sorting_and_filters_are_told(srft, tmp_path):
    for name, resolved in (("bad", True), ("good", True), ("worse", False)):
        with LoopRun(tmp_path / name) as run:
            run.add(run.round(0), episode("b-1", model=f"model-{name}"), resolved=resolved)
    with Run(tmp_path / "good") as run, run.live.stage("collect", run.path):
        pass
    Stages.read(tmp_path / "worse" / "round-000").begin("critique", "key")
    (tmp_path / "bad" / "round-000" / "trajectories.jsonl").write_text("{}\n")
    by_score = srft("runs", tmp_path, "--sort", "-score", "--json")
    assert by_score.returncode == 0, by_score.stderr
    told = json.loads(by_score.stdout)["runs"]
    assert [(one["name"].rpartition("/")[2], one["state"]) for one in told] == [
        ("good", "finished"),
        ("worse", "stopped"),
        ("bad", None),
    ]
    assert "not a Trajectory" in told[2]["problem"]
    shown = srft("runs", tmp_path, "--match", "MODEL-GOOD")
    assert [line.split()[0].rpartition("/")[2] for line in shown.stdout.splitlines()] == ["good", "round-000"]
    none = srft("runs", tmp_path, "--state", "running")
    assert (none.returncode, "none of its 3 runs is asked for" in none.stderr) == (2, True)


def test_a_folder_without_runs_is_said(srft, tmp_path):
    empty, missing = srft("runs", tmp_path), srft("runs", tmp_path / "nope")
    assert (empty.returncode, "the folder is empty" in empty.stderr) == (2, True)
    assert (missing.returncode, "no such folder" in missing.stderr) == (2, True)
