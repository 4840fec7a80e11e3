"""Attention within documents: windows, sinks, chunks and groups, against scores written out in full."""

import math
from types import SimpleNamespace

import pytest
import torch

from srft.train.fit import attention as module
from srft.train.fit.attention import DOCUMENTS, attention_arguments, choose_attention, document_attention

HEADS, GROUPS, WIDTH = 4, 2, 8


def tensors(length: int, *, kind: torch.dtype = torch.float64):
    torch.manual_seed(0)
    query = torch.randn(1, HEADS, length, WIDTH, dtype=kind)
    key, value = (torch.randn(1, GROUPS, length, WIDTH, dtype=kind) for _ in range(2))
    return query, key, value, torch.randn(HEADS, dtype=kind)


def in_full(query, key, value, *, documents, window=None, chunk=None, sinks=None):
    """(1, T, H, D): each score by itself, and a sink as one more entry of the softmax."""
    length = query.shape[2]
    document = torch.repeat_interleave(torch.arange(len(documents)), torch.tensor(documents))
    place = torch.cat([torch.arange(size) for size in documents])
    back = place[:, None] - place[None, :]
    seen = (document[:, None] == document[None, :]) & (back >= 0)
    if window is not None:
        seen &= back < window
    if chunk is not None:
        seen &= (place[:, None] // chunk) == (place[None, :] // chunk)
    key, value = (tensor.repeat_interleave(HEADS // GROUPS, dim=1) for tensor in (key, value))
    scores = (query @ key.transpose(2, 3) / math.sqrt(WIDTH)).masked_fill(~seen, -math.inf)
    if sinks is not None:
        scores = torch.cat([scores, sinks.view(1, HEADS, 1, 1).expand(1, HEADS, length, 1)], dim=-1)
    weights = scores.softmax(-1)[..., :length]
    return (weights @ value).transpose(1, 2)


@pytest.mark.parametrize("has_sinks", [False, True])
@pytest.mark.parametrize("window", [None, 1, 4, 5, 100])
@pytest.mark.parametrize("documents", [(1,), (4,), (5,), (13,), (8, 1, 12, 3), (16, 16)])
def test_windows_and_sinks(documents, window, has_sinks):
    query, key, value, sinks = tensors(sum(documents))
    leaves = [tensor.requires_grad_() for tensor in (query, key, value, *([sinks] if has_sinks else []))]
    options = {"sliding_window": window, "s_aux": sinks if has_sinks else None}
    got, _ = document_attention(torch.nn.Module(), query, key, value, None, documents=documents, **options)
    expected = in_full(query, key, value, documents=documents, window=window, sinks=options["s_aux"])
    torch.testing.assert_close(got, expected, rtol=1e-9, atol=1e-12)
    pull = torch.randn_like(expected)
    for ours, theirs in zip(
        torch.autograd.grad(got, leaves, pull), torch.autograd.grad(expected, leaves, pull), strict=True
    ):
        torch.testing.assert_close(ours, theirs, rtol=1e-8, atol=1e-10)


def test_chunks_begin_anew_in_each_document():
    query, key, value, _ = tensors(21)
    config = SimpleNamespace(layer_types=["full_attention", "chunked_attention"], attention_chunk_size=4)
    for layer, chunk in ((0, None), (1, 4)):
        of_layer = SimpleNamespace(config=config, layer_idx=layer)
        got, _ = document_attention(of_layer, query, key, value, None, documents=(9, 12))
        torch.testing.assert_close(got, in_full(query, key, value, documents=(9, 12), chunk=chunk))


def test_no_mask_is_as_large_as_the_square_of_a_document(monkeypatch):
    """At 32,768 tokens a square of bytes would be a gibibyte, in every layer."""
    masks = []

    def look(query, *_args, attn_mask=None, **_options):
        masks.append(0 if attn_mask is None else attn_mask.numel())
        return torch.zeros_like(query)

    monkeypatch.setattr(module, "scaled_dot_product_attention", look)
    query, key, value, sinks = (tensor.to("meta") for tensor in tensors(32768))
    for window in (None, 128, 4096):
        for s_aux in (None, sinks):
            document_attention(torch.nn.Module(), query, key, value, None, sliding_window=window, s_aux=s_aux)
    assert max(masks) <= 8 * 4096 * 8193  # eight blocks of 4,096 that see 8,192 and a sink
    assert masks[:2] == [0, 0]


def test_a_mask_of_the_models_own_is_not_dropped():
    query, key, value, _ = tensors(5)
    with pytest.raises(module.InputError, match="make a mask of their own; train it with attention: sdpa or eager"):
        document_attention(torch.nn.Module(), query, key, value, torch.ones(1, 1, 5, 5))


def model_like(*, flash=True, compatible=None, sdpa=True, **config):
    text = SimpleNamespace(**config)
    whole = SimpleNamespace(get_text_config=lambda: text)
    return SimpleNamespace(
        config=whole, _supports_flash_attn=flash, _compatible_flash_implementations=compatible, _supports_sdpa=sdpa
    )


def test_auto_takes_what_is_there_and_fits(monkeypatch):
    def choose(model, *, wanted="auto", on_gpu=True, half=True):
        return choose_attention(wanted, model, on_gpu=on_gpu, in_half_precision=half)

    monkeypatch.setitem(module._FLASH, "flash_attention_4", lambda: False)
    monkeypatch.setitem(module._FLASH, "flash_attention_3", lambda: True)
    monkeypatch.setitem(module._FLASH, "flash_attention_2", lambda: True)
    assert choose(model_like()) == "flash_attention_3"
    assert choose(model_like(compatible=["flash_attention_2"])) == "flash_attention_2"
    assert choose(model_like(compatible=["kernels-community/vllm-flash-attn3"])) == DOCUMENTS
    assert choose(model_like(flash=False)) == DOCUMENTS
    assert choose(model_like(), on_gpu=False) == DOCUMENTS
    assert choose(model_like(), half=False) == DOCUMENTS  # flash-attention takes half precision alone
    assert choose(model_like(), wanted="kernels-community/flash-attn3") == "kernels-community/flash-attn3"
    assert choose(model_like(), wanted="documents") == DOCUMENTS
    without = {"flash": False}
    assert choose(model_like(**without, layer_types=["linear_attention", "full_attention"])) == DOCUMENTS
    assert choose(model_like(**without, layer_types=["indexed_attention"])) == "sdpa"
    assert choose(model_like(**without, sdpa=False, layer_types=["compressed_sparse_attention"])) == "eager"
    assert choose(model_like(**without, attn_logit_softcapping=50.0)) == "eager"


def test_borders_are_said_where_there_are_some():
    device = torch.device("cpu")
    assert attention_arguments(DOCUMENTS, (7,), device) == attention_arguments("flash_attention_2", (7,), device) == {}
    flash = attention_arguments("flash_attention_2", (3, 5, 2), device)
    assert flash["cu_seq_lens_q"].tolist() == flash["cu_seq_lens_k"].tolist() == [0, 3, 8, 10]
    assert (flash["max_length_q"], flash["max_length_k"]) == (5, 5)
    assert "documents" not in flash
    assert attention_arguments(DOCUMENTS, (3, 5), device)["documents"] == (3, 5)
