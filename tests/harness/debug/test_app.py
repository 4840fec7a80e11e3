"""The terminal app, driven by its keys under tmux, over 80 by 24."""

import os
import pty
import select
import shutil
import signal
import subprocess
import sys
import termios
import time

import pytest
import yaml

from srft.harness.run.store import Round
from tests.harness.debug.conftest import TASK, bash, rows
from tests.harness.debug.terminal import LIMIT_S, Terminal

pytestmark = pytest.mark.slow


@pytest.fixture
def app(folder):
    """Opens `srft debug` on the tiny task: app("docker")."""
    if shutil.which("tmux") is None:
        pytest.skip("no tmux on this machine; apt-get install tmux")

    def start(kind, *options):
        command = [sys.executable, "-m", "srft.harness.cli", "debug", TASK, "--tasks", "tasks.jsonl", "--run", "run"]
        return Terminal([*command, "--model", "script:replies.yaml", "--sandbox", kind, *options], folder)

    return start


def test_step_edit_rewind_fork_tests_critic_save(app, sandbox_kind, folder):
    with app(sandbox_kind) as terminal:
        screen = terminal.until("step 0 proposed", "ready")
        assert len(screen.rstrip("\n").split("\n")) == 24
        assert "a Take  e Edit  t Type  r Rewind  d Diff  x Test  s Save  q Quit  ? All keys" in screen
        terminal.keys("a")
        terminal.until("step 1 proposed", "echo 43 >answer.txt", "ready")

        terminal.keys("e")
        terminal.until("edit the action", "F2 Do it", "what is said before it")
        terminal.keys("C-u", "C-k")
        terminal.write("echo 42 >answer.txt")
        terminal.keys("F2")
        terminal.until("1 step, 0 labels", "echo 42 >answer.txt", "step 2 proposed", "ready")

        terminal.keys("d")
        terminal.until("diff so far", "-41", "+42", "escape closes")
        close(terminal)
        terminal.keys("x")
        terminal.until("resolved", "FAIL_TO_PASS: 1 passed, 0 failed", "PASSED test_answer", "escape closes")
        close(terminal)
        terminal.keys("c")
        terminal.until("tool_error", "step 1  good", "the whole run", "step 0  good", "escape closes")
        close(terminal)
        terminal.keys("l")
        terminal.until("step 1 is", "m mistake")
        terminal.keys("m")
        terminal.until("you: mistake", "1 label")

        terminal.keys("r")
        terminal.until("rewind to before step")
        terminal.keys("C-u", "1")
        time.sleep(0.5)  # the line is the proposed one again, so the screen does not tell
        terminal.keys("Enter")
        terminal.until("1 of fork 1 (2 forks)", "ready", "not run here")
        terminal.keys("t")
        terminal.until("your own action", "what is said before it")
        terminal.write("cat nothing")
        terminal.keys("F2")
        terminal.until("[exit code 1]", "step 2 proposed", "ready")

        terminal.keys("f")
        terminal.until("* fork 1: 2 steps, leaves fork 0 before step 1")
        terminal.keys("k", "Enter")
        terminal.until("2 of fork 0 (2 forks)", "ready", "you: mistake")
        terminal.keys("a")
        terminal.until("the episode is over: r rewinds, s saves", "submitted")
        terminal.keys("s")
        terminal.until("save this run into", "run")
        terminal.keys("Enter")
        terminal.until("saved as attempt 0", "1 label")
        terminal.keys("q")
        terminal.until("unsaved: fork 1", "once more leaves, s saves")
        terminal.keys("q")
        terminal.until("ended with 0")

    round_ = Round(folder / "run" / "round-000")
    (run,) = round_.finished()
    assert [step.author for step in run.steps] == ["model", "edited", "model"]
    assert (run.stop_reason, run.patch[-9:]) == ("submitted", "\n-41\n+42\n")
    ((label,),) = [[one for one in told.labels if one.verdict] for told in round_.critiques.read()]
    assert (label.step, label.verdict) == (1, "mistake")
    assert [grade["outcome"] for grade in rows(round_.grades.path)] == ["resolved"]


def close(terminal):
    terminal.keys("Escape")
    terminal.until("ready", without="escape closes")
    time.sleep(0.5)  # longer than a terminal waits for what may follow an escape


def test_q_asks_once_more_where_something_is_unsaved(app, local, folder):
    with app(local) as terminal:
        terminal.until("step 0 proposed", "ready")
        terminal.keys("a")
        terminal.until("step 1 proposed", "ready")
        terminal.keys("q")
        terminal.until("unsaved: this run", "once more leaves, s saves")
        terminal.keys("a")
        terminal.until("step 2 proposed", "ready")
        terminal.keys("q")
        time.sleep(1)
        assert "ended with" not in terminal.screen()
        terminal.keys("q")
        terminal.until("ended with 0")


def test_keys_are_refused_while_something_works_and_the_panes_stay_alive(app, local, folder):
    with app(local) as terminal:
        terminal.until("step 0 proposed", "ready")
        terminal.keys("t")
        terminal.until("your own action")
        terminal.write("sleep 3")
        terminal.keys("F2")
        terminal.until("doing the step ...")
        terminal.keys("d")
        terminal.until("not now: doing the step")
        terminal.until("step 1 proposed", "ready")


@pytest.mark.parametrize("ending", ["q", "C-c", signal.SIGTERM, signal.SIGHUP, signal.SIGKILL])
@pytest.mark.engine
def test_no_ending_leaves_a_container(app, tiny_image, engine, ending):
    """While a command runs."""
    mine = {"label": f"srft.task={TASK}"}
    with app("docker") as terminal:
        terminal.until("step 0 proposed", "ready")
        terminal.keys("t")
        terminal.until("your own action")
        terminal.write("sleep 1000")
        terminal.keys("F2")
        terminal.until("doing the step ...")
        assert len(engine.containers.list(all=True, filters=mine)) == 1
        if isinstance(ending, str):
            terminal.keys(ending)
        else:
            os.kill(terminal.process(), ending)
        terminal.until("ended with")
        deadline = time.monotonic() + 20
        while (left := engine.containers.list(all=True, filters=mine)) and time.monotonic() < deadline:
            time.sleep(0.1)
        assert left == []


def test_no_escape_sequence_of_a_model_reaches_the_terminal(local, folder):
    """A raw terminal: what tmux shows of a screen has obeyed them already."""
    reply = bash("echo \x1b]0;OWNED\x07 \u202e here")
    (folder / "replies.yaml").write_text(yaml.safe_dump([reply]))
    words = ["debug", TASK, "--tasks", "tasks.jsonl", "--model", "script:replies.yaml", "--sandbox", local]
    command, environment = [sys.executable, "-m", "srft.harness.cli", *words], os.environ | {"TERM": "xterm-256color"}
    terminal, its_end = pty.openpty()
    termios.tcsetwinsize(its_end, (24, 80))
    running = subprocess.Popen(command, stdin=its_end, stdout=its_end, stderr=its_end, cwd=folder, env=environment)
    os.close(its_end)
    seen, deadline = b"", time.monotonic() + LIMIT_S
    try:
        while seen.count("␛]0;OWNED␇".encode()) < 2 and time.monotonic() < deadline:  # the conversation, the action
            seen += read_from(terminal)
    finally:
        running.terminate()
        while running.poll() is None:
            read_from(terminal)
        os.close(terminal)
    assert seen.count("␛]0;OWNED␇".encode()) >= 2
    assert b"\x1b]0;OWNED" not in seen
    assert "\u202e".encode() not in seen


def read_from(terminal: int) -> bytes:
    """What is there within a moment; nothing once the program is gone."""
    try:
        return os.read(terminal, 1 << 16) if select.select([terminal], [], [], 0.1)[0] else b""
    except OSError:
        return b""


def test_a_session_that_cannot_start_says_why(app, local, folder):
    lines = (folder / "tasks.jsonl").read_text().replace("srft/tiny:latest", "srft/none:1")
    (folder / "tasks.jsonl").write_text(lines)
    with app(local) as terminal:
        terminal.until("srft/none:1", "ended with 1")
