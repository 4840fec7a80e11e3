"""The loop's configuration and its plan."""

import io
import json

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
    assert planned.total.prompt_tokens > 0 or config.evaluation is None
    assert planned.training.fits


@pytest.mark.parametrize(
    ("sets", "message"),
    [
        (["practice={train: 1, test: 1}"], "expected either practice, or both tasks and evaluation"),
        (["tasks=null"], "expected either practice, or both tasks and evaluation"),
        (["promote.arm=all"], "promote.arm all is none of the arms srft"),
        (["arms=[all, all]"], "arms: all, all: each may be given once"),
        (["seeds=[]"], "expected a list of 1 or more"),
        (["training={epoch: 2}"], "unknown key epoch"),
        (["collect.atempts=2"], r"unknown key collect\.atempts; did you mean collect\.attempts\?"),
        (["recipe=none"], "no such recipe"),
        (["rounds=0"], "^--set rounds=0: expected a whole number, 1 or more"),
        (
            ["arms=[foo]"],
            r"^--set arms=\[foo\]: choose all, human, ",
        ),
        (["carry=old"], "choose all, new or a whole number"),
        (["practice.train=1"], r"loop\.yaml with --set practice\.train=1: practice: test is missing"),
    ],
)
def test_what_does_not_go_together_is_named(config_file, sets, message):
    with pytest.raises(InputError, match=message):
        read_loop_config(None, file=config_file, sets=sets)


def test_an_option_is_named_instead_of_the_presets_file():
    with pytest.raises(InputError, match=r"^--arms foo: choose all, human, "):
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
def test_a_judge_reads_what_is_not_resolved_once_a_vote(config_file, critic, votes):
    judge = f"judge={{model: http://judge/v1#m, votes: {votes}, openai: {{temperature: 0.7}}}}"
    _, by_stage = stages_of(config_file, judge, critic=critic)
    critique = by_stage["critique"]
    assert (critique.count, critique.prompt_tokens) == (12, 12 * votes * 200)
    assert critique.reply_tokens == 12 * votes * (4 * 90 + 250)
    _, by_stage = stages_of(config_file, judge, "mask.mask_resolved=true", critic=critic)
    assert by_stage["critique"].count == 20


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


def test_a_plan_has_the_disk_and_memory_of_a_machine(config_file):
    """Of a model of 1,000 weights in float32, trained by two seeds in two rounds: four models, and at the end two
    checkpoints and the model beside each other."""
    model = "{type: llama, vocab_size: 10, hidden_size: 4, intermediate_size: 8, num_hidden_layers: 1, "
    model += "num_attention_heads: 1, tie_word_embeddings: true}"
    sets = [
        "model=own/model",
        f"training={{plan.gpu: H100-80GB, plan.gpus: 1, model: own/model, plan.model: {model}, weights: float32, "
        "save_every: 1, checkpoints: 1, steps: 9, packs_per_step: 1}",
        "collect={workers: 3, sandbox: {memory_gib: 2}}",
        "evaluate={workers: 5, sandbox: {memory_gib: 1}}",
    ]
    planned, by_stage = stages_of(config_file, *sets, teachers=("http://teacher/v1#m",))
    weights = 10 * 4 + 4 * 4 * 4 + 3 * 4 * 8 + 3 * 4
    assert planned.training.parameters == weights == 212
    storage = planned.training.storage
    assert (storage.model_bytes, storage.checkpoint_bytes, storage.checkpoints) == (848, 2544, 2)
    assert by_stage["train"].disk_gib * 2**30 == pytest.approx(3 * 848 + 2 * 2544)
    assert by_stage["train"].host_gib * 2**30 == pytest.approx(848)
    assert by_stage["collect"].host_gib == 3 * 2
    assert by_stage["evaluate"].host_gib == pytest.approx(5 + 848 / 2**30)
    assert planned.total.host_gib == 6
    assert "host memory: collect: 6.0 GiB: 3 containers of at most 2 GiB (collect.sandbox.memory_gib)" in (
        planned.assumptions
    )
    assert any(line.startswith("disk: a round's 2 saved models are kept; each time") for line in planned.assumptions)


def test_more_processes_than_a_machine_has_gpus_are_said(config_file):
    planned, _ = stages_of(config_file, "processes=16")
    assert any(line.startswith("processes 16: a loop starts them all on one machine") for line in planned.assumptions)


RUNS = ["runs.from=[owner/name]", "tasks=null", "plan={steps: 10, context_tokens: 100, held_out: 5, runs: 40}"]
JUDGE = "judge={model: http://judge/v1#m}"


def runs_plan(config_file, *sets, **options):
    planned = plan_loop(read_loop_config(None, file=config_file, sets=[*RUNS, *sets], **options))
    return planned, {stage.stage: stage for stage in planned.stages}


def test_a_plan_of_runs_has_their_number_and_what_a_judge_of_them_costs(config_file):
    prices = ["plan.judge_usd_per_million_prompt=1", "plan.judge_usd_per_million_completion=10"]
    prices.append("mask.mask_resolved=true")
    planned, by_stage = runs_plan(config_file, JUDGE, *prices, critic="judge")
    assert list(by_stage) == ["images", "import", "critique", "train", "evaluate"]
    assert (by_stage["import"].count, by_stage["images"].count, by_stage["evaluate"].count) == (40, 5, 10)
    critique = by_stage["critique"]
    assert (critique.prompt_tokens, critique.reply_tokens) == (40 * 200, 40 * (10 * 90 + 250))
    assert planned.total.cost_usd == critique.cost_usd == pytest.approx((8000 * 1 + 46000 * 10) / 1e6)
    assert "runs: 40 (plan.runs: the dataset is not on this machine)" in planned.assumptions
    _, by_stage = runs_plan(config_file, JUDGE, *prices, "judge.openai.usd_per_million_prompt=2", critic="judge")
    assert by_stage["critique"].cost_usd == critique.cost_usd  # half a price is none
    both = ["judge.openai.usd_per_million_prompt=2", "judge.openai.usd_per_million_completion=0"]
    _, by_stage = runs_plan(config_file, JUDGE, *prices, *both, critic="judge")
    assert by_stage["critique"].cost_usd == pytest.approx(8000 * 2 / 1e6)


def test_what_is_not_known_before_the_import_is_said_to_be_unknown(config_file):
    planned, by_stage = runs_plan(config_file, JUDGE, "plan.runs=null", "evaluation=null", critic="judge")
    assert list(by_stage) == ["import", "critique", "train"]
    assert (by_stage["import"].count, by_stage["critique"].prompt_tokens, by_stage["train"].wall_hours) == (None,) * 3
    assert "runs: unknown (not known before the import; set plan.runs, or runs.limit)" in planned.assumptions
    assert any(line.startswith("judge: 1 reading of a run, cost unknown (no price") for line in planned.assumptions)
    _, by_stage = runs_plan(config_file, "plan.runs=null", "runs.limit=7")
    assert by_stage["import"].count == 7


def test_runs_that_lie_here_are_counted_with_their_steps(config_file, tmp_path):
    messages = [{"role": "user", "content": "T"}] + [{"role": "assistant", "content": "a"}] * 3
    path = tmp_path / "runs.jsonl"
    lines = [json.dumps({"instance_id": f"t-{it}", "messages": messages, "resolved": it > 0}) for it in range(4)]
    path.write_text("\n".join(lines) + "\n")
    planned, by_stage = runs_plan(config_file, f"runs.from=[{path}]", "runs.outcome=resolved")
    assert by_stage["import"].count == 3
    assert "runs: 3 (counted in the files, as their steps are)" in planned.assumptions
    assert any(line.startswith("an episode: 3 steps") for line in planned.assumptions)


def test_further_rounds_of_a_loop_from_runs_collect(config_file):
    sets = ["tasks=a.jsonl", "rounds=3", "teachers=[demonstrator]", "plan.tasks=6"]
    planned, by_stage = runs_plan(config_file, *sets)
    assert (by_stage["import"].count, by_stage["collect"].count, by_stage["critique"].count) == (40, 12, 52)
    assert planned.training.work.rows == 52


@pytest.mark.parametrize(
    ("source", "outcome", "count"),
    [
        ("nebius/SWE-rebench-openhands-trajectories", "all", 67_074),
        ("nebius/SWE-rebench-openhands-trajectories", "resolved", 32_161),
        ("Nebius/swe-rebench-openhands-trajectories", "unresolved", 34_913),
        ("Kwai-Klear/SWE-smith-mini_swe_agent_plus-trajectories-66k", "resolved", 65_994),
        ("ricdomolm/mini-coder-trajs-400k", "resolved", None),  # a share of a sample is no count
        ("SWE-bench/SWE-smith-trajectories:ticks", "all", None),  # a split of it
        ("allenai/Sera-4.5A-Full-T1", "all", None),  # described together with others
    ],
)
def test_what_is_known_of_a_dataset_goes_into_the_plan(config_file, source, outcome, count):
    planned, by_stage = runs_plan(config_file, f"runs.from=['{source}']", f"runs.outcome={outcome}")
    assert by_stage["import"].count == (40 if count is None else count)
    where = "plan.runs: the dataset is not on this machine" if count is None else "what srft knows of the dataset"
    assert any(line.startswith("runs: ") and where in line for line in planned.assumptions)


def test_a_plan_of_rounds_knows_how_many_runs_of_a_task_are_trained_on():
    sets = ["rounds=3", "teachers=[demonstrator, student]", "choose={new: 2, unsolved: 3}"]
    whole, bounded = (plan_loop(read_loop_config("demo", sets=[*sets, *more])) for more in ([], ["rows.per_task=1"]))
    assert next(it.count for it in whole.stages if it.stage == "collect") == 240 * (1 + 2 + 3)
    assert (whole.training.work.rows, bounded.training.work.rows) == (240 * (1 + 2 + 3), 480)
