"""Serving on the CPU: our engine against transformers' generate, one by one and as one batch, and against vLLM.

SmolLM2-135M, the model of `make model`, in the type that this processor is fastest in ("auto"). Each of 1, 4 or 8
clients asks for 48 tokens after a prompt of its own of about 300 tokens, greedily; what is timed is from the first
request to the last reply, so reading the prompts counts. Sides take turns. transformers' batch is padded on the left,
and starts all at once, which is the best case for it: it cannot let anyone join. vLLM's server is asked over HTTP by as
many threads; each round has other prompts, so that its prefix cache does not help; it is measured where
SRFT_VLLM_PYTHON names an interpreter that has it. transformers' continuous batching is asked where
SRFT_BENCH_CONTINUOUS is set: on a processor it may not answer (in 5.24, eight clients had no reply within 200 s), which
ends the benchmark.

A last row is an agent's conversation: eight turns, each prompt the one before with the reply and 60 new tokens; the
peer is generate, which reads the whole prompt again each time.
"""

import os
import random
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import openai
import torch
from benchmarks.recorded_runs import NO_MODEL, model
from benchmarks.rows import Bench, Goal, Row, rate_row
from transformers import AutoModelForCausalLM, ContinuousBatchingConfig, GenerationConfig

from srft.agent.models.openai import OpenAIConfig
from srft.harness.serve.engine import Engine
from srft.harness.serve.sampling import Sampling
from srft.harness.serve.server import ServeConfig
from srft.harness.serve.vllm import VllmServer, find_vllm

CLIENTS = (1, 4, 8)
PROMPT, REPLY, TURNS, TURN = 300, 48, 8, 60
ROUNDS = 3
UNIT = "tokens/s"
NO_VLLM = "not measured, no vLLM; SRFT_VLLM_PYTHON names an interpreter that has it"
GREEDY = Sampling(temperature=0, max_tokens=REPLY, ignore_eos=True)
CONTINUOUS_S = 200.0
GOALS = {
    "continuous": Goal(at_least_times=1.0),
    "one by one": Goal(at_least_times=1.5),
    "batched": Goal(at_least_times=1.0),
    "vLLM": Goal(at_least_times=1.0),
}

Prompts = Sequence[list[int]]
Side = Callable[[Prompts], None]


def serving(bench: Bench) -> dict[str, Row]:
    folder = model("smollm2-135m")
    if folder is None:
        return {"serving": Row(value=None, unit=UNIT, peer=NO_MODEL)}
    engine = Engine(folder)
    peer = AutoModelForCausalLM.from_pretrained(folder, dtype=engine.dtype).eval()
    vllm = _open_vllm(folder, str(engine.dtype).removeprefix("torch."))
    continuous = _open_continuous(folder, engine.dtype) if os.environ.get("SRFT_BENCH_CONTINUOUS") else None
    try:
        rows: dict[str, Row] = {}
        for clients in CLIENTS:
            sides: dict[str, Side] = {
                "ours": lambda prompts: _ask_engine(engine, prompts),
                "one by one": lambda prompts: [_generate(peer, [prompt]) for prompt in prompts] and None,
                "batched": lambda prompts: _generate(peer, prompts),
            }
            if continuous is not None:
                sides["continuous"] = lambda prompts: _ask_continuous(continuous, prompts)
            if vllm is not None:
                sides["vLLM"] = lambda prompts: _ask_vllm(vllm, prompts)
            rows |= _rows(f"serving_{clients}", _paces(sides, clients, 1 if bench.quick else ROUNDS), vllm is not None)
        return rows | {"serving_conversation": _conversation(bench, engine, peer)}
    finally:
        engine.close()
        if continuous is not None:
            continuous.stop(block=False)
        if vllm is not None:
            vllm.close()


def _paces(sides: dict[str, Side], clients: int, rounds: int) -> dict[str, list[float]]:
    """Tokens a second of each side in each round. The prompts of a round are the same for all."""
    chosen = random.Random(clients)
    paces: dict[str, list[float]] = {name: [] for name in sides}
    for number in range(rounds + 1):
        prompts = [[chosen.randrange(100, 40_000) for _ in range(PROMPT - 3 * place)] for place in range(clients)]
        for name, side in sides.items():
            began_s = time.perf_counter()
            side(prompts if number else prompts[:1])  # the first round warms up
            if number:
                paces[name].append(clients * REPLY / (time.perf_counter() - began_s))
    return paces


def _rows(name: str, paces: dict[str, list[float]], has_vllm: bool) -> dict[str, Row]:
    rows = {}
    for peer, goal in GOALS.items():
        theirs = paces.get(peer, [])
        label = f"transformers generate, {peer}," if peer != "vLLM" else "vLLM" if has_vllm else NO_VLLM
        if peer == "continuous":
            label = "transformers' continuous batching"
            if not theirs:
                continue
        rows[f"{name}_{peer.replace(' ', '_').lower()}"] = rate_row(
            paces["ours"], unit=UNIT, peer=label, peer_per_s=theirs, goal=goal if theirs else None
        )
    return rows


def _ask_engine(engine: Engine, prompts: Prompts) -> None:
    requests = [engine.submit(prompt, GREEDY) for prompt in prompts]
    for request in requests:
        assert len(engine.wait(request).token_ids) == REPLY


def _generate(peer: Any, prompts: Prompts) -> None:
    """transformers' generate over the prompts as one batch, the shorter ones padded on the left."""
    length = max(map(len, prompts))
    ids = torch.tensor([[0] * (length - len(prompt)) + prompt for prompt in prompts])
    mask = torch.tensor([[0] * (length - len(prompt)) + [1] * len(prompt) for prompt in prompts])
    output = peer.generate(
        ids, attention_mask=mask, max_new_tokens=REPLY, min_new_tokens=REPLY, do_sample=False, pad_token_id=0
    )
    assert output.shape == (len(prompts), length + REPLY)


def _open_continuous(folder: Path, dtype: torch.dtype) -> Any:
    """transformers' continuous batching, with log-probabilities, as the engine gives them."""
    peer: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype).eval()
    generation = GenerationConfig(max_new_tokens=REPLY, do_sample=False, eos_token_id=-1, pad_token_id=0)
    batching = ContinuousBatchingConfig(return_logprobs=True, num_blocks=64, page_size=32, max_batch_tokens=256)
    manager = peer.init_continuous_batching(generation_config=generation, continuous_batching_config=batching)
    manager.start()
    return manager


def _ask_continuous(manager: Any, prompts: Prompts) -> None:
    waiting = {manager.add_request(prompt, max_new_tokens=REPLY, eos_token_id=-1) for prompt in prompts}
    while waiting:
        output = manager.get_result(timeout=CONTINUOUS_S)
        assert output is not None, f"no reply within {CONTINUOUS_S:g} s"
        if output.is_finished():
            assert len(output.generated_tokens) == len(output.logprobs) == REPLY
            waiting.remove(output.request_id)


def _open_vllm(folder: Path, dtype: str) -> VllmServer | None:
    python = find_vllm(ServeConfig())
    if python is None:
        return None
    config = ServeConfig(kind="vllm", vllm_python=python, dtype=dtype, max_model_len=2048, cache_gib=1)  # type: ignore[arg-type]
    log = Path(tempfile.gettempdir(), f"srft-bench-vllm-{os.getpid()}.log")
    return VllmServer(folder, name="smollm2", config=config, sampling=OpenAIConfig(), log=log)


def _ask_vllm(server: VllmServer, prompts: Prompts) -> None:
    client = openai.OpenAI(base_url=server.url, api_key="none", http_client=openai.DefaultHttpxClient(trust_env=False))

    def ask(prompt: list[int]) -> None:
        body = {"ignore_eos": True}
        answer = client.completions.create(
            model="smollm2", prompt=prompt, max_tokens=REPLY, temperature=0, extra_body=body
        )
        assert answer.usage is not None
        assert answer.usage.completion_tokens == REPLY

    with ThreadPoolExecutor(len(prompts)) as threads:
        list(threads.map(ask, prompts))


def _conversation(bench: Bench, engine: Engine, peer: Any) -> Row:
    paces: dict[str, list[float]] = {"ours": [], "theirs": []}
    chosen = random.Random(0)
    for _ in range(1 if bench.quick else ROUNDS):
        first = [chosen.randrange(100, 40_000) for _ in range(PROMPT)]
        said = [[chosen.randrange(100, 40_000) for _ in range(TURN)] for _ in range(TURNS)]
        for name in paces:
            prompt, began_s = list(first), time.perf_counter()
            for turn in said:
                prompt = [*prompt, *turn]
                if name == "ours":
                    prompt += engine.generate(prompt, GREEDY).token_ids
                else:
                    _generate(peer, [prompt])
                    prompt += turn[:REPLY]
            paces[name].append(TURNS * REPLY / (time.perf_counter() - began_s))
    return rate_row(
        paces["ours"],
        unit=UNIT,
        peer="transformers generate, without a cache between turns,",
        peer_per_s=paces["theirs"],
        goal=Goal(at_least_times=1.5),
    )
