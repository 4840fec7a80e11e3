"""The loss: what it weighs, what it leaves out, and that packing changes nothing."""

import copy

import numpy
import pytest
import torch
from transformers import AutoModelForCausalLM, CohereConfig, Gemma2Config, GraniteConfig, LlamaConfig, Qwen3Config

from srft.env.errors import InputError
from srft.train.fit.attention import DOCUMENTS, refuse_other_layers
from srft.train.fit.loss import head_loss, install_loss
from srft.train.fit.pack import flatten, pack
from srft.train.rows.rows import Row, used_tokens

SIZES = {
    "vocab_size": 97,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
CONFIGS = {
    "llama": LlamaConfig(**SIZES, tie_word_embeddings=True),
    "qwen3": Qwen3Config(**SIZES, head_dim=8),
    "granite": GraniteConfig(**SIZES, logits_scaling=4.0),
    "cohere": CohereConfig(**SIZES, logit_scale=0.25),
}


def row_of(length: int, *, seed: int, name: str = "r", share: float = 0.4) -> Row:
    random = numpy.random.default_rng(seed)
    weight_T = (random.random(length) < share) * random.choice([0.25, 0.5, 1.0], length)
    weight_T[length // 2] = 1.0
    return row_with(random.integers(3, 97, length), weight_T, name)


def row_with(ids, weights, name="r") -> Row:
    ids, weights = numpy.asarray(ids, numpy.int32), numpy.asarray(weights, numpy.float32)
    none = numpy.zeros(len(ids))
    trained = int((weights > 0).sum())
    return Row(
        name, "t", "o/r", ids, weights, none.astype("i4"), none.astype("u1"), "rendered", trained, used_tokens(weights)
    )


ROWS = [row_of(9, seed=1), row_of(30, seed=2), row_of(5, seed=3), row_of(17, seed=4)]


def models(name: str):
    """The same random weights twice: plain, with transformers' own attention; and ours."""
    torch.manual_seed(0)
    plain = AutoModelForCausalLM.from_config(copy.deepcopy(CONFIGS[name]), attn_implementation="sdpa").double()
    ours = AutoModelForCausalLM.from_config(copy.deepcopy(CONFIGS[name])).double()
    ours.load_state_dict(plain.state_dict())
    install_loss(ours, attention=DOCUMENTS)
    return plain, ours


def slow_loss(model, rows) -> torch.Tensor:
    """Token by token, a row at a time: sum of w * nll over all of them."""
    total = torch.zeros((), dtype=torch.float64)
    for row in rows:
        ids = torch.from_numpy(row.input_ids.astype(numpy.int64))
        logits_TV = model(input_ids=ids[None]).logits[0]
        for place in range(1, len(ids)):
            nll = -torch.log_softmax(logits_TV[place - 1], -1)[ids[place]]
            total = total + nll * float(row.weights[place])
    return total


def gradients(model):
    return {name: weight.grad.clone() for name, weight in model.named_parameters()}


@pytest.mark.parametrize("name", list(CONFIGS))
def test_loss_and_gradients_are_those_of_a_slow_reference(name):
    plain, ours = models(name)
    expected = slow_loss(plain, ROWS)
    expected.backward()
    loss = ours(batch=flatten(ROWS))
    loss.backward()
    torch.testing.assert_close(loss, expected, rtol=1e-10, atol=0)
    for key, gradient in gradients(ours).items():
        torch.testing.assert_close(gradient, gradients(plain)[key], rtol=1e-6, atol=1e-8)  # float32 norms


def test_a_masked_token_has_no_gradient_at_all():
    """Hidden states are leaves here, so that what flows into each of them can be read off."""
    head = torch.nn.Linear(8, 50, bias=True)
    hidden_TD = torch.randn(10, 8, requires_grad=True)
    keep_K = torch.tensor([1, 4, 9])
    head_loss(hidden_TD[keep_K], head, torch.tensor([3, 7, 49]), torch.tensor([1.0, 0.0, 2.0])).backward()
    moved = (hidden_TD.grad != 0).any(1)
    assert moved.tolist() == [False, True, False, False, False, False, False, False, False, True]


def test_a_masked_token_changes_nothing_but_the_context():
    """Another token in a masked place behind all trained ones: the same loss, to the bit, as the tail is cut."""
    _, ours = models("llama")
    ids, weights = list(range(10, 22)), [0, 0, 1, 1, 0, 1, 0, 0, 0, 0, 0, 0]
    other = [*ids[:8], 50, 51, 52, 53]
    assert ours(batch=flatten([row_with(ids, weights)])) == ours(batch=flatten([row_with(other, weights)]))
    assert flatten([row_with(ids, weights)]).input_ids.shape == (1, 5)


@pytest.mark.parametrize("name", ["llama", "qwen3"])
def test_packed_documents_do_not_see_each_other(name):
    _, ours = models(name)
    ours.eval()
    packed = flatten(ROWS)
    hidden_TD = ours.base_model(
        input_ids=packed.input_ids, position_ids=packed.position_ids, documents=packed.documents
    ).last_hidden_state[0]
    alone = []
    for row in ROWS:
        batch = flatten([row])
        states = ours.base_model(input_ids=batch.input_ids, position_ids=batch.position_ids, documents=batch.documents)
        alone.append(states.last_hidden_state[0])
    head = ours.get_output_embeddings()
    torch.testing.assert_close(head(hidden_TD), head(torch.cat(alone)), rtol=1e-10, atol=1e-12)


def test_other_attentions_keep_documents_apart_too():
    """transformers' own, which build a mask from the position ids, where someone asks for them."""
    _, ours = models("llama")
    expected = ours(batch=flatten(ROWS))
    for attention in ("sdpa", "eager"):
        plain, other = models("llama")
        other.forward = type(plain).forward.__get__(other)
        install_loss(other, attention=attention)
        torch.testing.assert_close(other(batch=flatten(ROWS)), expected, rtol=1e-8, atol=0)  # eager is float32 inside


def test_a_sliding_window_is_kept():
    config = Qwen3Config(**SIZES, head_dim=8, use_sliding_window=True, sliding_window=4, max_window_layers=0)
    torch.manual_seed(0)
    plain = AutoModelForCausalLM.from_config(copy.deepcopy(config), attn_implementation="sdpa").double()
    ours = AutoModelForCausalLM.from_config(copy.deepcopy(config)).double()
    ours.load_state_dict(plain.state_dict())
    install_loss(ours, attention=DOCUMENTS)
    torch.testing.assert_close(ours(batch=flatten(ROWS)), slow_loss(plain, ROWS), rtol=1e-10, atol=0)


def test_chunks_of_the_head_change_nothing(monkeypatch):
    _, ours = models("llama")
    whole = ours(batch=flatten(ROWS))
    whole.backward()
    expected = gradients(ours)
    ours.zero_grad()
    monkeypatch.setattr("srft.train.fit.loss.CHUNK_BYTES", 4 * 97 * 3)  # three tokens at a time
    loss = ours(batch=flatten(ROWS))
    loss.backward()
    torch.testing.assert_close(loss, whole, rtol=1e-12, atol=0)
    for key, gradient in gradients(ours).items():
        torch.testing.assert_close(gradient, expected[key], rtol=1e-9, atol=1e-13)


def test_without_gradients_it_is_the_same_loss():
    _, ours = models("llama")
    with torch.no_grad():
        quiet = ours(batch=flatten(ROWS))
    assert not quiet.requires_grad
    torch.testing.assert_close(quiet, ours(batch=flatten(ROWS)).detach(), rtol=1e-12, atol=0)


def test_architectures_that_cannot_be():
    with pytest.raises(InputError, match="soft cap"):
        install_loss(AutoModelForCausalLM.from_config(Gemma2Config(**SIZES, head_dim=8)), attention=DOCUMENTS)
    config = copy.deepcopy(CONFIGS["llama"])
    config.layer_types = ["full_attention", "linear_attention"]
    with pytest.raises(InputError, match="linear_attention"):
        refuse_other_layers(config)


def test_a_head_that_is_not_plain_is_refused():
    model = AutoModelForCausalLM.from_config(copy.deepcopy(CONFIGS["llama"]))
    forward = model.forward

    def shifted(*args, **kwargs):
        outputs = forward(*args, **kwargs)
        outputs.logits = outputs.logits * 3
        return outputs

    model.forward = shifted
    with pytest.raises(InputError, match="does not know this architecture"):
        install_loss(model, attention=DOCUMENTS)


@pytest.mark.parametrize(
    ("lengths", "limit", "packs"),
    [
        ([5, 3, 4, 2], 7, [[0, 3], [2, 1]]),
        ([9, 1], 7, [[0], [1]]),
        ([3, 3, 3], None, [[0], [1], [2]]),
        ([4, 4, 2, 2, 2], 8, [[0, 1], [2, 3, 4]]),
    ],
)
def test_packs(lengths, limit, packs):
    assert pack(lengths, max_tokens=limit) == packs
