"""The in-process engine as a Model: what an episode asks, without a server.

    model = LocalModel(engine, OpenAIConfig(temperature=0.8, max_tokens=512), name="round-001")
    model.for_episode("flask__flask-1", attempt=0, seed=7).reply(messages).token_ids

Settings are those of an endpoint, so that a configuration does not change with the kind of server; what an endpoint
gets in `extra_body` (top_k, min_p, repetition_penalty, stop, ...) counts here too. A reply cut off by max_tokens or by
the end of the context is finished with "length".
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

import msgspec

from srft.agent.models.contract import Reply
from srft.agent.models.openai import OpenAIConfig
from srft.agent.records import Usage
from srft.env.errors import InputError
from srft.harness.serve.conversation import Conversation
from srft.harness.serve.engine import Engine, Generated
from srft.harness.serve.sampling import Sampling


def sampling_of(settings: dict[str, Any], engine: Engine, *, where: str) -> Sampling:
    """Settings as a request has them, else those of the model's own configuration. Raises InputError."""
    given = {name: value for name, value in settings.items() if value is not None}
    if isinstance(given.get("stop"), str):
        given["stop"] = [given["stop"]]
    try:
        return msgspec.convert(engine.defaults | given, Sampling)
    except msgspec.ValidationError as error:
        known = ", ".join(field.name for field in msgspec.structs.fields(Sampling))
        raise InputError(f"{where}: {error}; the engine in this process knows {known}") from None


class LocalModel:
    """A model in this process. Shared by threads.

    stop: when set, replies under way are given up (ModelError), so that a process that is to end need not wait for
    them.
    """

    def __init__(
        self,
        engine: Engine,
        settings: OpenAIConfig | None = None,
        *,
        name: str,
        seed: int | None = None,
        stop: threading.Event | None = None,
    ) -> None:
        self.engine, self.name = engine, name
        self._settings = settings or OpenAIConfig()
        self._asked = {
            **{key: getattr(self._settings, key) for key in ("temperature", "top_p", "max_tokens")},
            **self._settings.extra_body,
        }
        self._sampling = sampling_of(self._asked, engine, where="openai.extra_body")
        self._seed, self._stop = seed, stop
        self._replies: int | None = None  # counted in an episode's view, which one thread uses
        self._conversation = Conversation(engine.renderer)

    @property
    def sampling(self) -> dict[str, Any]:
        seed = {} if self._seed is None else {"seed": self._seed}
        return {key: value for key, value in self._asked.items() if value is not None} | seed

    def for_episode(self, task_id: str, attempt: int, seed: int | None) -> LocalModel:
        model = LocalModel(self.engine, self._settings, name=self.name, seed=seed, stop=self._stop)
        model._replies = 0
        return model

    def reply(self, messages: Sequence[dict[str, Any]], *, tools: Sequence[dict[str, Any]] = ()) -> Reply:
        prompt = self._conversation.prompt(messages, tools=tools)
        generated = self.engine.generate(prompt, self._next_sampling(), stop=self._stop)
        reply = self._reply(generated, tools)
        if self._replies is not None:
            self._replies += 1
            ended = generated.token_ids[-1] in self.engine.end_ids
            ids = generated.token_ids[:-1] if ended else generated.token_ids
            self._conversation.note(reply.content, ids, reply.tool_calls)
        return reply

    def check(self) -> None:
        """Nothing to ask: a model in this process is there."""

    def close(self) -> None:
        """End the engine. Replies under way are given up."""
        self.engine.close()

    def _next_sampling(self) -> Sampling:
        """With one seed for all of an episode's requests, each would draw the same numbers."""
        if self._seed is None:
            return self._sampling
        seed = (self._seed + (self._replies or 0) * 1_000_003) % 2**31
        return msgspec.structs.replace(self._sampling, seed=seed)

    def _reply(self, generated: Generated, tools: Sequence[dict[str, Any]]) -> Reply:
        text, calls = self.engine.called(generated, tools=tools)
        return Reply(
            content=text,
            tool_calls=calls,
            finish_reason="tool_calls" if calls and generated.finish_reason == "stop" else generated.finish_reason,
            prompt_token_ids=generated.prompt_token_ids,
            token_ids=generated.token_ids,
            logprobs=generated.logprobs,
            vocabulary=self.engine.renderer.vocabulary,
            usage=Usage(
                prompt_tokens=len(generated.prompt_token_ids),
                completion_tokens=len(generated.token_ids),
                cached_tokens=generated.cached,
                cost_usd=0.0,
            ),
        )
