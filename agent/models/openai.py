"""Any OpenAI-compatible server: vLLM, SGLang, llama.cpp, the hosted ones.

    model = OpenAIModel(OpenAIConfig(base_url="http://127.0.0.1:8000/v1", name="qwen"))
    model.check()                                            # ModelError, in one sentence, before a run begins
    model.for_episode("sympy__sympy-20590", 0, 7).reply(messages)

Retries (connection, timeout, 408, 409, 429, 5xx; exponential backoff with jitter, Retry-After honoured) are the openai
client's. What no retry can mend raises ModelError at once. Token ids and logprobs are asked for where the server knows
how.
"""

from __future__ import annotations

import json
import os
import re
import threading
from collections.abc import Sequence
from typing import Any, Literal, NoReturn
from urllib.parse import urlsplit

import msgspec
import openai
from loguru import logger
from openai.types.chat import ChatCompletion

from srft.agent.models.contract import ContextOverflow, Reply, well_formed
from srft.agent.models.stream import OnText, gathered
from srft.agent.records import Usage
from srft.env.errors import InputError, ModelError


class OpenAIConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which server, and how it samples. `None` leaves a setting to the server.

    name: the model's name there. api_key_env: the environment variable with the key; none for servers that want none.
    logprobs, return_token_ids: the latter is vLLM's; "auto" asks for it and goes without where it is refused.
    extra_body: further keys of the request, say {"top_k": 20}. usd_per_million_*: what tokens cost.
    """

    base_url: str = ""
    name: str = ""
    api_key_env: str | None = None
    temperature: float | None = None
    top_p: float | None = None
    max_tokens: int | None = None
    logprobs: bool | Literal["auto"] = "auto"
    return_token_ids: bool | Literal["auto"] = "auto"
    extra_body: dict[str, Any] = {}
    timeout_s: float = 600.0
    max_retries: int = 6
    usd_per_million_prompt: float | None = None
    usd_per_million_completion: float | None = None
    usd_per_million_cached: float | None = None


# How servers say that the messages do not fit.
_OVERFLOW = re.compile(
    r"context_length_exceeded"  # OpenAI's code
    r"|exceed_context_size_error"  # llama.cpp's type
    r"|maximum context length"  # OpenAI, vLLM, SGLang
    r"|longer than the (?:maximum model|model'?s (?:maximum )?context) length"  # vLLM, SGLang
    r"|exceeds? the (?:model'?s |maximum |allowed |available )*(?:context|length|number of tokens)"  # all of them
    r"|context size (?:has been )?exceeded"  # llama.cpp
    r"|exceed(?:s|ed)? (?:the )?context (?:window|size|length)"  # llama-cpp-python
    r"|max_tokens must be at least 1, got -"  # vLLM, when the prompt alone fills the context
    r"|prompt is too long",
    re.IGNORECASE,
)


class _Shared:
    """What all episodes of a model have in common: the connection, and what the server has refused."""

    def __init__(self, config: OpenAIConfig) -> None:
        key = os.environ.get(config.api_key_env, "") if config.api_key_env else "none"
        if not key:
            raise InputError(
                f"model {config.name}: the environment variable {config.api_key_env} is not set; put the key of "
                f"{config.base_url} there, or leave api_key_env out if it wants none"
            )
        try:
            self.client = _client(config, key)
        except ValueError as error:
            raise InputError(
                f"model {config.name}: {config.base_url!r} is no URL ({error}); expected one like http://HOST:8000/v1"
            ) from None
        self.lock = threading.Lock()
        self.refused: frozenset[str] = frozenset()


def _client(config: OpenAIConfig, key: str) -> openai.OpenAI:
    """Raises ValueError for a URL that is none."""
    address = urlsplit(config.base_url)
    _ = address.port  # looked at for its ValueError
    # A proxy from the environment cannot reach a server on this machine.
    local = address.hostname in {"127.0.0.1", "localhost", "::1"}
    return openai.OpenAI(
        base_url=config.base_url,
        api_key=key,
        timeout=config.timeout_s,
        max_retries=config.max_retries,
        http_client=openai.DefaultHttpxClient(trust_env=not local, timeout=config.timeout_s),
    )


# What is asked for beyond the text, and what to do where a server refuses it that must have it.
_EXTRAS = {
    "return_token_ids": "take a server that has it (vLLM), or set it to auto and train on text rendered by the chat "
    "template",
    "logprobs": "take a server that has them, or set it to auto and go without",
}


class OpenAIModel:
    """A model behind an OpenAI-compatible server. Shared by threads."""

    def __init__(self, config: OpenAIConfig, *, seed: int | None = None, shared: _Shared | None = None) -> None:
        self.config = config
        self._seed = seed
        self._shared = shared or _Shared(config)
        self._replies: int | None = None  # counted in an episode's view, which one thread uses

    @property
    def name(self) -> str:
        return self.config.name

    @property
    def sampling(self) -> dict[str, Any]:
        seed = {} if self._seed is None else {"seed": self._seed}
        return self._settings() | seed | self.config.extra_body

    def _settings(self) -> dict[str, Any]:
        settings = {key: getattr(self.config, key) for key in ("temperature", "top_p", "max_tokens")}
        return {key: value for key, value in settings.items() if value is not None}

    def with_settings(self, config: OpenAIConfig, *, seed: int | None) -> OpenAIModel:
        """This model with other settings of what is asked for, over the same connection to the same server."""
        return OpenAIModel(config, seed=seed, shared=self._shared)

    def for_episode(self, task_id: str, attempt: int, seed: int | None) -> OpenAIModel:
        model = self.with_settings(self.config, seed=seed)
        model._replies = 0
        return model

    def reply(self, messages: Sequence[dict[str, Any]], *, tools: Sequence[dict[str, Any]] = ()) -> Reply:
        return self._replied(messages, tools, None)

    def stream(
        self, messages: Sequence[dict[str, Any]], *, tools: Sequence[dict[str, Any]] = (), on_text: OnText
    ) -> Reply:
        """The same reply; on_text is given its pieces as they come."""
        return self._replied(messages, tools, on_text)

    def _replied(
        self, messages: Sequence[dict[str, Any]], tools: Sequence[dict[str, Any]], on_text: OnText | None
    ) -> Reply:
        extras = frozenset(name for name in _EXTRAS if getattr(self.config, name)) - self._shared.refused
        try:
            completion = self._ask(messages, tools, extras, on_text)
        except openai.APIStatusError as error:
            if not self._refuses(error, extras):
                self._fail(error)
            return self._replied(messages, tools, on_text)
        # ValueError: a body that is not the JSON it says it is
        except (openai.OpenAIError, ValueError) as error:
            self._fail(error)
        reply = self._reply(completion)
        if self._replies is not None:
            self._replies += 1
        return reply

    def check(self) -> None:
        """Ask the server whether it is there, takes the key and knows the model. Raises ModelError."""
        client, known = self._shared.client.with_options(max_retries=1), None
        try:
            known = [model.id for model in client.models.list().data]
        except (openai.AuthenticationError, openai.PermissionDeniedError, openai.APIConnectionError) as error:
            self._fail(error)
        except (openai.OpenAIError, ValueError, TypeError, AttributeError) as error:
            logger.debug("{}: no list of models ({}); asking the model itself", self.config.base_url, error)
        if known is not None and self.config.name in known and self.config.api_key_env is None:
            return
        # The model itself decides: some servers give no list, some take names that are not on it, and some show it to
        # everybody, whatever the key.
        try:
            client.chat.completions.create(
                model=self.config.name, messages=[{"role": "user", "content": "Hi"}], max_tokens=1
            )
        except openai.NotFoundError as error:
            self._fail(error, known)
        except openai.BadRequestError as error:
            if "max_tokens" not in str(error):  # newer OpenAI models know only max_completion_tokens: they are there
                self._fail(error, known)
        except (openai.OpenAIError, ValueError) as error:
            self._fail(error, known)

    def _ask(
        self,
        messages: Sequence[dict[str, Any]],
        tools: Sequence[dict[str, Any]],
        extras: frozenset[str],
        on_text: OnText | None,
    ) -> ChatCompletion:
        request = self._settings()
        if self._seed is not None:
            request["seed"] = _request_seed(self._seed, self._replies or 0)
        if tools:
            request["tools"] = list(tools)
        if on_text is not None:
            request |= {"stream": True, "stream_options": {"include_usage": True}}
        answer: Any = self._shared.client.chat.completions.create(
            model=self.config.name,
            messages=list(messages),  # type: ignore[arg-type]
            extra_body={**dict.fromkeys(sorted(extras), True), **self.config.extra_body},
            **request,
        )
        return answer if on_text is None else gathered(answer, on_text)

    def _refuses(self, error: openai.APIStatusError, extras: frozenset[str]) -> bool:
        """Whether the server refuses some of what was asked for beyond the text; remembered, said once."""
        said = _body(error)
        named = frozenset(name for name in extras if name in said.lower())
        if not named or not 400 <= error.status_code < 500 or _OVERFLOW.search(said):
            return False
        for name in sorted(named):
            if getattr(self.config, name) is True:
                raise ModelError(
                    f"{self.config.base_url}: the server refuses {name}, which the config asks for; {_EXTRAS[name]}"
                ) from error
        with self._shared.lock:
            for name in sorted(named - self._shared.refused):
                logger.warning("{}: the server refuses {} ({}); going on without", self.config.base_url, name, said)
            self._shared.refused |= named
        return True

    def _reply(self, completion: ChatCompletion) -> Reply:
        """The answer as a Reply. The client does not check what servers send, so nothing is taken for granted."""
        extra = getattr(completion, "model_extra", None) or {}
        if not getattr(completion, "choices", None) or completion.choices[0].message is None:
            said = str(extra.get("error") or completion)[:300]
            if _OVERFLOW.search(said):  # some servers say so with status 200
                raise ContextOverflow(f"{self.config.base_url}: {said}")
            raise ModelError(
                f"{self.config.base_url}: expected a chat completion with a choice in it, got {said!r}; check that "
                "the URL is the API's (most end in /v1) and look at the server's log"
            )
        choice = completion.choices[0]
        message, choice_extra = choice.message, choice.model_extra or {}
        message_extra = message.model_extra or {}
        reasoning = message_extra.get("reasoning_content") or message_extra.get("reasoning")
        return Reply(
            content=well_formed(message.content or ""),
            reasoning=well_formed(reasoning) if isinstance(reasoning, str) else None,
            tool_calls=tuple(_tool_call(call.model_dump()) for call in message.tool_calls or ()),
            finish_reason=choice.finish_reason,
            prompt_token_ids=_ids(extra.get("prompt_token_ids")),
            token_ids=_ids(choice_extra.get("token_ids")),
            logprobs=_logprobs(choice.logprobs),
            usage=self._usage(completion),
        )

    def _usage(self, completion: ChatCompletion) -> Usage | None:
        usage, config = completion.usage, self.config
        if usage is None:
            return None
        cached = usage.prompt_tokens_details.cached_tokens if usage.prompt_tokens_details else None
        cost_usd = (usage.model_extra or {}).get("cost")  # OpenRouter says it itself
        if config.usd_per_million_prompt is not None and config.usd_per_million_completion is not None:
            per_cached = config.usd_per_million_cached
            per_cached = config.usd_per_million_prompt if per_cached is None else per_cached
            cost_usd = (
                (usage.prompt_tokens - (cached or 0)) * config.usd_per_million_prompt
                + (cached or 0) * per_cached
                + usage.completion_tokens * config.usd_per_million_completion
            ) / 1e6
        return Usage(
            prompt_tokens=usage.prompt_tokens,
            completion_tokens=usage.completion_tokens,
            cached_tokens=cached,
            cost_usd=cost_usd,
        )

    def _fail(self, error: Exception, known: list[str] | None = None) -> NoReturn:
        """Raise the one sentence that says what is wrong and what to do. known: the models that are there."""
        if isinstance(error, openai.APIStatusError) and _OVERFLOW.search(_body(error)):
            raise ContextOverflow(f"{self.config.base_url}: {_body(error)}") from error
        text = _explain(error, self.config, known)
        raise ModelError(f"model {self.config.name} at {self.config.base_url}: {text}") from error


def _explain(error: Exception, config: OpenAIConfig, known: list[str] | None) -> str:
    said, retried = _body(error), f"after {config.max_retries} retries"
    if isinstance(error, openai.APITimeoutError):
        return f"no answer within {config.timeout_s:g} s {retried}; raise timeout_s or look at the server's load"
    if isinstance(error, openai.APIConnectionError):
        return f"no server answers there ({error.__cause__ or error}); start it, or mend the URL"
    if isinstance(error, openai.AuthenticationError | openai.PermissionDeniedError):
        source = f"the key in {config.api_key_env}" if config.api_key_env else "a request without a key"
        return f"the server refuses {source} ({said}); set api_key_env to the variable that holds a valid one"
    if isinstance(error, openai.NotFoundError):
        there = f"; models there: {', '.join(known)}" if known else ""
        return f"no model of that name, or no chat API there ({said}){there}; mend the name or the URL"
    if isinstance(error, openai.RateLimitError):
        return f"the server still says that it is asked too often {retried} ({said}); use fewer workers"
    if isinstance(error, openai.APIStatusError) and error.status_code < 500:
        return f"the server refuses the request ({error.status_code}: {said}); mend the sampling settings or extra_body"
    if isinstance(error, openai.APIStatusError):
        return f"the server fails ({error.status_code}: {said}) {retried}; look at its log"
    return f"expected a chat completion, got an answer that cannot be read ({error}); check that the URL is the API's"


def _request_seed(seed: int, number: int) -> int:
    """The seed of an episode's n-th request. With one seed for all, each request would draw the same noise."""
    return (seed + number * 1_000_003) % 2**31


def _body(error: Exception) -> str:
    """What the server said, shortened: the message where there is one."""
    body = getattr(error, "body", None)
    if isinstance(body, dict):
        body = body.get("message") or body.get("detail") or body
        if isinstance(error, openai.APIStatusError) and isinstance(error.code, str) and not error.code.isdigit():
            body = f"{body} [{error.code}]"
    text = body if isinstance(body, str) else json.dumps(body) if body else str(error)
    return text if len(text) <= 600 else text[:600] + "..."


def _tool_call(call: dict[str, Any]) -> dict[str, Any]:
    function = dict(call.get("function") or {})
    if not isinstance(function.get("arguments"), str):
        function["arguments"] = json.dumps(function.get("arguments") or {}, ensure_ascii=False)
    function = {key: well_formed(value) if isinstance(value, str) else value for key, value in function.items()}
    return {"id": call.get("id"), "type": "function", "function": function}


def _logprobs(logprobs: Any) -> tuple[float, ...] | None:
    """The sampled tokens' logprobs; `None` where a server gives none, or another shape than the API's."""
    content = getattr(logprobs, "content", None)
    if not isinstance(content, list):
        return None
    values = tuple(getattr(token, "logprob", None) for token in content)
    numbers = tuple(float(value) for value in values if isinstance(value, int | float))
    return numbers if numbers and len(numbers) == len(values) else None


def _ids(ids: Any) -> tuple[int, ...] | None:
    return tuple(ids) if ids else None
