"""What a critic may be shown of a run: verdicts and logs, of runs on file and of one that a debugger holds."""

import pytest

from srft.harness.run.evidence import EvidenceBook, log_of
from srft.harness.run.store import Run
from tests.harness.loop_run import episode, grade_of


@pytest.fixture
def round_(tmp_path):
    with Run(tmp_path / "run") as run:
        return run.round(0)


def test_a_log_is_found_where_the_run_lies_now(round_):
    run = episode("t-1")
    grade = grade_of(run, False, log_path="/another/machine/logs/t-1/k/test_output.txt")
    round_.trajectories.append(run)
    round_.grades.append(grade)
    log = round_.logs / "t-1" / "k" / "test_output.txt"
    log.parent.mkdir(parents=True)
    log.write_text("noise\n+ : '>>>>> Start Test Output'\n1 failed\n+ : '>>>>> End Test Output'\n+ git checkout")
    book = EvidenceBook(round_, information="test_log")
    assert (log_of(round_, grade), book.missing(run)) == (log, None)
    assert book.of(run) == (False, "1 failed\n", None)


@pytest.mark.parametrize("kind", ["elsewhere", "a link"])
def test_a_run_from_elsewhere_names_no_file_of_this_machine(round_, tmp_path, kind):
    secret = tmp_path / "a" / "b" / "secret.txt"
    secret.parent.mkdir(parents=True)
    secret.write_text("secret")
    if kind == "a link":
        (round_.logs / "a").mkdir(parents=True)
        (round_.logs / "a" / "b").symlink_to(secret.parent)
    run = episode("t-1")
    round_.trajectories.append(run)
    round_.grades.append(grade_of(run, False, log_path=str(secret)))
    book = EvidenceBook(round_, information="test_log")
    assert (book.missing(run), book.of(run).test_log) == ("test log", None)


def test_a_run_that_is_not_over_has_the_verdict_on_its_patch(round_):
    """The debugger's: on no file, and `cancelled` until it is over."""
    run = episode("t-1", stop_reason="cancelled")
    assert EvidenceBook(round_, information="outcome").missing(run) == "outcome"
    round_.grades.append(grade_of(run, True))
    book = EvidenceBook(round_, information="outcome")
    assert (book.missing(run), book.of(run).resolved) == (None, True)
    round_.trajectories.append(run)
    assert EvidenceBook(round_, information="outcome").missing(run) == "outcome"  # broken off, and kept so
