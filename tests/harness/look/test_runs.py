"""`srft runs`: every run below a folder, each place with its score."""

import json

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
    assert "2 episodes  50.0 % (" in shown[3]
    assert "not graded" in shown[5]


def test_a_folder_without_runs_is_said(srft, tmp_path):
    empty, missing = srft("runs", tmp_path), srft("runs", tmp_path / "nope")
    assert (empty.returncode, "no run directories in it or below it" in empty.stderr) == (2, True)
    assert (missing.returncode, "no such folder" in missing.stderr) == (2, True)
