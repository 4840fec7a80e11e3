"""Training as a whole: a tiny random model on rows of hand-made runs, in one process, in two, stopped and resumed."""

import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
import torch
from peft import AutoPeftModelForCausalLM
from safetensors.torch import load_file, save_file
from transformers import AttentionInterface, AutoModelForCausalLM, AutoTokenizer
from transformers.masking_utils import AttentionMaskInterface

from srft.critic.labels.labels import StepLabel
from srft.env.errors import InputError
from srft.train.fit.attention import document_attention
from srft.train.fit.finetune import finetune, held_out_tasks, read_trained
from srft.train.fit.recipe import Recipe
from srft.train.fit.schedule import Schedule
from srft.train.fit.trainer import TrainingDiverged
from srft.train.fit.weights import base_of
from srft.train.rows.mask import MaskPolicy, RunFacts
from srft.train.rows.render import Renderer
from srft.train.rows.rows import RowSettings, RowTable, RunToRender, write_rows
from tests.forked import Forked
from tests.train.conftest import CHATML, make_run
from tests.train.training import RECIPE, tiny_model

ROOT = Path(__file__).resolve().parents[3]
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "passive"}
WORDS = ["look", "read", "mend", "test", "again", "done", "code", "setup", "total", "values"]


@pytest.fixture(scope="module")
def prepared(tmp_path_factory, tokenizer_with) -> Path:
    """A folder with a base model and the rows of eight runs, two of them masked in part."""
    folder = tmp_path_factory.mktemp("training")
    tiny_model(folder / "base", tokenizer_with(CHATML))
    tiny_model(folder / "untied", tokenizer_with(CHATML), tied=False)
    renderer = Renderer.load(folder / "base")
    runs = []
    for number in range(8):
        replies = [
            f"I {WORDS[(number + step) % 10]} it.\n```bash\nls {WORDS[number]}\n```" for step in range(1 + number % 4)
        ]
        run = make_run(replies, id=f"run-{number}", task_id=f"a__b-{number}")
        labels = {
            step: StepLabel(step=step, verdict="mistake" if step == 1 else "good") for step in range(len(replies))
        }
        runs.append(RunToRender(run, {"srft": RunFacts(run.id, len(replies), number % 2 == 0, labels)}))
    policies = {"srft": MaskPolicy(arm="srft", good=0.5)}
    write_rows(folder / "rows", runs, renderer, policies, RowSettings(), fingerprints={"srft": "f"})
    return folder


def train(prepared: Path, out: Path, **recipe):
    settings = msgspec.convert(RECIPE | recipe, Recipe)
    table = RowTable.open(prepared / "rows" / "srft")
    trained = finetune(table, settings, model=str(prepared / "base"), out=out)
    assert trained is not None
    return trained


def weights(folder: Path) -> dict[str, torch.Tensor]:
    adapter = folder / "adapter_model.safetensors"
    return load_file(adapter if adapter.exists() else folder / "model.safetensors")


def assert_equal(one: Path, other: Path, *, within: float = 0.0) -> None:
    expected, got = weights(one), weights(other)
    assert expected.keys() == got.keys()
    for name, tensor in expected.items():
        torch.testing.assert_close(got[name], tensor, rtol=0, atol=within)


def program(prepared: Path, *arguments: str, processes: int = 1, **recipe) -> subprocess.CompletedProcess[str]:
    words, module = [str(prepared), json.dumps(recipe), *arguments], "tests.train.training"
    if processes == 1:
        return forked.run(words, module=module, cwd=ROOT, env=ENVIRONMENT)
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes), "-m", module]
    return subprocess.run(
        [sys.executable, *launcher, *words], cwd=ROOT, env=ENVIRONMENT, capture_output=True, text=True, timeout=300
    )


forked = Forked(ENVIRONMENT)


@pytest.fixture(scope="module", autouse=True)
def _no_process_left() -> Iterator[None]:
    yield
    forked.close()


@pytest.fixture(scope="module")
def reference(prepared) -> Path:
    """The training to compare with: one process, one pack at a time."""
    ran = program(prepared, "--model", "reference")
    assert ran.returncode == 0, ran.stderr
    return prepared / "reference"


def test_training_lowers_the_loss_and_says_what_it_did(prepared, tmp_path):
    trained = train(prepared, tmp_path / "model", steps=12)
    assert trained.figures["last_loss"] < trained.figures["first_loss"]
    assert (trained.figures["steps"], trained.arm, trained.repos) == (12, "srft", ["a/b"])
    assert trained.task_ids == [f"a__b-{number}" for number in range(8)]
    assert (tmp_path / "model" / "loss.png").read_bytes()[:4] == b"\x89PNG"
    assert not (tmp_path / "model" / "checkpoints").exists()
    assert read_trained(tmp_path / "model") == trained


def test_the_same_again_does_nothing(prepared, tmp_path):
    first = train(prepared, tmp_path / "model")
    written_at = (tmp_path / "model" / "model.safetensors").stat().st_mtime_ns
    assert train(prepared, tmp_path / "model") == first
    assert (tmp_path / "model" / "model.safetensors").stat().st_mtime_ns == written_at


def test_other_weights_of_the_same_base_folder_are_trained_anew(prepared, tmp_path):
    shutil.copytree(prepared / "base", tmp_path / "base")
    table, recipe = RowTable.open(prepared / "rows" / "srft"), msgspec.convert(RECIPE, Recipe)
    first = finetune(table, recipe, model=str(tmp_path / "base"), out=tmp_path / "model")
    assert finetune(table, recipe, model=str(prepared / "base"), out=tmp_path / "model") == first  # by the weights
    halved = {name: tensor * 0.5 for name, tensor in load_file(tmp_path / "base" / "model.safetensors").items()}
    save_file(halved, tmp_path / "base" / "model.safetensors", metadata={"format": "pt"})
    second = finetune(table, recipe, model=str(tmp_path / "base"), out=tmp_path / "model")
    assert second.fingerprint != first.fingerprint
    assert read_trained(tmp_path / f".model.{first.fingerprint}") == first


def test_other_rows_are_trained_on_anew(prepared, tmp_path):
    table, recipe = RowTable.open(prepared / "rows" / "srft"), msgspec.convert(RECIPE, Recipe)
    first = finetune(table, recipe, model=str(prepared / "base"), out=tmp_path / "model")
    table.manifest.fingerprint = "another"
    assert finetune(table, recipe, model=str(prepared / "base"), out=tmp_path / "model") != first


def test_what_changes_nothing_of_a_training_does_not_train_anew(prepared, tmp_path):
    first = train(prepared, tmp_path / "model")
    more = {"about": "a recipe", "model": "another", "save_every": 2, "checkpoints": 9, "logger": "none"}
    assert train(prepared, tmp_path / "model", **more) == first


def test_a_folder_holds_one_training(prepared, tmp_path):
    adapter = train(prepared, tmp_path / "model", lora={"rank": 2})
    full = train(prepared, tmp_path / "model")
    assert not list((tmp_path / "model").glob("adapter*"))
    assert_equal(tmp_path / "model", fresh(prepared, tmp_path))
    aside = tmp_path / f".model.{adapter.fingerprint}"
    assert (read_trained(aside), read_trained(tmp_path / "model")) == (adapter, full)
    assert not (tmp_path / "model" / ".begun").exists()


def fresh(prepared, tmp_path) -> Path:
    train(prepared, tmp_path / "fresh")
    return tmp_path / "fresh"


def test_what_a_killed_training_left_is_not_mixed_with_another(prepared, tmp_path):
    adapter = train(prepared, tmp_path / "model", lora={"rank": 2})
    (tmp_path / "model" / "training.json").unlink()  # as if killed between the weights and the record
    (tmp_path / "model" / ".begun").write_text(adapter.fingerprint)
    train(prepared, tmp_path / "model")
    assert not list((tmp_path / "model").glob("adapter*"))


def test_a_folder_of_somebody_elses_is_left_alone(prepared, tmp_path):
    shutil.copytree(prepared / "base", tmp_path / "model")
    with pytest.raises(InputError, match=r"holds a model that srft did not train \(model\.safetensors\)"):
        train(prepared, tmp_path / "model")
    with pytest.raises(InputError, match="is the model that is trained from"):
        train(prepared, prepared / "base")


@pytest.mark.parametrize("micro_batch", [2, 4])
def test_how_a_step_is_cut_into_micro_batches_changes_nothing(prepared, reference, tmp_path, micro_batch):
    train(prepared, tmp_path / "model", micro_batch=micro_batch)
    assert_equal(reference, tmp_path / "model", within=1e-6)


def test_a_last_step_that_is_not_full_weighs_as_it_should(prepared, tmp_path):
    """8 rows unpacked, 3 a step: the last step has 2 and a filler of weight 0."""
    train(prepared, tmp_path / "one", pack_tokens=None, packs_per_step=3, steps=None, epochs=1)
    train(prepared, tmp_path / "three", pack_tokens=None, packs_per_step=3, micro_batch=3, steps=None, epochs=1)
    assert read_trained(tmp_path / "one").figures["steps"] == 3
    assert_equal(tmp_path / "one", tmp_path / "three", within=1e-6)


def test_two_processes_train_what_one_trains(prepared, reference):
    ran = program(prepared, "--model", "two-ddp", processes=2)
    assert ran.returncode == 0, ran.stderr
    assert_equal(reference, prepared / "two-ddp", within=1e-6)


@pytest.mark.parametrize(
    ("name", "processes", "recipe"),
    [
        ("shared", 2, {"sequence_parallel": 2, "held_out": 0.3}),
        # Four heads on two of keys and values, which are repeated for four processes.
        pytest.param("four", 4, {"sequence_parallel": 4}, marks=pytest.mark.slow),
        pytest.param("groups", 4, {"sequence_parallel": 2, "micro_batch": 2, "held_out": 0.3}, marks=pytest.mark.slow),
        pytest.param(
            "sharded",
            2,
            {
                "sequence_parallel": 2,
                "fsdp": True,
                "gradient_checkpointing": True,
                "evaluate_every": 2,
                "held_out": 0.3,
            },
            marks=pytest.mark.slow,
        ),
        pytest.param("adapters", 2, {"sequence_parallel": 2, "lora": {"rank": 4, "alpha": 8}}, marks=pytest.mark.slow),
    ],
)
def test_processes_that_share_sequences_train_what_one_trains(prepared, name, processes, recipe):
    alone = {setting: value for setting, value in recipe.items() if setting not in ("sequence_parallel", "fsdp")}
    one = program(prepared, "--model", f"{name}-alone", **alone)
    assert one.returncode == 0, one.stderr
    ran = program(prepared, "--model", name, processes=processes, **recipe)
    assert ran.returncode == 0, ran.stderr
    assert_equal(prepared / f"{name}-alone", prepared / name, within=1e-6)
    expected, got = (
        {figure: value for figure, value in read_trained(prepared / folder).figures.items() if value is not None}
        for folder in (f"{name}-alone", name)
    )
    assert got == pytest.approx(expected, rel=1e-5)


def test_what_cannot_share_sequences(prepared, tmp_path):
    for recipe, message in (
        ({"sequence_parallel": 2}, "sequence_parallel 2: 1 processes cannot be divided into groups of that many"),
        ({"replicas": 2}, "replicas are copies of sharded weights; set fsdp: true"),
        ({"replicas": 2, "fsdp": True}, "replicas 2: 1 processes are too few"),
        ({"sequence_parallel": 0}, "Expected `int` >= 1 - at `$.sequence_parallel`"),
    ):
        with pytest.raises((InputError, msgspec.ValidationError)) as raised:
            train(prepared, tmp_path / "model", **recipe)
        assert message in str(raised.value)


ADAPTER = {"rank": 4, "alpha": 8}


@pytest.mark.parametrize(
    ("name", "base", "recipe"),
    [
        ("adapter-untied", "untied", {"lora": ADAPTER, "weights": "bfloat16"}),
        pytest.param("full-tied", "base", {}, marks=pytest.mark.slow),
        pytest.param("full-untied", "untied", {"weights": "bfloat16"}, marks=pytest.mark.slow),
        pytest.param("adapter-tied", "base", {"lora": ADAPTER}, marks=pytest.mark.slow),
    ],
)
def test_sharded_processes_train_what_one_trains(prepared, name, base, recipe):
    """Several micro-batches a process: no gradient is whole between them, and the first process alone loads weights."""
    one = program(prepared, "--model", f"{name}-one", "--base", base, **recipe)
    assert one.returncode == 0, one.stderr
    two = program(prepared, "--model", f"{name}-two", "--base", base, processes=2, fsdp=True, **recipe)
    assert two.returncode == 0, two.stderr
    within = 1e-6 if recipe.get("weights") != "bfloat16" or "lora" in recipe else 1e-2
    assert_equal(prepared / f"{name}-one", prepared / f"{name}-two", within=within)
    told = [json.loads(line) for line in two.stderr.splitlines() if line.startswith('{"rank"')]
    assert {line["rank"]: line["files_read"] for line in told} == {0: 1, 1: 0}
    assert all(line["whole_gradients"] == 0 for line in told)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "recipe"),
    [("replicas", {}), ("replicas-lora", {"lora": ADAPTER}), ("replicas-shared", {"sequence_parallel": 2})],
)
def test_replicas_of_shards_train_what_one_trains(prepared, name, recipe):
    """Two by two processes, stopped after two steps and resumed from the checkpoint that each wrote its part of."""
    one = program(prepared, "--model", f"{name}-one", **recipe | {"sequence_parallel": 1})
    assert one.returncode == 0, one.stderr
    sharded = {"fsdp": True, "replicas": 2, "save_every": None, **recipe}
    stopped = program(prepared, "--model", name, "--term-after", "2", processes=4, **sharded)
    assert "stopped" in stopped.stderr, stopped.stderr
    four = program(prepared, "--model", name, processes=4, **sharded)
    assert four.returncode == 0, four.stderr
    assert "resuming from" in four.stderr
    assert four.stderr.count('"mesh": [2, 2]') == 4
    assert_equal(prepared / f"{name}-one", prepared / name, within=1e-6)


@pytest.mark.parametrize(
    ("name", "recipe"),
    [
        ("full", {}),
        pytest.param("lora", {"lora": {"rank": 4, "alpha": 8, "dropout": 0.1}}, marks=pytest.mark.slow),
        pytest.param("bfloat16", {"compute": "bfloat16", "gradient_checkpointing": True}, marks=pytest.mark.slow),
    ],
)
def test_killed_and_resumed_is_uninterrupted_to_the_last_bit(prepared, name, recipe):
    whole = program(prepared, "--model", f"{name}-whole", **recipe)
    assert whole.returncode == 0, whole.stderr
    killed = program(prepared, "--model", f"{name}-killed", "--stop-after", "3", **recipe)
    assert killed.returncode == -9
    resumed = program(prepared, "--model", f"{name}-killed", **recipe)
    assert resumed.returncode == 0, resumed.stderr
    assert "resuming from" in resumed.stderr
    assert_equal(prepared / f"{name}-whole", prepared / f"{name}-killed")


def test_stopped_and_gone_on_with_is_uninterrupted(prepared, reference, tmp_path):
    stop = threading.Event()
    table, settings = RowTable.open(prepared / "rows" / "srft"), msgspec.convert(RECIPE | {"save_every": None}, Recipe)

    def on_log(_logs, step, _steps):
        if step == 2:
            stop.set()

    base, out = str(prepared / "base"), tmp_path / "model"
    assert finetune(table, settings, model=base, out=out, on_log=on_log, stop=stop) is None
    trained = finetune(table, settings, model=base, out=out)
    assert [entry["step"] for entry in trained.log if "loss" in entry] == [1, 2, 3, 4]
    assert_equal(reference, out)


def test_a_half_written_checkpoint_is_none(prepared, tmp_path):
    torn = tmp_path / "model" / "checkpoints" / "checkpoint-3"
    torn.mkdir(parents=True)
    (torn / "trainer_state.json").write_text("{")
    trained = train(prepared, tmp_path / "model")
    assert trained.log[0]["step"] == 1


def test_a_checkpoint_of_another_training_is_none(prepared, tmp_path):
    other = tmp_path / "model" / "checkpoints" / "checkpoint-3"
    other.mkdir(parents=True)
    (other / "whole").write_text("another fingerprint")
    assert train(prepared, tmp_path / "model").log[0]["step"] == 1


def test_a_full_model_reloads_in_plain_transformers(prepared, reference):
    model = AutoModelForCausalLM.from_pretrained(reference)
    tokenizer = AutoTokenizer.from_pretrained(reference)
    assert Renderer(tokenizer).end_id in model.generation_config.eos_token_id
    prompt = tokenizer.apply_chat_template([{"role": "user", "content": "Mend."}], add_generation_prompt=True)
    assert torch.isfinite(model(torch.tensor([prompt["input_ids"]])).logits).all()
    moved = (
        model.state_dict()["model.embed_tokens.weight"]
        - load_file(prepared / "base" / "model.safetensors")["model.embed_tokens.weight"]
    )
    assert moved.abs().max() > 1e-3


def test_an_adapter_reloads_in_peft(prepared, tmp_path):
    train(prepared, tmp_path / "adapter", lora={"rank": 4, "alpha": 8})
    model = AutoPeftModelForCausalLM.from_pretrained(tmp_path / "adapter")
    base = AutoModelForCausalLM.from_pretrained(prepared / "base")
    ids = torch.tensor([[5, 6, 7, 8]])
    assert (model(ids).logits - base(ids).logits).abs().max() > 1e-3


def test_an_adapter_is_trained_on_and_stays_one_adapter_of_its_base(prepared, tmp_path):
    lora = {"rank": 4, "alpha": 8}
    train(prepared, tmp_path / "first", lora=lora)
    rows, first = RowTable.open(prepared / "rows" / "srft"), str(tmp_path / "first")

    def more(out: str, **recipe):
        settings = msgspec.convert(RECIPE | recipe, Recipe)
        assert finetune(rows, settings, model=first, out=tmp_path / out) is not None

    more("second", lora=lora, learning_rate=1e-9)  # as good as not at all
    assert_equal(tmp_path / "first", tmp_path / "second", within=1e-6)
    assert base_of(tmp_path / "second") == str(prepared / "base")
    ids = torch.tensor([[5, 6, 7, 8]])
    whole = AutoPeftModelForCausalLM.from_pretrained(tmp_path / "first")(ids).logits
    more("merged", learning_rate=1e-9)  # all weights, from the adapter's
    assert (AutoModelForCausalLM.from_pretrained(tmp_path / "merged")(ids).logits - whole).abs().max() < 1e-5
    with pytest.raises(InputError, match="an adapter of rank 4 and alpha 8, and the recipe's lora has rank 2"):
        more("other", lora={"rank": 2, "alpha": 8})


def test_the_held_out_loss_is_one_mean_over_the_held_out_tokens(prepared, tmp_path):
    trained = train(prepared, tmp_path / "model", held_out=0.25, evaluate_every=2)
    table = RowTable.open(prepared / "rows" / "srft")
    assert trained.held_out_tasks == sorted(held_out_tasks(table.task_ids, share=0.25, seed=0))
    assert len(trained.held_out_tasks) in (1, 2, 3)
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "model")
    total = weight = 0.0
    for row in (row for row in table if row.task_id in trained.held_out_tasks):
        ids = torch.from_numpy(row.input_ids.astype("int64"))
        with torch.no_grad():
            log_TV = torch.log_softmax(model(ids[None]).logits[0], -1)
        for place in range(1, len(ids)):
            total -= float(log_TV[place - 1, ids[place]]) * float(row.weights[place])
            weight += float(row.weights[place])
    assert trained.figures["held_out_loss"] == pytest.approx(total / weight, rel=1e-5)
    assert [entry["step"] for entry in trained.log if "eval_loss" in entry] == [0, 2, 4, 4]


def test_a_loss_that_is_no_number_stops_before_the_weights_and_names_the_rows(prepared, tmp_path):
    tokenizer = AutoTokenizer.from_pretrained(prepared / "base")
    base = tiny_model(tmp_path / "base", tokenizer, tied=False)
    model = AutoModelForCausalLM.from_pretrained(base)
    poisoned = tokenizer.convert_tokens_to_ids("Y")  # in "You mend code.", which every run begins with
    with torch.no_grad():
        model.get_input_embeddings().weight[poisoned] = float("nan")
    model.save_pretrained(base)
    with pytest.raises(TrainingDiverged, match=r"step 1: the loss is nan; in this pack: row \d+ \(run run-\d\)"):
        finetune(
            RowTable.open(prepared / "rows" / "srft"),
            msgspec.convert(RECIPE, Recipe),
            model=str(base),
            out=tmp_path / "model",
        )
    assert not (tmp_path / "model" / "training.json").exists()


def test_damaged_weights_are_said_to_be(prepared, tmp_path):
    model = AutoModelForCausalLM.from_pretrained(prepared / "base")
    with torch.no_grad():
        model.get_input_embeddings().weight[0] = float("nan")
    model.save_pretrained(tmp_path / "base")
    AutoTokenizer.from_pretrained(prepared / "base").save_pretrained(tmp_path / "base")
    with pytest.raises(InputError, match="its logits are not finite"):
        finetune(
            RowTable.open(prepared / "rows" / "srft"),
            msgspec.convert(RECIPE, Recipe),
            model=str(tmp_path / "base"),
            out=tmp_path / "model",
        )


def test_a_gradient_that_explodes_stops_too(prepared, tmp_path):
    with pytest.raises(TrainingDiverged, match=r"gradient's norm is .*among the last packs: row"):
        train(prepared, tmp_path / "model", learning_rate=1e30, warmup_steps=0, steps=8)


def test_inputs_that_cannot_be(prepared, tmp_path, tokenizer_with):
    with pytest.raises(InputError, match="packs_per_step 4 cannot be divided among 1 processes with micro_batch 3"):
        train(prepared, tmp_path / "model", micro_batch=3)
    with pytest.raises(InputError, match="start it under torchrun"):
        train(prepared, tmp_path / "model", fsdp=True)
    with pytest.raises(InputError, match="recipe: wandb is not installed"):
        train(prepared, tmp_path / "model", logger="wandb")
    with pytest.raises(InputError, match=r"lora.modules: \['no_such'\]"):
        train(prepared, tmp_path / "model", lora={"modules": ["no_such"]})
    other = tokenizer_with(CHATML)
    other.add_tokens(["another"])
    tiny_model(tmp_path / "other", other)
    with pytest.raises(InputError, match="make the rows again with --tokenizer"):
        finetune(
            RowTable.open(prepared / "rows" / "srft"),
            msgspec.convert(RECIPE, Recipe),
            model=str(tmp_path / "other"),
            out=tmp_path / "model",
        )


def finetune_with(prepared, base, tmp_path, **recipe):
    settings = msgspec.convert(RECIPE | recipe, Recipe)
    return finetune(RowTable.open(prepared / "rows" / "srft"), settings, model=str(base), out=tmp_path / "model")


def test_sizes_that_do_not_go_together_are_said(prepared, tmp_path):
    tokenizer = AutoTokenizer.from_pretrained(prepared / "base")
    highest = RowTable.open(prepared / "rows" / "srft").highest_token_id()
    small = tiny_model(tmp_path / "small", tokenizer, vocab_size=highest)
    with pytest.raises(InputError, match=rf"token id {highest}, and the embedding has {highest} vectors: tokens were"):
        finetune_with(prepared, small, tmp_path)
    short = tiny_model(tmp_path / "short", tokenizer, max_position_embeddings=16)
    with pytest.raises(InputError, match=r"a row of \d+ tokens, and the model has 16 positions; make the rows again"):
        finetune_with(prepared, short, tmp_path)
    long = {"rope_type": "longrope", "rope_theta": 1e4, "long_factor": [2.0] * 4, "short_factor": [1.0] * 4}
    rotated = tiny_model(
        tmp_path / "rotated", tokenizer, rope_parameters=long | {"original_max_position_embeddings": 32}
    )
    with pytest.raises(
        InputError, match=r"more than 32 tokens would change the rotations \(longrope\) of all that are"
    ):
        finetune_with(prepared, rotated, tmp_path)
    assert finetune_with(prepared, rotated, tmp_path, pack_tokens=None) is not None


def test_quantized_weights_are_refused(prepared, tmp_path):
    base = tmp_path / "awq"
    shutil.copytree(prepared / "base", base)
    config = json.loads((base / "config.json").read_text())
    config["quantization_config"] = {"quant_method": "awq", "bits": 4, "group_size": 128, "zero_point": True}
    (base / "config.json").write_text(json.dumps(config))
    with pytest.raises(
        InputError, match=r"its weights are quantized \(awq\) and cannot be trained; name the checkpoint"
    ):
        finetune_with(prepared, base, tmp_path)


def test_weights_in_bfloat16_are_trained_in_float32_and_saved_in_bfloat16(prepared, tmp_path):
    """At the learning rates of real recipes an update in bfloat16 would move next to nothing."""
    small = {"learning_rate": 1e-5, "warmup_steps": 0, "steps": 2}
    train(prepared, tmp_path / "wide", **small)
    train(prepared, tmp_path / "model", weights="bfloat16", **small)
    got, wide = weights(tmp_path / "model"), weights(tmp_path / "wide")
    assert all(torch.equal(got[name], wide[name].bfloat16()) for name in wide)
    assert json.loads((tmp_path / "model" / "config.json").read_text())["dtype"] == "bfloat16"
    assert AutoModelForCausalLM.from_pretrained(tmp_path / "model").dtype == torch.bfloat16


def test_an_adapter_says_where_to_stop(prepared, tmp_path):
    train(prepared, tmp_path / "adapter", lora=ADAPTER)
    stops = json.loads((tmp_path / "adapter" / "generation_config.json").read_text())["eos_token_id"]
    assert Renderer.load(prepared / "base").end_id in stops


def test_an_adapter_on_the_head_is_refused(prepared, tmp_path):
    with pytest.raises(InputError, match=r"lora.modules: \['lm_head'\]: the head cannot have an adapter"):
        finetune_with(prepared, prepared / "untied", tmp_path, lora={"modules": ["lm_head"]})


def test_losses_by_verdict_are_those_of_plain_transformers(prepared, tmp_path):
    """Each token that the model wrote in held-out runs, whatever its weight, by the verdict on its step."""
    trained = train(prepared, tmp_path / "model", held_out=0.5)
    table = RowTable.open(prepared / "rows" / "srft")
    for folder, when in ((prepared / "base", "before"), (tmp_path / "model", "after")):
        model = AutoModelForCausalLM.from_pretrained(folder)
        sums = {}
        for row in (row for row in table if row.task_id in trained.held_out_tasks):
            ids = torch.from_numpy(row.input_ids.astype("int64"))
            with torch.no_grad():
                nll = torch.nn.functional.cross_entropy(model(ids[None]).logits[0, :-1], ids[1:], reduction="none")
            for place in range(1, len(ids)):
                if row.part[place]:
                    name = "mistake" if row.step_index[place] == 1 else "good"
                    total, count = sums.get(name, (0.0, 0))
                    sums[name] = total + float(nll[place - 1]), count + 1
        assert set(sums) == {"good", "mistake"}
        for name, (total, count) in sums.items():
            assert trained.figures[f"{name}_tokens"] == count
            assert trained.figures[f"{name}_loss_{when}"] == pytest.approx(total / count, rel=1e-5)


def test_without_verdicts_there_are_no_losses_by_verdict(prepared, tmp_path):
    shutil.copytree(prepared / "rows" / "srft", tmp_path / "rows")
    (tmp_path / "rows" / "verdicts.json").unlink()
    table, recipe = RowTable.open(tmp_path / "rows"), msgspec.convert(RECIPE | {"held_out": 0.5}, Recipe)
    trained = finetune(table, recipe, model=str(prepared / "base"), out=tmp_path / "one")
    assert not [name for name in trained.figures if name.endswith("_loss_after")]
    judged = RowTable.open(prepared / "rows" / "srft")
    other = finetune(table, recipe, model=str(prepared / "base"), out=tmp_path / "two", judged=judged)
    assert other.figures["mistake_loss_after"] > 0


def test_held_out_tasks_are_the_same_whatever_other_tasks_there_are():
    tasks = [f"t{number}" for number in range(200)]
    all_of_them, some = (held_out_tasks(names, share=0.2, seed=3) for names in (tasks, tasks[::2]))
    assert some == all_of_them & set(tasks[::2])
    assert 25 <= len(all_of_them) <= 55
    assert held_out_tasks(tasks, share=0.2, seed=4) != all_of_them
    assert held_out_tasks(tasks, share=0.0, seed=3) == frozenset()
    assert len(held_out_tasks(tasks[:2], share=0.99, seed=3)) == len(held_out_tasks(tasks[:2], share=1e-9, seed=3)) == 1
    assert held_out_tasks(["one"], share=0.5, seed=3) == frozenset()


def test_held_out_tasks_are_not_trained_on(prepared, tmp_path):
    """Their rows, changed beyond recognition, change nothing of the weights."""
    trained = train(prepared, tmp_path / "model", held_out=0.25)
    table = RowTable.open(prepared / "rows" / "srft")
    kept = [place for place, task_id in enumerate(table.task_ids) if task_id not in trained.held_out_tasks]
    schedule = Schedule.of(table, msgspec.convert(RECIPE, Recipe), places=kept)
    seen = {name.partition(" (")[0] for number in range(schedule.real) for name in schedule[number].rows}
    assert seen <= {f"row {place}" for place in kept}
    assert trained.figures["tokens"] == schedule.tokens()


def test_epochs_differ_in_their_packs_and_their_order(prepared):
    table = RowTable.open(prepared / "rows" / "srft")
    recipe = msgspec.convert(RECIPE | {"steps": None, "epochs": 2, "pack_tokens": 300}, Recipe)
    schedule = Schedule.of(table, recipe, places=range(len(table)))
    packs = [schedule[number].rows for number in range(schedule.real)]
    names = [name for of_pack in packs for name in of_pack]
    half = len(names) // 2
    assert sorted(names[:half]) == sorted(names[half:])
    assert names[:half] != names[half:]


@pytest.mark.slow
def test_sigterm_under_torchrun_saves_and_stops_and_goes_on_to_the_same(prepared, reference):
    for fsdp in (False, True):
        name = f"stopped-{fsdp}"
        stopped = program(prepared, "--model", name, "--term-after", "2", processes=2, fsdp=fsdp, save_every=None)
        assert stopped.returncode != 0
        assert stopped.stderr.count("stopped\n") == 2, stopped.stderr
        assert len(list((prepared / name / "checkpoints").glob("*/whole"))) == 1  # of the step that it came in
        resumed = program(prepared, "--model", name, processes=2, fsdp=fsdp, save_every=None)
        assert resumed.returncode == 0, resumed.stderr
        assert "resuming from" in resumed.stderr
        assert_equal(reference, prepared / name, within=1e-6)


def test_masked_mistakes_do_not_become_likelier_as_they_do_unmasked(prepared, tmp_path):
    """The proof that a mask works: two arms of the same runs, whose mistakes have words of their own."""
    runs, labels = [], {}
    for number in range(8):
        replies = [f"look at the {WORDS[number]}", "WRONG! DELETE IT ALL!", "done"]
        run = make_run(replies, id=f"run-{number}", task_id=f"a__b-{number}")
        labels = {1: StepLabel(step=1, verdict="mistake"), 0: StepLabel(step=0, verdict="good")}
        facts = {"all": RunFacts(run.id, 3, False, {}), "srft": RunFacts(run.id, 3, False, labels)}
        runs.append(RunToRender(run, facts))
    policies = {arm: MaskPolicy(arm=arm) for arm in ("all", "srft")}
    renderer, prints = Renderer.load(prepared / "base"), {"all": "a", "srft": "s"}
    write_rows(tmp_path / "rows", runs, renderer, policies, RowSettings(), fingerprints=prints)
    judged, after = RowTable.open(tmp_path / "rows" / "srft"), {}
    recipe = msgspec.convert(RECIPE | {"held_out": 0.25, "steps": 10}, Recipe)
    for arm in policies:
        table = RowTable.open(tmp_path / "rows" / arm)
        after[arm] = finetune(table, recipe, model=str(prepared / "base"), out=tmp_path / arm, judged=judged).figures
    assert after["all"]["mistake_loss_before"] == after["srft"]["mistake_loss_before"]
    assert after["all"]["mistake_loss_after"] < after["srft"]["mistake_loss_after"] - 0.5
    assert abs(after["all"]["good_loss_after"] - after["srft"]["good_loss_after"]) < 1.0
    assert after["all"]["unjudged_tokens"] > 0


def test_every_forward_is_in_the_type_of_training(prepared, tmp_path):
    """flash-attention takes half precision alone: no probe may call it before the model is where it is trained."""
    seen = []

    def half_alone(module, query, *args, **options):
        seen.append((torch.is_autocast_enabled("cpu"), module.training))
        return document_attention(module, query, *args, **options)

    AttentionInterface.register("half_alone", half_alone)
    AttentionMaskInterface.register("half_alone", lambda *args, **kwargs: None)
    train(prepared, tmp_path / "model", attention="half_alone", compute="bfloat16", pack_tokens=None, steps=1)
    assert {in_half for in_half, _ in seen} == {True}  # where transformers hands flash-attention half precision
    assert {training for _, training in seen} == {True, False}  # the probe, and the step


def test_a_further_setting_changes_the_training_and_its_name(prepared, tmp_path):
    plain = train(prepared, tmp_path / "plain", steps=2)
    other = train(prepared, tmp_path / "other", steps=2, trainer={"adam_beta2": 0.5})
    assert plain.fingerprint != other.fingerprint
    assert plain.log[-2] != other.log[-2]
