import re
import threading
import time

import pytest

from srft.env.errors import InputError
from srft.harness.loop import budget as budget_module
from srft.harness.loop.budget import BudgetWatch
from srft.harness.loop.loop_config import Budget
from srft.harness.run.stages import set_aside
from srft.harness.run.tokens import TokenCount

TRAJECTORY = (
    b'{"id":"a","steps":[{"usage":{"prompt_tokens":10,"completion_tokens":5,"cost_usd":0.5}},{"usage":null},{}]}\n'
)
CRITIQUE = b'{"trajectory_id":"a","usage":{"prompt_tokens":100,"completion_tokens":null,"cost_usd":0.25}}\n'


def test_tokens_are_counted_once_and_half_a_line_later(tmp_path):
    round_ = tmp_path / "round-001" / "evaluation" / "base"
    round_.mkdir(parents=True)
    (round_ / "trajectories.jsonl").write_bytes(TRAJECTORY + TRAJECTORY[:20])
    (tmp_path / "round-001" / "labels.jsonl").write_bytes(CRITIQUE)
    count = TokenCount(tmp_path)
    assert [count.look(), count.look()] == [115, 115]
    assert count.usd == 0.75
    with (round_ / "trajectories.jsonl").open("ab") as file:
        file.write(TRAJECTORY[20:])
    assert count.look() == 130


@pytest.mark.parametrize(
    ("budget", "words"),
    [
        (Budget(tokens=14), r"budget\.tokens: 15 tokens of 14 are spent"),
        (Budget(usd=0.49), r"budget\.usd: USD 0\.50 of 0\.49 are spent"),
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


@pytest.mark.parametrize(
    ("name", "line", "kind"),
    [
        ("trajectories.jsonl", b'{"id": broken}\n', "Trajectory"),
        ("trajectories.jsonl", b'{"steps":[{"usage":7}]}\n', "Trajectory"),
        ("labels.jsonl", b'{"usage":"x"}\n', "Critique"),
    ],
)
def test_a_broken_line_is_named(tmp_path, name, line, kind):
    (tmp_path / name).write_bytes(CRITIQUE + line)
    message = (
        rf"{name}:2: not a {kind} of this version of srft \(.*\); move the file away to begin anew, or correct the line"
    )
    with pytest.raises(InputError, match=message), BudgetWatch(Budget(tokens=10**6), tmp_path, threading.Event()):
        pass


@pytest.fixture
def quick(monkeypatch):
    monkeypatch.setattr(budget_module, "INTERVAL_S", 0.01)


def test_a_line_that_breaks_meanwhile_leaves_the_watch_on(tmp_path, quick):
    path = tmp_path / "trajectories.jsonl"
    path.write_bytes(TRAJECTORY)
    stop = threading.Event()
    with BudgetWatch(Budget(tokens=29), tmp_path, stop) as watch:
        with path.open("ab") as file:
            file.write(b"broken\n" + TRAJECTORY)
        assert stop.wait(30)
    assert watch.spent == "budget.tokens: 30 tokens of 29 are spent"


def test_a_file_that_vanishes_leaves_the_watch_on(tmp_path, quick):
    gone, path = tmp_path / "labels.jsonl", tmp_path / "trajectories.jsonl"
    gone.symlink_to(tmp_path / "nowhere")  # listed, yet not there
    stop = threading.Event()
    with BudgetWatch(Budget(tokens=14), tmp_path, stop) as watch:
        path.write_bytes(TRAJECTORY)
        assert stop.wait(30)
    assert watch.spent == "budget.tokens: 15 tokens of 14 are spent"


def test_what_is_set_aside_stays_counted_and_counts_once(tmp_path):
    place = tmp_path / "round-001" / "evaluation" / "srft"
    place.mkdir(parents=True)
    (place / "trajectories.jsonl").write_bytes(TRAJECTORY)
    count = TokenCount(tmp_path)
    assert count.look() == 15
    set_aside(place, "key")
    assert count.look() == 15
    place.mkdir()
    (place / "trajectories.jsonl").write_bytes(TRAJECTORY)
    assert [count.look(), TokenCount(tmp_path).look()] == [30, 30]


def test_a_shorter_file_in_the_place_of_one_that_was_read_is_counted_anew(tmp_path):
    path = tmp_path / "labels.jsonl"
    path.write_bytes(CRITIQUE * 2)
    count = TokenCount(tmp_path)
    assert count.look() == 200
    path.write_bytes(CRITIQUE)
    assert count.look() == 300
