"""Small models to serve: random ones of two layers, an adapter on one, and engines over them."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM

from srft.harness.serve.engine import Engine
from tests.train.byte_tokenizer import byte_tokenizer
from tests.train.conftest import CHATML


@pytest.fixture(autouse=True, scope="session")
def _few_threads() -> None:
    torch.set_num_threads(2)


@pytest.fixture(scope="session")
def base(tmp_path_factory) -> Path:
    return random_model(tmp_path_factory.mktemp("models") / "base", seed=1)


@pytest.fixture(scope="session")
def other(tmp_path_factory) -> Path:
    """Another model of the same shape."""
    return random_model(tmp_path_factory.mktemp("models") / "other", seed=2)


@pytest.fixture(scope="session")
def adapter(tmp_path_factory, base) -> Path:
    """A LoRA adapter on `base`, as `srft train` saves one, that changes what the model says."""
    from peft import LoraConfig, get_peft_model

    folder = tmp_path_factory.mktemp("models") / "adapter"
    torch.manual_seed(3)
    config = LoraConfig(r=4, lora_alpha=8, target_modules="all-linear", init_lora_weights=False, task_type="CAUSAL_LM")
    get_peft_model(AutoModelForCausalLM.from_pretrained(base), config).save_pretrained(str(folder))
    byte_tokenizer(CHATML).save_pretrained(folder)
    return folder


def random_model(folder: Path, *, seed: int, template: str = CHATML) -> Path:
    """A Llama of two layers whose next token is not a toss-up: its weights are larger than fresh ones."""
    tokenizer = byte_tokenizer(template)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=128,
        intermediate_size=256,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        tie_word_embeddings=True,
        eos_token_id=0,
    )
    model = LlamaForCausalLM(config)
    torch.manual_seed(seed)
    with torch.no_grad():
        for weight in model.parameters():
            if weight.ndim == 2:
                weight.normal_(std=0.15)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture
def tiny_engine(base) -> Iterator[Engine]:
    engine = Engine(base, dtype="float32", batch=4, cache_gib=0.01)
    yield engine
    engine.close()
