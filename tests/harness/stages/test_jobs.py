"""Jobs on threads: in order, as many at a time as there are workers, given up when nothing works any more."""

import threading
from collections.abc import Iterator

import pytest

from srft.env.errors import StorageError
from srft.harness.stages.jobs import FAILURES_IN_A_ROW, JobFailed, run_jobs


def go(jobs, do, *, workers=1, stop=None):
    return run_jobs(jobs, do, workers=workers, stop=stop or threading.Event(), name="job")


def test_all_are_done_in_their_order():
    done: list[int] = []
    assert go(range(30), done.append) is None
    assert done == list(range(30))


def test_as_many_at_a_time_as_there_are_workers():
    together = threading.Barrier(3)  # breaks where only two come
    assert go(range(9), lambda job: together.wait(timeout=10), workers=3) is None


def test_a_job_is_taken_when_a_worker_is_free():
    taken, done = [], []

    def jobs() -> Iterator[int]:
        for job in range(5):
            taken.append((job, len(done)))
            yield job

    go(jobs(), done.append)
    assert taken == [(job, job) for job in range(5)]


def fail(job: tuple[str, bool]) -> None:
    subject, fails = job
    if fails:
        raise JobFailed(subject, f"no {subject}")


@pytest.mark.parametrize(
    ("jobs", "given_up"),
    [
        ([(f"t{number}", True) for number in range(FAILURES_IN_A_ROW)], "no t11"),
        ([(f"t{number}", True) for number in range(FAILURES_IN_A_ROW - 1)], None),
        ([("t", True)] * 40, None),  # one bad subject is no sign that nothing works
        ([(f"t{number}", number % 12 != 11) for number in range(100)], None),
        ([("good", False), *((f"t{number}", True) for number in range(20))], "no t11"),
    ],
)
def test_they_are_given_up_when_many_subjects_fail_in_a_row(jobs, given_up):
    stop, tried = threading.Event(), []

    def do(job):
        tried.append(job)
        fail(job)

    failure = go(jobs, do, stop=stop)
    assert (None if failure is None else str(failure)) == given_up
    assert stop.is_set() == (given_up is not None)
    assert len(tried) == (len(jobs) if given_up is None else jobs.index((f"t{given_up[4:]}", True)) + 1)


def test_what_is_more_than_a_failed_job_ends_all():
    stop, done = threading.Event(), []

    def do(job: int) -> None:
        if job == 3:
            raise StorageError("the disk is full")
        done.append(job)

    with pytest.raises(StorageError, match="the disk is full"):
        go(range(10_000), do, stop=stop)
    assert stop.is_set()
    assert done[:3] == [0, 1, 2]
    assert len(done) < 10_000


def test_nothing_is_begun_once_it_is_stopped():
    stop, done = threading.Event(), []

    def do(job: int) -> None:
        done.append(job)
        if job == 2:
            stop.set()

    assert go(range(10), do, stop=stop) is None
    assert done == [0, 1, 2]
