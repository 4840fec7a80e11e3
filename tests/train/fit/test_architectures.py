"""Architectures, as tiny random models: the loss and its gradients are the model's own, packed or not, tied or not,
with adapters or without; what cannot be trained is refused with its family and a way out.

The reference is transformers' own forward with its plain attention, each document by itself.
"""

import copy
import json
import os
import subprocess
import sys
from typing import Any, NamedTuple

import pytest
import torch
from torch.nn.functional import cross_entropy
from transformers import AutoConfig

from srft.env.errors import InputError
from srft.train.fit.attention import choose_attention
from srft.train.fit.base import freeze_others, model_class, with_adapter
from srft.train.fit.loss import LossForward, install_loss
from srft.train.fit.pack import flatten
from srft.train.fit.probe import probe_loss
from srft.train.fit.recipe import Lora
from tests.conftest import ROOT
from tests.train.fit.test_loss import row_of
from tests.train.fit.tiny_models import tiny_config

ROWS = [row_of(9, seed=1), row_of(30, seed=2), row_of(5, seed=3)]


class Kind(NamedTuple):
    """What "auto" makes of an architecture: the attention, and whether its documents go through the layers apart."""

    name: str
    attention: str = "srft_documents"
    apart: bool = False


FAST = [
    Kind("gpt_oss"),  # sinks and sliding windows
    Kind("llama4"),  # chunks
    Kind("mistral3"),  # a composite checkpoint: Devstral 2 and Mistral Small 3
    Kind("nemotron_h", apart=True),  # Mamba, experts, attention and MLPs
    Kind("qwen3_5_moe", apart=True),  # linear attention and experts
    Kind("deepseek_v32", attention="sdpa"),  # a mask of its own
]
SLOW = [
    *map(Kind, ("llama", "qwen2", "qwen3", "qwen3_moe", "qwen3_vl", "mistral", "ministral3", "mistral4", "granite")),
    *map(Kind, ("glm4", "glm4_moe", "glm4_moe_lite", "deepseek_v3", "gemma3", "gemma3_text", "gemma4", "phi3")),
    *map(Kind, ("minimax_m2", "mimo_v2_flash", "seed_oss", "olmo3", "smollm3", "cohere2", "exaone4", "ernie4_5")),
    *map(Kind, ("hunyuan_v1_dense", "gpt2", "opt")),
    Kind("gemma2", attention="eager"),  # a soft cap
    Kind("glm_moe_dsa", attention="sdpa"),
    *(
        Kind(name, apart=True)
        for name in (
            *("qwen3_5", "qwen3_next", "granitemoehybrid", "lfm2", "lfm2_moe", "falcon_h1", "jamba", "bamba"),
            *("olmo_hybrid", "minimax", "rwkv", "bloom"),
        )
    ),
]
TABLE = [*FAST, *(pytest.param(kind, marks=pytest.mark.slow) for kind in SLOW)]


def plain_model(kind: str, **changes: Any) -> Any:
    """Random weights, in transformers' own words and with its plain attention."""
    torch.manual_seed(0)
    config = tiny_config(kind, **changes)
    return model_class(config).from_config(config, attn_implementation="eager")


def ours_of(plain: Any) -> tuple[Any, LossForward]:
    """The same weights as training has them."""
    model = copy.deepcopy(plain)
    attention = choose_attention("auto", model, on_gpu=False, in_half_precision=False)
    forward = install_loss(model, attention=attention)
    freeze_others(model)
    probe_loss(model, forward, several=True, is_sharded=False, device=torch.device("cpu"))
    return model.eval(), forward  # dropout apart, as some of these have it by default


def slow_loss(plain: Any) -> torch.Tensor:
    """Document by document, from the model's own logits."""
    total = torch.zeros(())
    for row in ROWS:
        ids = torch.from_numpy(row.input_ids).long()
        logits_TV = plain(input_ids=ids[None, :-1], use_cache=False).logits[0]
        total = total + (cross_entropy(logits_TV, ids[1:], reduction="none") * torch.from_numpy(row.weights[1:])).sum()
    return total


@pytest.mark.parametrize("kind", TABLE, ids=lambda kind: kind.name)
def test_packed_loss_and_gradients_are_those_of_each_document_alone(kind):
    plain = plain_model(kind.name).eval()
    model, forward = ours_of(plain)
    assert (forward.attention, forward.apart) == (kind.attention, kind.apart)
    expected, loss = slow_loss(plain), model(batch=flatten(ROWS))
    torch.testing.assert_close(loss, expected, rtol=1e-5, atol=0)
    expected.backward()
    loss.backward()
    theirs = dict(plain.named_parameters())
    for name, weight in model.named_parameters():
        if weight.requires_grad and theirs[name].grad is not None:
            wanted = theirs[name].grad
            torch.testing.assert_close(weight.grad, wanted, rtol=0, atol=1e-4 * float(wanted.abs().max()) + 1e-6)
        else:
            assert weight.grad is None  # an image encoder, an indexer


@pytest.mark.parametrize("kind", TABLE, ids=lambda kind: kind.name)
def test_adapters_are_trained_and_nothing_else(kind):
    model, _ = ours_of(plain_model(kind.name))
    with_adapters = with_adapter(model, Lora(rank=2)).eval()
    before = with_adapters(batch=flatten(ROWS))
    optimizer = torch.optim.AdamW([weight for weight in with_adapters.parameters() if weight.requires_grad], lr=1e-3)
    for _ in range(3):
        optimizer.zero_grad()
        with_adapters(batch=flatten(ROWS)).backward()
        optimizer.step()
    trained = {name for name, weight in with_adapters.named_parameters() if weight.grad is not None}
    assert trained == {name for name, weight in with_adapters.named_parameters() if "lora_" in name}
    assert with_adapters(batch=flatten(ROWS)) < before


@pytest.mark.parametrize("kind", ["qwen3_5", "gpt_oss", "mistral3"])
@pytest.mark.parametrize("tied", [True, False])
def test_tied_or_not(kind, tied):
    plain = plain_model(kind, tie_word_embeddings=tied).eval()
    model, _ = ours_of(plain)
    assert (model.get_output_embeddings().weight is model.get_input_embeddings().weight) == tied
    expected = slow_loss(plain)
    expected.backward()
    loss = model(batch=flatten(ROWS))
    loss.backward()
    torch.testing.assert_close(loss, expected, rtol=1e-5, atol=0)
    embeddings = (model.get_input_embeddings().weight.grad, plain.get_input_embeddings().weight.grad)
    torch.testing.assert_close(*embeddings, rtol=0, atol=1e-4 * float(embeddings[1].abs().max()))


@pytest.mark.parametrize("kind", ["t5", "vit"])
def test_what_writes_no_text_is_refused_with_its_family(kind):
    with pytest.raises(InputError, match=f"model type {kind}: it is no decoder that writes text"):
        model_class(AutoConfig.for_model(kind))


def test_a_model_that_looks_ahead_is_refused():
    config = tiny_config("bert", is_decoder=False)
    model = model_class(config).from_config(config)
    forward = install_loss(model, attention="srft_documents")
    with pytest.raises(InputError, match="model type bert: its logits are not those"):
        probe_loss(model, forward, several=False, is_sharded=False, device=torch.device("cpu"))


def test_a_composite_checkpoint_is_loaded_whole_where_it_was_written_whole():
    whole, text = tiny_config("qwen3_5"), tiny_config("qwen3_5")
    whole.architectures, text.architectures = ["Qwen3_5ForConditionalGeneration"], ["Qwen3_5ForCausalLM"]
    assert [model_class(config).__name__ for config in (whole, text)] == [
        "AutoModelForImageTextToText",
        "AutoModelForCausalLM",
    ]


@pytest.mark.parametrize("kind", ["qwen3_5", "nemotron_h"])
def test_under_fsdp_layers_that_mix_documents_want_one_row_a_pack(kind):
    model = plain_model(kind)
    forward = install_loss(model, attention="srft_documents")
    device = torch.device("cpu")
    with pytest.raises(InputError, match="set pack_tokens: null and micro_batch: 1"):
        probe_loss(model, forward, several=True, is_sharded=True, device=device)
    probe_loss(model, forward, several=False, is_sharded=True, device=device)


def test_an_attention_that_drops_something_is_noticed():
    """torch's own attention in transformers knows no sinks: a wrong name must not train."""
    model = plain_model("gpt_oss")
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if name.endswith("sinks"):
                weight.fill_(3.0)

    def without_sinks(*args: Any, s_aux: Any = None, **options: Any) -> Any:
        from srft.train.fit.attention import document_attention

        return document_attention(*args, **options)

    from transformers import AttentionInterface
    from transformers.masking_utils import AttentionMaskInterface

    AttentionInterface.register("without_sinks", without_sinks)
    AttentionMaskInterface.register("without_sinks", lambda *args, **kwargs: None)
    forward = install_loss(model, attention="without_sinks")
    with pytest.raises(InputError, match="not those of its head and of attention without_sinks"):
        probe_loss(model, forward, several=False, is_sharded=False, device=torch.device("cpu"))


SHARE = (
    *("llama", "qwen2", "qwen3", "mistral", "ministral3", "gpt_oss", "gemma3_text", "qwen3_moe", "deepseek_v3"),
    *("cohere2", "granite", "phi3", "olmo2", "smollm3", "llama4_text", "glm4", "glm4_moe"),
)
CARRY = ("qwen3_next", "lfm2", "nemotron_h", "jamba")


@pytest.mark.slow
def test_processes_share_a_sequence_or_the_family_is_refused():
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command = [sys.executable, *launcher, "-m", "tests.train.fit.shared_sequences", *SHARE, *CARRY]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    ran = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=600)
    assert ran.returncode == 0, ran.stderr
    found = {one["kind"]: one for one in map(json.loads, ran.stdout.splitlines())}
    assert {kind: "refused" in found[kind] for kind in (*SHARE, *CARRY)} == {
        **dict.fromkeys(SHARE, False),
        **dict.fromkeys(CARRY, True),
    }
    assert max(found[kind][figure] for kind in SHARE for figure in ("loss", "gradient")) < 1e-6
    assert all("set sequence_parallel: 1" in found[kind]["refused"] for kind in CARRY)
