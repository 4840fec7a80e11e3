"""Training as a whole: a tiny random model on rows of hand-made runs, in one process, in two, stopped and resumed."""

import json
import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import msgspec
import pytest
import torch
from peft import AutoPeftModelForCausalLM
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from srft.critic.labels.labels import StepLabel
from srft.env.errors import InputError
from srft.train.fit.finetune import finetune, held_out_tasks, read_trained
from srft.train.fit.recipe import Recipe
from srft.train.fit.trainer import TrainingDiverged
from srft.train.rows.mask import MaskPolicy, RunFacts
from srft.train.rows.render import Renderer
from srft.train.rows.rows import RowSettings, RowTable, RunToRender, write_rows
from tests.train.conftest import CHATML, make_run
from tests.train.training import RECIPE, tiny_model

ROOT = Path(__file__).resolve().parents[3]
WORDS = ["look", "read", "mend", "test", "again", "done", "code", "setup", "total", "values"]


@pytest.fixture(scope="module")
def prepared(tmp_path_factory, tokenizer_with) -> Path:
    """A folder with a base model and the rows of eight runs, two of them masked in part."""
    folder = tmp_path_factory.mktemp("training")
    tiny_model(folder / "base", tokenizer_with(CHATML))
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
    assert expected.keys() <= got.keys()  # sharded models are saved with the tied head beside the embedding
    for name, tensor in expected.items():
        torch.testing.assert_close(got[name], tensor, rtol=0, atol=within)


def program(prepared: Path, *arguments: str, processes: int = 1, **recipe) -> subprocess.CompletedProcess[str]:
    launcher = (
        ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)] if processes > 1 else []
    )
    command = [sys.executable, *launcher, "-m", "tests.train.training", str(prepared), json.dumps(recipe), *arguments]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "passive"}
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False, timeout=300)


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


@pytest.mark.parametrize("fsdp", [False, True])
def test_two_processes_train_what_one_trains(prepared, reference, fsdp):
    name = f"two-{'fsdp' if fsdp else 'ddp'}"
    ran = program(prepared, "--model", name, processes=2, fsdp=fsdp)
    assert ran.returncode == 0, ran.stderr
    assert_equal(reference, prepared / name, within=1e-6)


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
    assert "going on from" in resumed.stderr
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


def test_the_held_out_loss_is_one_mean_over_the_held_out_tokens(prepared, tmp_path):
    trained = train(prepared, tmp_path / "model", held_out=0.25, evaluate_every=2)
    table = RowTable.open(prepared / "rows" / "srft")
    assert trained.held_out_tasks == sorted(held_out_tasks(table.task_ids, share=0.25, seed=0))
    assert len(trained.held_out_tasks) == 2
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
    with pytest.raises(InputError, match="logger wandb is not installed"):
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
