"""The line of a stage that goes on."""

import pytest
from loguru import logger

from srft.harness.stages.progress import Progress, watch


@pytest.fixture
def logged():
    lines: list[str] = []
    sink = logger.add(lines.append, format="{message}")
    yield lines
    logger.remove(sink)


@pytest.mark.parametrize(
    ("progress", "line"),
    [
        (Progress(total=2), "runs 0/2  steps 0  ETA ?\n"),
        (Progress(total=5, resumed=3, done=2, failed=1, steps=1234),
         "runs 5/5  resumed 3  steps 1,234  failed 1  ETA 0:00:00\n"),
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
