"""The stages of the preset `paper` on a toy of the same shape, from start to promotion.

Untied embeddings, all weights under FSDP2 in two processes (gloo, on the processor), bfloat16 with checkpointing, and
adapters in one process; served by vLLM where SRFT_VLLM_PYTHON names an interpreter that has it, else in this process.
With SRFT_VLLM_PYTHON set, `pytest -m slow tests/harness/loop/test_paper_stages.py` is the rehearsal of a large run.
"""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml
from safetensors import safe_open
from transformers import LlamaConfig, LlamaForCausalLM

from srft.harness.run.stages import Stages
from srft.harness.serve.server import ServeConfig
from srft.harness.serve.vllm import find_vllm
from srft.harness.stages.train import load_recipe
from srft.train.plan.plan import plan
from tests.harness.loop.test_rounds import make_project
from tests.train.byte_tokenizer import byte_tokenizer
from tests.train.conftest import CHATML

pytestmark = pytest.mark.slow

FULL = {"weights": "bfloat16", "fsdp": True, "packs_per_step": 4}
LORA = {"weights": "bfloat16", "lora": {"rank": 4, "alpha": 8}, "packs_per_step": 2}
COMMON = {
    "compute": "bfloat16",
    "gradient_checkpointing": True,
    "pack_tokens": 1024,
    "steps": 4,
    "learning_rate": 1.0e-3,
    "held_out": 0.3,
    "evaluate_every": 2,
    "save_every": 2,
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory, base_image) -> Path:
    """With a project of one function, the base model and a recipe of each kind."""
    folder = tmp_path_factory.mktemp("paper")
    make_project(folder / "limit")
    torch.manual_seed(0)
    tokenizer = byte_tokenizer(CHATML)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=128,
        intermediate_size=256,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        tie_word_embeddings=False,
        eos_token_id=tokenizer.eos_token_id,
    )
    LlamaForCausalLM(config).to(torch.bfloat16).save_pretrained(folder / "base")
    tokenizer.save_pretrained(folder / "base")
    for name, recipe in (("full", FULL), ("lora", LORA)):
        (folder / f"{name}.yaml").write_text(yaml.safe_dump(COMMON | recipe))
    return folder


def paper(folder: Path, recipe: str, *, processes: int) -> subprocess.CompletedProcess:
    """`srft loop --preset paper`, cut to the toy's size."""
    python = find_vllm(ServeConfig())
    serve = {"kind": "transformers"} if python is None else {"kind": "vllm", "vllm_python": python, "cache_gib": 1}
    short = {"workers": 2, "prompt": "short", "episode": {"steps": 2, "format_errors": 2}}
    practice = {"packages": [str(folder / "limit")], "train": 2, "test": 1, "split": "mutant", "issue": "short"}
    sets = {
        "tasks": None,
        "evaluation": None,
        "practice": practice,
        "contamination": "instance",
        "model": str(folder / "base"),
        "teachers": ["demonstrator"],
        "collect": {**short, "attempts": 2, "demonstrator": {"style": "short"}},
        "critic": "edits",
        "recipe": str(folder / f"{recipe}.yaml"),
        "processes": processes,
        "rows": {"max_tokens": 1024},
        "serve": {**serve, "dtype": "bfloat16", "max_model_len": 2048},
        "evaluate": {**short, "openai": {"temperature": 0.0, "max_tokens": 32}},
    }
    given = [part for key, value in sets.items() for part in ("--set", f"{key}={json.dumps(value)}")]
    command = [sys.executable, "-m", "srft.harness.cli", "loop", "--preset", "paper", "--json", *given]
    return subprocess.run(
        [*command, "--run", str(folder / recipe)], capture_output=True, text=True, check=False, timeout=900
    )


@pytest.mark.parametrize(("recipe", "processes"), [("full", 2), ("lora", 1)])
def test_from_start_to_promotion(folder, recipe, processes):
    done = paper(folder, recipe, processes=processes)
    assert done.returncode == 0, done.stderr[-3000:]
    run = folder / recipe
    stages = Stages.read(run / "round-001")
    kind = "transformers" if find_vllm(ServeConfig()) is None else "vllm"
    for served in (Stages.read(run / "round-000")["serve.base"], stages["serve.srft"]):
        assert served.figures["kind"] == kind
        assert served.figures["probe"]["difference"] <= served.figures["probe"]["tolerance"]
    assert stages["promote"].figures["decision"] == "promoted"
    assert (run / "model").resolve() == (run / "round-001/model/srft").resolve()
    assert len(list((run / "logs").glob("probe-*.json"))) == 2
    saved = run / "round-001/model/srft" / ("model.safetensors" if recipe == "full" else "adapter_model.safetensors")
    planned = plan(load_recipe(str(folder / f"{recipe}.yaml")), model=str(folder / "base"), table=None, gpus=processes)
    with safe_open(saved, "pt") as weights:
        tensors = [weights.get_tensor(name) for name in weights.keys()]  # noqa: SIM118 - it is no dict
    assert sum(tensor.nbytes for tensor in tensors) == planned.storage.model_bytes
