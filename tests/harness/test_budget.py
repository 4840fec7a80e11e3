import re
import threading
import time

import pytest

from srft.harness.budget import BudgetWatch, TokenCount
from srft.harness.loop_config import Budget

TRAJECTORY = b'{"id":"a","steps":[{"usage":{"prompt_tokens":10,"completion_tokens":5}},{"usage":null},{}]}\n'
CRITIQUE = b'{"trajectory_id":"a","usage":{"prompt_tokens":100,"completion_tokens":null}}\n'


def test_tokens_are_counted_once_and_half_a_line_later(tmp_path):
    round_ = tmp_path / "round-001" / "evaluation" / "base"
    round_.mkdir(parents=True)
    (round_ / "trajectories.jsonl").write_bytes(TRAJECTORY + TRAJECTORY[:20])
    (tmp_path / "round-001" / "labels.jsonl").write_bytes(CRITIQUE)
    count = TokenCount(tmp_path)
    assert [count.look(), count.look()] == [115, 115]
    with (round_ / "trajectories.jsonl").open("ab") as file:
        file.write(TRAJECTORY[20:])
    assert count.look() == 130


@pytest.mark.parametrize(
    ("budget", "words"),
    [
        (Budget(tokens=14), r"budget\.tokens: 15 tokens of 14 are spent"),
        (Budget(disk_gib=1e-6), r"budget\.disk_gib: .* takes 0\.0 GiB of 1e-06"),
    ],
)
def test_a_budget_that_is_spent_stops_at_once_and_says_so(tmp_path, budget, words):
    (tmp_path / "trajectories.jsonl").write_bytes(TRAJECTORY)
    stop = threading.Event()
    with BudgetWatch(budget, tmp_path, stop) as watch:
        assert stop.is_set()
        assert watch.spent
        assert re.fullmatch(words, watch.spent)


def test_time_runs_out_while_one_works(tmp_path):
    stop = threading.Event()
    with BudgetWatch(Budget(wall_s=0.1), tmp_path, stop) as watch:
        assert not stop.is_set()
        assert stop.wait(30)
        time.sleep(0.01)
        assert str(watch.spent).startswith("budget.wall_s: ")


def test_without_limits_nothing_stops(tmp_path):
    stop = threading.Event()
    with BudgetWatch(Budget(), tmp_path, stop) as watch:
        pass
    assert (watch.spent, stop.is_set()) == (None, False)
