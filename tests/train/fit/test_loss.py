"""The loss: what it weighs, what it leaves out, and that packing changes nothing."""

import copy

import numpy
import pytest
import torch
from transformers import AutoModelForCausalLM, CohereConfig, Gemma2Config, GraniteConfig, LlamaConfig, Qwen3Config
from transformers.models.mixtral.modeling_mixtral import load_balancing_loss_func

from srft.env.errors import InputError
from srft.train.fit.attention import DOCUMENTS
from srft.train.fit.base import model_class
from srft.train.fit.loss import CHUNK_BYTES, chunks, head_loss, install_loss, token_losses
from srft.train.fit.pack import flatten, pack
from srft.train.fit.probe import probe_loss
from srft.train.rows.rows import Row, used_tokens
from tests.train.fit.tiny_models import tiny_config

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
        _, other = models("llama")
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
    monkeypatch.setitem(CHUNK_BYTES, "cpu", 4 * 97 * 3)  # three tokens at a time
    assert len(chunks(7, head=ours.get_output_embeddings().weight)) == 3
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


def probe(model, forward, *, several=True):
    probe_loss(model, forward, several=several, is_sharded=False, device=torch.device("cpu"))


def test_a_soft_cap_of_attention_is_refused_where_the_kernel_has_none():
    model = AutoModelForCausalLM.from_config(Gemma2Config(**SIZES, head_dim=8))
    forward = install_loss(model, attention=DOCUMENTS)
    with pytest.raises(InputError, match=r"a soft cap.*attention: sdpa or eager"):
        probe(model, forward)


def test_an_attention_that_is_not_there_is_refused():
    for name in ("flash_attention_2", "no_such_attention"):
        model = AutoModelForCausalLM.from_config(copy.deepcopy(CONFIGS["llama"]))
        with pytest.raises(InputError, match=f"recipe: attention {name}: .*say attention: auto"):
            install_loss(model, attention=name)


def test_a_head_that_is_not_plain_is_refused():
    model = AutoModelForCausalLM.from_config(copy.deepcopy(CONFIGS["llama"]))
    own = model.forward

    def shifted(*args, **kwargs):
        outputs = own(*args, **kwargs)
        outputs.logits = outputs.logits * 3
        return outputs

    model.forward = shifted
    forward = install_loss(model, attention=DOCUMENTS)
    with pytest.raises(InputError, match="srft does not know this architecture"):
        probe(model, forward)


@pytest.mark.parametrize("kind", [torch.float32, torch.float64])
@pytest.mark.parametrize("has_bias", [True, False])
@pytest.mark.parametrize("cap", [None, 3.0])
def test_the_head_against_a_reference_with_bias_and_soft_cap(kind, has_bias, cap, monkeypatch):
    """To 1e-6, in chunks of three tokens: the loss, and the gradients of the states, the head and its bias."""
    monkeypatch.setitem(CHUNK_BYTES, "cpu", 4 * 50 * 3)
    torch.manual_seed(0)
    head = torch.nn.Linear(8, 50, bias=has_bias, dtype=kind)
    hidden = torch.randn(10, 8, dtype=kind, requires_grad=True)
    target, weight = torch.randint(0, 50, (10,)), torch.rand(10, dtype=kind)

    def adjust(logits):
        return logits if cap is None else torch.tanh(logits / cap) * cap

    leaves = [hidden, *head.parameters()]
    nll = torch.nn.functional.cross_entropy(adjust(head(hidden)), target, reduction="none")
    expected = torch.autograd.grad((nll * weight).sum() / 7, leaves)
    loss = head_loss(hidden, head, target, weight, adjust) / 7
    torch.testing.assert_close(loss, (nll * weight).sum() / 7, rtol=1e-6, atol=0)
    for got, wanted in zip(torch.autograd.grad(loss, leaves), expected, strict=True):
        torch.testing.assert_close(got, wanted, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(token_losses(hidden, head, target, weight, adjust), nll * weight, rtol=1e-6, atol=1e-7)


def test_the_models_own_caps_are_in_the_loss():
    sizes = SIZES | {"head_dim": 8, "attn_logit_softcapping": None}
    for cap in (0.2, None):
        torch.manual_seed(0)
        config = Gemma2Config(**sizes, final_logit_softcapping=cap)
        plain = AutoModelForCausalLM.from_config(copy.deepcopy(config), attn_implementation="eager").double()
        ours = copy.deepcopy(plain)
        install_loss(ours, attention=DOCUMENTS)
        torch.testing.assert_close(ours(batch=flatten(ROWS)), slow_loss(plain, ROWS), rtol=1e-6, atol=0)


def test_under_autocast_products_are_in_bfloat16_and_a_float32_head_has_its_gradient_in_float32(monkeypatch):
    monkeypatch.setitem(CHUNK_BYTES, "cpu", 4 * 50 * 10)  # ten tokens at a time
    torch.manual_seed(0)
    head = torch.nn.Linear(64, 50, bias=True)
    hidden = torch.randn(40, 64, requires_grad=True)
    target, weight = torch.randint(0, 50, (40,)), torch.rand(40)
    seen = []
    with torch.autocast("cpu", torch.bfloat16):
        loss = head_loss(hidden, head, target, weight, lambda logits: seen.append(logits) or logits)
        logits = head(hidden)
    expected = torch.nn.functional.cross_entropy(logits.float(), target, reduction="none") @ weight
    assert len(seen) == 4
    assert torch.equal(seen[0], seen[0].bfloat16().float())  # what is rounded once stays as it is
    torch.testing.assert_close(loss, expected, rtol=1e-5, atol=0)
    loss.backward()
    assert (loss.dtype, head.weight.grad.dtype, head.bias.grad.dtype) == (torch.float32,) * 3
    whole = head.weight.grad
    assert not torch.equal(whole, whole.bfloat16().float())  # several products of bfloat16, added up in float32


def test_the_heads_gradient_is_held_once():
    """What backward gives a float32 head is the sum that forward made, scaled where it lies."""
    head = torch.nn.Linear(8, 50)
    hidden = torch.randn(4, 8, requires_grad=True)
    loss = head_loss(hidden, head, torch.tensor([1, 2, 3, 4]), torch.ones(4))
    held = loss.grad_fn.grads[1].data_ptr()
    (loss * 0.5).backward()
    assert head.weight.grad.data_ptr() == held


def test_chunks_go_by_the_vocabulary_the_width_and_the_device():
    assert len(chunks(5000, head=torch.empty(152064, 3584, device="meta"))) == 6  # 512 MiB of logits: 882 tokens
    assert chunks(300, head=torch.empty(100, 64)) == [slice(0, 128), slice(128, 256), slice(256, 300)]
    assert len(chunks(1000, head=torch.empty(49152, 576))) == 1
    assert chunks(0, head=torch.empty(100, 64)) == []


@pytest.mark.parametrize("kind", ["qwen3_moe", "qwen3_5_moe", "gpt_oss"])
def test_the_routers_loss_is_transformers_own(kind):
    """Of one document and of weights 1: the mean loss and the balance are those that the model itself reports."""
    torch.manual_seed(0)
    config = tiny_config(kind, router_aux_loss_coef=0.5)
    plain = model_class(config).from_config(config, attn_implementation="eager").eval()
    ours = copy.deepcopy(plain)
    install_loss(ours, attention=DOCUMENTS, router_loss=0.5)
    ids = torch.arange(3, 23)
    row = row_with(ids, numpy.ones(20))
    # the last token is a target only, so that the router does not see it
    routed = plain(input_ids=ids[None, :-1], output_router_logits=True, use_cache=False)
    nll = torch.nn.functional.cross_entropy(routed.logits[0], ids[1:])
    expected = nll + 0.5 * load_balancing_loss_func(routed.router_logits, 4, 2)
    loss = ours(batch=flatten([row])) / 19
    torch.testing.assert_close(loss, expected, rtol=1e-5, atol=0)
    loss.backward()
    with torch.no_grad():
        torch.testing.assert_close(ours(batch=flatten([row])) / 19, nll, rtol=1e-5, atol=0)


def test_an_epoch_packs_other_rows_together_and_not_by_length():
    random = numpy.random.default_rng(0)
    lengths = numpy.clip(random.lognormal(9.2, 0.7, 2000), 200, 32767).astype(int)
    orders = [random.permutation(2000) for _ in range(2)]
    epochs = [
        {tuple(sorted(order[of_pack].tolist())) for of_pack in pack(lengths[order].tolist(), max_tokens=32768)}
        for order in orders
    ]
    several = [{of_pack for of_pack in epoch if len(of_pack) > 1} for epoch in epochs]
    assert len(several[0] & several[1]) < 0.02 * len(several[0])
    assert len(epochs[0]) < 1.03 * lengths.sum() / 32768
    shortest_and_longest = [(lengths[list(p)].min(), lengths[list(p)].max()) for p in several[0]]
    assert numpy.median([high / low for low, high in shortest_and_longest]) > 1.8  # long with short


@pytest.mark.parametrize(
    ("lengths", "limit", "packs"),
    [
        ([5, 3, 4, 2], 7, [[0, 3], [1, 2]]),
        ([2, 2, 5], 7, [[0, 1], [2]]),
        ([4, 6, 1, 3], 7, [[0, 3], [1, 2]]),
        ([9, 1], 7, [[0], [1]]),
        ([3, 3, 3], None, [[0], [1], [2]]),
        ([4, 4, 2, 2, 2], 8, [[0, 1], [2, 3, 4]]),
        ([7, 7, 1], 7, [[0], [1], [2]]),
    ],
)
def test_packs(lengths, limit, packs):
    assert pack(lengths, max_tokens=limit) == packs
