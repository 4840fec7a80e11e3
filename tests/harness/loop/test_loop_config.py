"""The loop's configuration and its plan."""

import io

import pytest
from rich.console import Console

from srft.env.errors import InputError
from srft.harness.loop.loop_config import presets, read_loop_config
from srft.harness.loop.loop_plan import plan_loop, plan_table
from srft.harness.loop.loop_yaml import keep_loop_config
from srft.harness.run.store import Run

GIVEN = {
    "tasks": "a.jsonl",
    "evaluation": "b.jsonl",
    "model": "HuggingFaceTB/SmolLM2-135M-Instruct",
    "recipe": "smollm2-135m-cpu",
}


@pytest.fixture
def config_file(tmp_path):
    path = tmp_path / "loop.yaml"
    path.write_text("".join(f"{key}: {value}\n" for key, value in GIVEN.items()))
    return str(path)


@pytest.mark.parametrize("name", presets())
def test_every_preset_is_whole_and_can_be_planned(name):
    config = read_loop_config(name)
    assert config.preset == name
    planned = plan_loop(config)
    assert planned.total.prompt_tokens > 0
    assert planned.training.fits


@pytest.mark.parametrize(
    ("sets", "message"),
    [
        (["practice={train: 1, test: 1}"], "expected either practice, or both tasks and evaluation"),
        (["tasks=null"], "expected either practice, or both tasks and evaluation"),
        (["promote.arm=all"], "promote.arm all is none of the arms srft"),
        (["arms=[all, all]"], "arms: all, all: each may stand there once"),
        (["seeds=[]"], "Expected `array` of length >= 1"),
        (["training={epoch: 2}"], "unknown key epoch"),
        (["collect.atempts=2"], r"unknown key collect\.atempts; did you mean collect\.attempts\?"),
        (["recipe=none"], "no such recipe"),
        (["rounds=0"], "^--set rounds=0: Expected `int` >= 1"),
        (
            ["arms=[foo]"],
            r"^--set arms=\[foo\]: Invalid enum value 'foo' - at `\$\.arms\[0\]`; expected one of all, human, ",
        ),
        (["carry=old"], "expected one of all, new, a value of type int"),
        (["practice.train=1"], r"loop\.yaml with --set practice\.train=1: Object missing required field `test`"),
    ],
)
def test_what_does_not_go_together_is_named(config_file, sets, message):
    with pytest.raises(InputError, match=message):
        read_loop_config(None, file=config_file, sets=sets)


def test_an_option_is_named_instead_of_the_presets_file():
    with pytest.raises(
        InputError, match=r"^arms \(given as an option\): Invalid enum value 'foo' .* one of all, human, "
    ):
        read_loop_config("demo", arms=("foo",))


def test_a_preset_or_a_file():
    with pytest.raises(InputError, match=r"give either --preset \(demo, paper, .*, smollm2-gpu\) or --config FILE"):
        read_loop_config(None)
    with pytest.raises(InputError, match="--preset dmo: no such preset"):
        read_loop_config("dmo")


def test_a_runs_own_file_makes_the_same_loop_again(tmp_path):
    config = read_loop_config("demo", sets=["collect.workers=7", "training={epochs: 2}"], rounds=2)
    with Run(tmp_path / "run") as run:
        keep_loop_config(config, run)
    assert read_loop_config(None, file=str(tmp_path / "run" / "loop.yaml")) == config


def test_the_first_seed_bears_the_arms_name_so_that_more_seeds_can_follow(config_file):
    config = read_loop_config(None, file=config_file, arms=("srft", "all"), seeds=(3, 4))
    assert config.cells() == [("srft", "srft", 3), ("srft.4", "srft", 4), ("all", "all", 3), ("all.4", "all", 4)]
    assert [config.recipe_of(seed).seed for seed in config.seeds] == [3, 4]


def test_teachers_go_on_with_the_last(config_file):
    config = read_loop_config(None, file=config_file, teachers=("demonstrator", "student"), rounds=3)
    assert [config.teacher(number) for number in (1, 2, 3)] == ["demonstrator", "student", "student"]


@pytest.mark.parametrize("name", presets())
def test_a_plan_fits_80_columns(name):
    console = Console(width=80, record=True, file=io.StringIO())
    console.print(plan_table(plan_loop(read_loop_config(name))))
    said = console.export_text()
    assert "stage" in said
    assert "…" not in said
    heads = next(line for line in said.splitlines() if line.startswith("stage"))
    assert " ".join(heads.split()) == "stage count prompt cached reply containers GPU-h wall-h GiB"


SMALL = "plan={tasks: 10, held_out: 5, steps: 4, context_tokens: 100, reply_tokens: 10, cached_share: 0.5, gpus: 2}"
TWO_ROUNDS = [SMALL, "rounds=2", "seeds=[0,1]"]


def stages_of(config_file, *sets, **options):
    planned = plan_loop(read_loop_config(None, file=config_file, sets=[*TWO_ROUNDS, *sets], **options))
    return planned, {stage.stage: stage for stage in planned.stages}


def test_a_plan_adds_up(config_file):
    planned, by_stage = stages_of(config_file, teachers=("http://teacher/v1#m",))
    assert (by_stage["collect"].count, by_stage["train"].count) == (20, 4)
    assert by_stage["evaluate"].count == 5 * (1 + 2 * 2)
    assert by_stage["collect"].prompt_tokens == 20 * 4 * 100
    assert by_stage["collect"].cached_tokens == 20 * 4 * 50
    assert by_stage["collect"].gpu_hours is None
    assert planned.total.reply_tokens == (20 + 25) * 4 * 10
    assert any("the tasks are not on this machine" in line for line in planned.assumptions)


def test_the_demonstrator_takes_containers_and_no_tokens(config_file):
    planned, by_stage = stages_of(config_file)
    collect = by_stage["collect"]
    assert (collect.prompt_tokens, collect.cached_tokens, collect.reply_tokens, collect.gpu_hours) == (None,) * 4
    assert (collect.count, collect.containers) == (20, 40)
    assert collect.container_hours == pytest.approx(20 * (4 * 1.0 + 5 + 60) / 3600)
    assert planned.total.prompt_tokens == 25 * 4 * 100


def test_each_rounds_teacher_takes_its_own(config_file):
    _, by_stage = stages_of(config_file, "collect.workers=5", teachers=("demonstrator", "student"))
    collect = by_stage["collect"]
    assert (collect.count, collect.prompt_tokens, collect.containers) == (20, 10 * 4 * 100, 40)
    assert collect.gpu_hours == pytest.approx(10 * (4 * (1.0 + 10 / 30) + 5) / 5 * 2 / 3600)


@pytest.mark.parametrize("critic", ["judge", "http://judge/v1#m"])
@pytest.mark.parametrize("votes", [1, 3])
def test_a_judge_reads_every_run_once_a_vote(config_file, critic, votes):
    judge = f"judge={{model: http://judge/v1#m, votes: {votes}, openai: {{temperature: 0.7}}}}"
    _, by_stage = stages_of(config_file, judge, critic=critic)
    critique = by_stage["critique"]
    assert (critique.count, critique.prompt_tokens) == (20, 20 * votes * 200)
    assert critique.reply_tokens == 20 * votes * 4 * 40


def test_a_rule_reads_no_tokens(config_file):
    _, by_stage = stages_of(config_file)
    assert (by_stage["critique"].count, by_stage["critique"].prompt_tokens) == (20, None)


def test_training_takes_gpu_hours_where_there_is_a_gpu(config_file, monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    _, on_cpu = stages_of(config_file)
    assert on_cpu["train"].gpu_hours is None
    assert on_cpu["train"].wall_hours > 0
    _, on_gpu = stages_of(config_file, "training={plan.gpu: H100-80GB, plan.gpus: 2}")
    assert on_gpu["train"].gpu_hours == pytest.approx(2 * on_gpu["train"].wall_hours)
