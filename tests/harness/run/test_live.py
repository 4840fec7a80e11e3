"""live.json: what another process sees of one that is at work, ends, or is killed."""

import os
import signal
import subprocess
import sys
import time

import pytest

from srft.agent.records import Action, Step, Usage
from srft.harness.run.live import LOST_AFTER_S, Telling, read_live, state_of
from srft.harness.run.store import Run
from srft.harness.stages.progress import Progress

AT_WORK = """
import sys, time
from pathlib import Path
from srft.harness.run.store import Run
from srft.harness.stages.progress import Progress
from tests.train.conftest import make_run

progress = Progress(total=9, resumed=2)
progress.begin_episode("a__b-1", 0)
for step in make_run(["I look.\\n```bash\\nls -la\\n```", "Hm."]).steps:
    progress.step("a__b-1", 0, step)
with Run(sys.argv[1]) as run, run.live.stage("collect", Path(sys.argv[1]) / "round-000", progress.counts):
    print("at work", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def worker(tmp_path):
    process = subprocess.Popen([sys.executable, "-c", AT_WORK, str(tmp_path / "run")], stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == b"at work\n"
    yield process
    process.kill()
    process.wait()


def test_the_running_episodes_of_another_process_are_seen_and_not_after_it_was_killed(worker, tmp_path):
    seen = read_live(tmp_path / "run")
    assert (seen.is_running, seen.state, seen.live.pid) == (True, "running", worker.pid)
    (stage,) = seen.live.stages
    assert (stage.name, stage.folder) == ("collect", "round-000")
    assert (stage.counts.total, stage.counts.resumed, stage.counts.running, stage.counts.steps) == (9, 2, 1, 2)
    (doing,) = stage.counts.episodes
    assert (doing.task_id, doing.attempt, doing.step) == ("a__b-1", 0, 1)
    os.kill(worker.pid, signal.SIGKILL)
    worker.wait()
    assert (read_live(tmp_path / "run").is_running, state_of(tmp_path / "run")) == (False, "stopped")


def test_a_process_that_says_nothing_for_minutes_is_not_at_work_whatever_it_locks(worker, tmp_path):
    past = time.time() - LOST_AFTER_S - 1
    os.kill(worker.pid, signal.SIGSTOP)
    os.utime(tmp_path / "run" / "live.json", (past, past))
    assert state_of(tmp_path / "run") == "stopped"


def test_how_it_ended_is_told(tmp_path):
    assert state_of(tmp_path / "run") is None
    with Run(tmp_path / "run") as run, run.live.stage("collect", run.path):
        pass
    assert state_of(tmp_path / "run") == "finished"
    with pytest.raises(RuntimeError), Run(tmp_path / "run") as run, run.live.stage("collect", run.path):
        raise RuntimeError("no more room\nand so on")
    assert (state_of(tmp_path / "run"), read_live(tmp_path / "run").live.reason) == ("stopped", "no more room")
    with Run(tmp_path / "run") as run:
        with run.live.stage("loop", run.path):
            run.live.incomplete("one episode failed, which the loop may allow")
        run.live.incomplete("budget.usd is spent")
    assert (state_of(tmp_path / "run"), read_live(tmp_path / "run").live.reason) == ("stopped", "budget.usd is spent")


def test_a_stage_within_a_stage_and_the_one_that_ended_last(tmp_path):
    with Telling(tmp_path) as telling, telling.stage("loop", tmp_path):
        with telling.stage("collect", tmp_path / "round-001", Progress(total=3).counts):
            stages = read_live(tmp_path).live.stages
            assert [(one.name, one.folder) for one in stages] == [("loop", "."), ("collect", "round-001")]
        live = read_live(tmp_path).live
        assert ([one.name for one in live.stages], live.last) == (["loop"], "collect")


def test_a_command_that_has_no_stage_leaves_no_file_and_what_cannot_be_written_stops_nothing(tmp_path):
    with Run(tmp_path / "run"):
        pass
    assert not (tmp_path / "run" / "live.json").exists()
    (tmp_path / "file").write_text("")
    with Telling(tmp_path / "file") as telling, telling.stage("collect", tmp_path / "file"):
        pass


def test_a_file_of_another_version_tells_nothing(tmp_path):
    (tmp_path / "live.json").write_text('{"pid": "seven"')
    assert state_of(tmp_path) is None


def test_what_a_step_ran_and_cost_is_counted():
    progress = Progress(total=1)
    progress.begin_episode("a__b-1", 0)
    action = Action(tool="bash", arguments={"command": "ls -la\npwd"}, format="backtick")
    usage = Usage(completion_tokens=7, cost_usd=0.25)
    progress.step("a__b-1", 0, Step(index=3, content="I look.", action=action, usage=usage))
    progress.step("c__d-2", 0, Step(index=0, content="Hm."))
    (doing,) = progress.counts().episodes
    assert (doing.command, doing.step) == ("ls -la", 3)
    progress.fail("a__b-1#0", "the engine is gone")
    progress.end_episode("a__b-1", 0)
    counts = progress.counts()
    assert (counts.episodes, counts.running, counts.failed) == ((), 0, 1)
    assert (counts.steps, counts.tokens, counts.cost_usd) == (2, 7, 0.25)
    assert counts.failures == ("a__b-1#0: the engine is gone",)
