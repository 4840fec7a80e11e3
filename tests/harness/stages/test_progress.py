"""The line of a stage that goes on."""

import shutil
import sys

import pytest

from srft.harness.stages.collect import Episodes
from srft.harness.stages.progress import Progress, watch
from tests.harness.debug.terminal import Terminal


@pytest.mark.parametrize(
    ("progress", "line"),
    [
        (Progress(total=2), "runs 0/2  steps 0  ETA ?\n"),
        (Progress(total=3, resumed=1, done=1, failed=1), "runs 2/3  resumed 1  steps 0  failed 1\n"),
        (Progress(total=5, resumed=3, done=2, failed=1, steps=1234),
         "runs 5/5  resumed 3  steps 1,234  failed 1\n"),
    ],
)  # fmt: skip
def test_the_last_line_of_a_log(logged, progress, line):
    with watch(progress, lambda it: [f"runs {it.resumed + it.done}/{it.total}", f"steps {it.steps:,}"]):
        pass
    assert logged == [line]


def test_what_was_on_file_says_nothing_of_the_pace(monkeypatch):
    monkeypatch.setattr("time.monotonic", lambda: 110.0)
    assert Progress(total=9, resumed=3, started=100.0).eta_s is None
    assert Progress(total=9, resumed=3, done=2, started=100.0).eta_s == 20.0


def test_while_patches_are_graded_it_says_so_and_not_that_it_ends_at_once(logged):
    progress = Episodes(total=2, done=2, grading=lambda: 34)
    with watch(progress, lambda it: [f"episodes {it.finished}/{it.total}"]):
        pass
    assert logged == ["episodes 2/2  grading 34\n"]
    assert progress.counts().after == "grading 34"


LOGS = """
import sys, time
from srft.harness.commands.command import log_from
from srft.harness.stages.progress import Progress, watch
from loguru import logger
log_from("environment")
with watch(Progress(total=4), lambda it: ["episodes 1/4", "running 2", "steps 1,234", "tokens 99,999"]):
    for number in range(6):
        time.sleep(0.3)
        logger.info("building the local image {}", number)
print("ended", flush=True)
"""


@pytest.mark.skipif(shutil.which("tmux") is None, reason="no tmux; Debian's package is tmux")
def test_in_a_terminal_log_lines_stand_above_the_live_line_each_on_a_line_of_its_own(tmp_path):
    (tmp_path / "logs.py").write_text(LOGS)
    with Terminal([sys.executable, "logs.py"], tmp_path) as terminal:
        lines = [line.rstrip() for line in terminal.until("ended with 0").splitlines()]
    logged = [line for line in lines if "building" in line]
    assert [line.partition(" ")[2] for line in logged] == [f"building the local image {number}" for number in range(6)]
    assert lines[len(logged)] == "episodes 1/4  running 2  steps 1,234  tokens 99,999  ETA ?"
    assert sum("episodes" in line for line in lines) == 1
