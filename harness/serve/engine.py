"""The in-process engine: one transformers model, requests from many threads, batched step by step.

    engine = Engine(folder, dtype="bfloat16", batch=16)
    engine.generate(prompt_ids, Sampling(temperature=0, max_tokens=64)).text       # from any thread
    engine.logprobs(token_ids)
    engine.load(other_folder)              # once the requests before it are finished; caches are forgotten
    engine.close()                         # its memory is free afterwards

One thread owns the model and the caches; others put requests in line and wait for their futures. A request is a growing
sequence of tokens and a cache of those that were computed. Reading a prompt and writing a reply are the same: in each
step a request computes what it misses, in chunks of at most CHUNK, and when it misses nothing it samples the next
token. So a new request joins while others write, and a reply costs one row a step.

Delete it, with cache.py, forward.py and sampling.py, when transformers' own continuous batching does the same. In 5.24
it gives the same ids and log-probabilities in float32 (within 3e-5), but has one seed for all requests, no stop texts
and no log-probabilities of prompts, and gives a sampled token's after temperature and cuts. Two loaded cores,
SmolLM2-135M in float32, prompts of 300 tokens: 1, 4, 8 clients have 6.8, 17, 23 tokens/s here, and 5.9, 4 to 18, no
reply within 200 s there. tests/benchmarks/serving.py measures both.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import CancelledError, Future
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
from loguru import logger
from torch import Tensor

from srft.agent.models.contract import ContextOverflow, well_formed
from srft.env.errors import InputError, ModelError
from srft.harness.serve.cache import Cache, Caches
from srft.harness.serve.forward import Forward, Piece
from srft.harness.serve.memory import first_line, give_back
from srft.harness.serve.sampling import Choice, Sampler, Sampling, choose
from srft.harness.serve.server import Dtype
from srft.harness.serve.tool_calls import NO_CALLS, CalledText, ToolCalls
from srft.harness.serve.weights import tokenizer_of
from srft.train.rows.render import Renderer

BATCH = 16
"""Requests at a time, where no number is given."""
CHUNK = 256
"""Tokens of one prompt in one step. It depends on nothing else, so that results do not either."""
POLL_S = 0.2
"""How often a waiting caller looks whether it is to stop."""

FinishReason = Literal["stop", "length"]


class Generated(NamedTuple):
    """A finished reply of T tokens, the one that ended it included.

    text: without that token, and without the stop text and what follows. logprobs: of the tokens, by the model itself.
    cached: how many tokens of the prompt were not computed again. prompt_logprobs: of the prompt's tokens but the
    first, where they were asked for.
    """

    prompt_token_ids: tuple[int, ...]
    token_ids: tuple[int, ...]
    logprobs: tuple[float, ...]
    text: str
    finish_reason: FinishReason
    cached: int
    prompt_logprobs: tuple[float, ...] | None


class Request:
    """One request on its way through the engine. Its one field that other threads set is `cancelled`.

    limit: at most so many new tokens. end_ids: tokens that end the reply. decode: ids to text. on_token: called in the
    engine's thread after each token, with the reply's ids so far; it must be quick.
    """

    def __init__(
        self,
        prompt: Sequence[int],
        sampling: Sampling,
        *,
        limit: int,
        end_ids: frozenset[int],
        decode: Callable[[Sequence[int]], str],
        wants_prompt_logprobs: bool = False,
        on_token: Callable[[Sequence[int]], None] | None = None,
    ) -> None:
        self.prompt, self.limit = tuple(prompt), limit
        self.future: Future[Generated] = Future()
        self.cancelled = threading.Event()
        self.cache: Cache | None = None
        self.wants_prompt_logprobs = wants_prompt_logprobs
        self.sampler = Sampler(sampling, prompt)
        self._sequence = list(prompt)
        self._logprobs: list[float] = []
        self._prompt_logprobs: list[float] = []
        self._cached = 0
        self._stop = sampling.stop
        self._end_ids = end_ids | frozenset(sampling.stop_token_ids) if not sampling.ignore_eos else frozenset()
        self._decode, self._on_token = decode, on_token

    @property
    def token_ids(self) -> list[int]:
        return self._sequence[len(self.prompt) :]

    def begin(self, cache: Cache) -> None:
        self.cache, self._cached = cache, len(cache.tokens)

    def piece(self) -> Piece:
        """What it computes next."""
        assert self.cache is not None
        done = len(self.cache.tokens)
        tokens = self._sequence[done : done + CHUNK]
        samples = done + len(tokens) == len(self._sequence) and self.limit > 0
        keep = len(tokens) if self.wants_prompt_logprobs and done < len(self.prompt) else int(samples)
        return Piece(self.cache, tokens, keep)

    def read(self, logits: Tensor) -> bool:
        """Note the logits of its piece, whose tokens are in the cache now. Whether it has read all there is."""
        assert self.cache is not None
        done = len(self.cache.tokens)
        if self.wants_prompt_logprobs and not self._logprobs:
            first = done - len(logits)  # the logits after the prompt's last token are the reply's
            following = self.prompt[first + 1 : first + 1 + len(logits)]
            rows = logits[: len(following)].log_softmax(-1)
            self._prompt_logprobs += rows.gather(1, torch.tensor([following], device=rows.device).T)[:, 0].tolist()
        return done == len(self._sequence)

    def write(self, choice: Choice) -> FinishReason | None:
        """Go on with the next token. Gives why it is finished, if it is."""
        self._logprobs.append(choice.logprob)
        self._sequence.append(choice.token)
        if self._on_token is not None:
            self._on_token(self.token_ids)
        if choice.token in self._end_ids:
            return "stop"
        if self._stop and self._stop_place(self._decode(self.token_ids)) is not None:
            return "stop"
        return "length" if len(self._logprobs) == self.limit else None

    def _stop_place(self, text: str) -> int | None:
        return min((place for stop in self._stop if (place := text.find(stop)) >= 0), default=None)

    def generated(self, reason: FinishReason) -> Generated:
        ids = self.token_ids
        text = self._decode(ids[:-1] if ids and ids[-1] in self._end_ids else ids)
        return Generated(
            prompt_token_ids=self.prompt,
            token_ids=tuple(ids),
            logprobs=tuple(self._logprobs),
            text=text[: self._stop_place(text)],
            finish_reason=reason,
            cached=self._cached,
            prompt_logprobs=tuple(self._prompt_logprobs) if self.wants_prompt_logprobs else None,
        )


class _Order(NamedTuple):
    """Something that the engine's thread does between requests."""

    work: Callable[[], None]
    future: Future[None]


class Engine:
    """A model that many threads ask at once.

    dtype: what it computes in. batch: requests at a time. max_model_len: tokens a conversation may have, the model's
    own limit if `None`. cache_gib: memory for keys and values. Raises InputError, OutOfMemory.
    """

    def __init__(
        self,
        weights: str | Path,
        *,
        dtype: Dtype = "auto",
        batch: int = BATCH,
        max_model_len: int | None = None,
        cache_gib: float | None = None,
    ) -> None:
        self._batch, self._wanted_len, self._cache_gib = batch, max_model_len, cache_gib
        self._forward = Forward(weights, dtype=dtype)
        self._prepare(weights)
        self._changed = threading.Condition()
        self._line: deque[Request | _Order] = deque()
        self._running: list[Request] = []
        self._closing = False
        self.steps = 0
        self._thread = threading.Thread(target=self._run, name="srft-engine", daemon=True)
        self._thread.start()

    def _prepare(self, weights: str | Path) -> None:
        """What depends on the weights besides the model itself."""
        self.renderer = Renderer.load(tokenizer_of(weights))
        if self.renderer.template.opens_thinking:
            self.renderer.thinking = "empty"  # prompts as the template gives them; nothing is trained here
        self.tool_calls = ToolCalls.of(self.renderer.template)
        self.end_ids = self._forward.end_ids | set(self.renderer.stop_ids)
        budget = self._forward.cache_budget(self._cache_gib)
        wanted = min(self._wanted_len or self._forward.max_positions, self._forward.max_positions)
        self.max_model_len = min(wanted, budget)
        if budget < wanted:
            logger.warning("the cache holds {:,} tokens, so that is the context, not {:,}", budget, wanted)
        self._caches = Caches(self._forward.shape, budget=budget)

    @property
    def dtype(self) -> torch.dtype:
        return self._forward.dtype

    @property
    def defaults(self) -> dict[str, Any]:
        """What the model's own generation_config.json says of sampling, for settings that are not given; vLLM takes
        the same from there."""
        names = ("temperature", "top_p", "top_k", "min_p", "repetition_penalty")
        kept = {name: getattr(self._forward.generation, name, None) for name in names}
        return {name: value for name, value in kept.items() if value is not None}

    @property
    def is_alive(self) -> bool:
        return self._thread.is_alive()

    def decode(self, ids: Sequence[int]) -> str:
        """The text of ids, that of special tokens included."""
        text: str = self.renderer.tokenizer.backend_tokenizer.decode(list(ids), skip_special_tokens=False)  # type: ignore[attr-defined]
        return text

    def called(self, generated: Generated, *, tools: Sequence[Any]) -> CalledText:
        """A reply's text and its tool calls, where tools were offered. Raises InputError for a template whose calls
        cannot be read here."""
        if not tools:
            return CalledText(well_formed(generated.text), ())
        if self.tool_calls is None:
            raise InputError(NO_CALLS)
        return self.tool_calls.read(well_formed(generated.text))

    # ---- for other threads ----

    def submit(
        self,
        prompt: Sequence[int],
        sampling: Sampling,
        *,
        prompt_logprobs: bool = False,
        on_token: Callable[[Sequence[int]], None] | None = None,
    ) -> Request:
        """Put a request in line; its `future` gives the reply. Raises ContextOverflow, ModelError.

        Where max_tokens would go beyond the context, the reply ends with it ("length").
        """
        room = self.max_model_len - len(prompt)
        if room < 1:
            raise ContextOverflow(
                f"the prompt has {len(prompt)} tokens and the maximum context length is {self.max_model_len}, of which "
                "one at least is for the reply"
            )
        limit = room if sampling.max_tokens is None else min(room, sampling.max_tokens)
        return self._put_request(prompt, sampling, limit, prompt_logprobs=prompt_logprobs, on_token=on_token)

    def generate(self, prompt: Sequence[int], sampling: Sampling, *, stop: threading.Event | None = None) -> Generated:
        """The reply. Raises ContextOverflow, and ModelError also where `stop` was set before it was finished."""
        return self.wait(self.submit(prompt, sampling), stop=stop)

    def wait(self, request: Request, *, stop: threading.Event | None = None) -> Generated:
        """A request's reply. Raises as `generate`."""
        while stop is not None:
            if stop.is_set():
                request.cancelled.set()
                break
            try:
                return request.future.result(timeout=POLL_S)
            except TimeoutError:
                continue
        try:
            return request.future.result()
        except CancelledError:
            raise ModelError("the reply was cancelled before it was finished; the same command asks again") from None

    def logprobs(self, token_ids: Sequence[int]) -> tuple[float, ...]:
        """Of token_ids[1:], each given those before. Raises ContextOverflow, ModelError."""
        if len(token_ids) > self.max_model_len:
            raise ContextOverflow(
                f"{len(token_ids)} tokens, and the maximum context length is {self.max_model_len}; give fewer"
            )
        request = self._put_request(token_ids, Sampling(), 0, prompt_logprobs=True)
        logprobs = self.wait(request).prompt_logprobs
        assert logprobs is not None
        return logprobs

    def load(self, weights: str | Path) -> None:
        """Serve other weights: after the requests that came before, before those that come after. Raises InputError."""

        def work() -> None:
            self._caches.clear()
            self._forward.load(weights)
            self._prepare(weights)

        order = _Order(work, Future())
        self._put(order)
        order.future.result()

    def close(self) -> None:
        """End, and drop the model and the caches. Requests under way are cancelled. Idempotent."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        self._thread.join()
        self._caches.clear()
        self._forward.close()

    def _put_request(
        self, prompt: Sequence[int], sampling: Sampling, limit: int, *, prompt_logprobs: bool, on_token: Any = None
    ) -> Request:
        known = self._forward.vocabulary
        if not prompt or not all(0 <= token < known for token in prompt):
            raise InputError(
                f"the prompt has no tokens, or ids that the model has not; expected some from 0 to {known - 1}"
            )
        request = Request(
            prompt,
            sampling,
            limit=limit,
            end_ids=self.end_ids,
            decode=self.decode,
            wants_prompt_logprobs=prompt_logprobs,
            on_token=on_token,
        )
        self._put(request)
        return request

    def _put(self, request: Request | _Order) -> None:
        with self._changed:
            if self._closing or not self._thread.is_alive():
                raise ModelError("the engine is closed; its error, if it had one, stands above")
            self._line.append(request)
            self._changed.notify()

    # ---- the engine's own thread ----

    def _run(self) -> None:
        try:
            while self._wait_for_work():
                self._admit()
                self._step()
        finally:  # also when this thread ends by a bug of ours: nobody waits for ever
            with self._changed:
                self._closing = True
                for waiting in (*self._running, *self._line):
                    waiting.future.cancel()
                self._running.clear()
                self._line.clear()

    def _wait_for_work(self) -> bool:
        """Wait until there is something to do; false when it is over."""
        with self._changed:
            while not (self._closing or self._running or self._line):
                self._changed.wait()
            return not self._closing

    def _admit(self) -> None:
        """Let in who stands first in line, as long as there is room. An order waits until nobody runs."""
        while len(self._running) < self._batch:
            with self._changed:
                first = self._line[0] if self._line else None
            if first is None or (isinstance(first, _Order) and self._running):
                return
            if isinstance(first, Request) and first.cancelled.is_set():
                first.future.cancel()
            else:
                try:
                    if isinstance(first, _Order):
                        first.work()
                        first.future.set_result(None)
                    elif not self._let_in(first):
                        return
                except Exception as error:  # noqa: BLE001 - no memory for a copy, say: it costs this one, not the thread
                    first.future.set_exception(error if isinstance(first, _Order) else _failed(error))
                    give_back()
            with self._changed:
                self._line.popleft()

    def _let_in(self, request: Request) -> bool:
        """Give a request its cache; false when there is no room now."""
        reserve = len(request.prompt) + request.limit
        cache = self._caches.take(request.prompt, reserve=reserve, reuse=not request.wants_prompt_logprobs)
        if cache is None:
            return False
        request.begin(cache)
        self._running.append(request)
        return True

    def _step(self) -> None:
        """One forward for all, and a token for each that has read its prompt."""
        for request in [request for request in self._running if request.cancelled.is_set()]:
            self._leave(request)
            request.future.cancel()
        step = next_step(self._running)
        if not step:
            return
        try:
            outputs = self._forward.run([piece for _, piece in step])
            ready = [
                (request, logits) for (request, _), logits in zip(step, outputs, strict=True) if request.read(logits)
            ]
            choices = _choose([(request, logits[-1]) for request, logits in ready if request.limit > 0])
        except Exception as error:  # noqa: BLE001 - whatever it is, it costs these requests, not the thread
            self._give_up(error)
            return
        self.steps += 1
        for request, _ in ready:
            try:
                reason: FinishReason | None = request.write(choices[request]) if request in choices else "length"
                generated = request.generated(reason) if reason is not None else None
            except Exception as error:  # noqa: BLE001 - its on_token, or its decoding
                self._leave(request)
                request.future.set_exception(_failed(error))
                continue
            if generated is not None:
                self._leave(request)
                request.future.set_result(generated)

    def _leave(self, request: Request) -> None:
        assert request.cache is not None
        self._running.remove(request)
        self._caches.give_back(request.cache)

    def _give_up(self, error: Exception) -> None:
        """Fail what is under way, and forget the caches, which may be half written."""
        logger.error("a step of {} requests failed: {}", len(self._running), first_line(error))
        for request in list(self._running):
            self._leave(request)
            request.future.set_exception(_failed(error))
        self._caches.clear()
        give_back()


def _failed(error: Exception) -> ModelError:
    return ModelError(
        f"the model's forward failed ({first_line(error)}). If memory ran out, lower serve.batch, serve.cache_gib or "
        "serve.max_model_len."
    )


def next_step(running: Sequence[Request]) -> list[tuple[Request, Piece]]:
    """Who computes what: all who write, and of those who read, in the order in which they came, CHUNK together."""
    room, step = CHUNK, []
    for request in running:
        piece = request.piece()
        if len(piece.tokens) > 1:
            if room <= 0:
                continue
            room -= len(piece.tokens)
        step.append((request, piece))
    return step


def _choose(writing: Sequence[tuple[Request, Tensor]]) -> dict[Request, Choice]:
    """The next token of each request, from its row of logits."""
    if not writing:
        return {}
    requests, rows = zip(*writing, strict=True)
    choices = choose([request.sampler for request in requests], torch.stack(rows))
    return dict(zip(requests, choices, strict=True))
