"""Real runs as they are published, from the folder of shared data where it is there."""

import gzip
import json
import tarfile
from collections import Counter
from itertools import pairwise
from pathlib import Path

import pytest

from srft.agent.importing.importers import read_runs
from srft.agent.importing.readers import Tally
from srft.agent.importing.readers.atif import BROKEN_OFF, CONVERTERS_WORDS, PARTS
from srft.agent.importing.readers.rows import OTHER_PATCHES
from srft.agent.importing.readers.source import NO_TRAJECTORY
from tests.agent.conftest import DATA

PUBLIC = DATA / "public_runs"
SETS = {
    # file: dataset, outcomes, steps a run, steps with an exit code, runs with a patch, tools of the first run
    "CoderForge-Preview.trimmed": ("togethercomputer/CoderForge-Preview", {True: 1}, [2], 0, 0, 2),
    "Sera-4.6-Lite-T2.trimmed": ("allenai/Sera-4.6-Lite-T2", {None: 1}, [2], 0, 1, 3),
    "mini-coder": ("ricdomolm/mini-coder-trajs-400k", {True: 1}, [8], 7, 1, 0),
    "nebius_SWE-agent-trajectories": ("nebius/SWE-agent-trajectories", {True: 5}, [6, 14, 5, 8, 16], 0, 5, 0),
    "nebius_SWE-rebench-openhands-trajectories.trimmed": (
        "nebius/SWE-rebench-openhands-trajectories",
        {True: 1},
        [4],
        1,
        1,
        2,
    ),
    "swe-gym_openhands_sampled_trajectories": (
        "SWE-Gym/OpenHands-Sampled-Trajectories",
        {True: 5},
        [17, 11, 12, 18, 30],
        21,
        5,
        3,
    ),
    "swe-smith": ("SWE-bench/SWE-smith-trajectories", {True: 5}, [15, 23, 18, 22, 38], 0, 0, 0),
}


@pytest.fixture(scope="module")
def public_runs() -> Path:
    if not PUBLIC.is_dir():
        pytest.skip("the published runs are not on this machine (../shared/data/public_runs)")
    return PUBLIC


def facts(path, **options):
    tally = Tally()
    runs = list(read_runs(path, tally=tally, **options))
    assert tally.damaged == []
    return runs, tally


@pytest.mark.parametrize("name", SETS)
def test_rows_of_the_hub(public_runs, name):
    dataset, outcomes, steps, codes, patches, tools = SETS[name]
    runs, tally = facts(public_runs / "hub_rows" / f"{name}.jsonl.gz")
    assert set(tally.formats.values()) == {dataset}
    assert Counter(run.recorded_resolved for run in runs) == outcomes
    assert [len(run.steps) for run in runs] == steps
    assert sum(step.exit_code is not None for run in runs for step in run.steps) == codes
    assert sum(run.patch is not None for run in runs) == patches
    assert len(runs[0].tools) == tools
    assert all(run.prompt.startswith(f"recorded: {dataset} (") for run in runs)
    assert tally.left_out[OTHER_PATCHES] == (3 if name == "swe-smith" else 0)


@pytest.mark.parametrize("name", SETS)
def test_the_same_rows_as_parquet_are_the_same_runs(public_runs, tmp_path, name):
    """Parquet fills every struct with the keys of all others, as null."""
    datasets = pytest.importorskip("datasets")
    with gzip.open(public_runs / "hub_rows" / f"{name}.jsonl.gz") as file:
        rows = [json.loads(line) for line in file]
    datasets.Dataset.from_list(rows).to_parquet(tmp_path / "train-00000-of-00001.parquet")
    as_lines, _ = facts(public_runs / "hub_rows" / f"{name}.jsonl.gz")
    as_rows, _ = facts(tmp_path)
    # Arrow keeps the keys of a struct in an order of its own.
    assert [json.loads(json.dumps(run.messages, sort_keys=True)) for run in as_rows] == [
        json.loads(json.dumps(run.messages, sort_keys=True)) for run in as_lines
    ]
    assert [(run.patch, run.tools, run.recorded_resolved) for run in as_rows] == [
        (run.patch, run.tools, run.recorded_resolved) for run in as_lines
    ]


def test_outputs_of_openhands(public_runs):
    runs = [run for path in sorted((public_runs / "openhands").glob("*.gz")) for run in facts(path)[0]]
    assert [len(run.steps) for run in runs] == [20, 23, 33, 49]
    assert sum(len(step.tool_calls) for run in runs for step in run.steps) == 125
    assert all(run.patch for run in runs)


def test_harbors_trials(public_runs, tmp_path):
    with tarfile.open(public_runs / "harbor_trials.tar.gz") as archive:
        archive.extractall(tmp_path, filter="data")
    runs, tally = facts(tmp_path)
    steps = [step for run in runs for step in run.steps]
    rewards = Counter(float(path.read_text()) for path in tmp_path.glob("*/verifier/reward.txt"))
    assert rewards == {0.0: 29, 1.0: 4}
    assert Counter(run.recorded_resolved for run in runs) == {False: 27, True: 4}
    assert tally.dropped == {f"{NO_TRAJECTORY} (AgentTimeoutError)": 2}
    assert (len(runs), len(steps)) == (31, 1563)
    assert sum(len(step.tool_calls) for step in steps) == 830
    assert sum(step.observation is not None for step in steps) == 812
    assert (tally.left_out[CONVERTERS_WORDS], tally.left_out[PARTS]) == (830, 793)


def test_replies_of_harbors_trials_that_were_split_are_put_together(public_runs, tmp_path):
    with tarfile.open(public_runs / "harbor_trials.tar.gz") as archive:
        archive.extractall(tmp_path, filter="data")
    runs, tally = facts(tmp_path, format="atif-replies")
    roles = [[message["role"] for message in run.messages] for run in runs]
    assert not any(pair == ("assistant", "assistant") for run in roles for pair in pairwise(run))
    assert (len(runs), sum(len(run.steps) for run in runs), tally.left_out[BROKEN_OFF]) == (31, 704, 66)
    assert sum(len(step.tool_calls) for run in runs for step in run.steps) == 830
    assert all(step.usage for run in runs for step in run.steps)
