"""The engine: what it says is what transformers says, whoever else asks; caches, stops, loads, ends."""

import json
import random
import shutil
import threading
import time
import weakref
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from transformers import AutoModelForCausalLM

from srft.agent.models.contract import ContextOverflow
from srft.agent.models.openai import OpenAIConfig
from srft.env.errors import InputError, ModelError
from srft.harness.serve.cache import Cache
from srft.harness.serve.engine import Engine
from srft.harness.serve.forward import Forward
from srft.harness.serve.local_model import LocalModel, sampling_of
from srft.harness.serve.sampling import Sampling

GREEDY = Sampling(temperature=0, max_tokens=24)


def prompts(count: int, *, seed: int = 0, longest: int = 60) -> list[list[int]]:
    chosen = random.Random(seed)
    return [[chosen.randrange(3, 280) for _ in range(chosen.randint(1, longest))] for _ in range(count)]


def generated_by_transformers(folder, prompt: list[int], sampling: Sampling, end_ids) -> list[int]:
    model = AutoModelForCausalLM.from_pretrained(folder).eval()
    output = model.generate(
        torch.tensor([prompt]),
        attention_mask=torch.ones(1, len(prompt), dtype=torch.long),
        max_new_tokens=sampling.max_tokens,
        do_sample=False,
        eos_token_id=sorted(end_ids),
        pad_token_id=0,
        repetition_penalty=sampling.repetition_penalty,
    )
    return output[0, len(prompt) :].tolist()


def direct_logprobs(folder, ids: list[int]) -> list[float]:
    with torch.inference_mode():
        logits = AutoModelForCausalLM.from_pretrained(folder).eval()(torch.tensor([ids])).logits[0, :-1]
    return [float(row[token]) for row, token in zip(logits.log_softmax(-1), ids[1:], strict=True)]


@pytest.mark.parametrize("longest", [60, 700])  # the latter in several chunks
def test_greedy_is_what_transformers_generates(base, tiny_engine, longest):
    for prompt in prompts(5, longest=longest):
        got = tiny_engine.generate(prompt, GREEDY)
        assert list(got.token_ids) == generated_by_transformers(base, prompt, GREEDY, tiny_engine.end_ids)


def test_logprobs_are_a_direct_forwards(base, tiny_engine):
    prompt = prompts(1, seed=4)[0]
    got = tiny_engine.generate(prompt, Sampling(temperature=0.7, max_tokens=30, seed=1))
    ids = [*prompt, *got.token_ids]
    direct = direct_logprobs(base, ids)
    assert got.logprobs == pytest.approx(direct[len(prompt) - 1 :], abs=1e-4)
    assert tiny_engine.logprobs(ids) == pytest.approx(direct, abs=1e-4)
    assert tiny_engine.logprobs([5]) == ()


def test_smollm2_says_what_transformers_says(smollm2):
    tiny_engine = Engine(smollm2, dtype="float32")
    try:
        prompt = tiny_engine.renderer.tokenizer("def add(a, b):\n")["input_ids"]
        got = tiny_engine.generate(prompt, GREEDY)
        assert list(got.token_ids) == generated_by_transformers(smollm2, prompt, GREEDY, tiny_engine.end_ids)
        direct = direct_logprobs(smollm2, [*prompt, *got.token_ids])
        assert got.logprobs == pytest.approx(direct[len(prompt) - 1 :], abs=1e-4)
    finally:
        tiny_engine.close()


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_mixed_arrivals_give_what_each_gives_alone(base, dtype):
    """Greedy and sampled. The prompts share nothing, so each is computed in the same chunks."""
    if dtype == "bfloat16" and not torch.cpu._is_avx512_bf16_supported():
        pytest.skip("this processor does not compute in bfloat16")
    asked = [
        ([number + 3, *prompt], Sampling(temperature=number % 3 * 0.5, top_p=0.9, seed=number, max_tokens=5 + number))
        for number, prompt in enumerate(prompts(20, seed=9, longest=400))
    ]
    alone = Engine(base, dtype=dtype, batch=1)
    expected = [alone.generate(*each) for each in asked]
    alone.close()
    crowded = Engine(base, dtype=dtype, batch=5, cache_gib=0.01)
    chosen = random.Random(1)

    def ask(number: int):
        time.sleep(chosen.random() / 5)
        return crowded.generate(*asked[number])

    with ThreadPoolExecutor(8) as threads:
        order = chosen.sample(range(20), 20)
        got = dict(zip(order, threads.map(ask, order), strict=True))
    assert [got[number].token_ids for number in range(20)] == [each.token_ids for each in expected]
    for number, each in enumerate(expected):
        assert got[number].logprobs == pytest.approx(each.logprobs, abs=1e-5)
    assert crowded.steps < sum(len(each.token_ids) for each in expected)  # they did share steps
    crowded.close()


def test_a_conversation_that_grows_computes_only_what_is_new(tiny_engine):
    prompt = prompts(1, seed=2)[0]
    first = tiny_engine.generate(prompt, GREEDY)
    longer = [*prompt, *first.token_ids, 7, 8, 9]
    again = tiny_engine.generate(longer, GREEDY)
    # The last sampled token was never computed.
    assert (first.cached, again.cached) == (0, len(longer) - 4)
    fresh = Engine(engine_folder(tiny_engine), dtype="float32")
    assert fresh.generate(longer, GREEDY).token_ids == again.token_ids
    fresh.close()


def engine_folder(tiny_engine: Engine) -> str:
    return tiny_engine._forward.model.config._name_or_path


def test_more_requests_than_the_cache_holds_wait_for_each_other(base):
    tiny_engine = Engine(base, dtype="float32", batch=8, max_model_len=300, cache_gib=400 * 1024 / 2**30)
    expected = [tiny_engine.generate(prompt, GREEDY).token_ids for prompt in prompts(6, longest=250)]
    with ThreadPoolExecutor(6) as threads:
        got = list(threads.map(lambda prompt: tiny_engine.generate(prompt, GREEDY).token_ids, prompts(6, longest=250)))
    assert got == expected
    assert tiny_engine._caches.budget == 400
    assert tiny_engine._caches.evicted > 0
    tiny_engine.close()


def test_stop_texts_stop_tokens_and_the_end_of_the_context(base, tiny_engine):
    free = tiny_engine.generate([5, 6, 7], Sampling(temperature=0, max_tokens=40, ignore_eos=True))
    assert (len(free.token_ids), free.finish_reason) == (40, "length")
    stop = free.text[12:15]
    got = tiny_engine.generate([5, 6, 7], Sampling(temperature=0, stop=(stop,), ignore_eos=True))
    assert (got.text, got.finish_reason) == (free.text[: free.text.index(stop)], "stop")
    assert got.token_ids == free.token_ids[: len(got.token_ids)]
    token = free.token_ids[10]
    place = free.token_ids.index(token)
    got = tiny_engine.generate([5, 6, 7], Sampling(temperature=0, stop_token_ids=(token,)))
    if not set(free.token_ids[:place]) & tiny_engine.end_ids:
        assert (got.token_ids, got.finish_reason) == (free.token_ids[: place + 1], "stop")
    short = Engine(base, dtype="float32", max_model_len=10)
    got = short.generate([5, 6, 7], Sampling(temperature=0, ignore_eos=True))
    assert (len(got.token_ids), got.finish_reason) == (7, "length")
    with pytest.raises(ContextOverflow, match="the prompt has 10 tokens and the maximum context length is 10"):
        short.generate([5] * 10, GREEDY)
    short.close()


def test_ids_that_the_model_has_not_are_refused(tiny_engine):
    for wrong in ([], [5, -1], [5, 10_000]):
        with pytest.raises(InputError, match="ids that the model has not; expected some from 0 to"):
            tiny_engine.generate(wrong, GREEDY)
    assert tiny_engine.is_alive


def test_load_replaces_the_weights_and_forgets_the_caches(base, other, tiny_engine):
    prompt = prompts(1, seed=3)[0]
    before = tiny_engine.generate(prompt, GREEDY)
    tiny_engine.load(other)
    after = tiny_engine.generate(prompt, GREEDY)
    assert after.cached == 0
    assert list(after.token_ids) == generated_by_transformers(other, prompt, GREEDY, tiny_engine.end_ids)
    tiny_engine.load(base)
    assert tiny_engine.generate(prompt, GREEDY) == before


def test_load_waits_for_the_requests_before_it(base, other, tiny_engine):
    prompt = prompts(1, seed=3)[0]
    long = Sampling(temperature=0, max_tokens=200, ignore_eos=True)
    expected = tiny_engine.generate(prompt, long).token_ids
    under_way = tiny_engine.submit(prompt, long)
    tiny_engine.load(other)
    assert under_way.future.result().token_ids == expected


def test_weights_that_cannot_be_loaded_leave_the_old_ones(tiny_engine, tmp_path):
    before = tiny_engine.generate([5, 6], GREEDY).token_ids
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(InputError, match="cannot be loaded as a model"):
        tiny_engine.load(tmp_path)
    assert tiny_engine.generate([5, 6], GREEDY).token_ids == before


def test_an_adapter_is_merged(base, adapter, tiny_engine):
    from peft import PeftModel

    prompt = prompts(1, seed=6)[0]
    tiny_engine.load(adapter)
    with torch.inference_mode():
        peft = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), str(adapter)).eval()
        logits = peft(torch.tensor([prompt])).logits[0, :-1]
    direct = [float(row[token]) for row, token in zip(logits.log_softmax(-1), prompt[1:], strict=True)]
    assert tiny_engine.logprobs(prompt) == pytest.approx(direct, abs=1e-4)
    assert tiny_engine.logprobs(prompt) != pytest.approx(direct_logprobs(base, prompt), abs=1e-2)


def test_a_stop_gives_a_reply_up_and_the_engine_goes_on(tiny_engine):
    stop = threading.Event()
    threading.Timer(0.3, stop.set).start()
    with pytest.raises(ModelError, match="the reply was cancelled before it was finished"):
        tiny_engine.generate([5, 6], Sampling(max_tokens=2000, ignore_eos=True), stop=stop)
    assert tiny_engine.generate([5, 6], GREEDY).token_ids


def test_close_ends_what_waits(base):
    tiny_engine = Engine(base, dtype="float32")
    request = tiny_engine.submit([5, 6], Sampling(max_tokens=2000, ignore_eos=True))
    tiny_engine.close()
    with pytest.raises(ModelError, match="cancelled"):
        tiny_engine.wait(request)
    with pytest.raises(ModelError, match="the engine is closed"):
        tiny_engine.generate([5], GREEDY)
    tiny_engine.close()


class NoMemory(RuntimeError):
    """As torch says it."""


def test_no_memory_for_a_shared_beginning_costs_that_request_and_not_the_thread(base, monkeypatch):
    engine = Engine(base, dtype="float32", batch=4, cache_gib=0.01)
    try:
        prompt = prompts(1, seed=8)[0] * 3
        expected = engine.generate(prompt, GREEDY)

        def copy(self, other, tokens):
            raise NoMemory("DefaultCPUAllocator: can't allocate memory")

        with monkeypatch.context() as patched:
            patched.setattr(Cache, "copy_beginning", copy)
            with pytest.raises(ModelError, match=r"can't allocate memory\)\. If memory ran out, lower serve\.batch"):
                engine.generate([*prompt[:40], 7, 8], GREEDY)
        assert engine.is_alive
        assert engine.generate(prompt, GREEDY).token_ids == expected.token_ids
        assert engine._caches._running == []
    finally:
        engine.close()


def test_a_listener_that_fails_costs_its_request_alone(base, tiny_engine):
    def on_token(ids):
        raise RuntimeError("Event loop is closed")

    other = tiny_engine.submit([5, 6, 7], Sampling(temperature=0, max_tokens=40, ignore_eos=True))
    failing = tiny_engine.submit([9, 8], GREEDY, on_token=on_token)
    with pytest.raises(ModelError, match="Event loop is closed"):
        tiny_engine.wait(failing)
    assert len(tiny_engine.wait(other).token_ids) == 40
    assert tiny_engine.generate([5, 6], GREEDY).token_ids


def test_any_error_of_a_step_fails_its_requests_and_the_engine_goes_on(base, monkeypatch, tiny_engine):
    def run(self, pieces):
        raise AssertionError("a bug of the model's code")

    with monkeypatch.context() as patched:
        patched.setattr(Forward, "run", run)
        with pytest.raises(ModelError, match=r"a bug of the model's code"):
            tiny_engine.generate([5, 6], GREEDY)
    assert tiny_engine.generate([5, 6], GREEDY).token_ids


def test_a_closed_engine_holds_no_model_even_where_it_is_held_itself(base):
    engine = Engine(base, dtype="float32")
    model = LocalModel(engine, OpenAIConfig(max_tokens=3), name="m")
    model.reply([{"role": "user", "content": "x"}])
    held = weakref.ref(engine._forward.model)
    model.close()
    assert held() is None
    assert engine._caches.held == 0
    model.close()


def test_the_models_own_settings_are_those_that_vllm_takes(base, tmp_path):
    shutil.copytree(base, tmp_path / "model")
    known = {"repetition_penalty": 1.05, "temperature": 0.7, "top_p": 0.8, "top_k": 20, "min_p": 0.1}
    (tmp_path / "model" / "generation_config.json").write_text(json.dumps(known | {"eos_token_id": 0}))
    engine = Engine(tmp_path / "model", dtype="float32")
    try:
        assert engine.defaults == known
        assert sampling_of({}, engine, where="x") == Sampling(**known)
        assert sampling_of({"repetition_penalty": 1.0}, engine, where="x").repetition_penalty == 1.0
    finally:
        engine.close()


@pytest.mark.parametrize("penalty", [1.3, 0.8])
def test_a_repetition_penalty_is_that_of_transformers(base, tiny_engine, penalty):
    for prompt in prompts(4, seed=11):
        asked = Sampling(temperature=0, max_tokens=24, repetition_penalty=penalty)
        got = tiny_engine.generate(prompt, asked)
        expected = generated_by_transformers(base, prompt, asked, tiny_engine.end_ids)
        assert list(got.token_ids) == expected
        direct = direct_logprobs(base, [*prompt, *got.token_ids])
        assert got.logprobs == pytest.approx(direct[len(prompt) - 1 :], abs=1e-4)  # the model's own, without it
