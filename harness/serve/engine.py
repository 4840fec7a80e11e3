"""The in-process engine: one transformers model, requests from many threads, batched step by step.

    engine = Engine(folder, dtype="bfloat16", batch=16)
    engine.generate(prompt_ids, Sampling(temperature=0, max_tokens=64)).text       # from any thread
    engine.logprobs(token_ids)
    engine.load(other_folder)              # once the requests before it are finished; caches are forgotten
    engine.close()

One thread owns the model and the caches. Others put requests in line and wait for their futures.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import CancelledError, Future
from pathlib import Path
from typing import Any

import torch
from loguru import logger
from torch import Tensor

from srft.agent.models.contract import ContextOverflow
from srft.env.errors import InputError, ModelError, SrftError
from srft.harness.serve.batch import FinishReason, Generated, Request, next_step
from srft.harness.serve.cache import Caches
from srft.harness.serve.forward import Forward
from srft.harness.serve.sampling import Choice, Sampling, choose
from srft.harness.serve.server import Dtype
from srft.harness.serve.weights import tokenizer_of
from srft.train.rows.render import Renderer

POLL_S = 0.2
"""How often a waiting caller looks whether it is to stop."""


class _Order:
    """Something that the engine's thread does between requests."""

    def __init__(self, work: Callable[[], None]) -> None:
        self._work = work
        self.future: Future[None] = Future()

    def carry_out(self) -> None:
        try:
            self._work()
        except (SrftError, RuntimeError, OSError) as error:
            self.future.set_exception(error)
        else:
            self.future.set_result(None)


class Engine:
    """A model that many threads ask at once.

    dtype: what it computes in. batch: requests at a time. max_model_len: tokens a conversation may have, the model's
    own limit if `None`. cache_gib: memory for keys and values. Raises InputError.
    """

    def __init__(
        self,
        weights: str | Path,
        *,
        dtype: Dtype = "auto",
        batch: int = 16,
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
        """What the model's own generation_config.json says of sampling, for settings that are not given."""
        generation = self._forward.model.generation_config
        names = ("temperature", "top_p", "top_k")
        kept = {name: getattr(generation, name, None) for name in names if generation is not None}
        return {name: value for name, value in kept.items() if value is not None}

    @property
    def is_alive(self) -> bool:
        return self._thread.is_alive()

    def decode(self, ids: Sequence[int]) -> str:
        """The text of ids, that of special tokens included."""
        text: str = self.renderer.tokenizer.backend_tokenizer.decode(list(ids), skip_special_tokens=False)  # type: ignore[attr-defined]
        return text

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
        request = self._request(prompt, sampling, limit, prompt_logprobs=prompt_logprobs, on_token=on_token)
        self._put(request)
        return request

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
        request = self._request(token_ids, Sampling(), 0, prompt_logprobs=True)
        self._put(request)
        logprobs = self.wait(request).prompt_logprobs
        assert logprobs is not None
        return logprobs

    def load(self, weights: str | Path) -> None:
        """Serve other weights: after the requests that came before, before those that come after. Raises InputError."""

        def order() -> None:
            self._forward.load(weights)
            self._prepare(weights)

        ordered = _Order(order)
        self._put(ordered)
        ordered.future.result()

    def close(self) -> None:
        """End. Requests under way are cancelled."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        self._thread.join()

    def _request(
        self, prompt: Sequence[int], sampling: Sampling, limit: int, *, prompt_logprobs: bool, on_token: Any = None
    ) -> Request:
        known = self._forward.vocabulary
        if not prompt or not all(0 <= token < known for token in prompt):
            raise InputError(
                f"the prompt has no tokens, or ids that the model has not; expected some from 0 to {known - 1}"
            )
        return Request(
            prompt,
            sampling,
            limit=limit,
            end_ids=self.end_ids,
            decode=self.decode,
            wants_prompt_logprobs=prompt_logprobs,
            on_token=on_token,
        )

    def _put(self, request: Request | _Order) -> None:
        with self._changed:
            self._refuse_when_closed()
            self._line.append(request)
            self._changed.notify()

    def _refuse_when_closed(self) -> None:
        if self._closing or not self._thread.is_alive():
            raise ModelError("the engine is closed; its error, if it had one, stands above")

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
            if first is None or not self._let_in(first):
                return
            with self._changed:
                self._line.popleft()

    def _let_in(self, first: Request | _Order) -> bool:
        """Whether the first in line is dealt with; false when it has to wait."""
        if isinstance(first, _Order):
            if self._running:
                return False
            first.carry_out()
        elif first.cancelled.is_set():
            first.future.cancel()
        else:
            reuse = not first.wants_prompt_logprobs
            cache = self._caches.take(first.prompt, reserve=first.reserve, reuse=reuse)
            if cache is None:
                return False
            first.begin(cache)
            self._running.append(first)
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
            choices = self._choose([(request, logits[-1]) for request, logits in ready if request.limit > 0])
        except RuntimeError as error:  # torch's: out of memory, say
            self._give_up(error)
            return
        self.steps += 1
        for request, _ in ready:
            reason: FinishReason | None = request.write(choices[request]) if request in choices else "length"
            if reason is not None:
                self._leave(request)
                request.future.set_result(request.generated(reason))

    @staticmethod
    def _choose(writing: Sequence[tuple[Request, Tensor]]) -> dict[Request, Choice]:
        """The next token of each request, from its row of logits."""
        if not writing:
            return {}
        requests, rows = zip(*writing, strict=True)
        choices = choose([request.sampler for request in requests], torch.stack(rows))
        return dict(zip(requests, choices, strict=True))

    def _leave(self, request: Request) -> None:
        assert request.cache is not None
        self._running.remove(request)
        self._caches.give_back(request.cache)

    def _give_up(self, error: RuntimeError) -> None:
        """Fail what is under way, and forget the caches, which may be half written."""
        logger.error("a step of {} requests failed: {}", len(self._running), error)
        for request in list(self._running):
            self._leave(request)
            request.future.set_exception(
                ModelError(f"the model's forward failed ({error}); use a smaller batch, cache_gib or max_model_len")
            )
        self._caches.clear()
