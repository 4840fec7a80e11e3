"""`srft compare`: the right sides, the same tasks, hand-made differences."""

import json

import pytest

from srft.env.errors import InputError
from srft.harness.look.compare import compare, read_side
from srft.harness.statistics.paired import compare_models
from srft.harness.statistics.statistics import wilson_interval
from tests.harness.loop_run import LoopRun, episode, grade_of

BASE = {"a-1": [False], "a-2": [True], "a-3": [False], "a-4": [None]}
TRAINED = {"a-1": [True], "a-2": [False], "a-3": [True], "a-4": [True]}


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "demo"
    with LoopRun(path) as run:
        run.evaluation(0, "base", BASE)
        run.evaluation(1, "srft", TRAINED)
        run.evaluation(1, "all", BASE)
        run.stage(1, "promote", decision="promoted", cell="srft")
        run.evaluation(2, "srft", {task: [False] for task in BASE})
        run.stage(2, "promote", decision="rolled back", cell="srft")
    return path


def test_a_comparison(path):
    one = compare(f"{path}:round-000/evaluation/base", str(path / "round-001" / "evaluation" / "srft"))
    sides = ({"a-1": [False], "a-2": [True], "a-3": [False]}, {"a-1": [True], "a-2": [False], "a-3": [True]})
    paired = compare_models(*sides)
    assert (one.tasks, one.not_graded, one.only_in_first, one.only_in_second) == (3, 1, 0, 0)
    assert (one.first_rate, one.first_interval) == (1 / 3, wilson_interval(1, 3))
    assert (one.second_rate, one.second_interval) == (2 / 3, wilson_interval(2, 3))
    assert (one.difference, one.interval, one.p_value) == (paired.difference, paired.interval, 1.0)
    assert (one.seeds, one.test, one.shows, one.plan) == ((1, 1), "McNemar's exact test", paired.shows, None)
    assert (one.better, one.worse, one.gained, one.lost) == (2, 1, ["a-1", "a-3"], ["a-2"])
    assert one.changed == {"a-1": ((0, 1), (1, 1)), "a-3": ((0, 1), (1, 1)), "a-2": ((1, 1), (0, 1))}


def test_a_run_is_the_model_that_it_ended_with(path):
    assert read_side(str(path)).folder == path / "round-001" / "evaluation" / "srft"


def test_without_a_promotion_it_is_the_best_of_the_last_round(tmp_path):
    with LoopRun(tmp_path) as run:
        run.evaluation(0, "base", BASE)
        run.evaluation(1, "all", BASE)
        run.evaluation(1, "srft", TRAINED)
    assert read_side(str(tmp_path)).folder == tmp_path / "round-001" / "evaluation" / "srft"


def test_a_collection(tmp_path):
    with LoopRun(tmp_path / "a") as run:
        run.add(run.round(0), episode("t-1"), True)
        run.add(run.round(0), episode("t-1", attempt=1), False)
    with LoopRun(tmp_path / "b") as run:  # graded patches, no runs
        run.round(0).grades.append(grade_of(episode("t-1"), True))
    one = compare(str(tmp_path / "a"), str(tmp_path / "b"))
    assert (one.first_rate, one.second_rate, one.changed) == (0.5, 1.0, {"t-1": ((1, 2), (1, 1))})


def test_other_tasks_are_refused_unless_common(path, tmp_path):
    with LoopRun(tmp_path / "other") as run:
        run.evaluation(0, "base", {"a-1": [True], "z-1": [True]})
    with pytest.raises(
        InputError, match=r"different tasks: 3 \(a-2, a-3, a-4\) in .* 1 \(z-1\) in .*--common .* 1 that"
    ):
        compare(str(path), str(tmp_path / "other"))
    one = compare(str(path), str(tmp_path / "other"), common=True)
    assert (one.tasks, one.only_in_first, one.only_in_second, one.difference) == (1, 3, 1, 0.0)


def test_no_task_in_common(path, tmp_path):
    with LoopRun(tmp_path / "other") as run:
        run.evaluation(0, "base", {"z-1": [True]})
    with pytest.raises(InputError, match="no task in common"):
        compare(str(path), str(tmp_path / "other"), common=True)


def test_nothing_graded(tmp_path):
    with LoopRun(tmp_path) as run:
        run.evaluation(0, "base", {"z-1": [None]})
    with pytest.raises(InputError, match="no task has a verdict on both sides"):
        compare(str(tmp_path), str(tmp_path))


@pytest.mark.parametrize("name", ["nothing", "nothing:round-000"])
def test_a_side_that_is_not_there(tmp_path, name):
    with pytest.raises(InputError, match="no such folder"):
        read_side(str(tmp_path / name))


def test_an_empty_folder(tmp_path):
    with pytest.raises(InputError, match="no episodes and no grades"):
        read_side(str(tmp_path))


def test_of_several_rounds_of_episodes_it_is_the_newest(tmp_path):
    with LoopRun(tmp_path) as run:
        for number in (0, 1):
            run.add(run.round(number), episode("t-1"), True)
    assert read_side(str(tmp_path)).folder == tmp_path / "round-001"
    assert read_side(f"{tmp_path}:round-000").folder == tmp_path / "round-000"


TASKS = [f"t-{number}" for number in range(12)]


def seed(*resolved):
    return {task: [number in resolved] for number, task in enumerate(TASKS)}


@pytest.fixture
def arms(tmp_path):
    path = tmp_path / "arms"
    with LoopRun(path) as run:
        run.evaluation(0, "base", seed())
        for number, lost in enumerate([(0, 1), (0, 2), (3,), (0, 1, 2), (1,)]):
            run.evaluation(1, f"srft.{number}" if number else "srft", seed(*(set(range(10)) - set(lost))))
        for number, found in enumerate([(0, 5), (1,), (2, 6)]):
            run.evaluation(1, f"all.{number}" if number else "all", seed(*found))
        run.evaluation(1, "random", seed(0))
    return path


def test_arms_are_compared_with_all_their_seeds(arms):
    folder = f"{arms}:round-001/evaluation"
    one = compare(f"{folder}/all", f"{folder}/srft.3", seeds=True)
    assert (one.seeds, one.tasks, one.test) == ((3, 5), 12, "t-test over seeds and tasks")
    assert (one.first_rate, one.second_rate) == (pytest.approx(5 / 36), pytest.approx(41 / 60))
    assert one.first_interval is None  # three seeds
    assert one.second_interval.low < 41 / 60 < one.second_interval.high
    assert one.p_value < 0.01
    assert one.interval.low > 0.15
    assert one.changed["t-0"] == ((1, 3), (2, 5))
    assert one.shows.startswith("5 seeds of srft against 3 seeds of all:")


def test_an_arm_against_the_base_model(arms):
    base = f"{arms}:round-000/evaluation/base"
    one = compare(base, f"{arms}:round-001/evaluation/srft", seeds=True)
    assert (one.seeds, one.first_interval, one.test) == ((1, 5), wilson_interval(0, 12), "t-test over seeds and tasks")
    few = compare(base, f"{arms}:round-001/evaluation/all", seeds=True)
    assert (few.p_value, few.interval, few.second_interval) == (None, None, None)
    assert "an interval and a p-value need 5 seeds." in few.shows
    with pytest.raises(InputError, match="is the base model; give it first"):
        compare(f"{arms}:round-001/evaluation/srft", base, seeds=True)
    again = compare(base, base, seeds=True)
    assert (again.difference, again.seeds) == (0.0, (1, 1))


def test_a_plan(arms):
    folder = f"{arms}:round-001/evaluation"
    plan = compare(f"{folder}/all", f"{folder}/srft", seeds=True, plan=0.05).plan
    assert (plan.effect, list(plan.tasks)) == (0.05, [3, 4, 5, 6, 8, 10])
    assert plan.tasks[10] < plan.tasks[5]
    assert 0 <= plan.seed_spread < 0.1
    with pytest.raises(InputError, match="neither side has two seeds; give --seeds"):
        compare(f"{folder}/all", f"{folder}/srft", plan=0.05)
    with pytest.raises(InputError, match="neither side has two seeds"):
        compare(f"{arms}:round-000/evaluation/base", f"{folder}/random", seeds=True, plan=0.05)


def test_the_command_with_seeds(arms, srft):
    folder = f"{arms}:round-001/evaluation"
    said = srft("compare", f"{folder}/all", f"{folder}/srft", "--seeds", "--plan", "5")
    assert said.returncode == 0, said.stderr
    assert "t-test over seeds and tasks p " in said.stdout
    assert "To find 5 points in 80 % of experiments" in said.stdout
    few = srft("compare", f"{folder}/all", f"{folder}/random", "--seeds")
    assert "B minus A: −5.6\u00a0points; " in few.stdout
    assert "too few to tell the recipe from its luck" in few.stdout
    refused = srft("compare", f"{folder}/all", f"{folder}/srft", "--seeds", "--plan", "0")
    assert (refused.returncode, refused.stdout) == (2, "")
    assert "--plan 0: expected points between 0 and 100" in refused.stderr


def test_the_command(path, srft):
    said = srft("compare", f"{path}:round-000/evaluation/base", path)
    assert said.returncode == 0, said.stderr
    assert "B minus A: +33.3\u00a0points" in said.stdout
    assert "McNemar's exact test p = 1; 2 tasks better in B, 1 worse" in said.stdout
    assert "This tells these two models apart on tasks like these 3; it cannot tell their recipes apart" in said.stdout
    assert "left out: 1 task in both, without a verdict on one side" in said.stdout
    assert "a-3" in said.stdout
    printed = json.loads(srft("compare", f"{path}:round-000/evaluation/base", path, "--json").stdout)
    assert (printed["tasks"], printed["gained"], printed["lost"]) == (3, ["a-1", "a-3"], ["a-2"])
    refused = srft("compare", path, path.parent / "nothing")
    assert (refused.returncode, refused.stdout) == (2, "")
