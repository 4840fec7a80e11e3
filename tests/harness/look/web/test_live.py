"""Pages of a run that goes on: the panel, the version that is asked for, what a killed process leaves."""

import os
import signal
import subprocess
import sys

import pytest

from srft.harness.look.web.app import make_app
from srft.harness.look.web.guard import Access
from srft.harness.look.web.viewer import Viewer
from srft.harness.run.store import Run
from tests.harness.look.web.conftest import ACT, HOSTILE, SCRIPT, client_of
from tests.train.conftest import make_run

AT_WORK = """
import sys, time
from pathlib import Path
from srft.agent.records import Action, Step, Usage
from srft.harness.run.store import Run
from srft.harness.stages.progress import Progress

progress = Progress(total=9, resumed=2, done=1)
progress.begin_episode(sys.argv[2], 3)
action = Action(tool="bash", arguments={"command": "pytest -x " + sys.argv[2]}, format="backtick")
usage = Usage(completion_tokens=1234, cost_usd=0.5)
progress.step(sys.argv[2], 3, Step(index=6, content="I test.", action=action, usage=usage))
progress.fail("x__y-1#0", "the engine is gone")
folder = Path(sys.argv[1])
inside = folder / "round-000"
with Run(folder) as run, run.live.stage("loop", folder), run.live.stage("collect", inside, progress.counts):
    print("at work", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def client(run):
    access = Access.here(8117)
    return client_of(make_app(Viewer(run), access=access), access)


@pytest.fixture
def begin(run):
    """begin(task) starts a process that works in the run; it ends well when its stdin is closed."""
    processes = []

    def start(task="new__task-7"):
        pipe = subprocess.PIPE
        process = subprocess.Popen([sys.executable, "-c", AT_WORK, str(run), task], stdin=pipe, stdout=pipe)
        processes.append(process)
        assert process.stdout.readline() == b"at work\n"
        return process

    yield start
    for process in processes:
        process.kill()
        process.communicate()


def test_what_runs_is_shown_while_it_runs_and_no_longer(client, begin):
    before = client.get("/version").json()
    worker = begin()
    during = client.get("/version").json()
    assert (during["files"], during["live"]) != (before["files"], before["live"])
    assert during["files"] == before["files"]
    for page in ("/", "/table/round-000", "/live"):
        text = client.get(page).text
        for shown in (
            "new__task-7",
            "pytest -x new__task-7",
            "3 of 9",
            "1,234",
            "$0.50",
            "the engine is gone",
            "collect",
        ):
            assert shown in text, (page, shown)
    os.kill(worker.pid, signal.SIGKILL)
    worker.wait()
    assert client.get("/version").json()["live"] not in (during["live"], before["live"])
    after = client.get("/live").text
    assert ("new__task-7" in after, "Run the same command to resume." in after) == (False, True)


def test_a_run_that_ended_well_says_nothing(client, begin):
    begin().communicate(b"")
    assert "panel" not in client.get("/live").text


def test_the_version_changes_with_the_files_and_with_nothing_else(client, run):
    first = client.get("/version").json()
    assert client.get("/version").json() == first
    with Run(run) as opened:
        opened.round(0).trajectories.append(make_run([ACT], id="new", task_id="n__n-1"))
    second = client.get("/version").json()
    assert (second["files"] != first["files"], second["live"] == first["live"]) == (True, True)
    with Run(run) as opened:
        opened.round(1).trajectories.append(make_run([ACT], id="later", task_id="n__n-1"))
    assert client.get("/version").json()["files"] != second["files"]


def test_a_run_without_a_trajectory_yet_can_be_watched(tmp_path):
    with Run(tmp_path / "run") as opened:
        opened.round(0)
        with opened.live.stage("collect", opened.path / "round-000"):
            access = Access.here(8117)
            client = client_of(make_app(Viewer(tmp_path / "run"), access=access), access)
            assert "collect" in client.get("/").text


def test_what_a_running_episode_says_is_text(client, begin):
    begin(HOSTILE.replace("\x00", ""))
    for page in ("/", "/live"):
        assert SCRIPT not in client.get(page).text
