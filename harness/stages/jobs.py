"""The jobs of a stage, some at a time: on threads, until all are done, somebody stops them, or nothing works any more.

    failure = run_jobs(pending, judge, workers=4, stop=stop, name="critique")
    failure                      # None, or the last of so many failures in a row that the rest was not tried

Writes nothing: a job keeps what it made.
"""

import threading
from collections.abc import Callable, Iterable
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from itertools import islice
from typing import TypeVar

from srft.env.errors import SrftError

FAILURES_IN_A_ROW = 12
"""When the jobs on so many subjects failed in a row, it is not going to get better: no other is begun."""

POLL_S = 0.2

J = TypeVar("J")


class JobFailed(SrftError):
    """A job failed; the others continue. subject: what it was about, say a task."""

    def __init__(self, subject: str, detail: str) -> None:
        super().__init__(detail)
        self.subject = subject


def run_jobs(
    jobs: Iterable[J], do: Callable[[J], object], *, workers: int, stop: threading.Event, name: str
) -> JobFailed | None:
    """Do the jobs, `workers` at a time, in their order; each is taken from `jobs` when a worker is free.

    do: raises JobFailed where this one job failed. What else it raises ends all of them, and is raised here. stop: when
    set, the jobs under way end by themselves and no other is begun; it is set here where the jobs are given up.
    """
    upcoming, lock = iter(jobs), threading.Lock()
    failed: set[str] = set()
    given_up: list[JobFailed] = []

    def work() -> None:
        while not stop.is_set():
            with lock:
                taken = list(islice(upcoming, 1))
            if not taken:
                return
            try:
                do(taken[0])
            except JobFailed as failure:
                with lock:
                    failed.add(failure.subject)
                    if len(failed) >= FAILURES_IN_A_ROW and not given_up:
                        given_up.append(failure)
                        stop.set()
            else:
                with lock:
                    failed.clear()

    with ThreadPoolExecutor(workers, thread_name_prefix=name) as executor:
        working = {executor.submit(work) for _ in range(workers)}
        while working:
            # A wait without a limit would keep the main thread from its signal handlers.
            ended, working = wait(working, timeout=POLL_S, return_when=FIRST_EXCEPTION)
            if any(one.exception() for one in ended):
                stop.set()  # the others finish what is under way
            for one in ended:
                one.result()
    return given_up[0] if given_up else None
