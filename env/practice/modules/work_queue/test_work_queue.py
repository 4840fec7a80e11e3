import asyncio

import pytest

from work_queue import Job, QueueClosed, WorkQueue, in_batches, run_all


async def double(number):
    await asyncio.sleep(0)
    return number * 2


async def refuse_odd(number):
    if number % 2:
        raise ValueError(f"{number} is odd")
    return number


def failing(times):
    """A handler that fails that many times and then succeeds."""
    left = [times]

    async def handler(payload):
        if left[0]:
            left[0] -= 1
            raise OSError("busy")
        return payload

    return handler


def filled(handler, payloads, **settings):
    queue = WorkQueue(handler, **settings)
    for payload in payloads:
        queue.put(payload)
    return queue


async def numbers(count):
    for number in range(count):
        yield number


async def collect(source):
    return [item async for item in source]


def test_results_are_in_order_of_putting():
    assert asyncio.run(filled(double, [3, 1, 2]).run()) == [6, 2, 4]


def test_results_are_ordered_even_if_jobs_end_in_another_order():
    async def slow_first(rounds):
        for _ in range(rounds):
            await asyncio.sleep(0)
        return rounds

    assert asyncio.run(filled(slow_first, [9, 0, 1]).run()) == [9, 0, 1]


def test_put_numbers_the_jobs_from_one():
    queue = WorkQueue(double)
    assert [queue.put("a"), queue.put("b")] == [1, 2]


def test_pending_counts_what_waits():
    assert filled(double, [5, 6, 7]).pending() == 3


def test_nothing_is_pending_after_a_run():
    queue = filled(double, [5, 6, 7])
    asyncio.run(queue.run())
    assert queue.pending() == 0


def test_an_empty_queue_has_no_results():
    assert asyncio.run(WorkQueue(double).run()) == []


def test_there_are_two_workers_when_not_told():
    assert WorkQueue(double).workers == 2


def test_no_more_jobs_run_at_once_than_there_are_workers():
    running, most = 0, 0

    async def watch(payload):
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0)
        running -= 1

    asyncio.run(filled(watch, range(8), workers=3).run())
    assert most == 3


def test_one_worker_is_enough():
    assert asyncio.run(filled(double, [1, 2], workers=1).run()) == [2, 4]


def test_no_workers_are_refused():
    with pytest.raises(ValueError, match="at least 1"):
        WorkQueue(double, workers=0)


def test_no_attempts_are_refused():
    with pytest.raises(ValueError, match="at least 1"):
        WorkQueue(double, attempts=0)


def test_failed_jobs_are_left_out_of_the_results():
    assert asyncio.run(filled(refuse_odd, [1, 2, 3, 4]).run()) == [2, 4]


def test_a_job_is_tried_once_when_not_told():
    queue = filled(failing(1), ["a"])
    asyncio.run(queue.run())
    assert queue.dead == [Job(1, "a", 1, ["OSError: busy"])]


def test_a_job_is_tried_again_up_to_its_attempts():
    assert asyncio.run(filled(failing(2), ["a"], attempts=3).run()) == ["a"]


def test_a_job_dies_after_its_last_attempt():
    queue = filled(failing(9), ["a"], attempts=2)
    assert asyncio.run(queue.run()) == []
    assert queue.dead == [Job(1, "a", 2, ["OSError: busy", "OSError: busy"])]


def test_an_unexpected_error_ends_the_run():
    async def broken(payload):
        raise KeyError(payload)

    with pytest.raises(KeyError):
        asyncio.run(filled(broken, ["a"], attempts=2).run())


def test_close_works_off_what_waits():
    done = []

    async def note(payload):
        done.append(payload)

    asyncio.run(filled(note, "ab").close())
    assert done == ["a", "b"]


def test_close_counts_the_dead():
    assert asyncio.run(filled(refuse_odd, [1, 2, 3]).close()) == 2


def test_a_new_queue_is_open():
    assert WorkQueue(double).closed is False


def test_a_closed_queue_takes_no_more():
    queue = WorkQueue(double)
    asyncio.run(queue.close())
    with pytest.raises(QueueClosed, match="the queue is closed"):
        queue.put(1)


def test_new_jobs_do_not_share_their_errors():
    first = Job(1, "a")
    first.errors.append("late")
    assert Job(2, "b").errors == []


def test_a_new_job_was_not_tried():
    assert Job(1, "a").attempts == 0


def test_run_all_returns_all_results():
    assert asyncio.run(run_all(double, [4, 5])) == [8, 10]


def test_run_all_raises_the_first_failure():
    with pytest.raises(RuntimeError, match="job 2 failed: ValueError: 3 is odd"):
        asyncio.run(run_all(refuse_odd, [2, 3, 4, 5]))


def test_batches_have_two_items_when_not_told():
    assert asyncio.run(collect(in_batches(numbers(5)))) == [[0, 1], [2, 3], [4]]


def test_batches_have_the_size_told():
    assert asyncio.run(collect(in_batches(numbers(6), 3))) == [[0, 1, 2], [3, 4, 5]]


def test_no_items_give_no_batches():
    assert asyncio.run(collect(in_batches(numbers(0)))) == []


def test_run_all_runs_two_jobs_at_once_when_not_told():
    started = []

    async def note(payload):
        started.append(payload)
        await asyncio.sleep(0)
        return list(started)

    assert asyncio.run(run_all(note, "abcd"))[0] == ["a", "b"]
