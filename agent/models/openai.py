"""Any OpenAI-compatible server: vLLM, SGLang, llama.cpp, the hosted ones.

    model = OpenAIModel(OpenAIConfig(base_url="http://127.0.0.1:8000/v1", name="qwen"))
    model.check()                                            # ModelError, in one sentence, before a run begins
    model.for_episode("sympy__sympy-20590", 0, 7).reply(messages)

The openai client carries the requests; what comes back is read by `answer.py`, in every dialect. What may pass
(connection, timeout, 408, 409, 425, 429, 5xx, a failure inside the answer) is tried again for minutes, see
`patience.py`. What no retry can change raises ModelError at once. Token ids, log-probabilities and earlier thinking go
by what the server takes, which one refusal tells.
"""

from __future__ import annotations

import json
import os
import re
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Annotated, Any, Literal, NoReturn
from urllib.parse import urlsplit

import msgspec
import openai
from loguru import logger

from srft.agent.models.answer import AnswerError, Read, Thinking, error_text, read_answer
from srft.agent.models.contract import ContextOverflow, ReasoningWanted, Reply
from srft.agent.models.endpoint import URL_VARIABLE, read_key, without_password
from srft.agent.models.overflow import is_overflow, names_something_else
from srft.agent.models.patience import Patience, retry_after_s
from srft.agent.models.stream import OnText, gathered
from srft.agent.models.vocabulary import vocabulary_of
from srft.agent.records import Usage
from srft.env.errors import InputError, ModelError
from srft.env.identity import MAY_CHANGE, decides_by, tokenizer_id

CONNECT_S = 30.0

_PASSING = frozenset({408, 409, 425, 429})
_NEVER_PASSES = re.compile(r"insufficient_quota|billing|exceeded your current quota", re.IGNORECASE)
_SCHEMA = re.compile(r"response_format|schema|grammar|guided|structured|prefixItems", re.IGNORECASE)
_REASONING = re.compile(r"\b(reasoning_content|reasoning_details|reasoning)\b")
_WANTED = re.compile(r"missing|required|must|need|expect|pass(?:ed)? back|provide", re.IGNORECASE)

# Fields of an assistant message that a server gives its thinking in and takes it back in.
_TAKEN_BACK = frozenset({"reasoning_content", "reasoning", "reasoning_details"})


class OpenAIConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which server, and how it samples. `null` leaves a setting to the server."""

    base_url: Annotated[str, MAY_CHANGE] = ""
    """Where the server is, say http://127.0.0.1:8000/v1; of a model `openai:NAME` unless given OPENAI_BASE_URL, else
    OpenAI's own."""
    name: Annotated[str, MAY_CHANGE] = ""
    """The model's name there, which counts where the model is named."""
    api_key_env: Annotated[str | None, MAY_CHANGE] = None
    """The environment variable that holds the key; `null`: OPENAI_API_KEY where that is set. "": no key is sent."""
    temperature: float | None = None
    """The sampling temperature."""
    top_p: float | None = None
    """The share of the probability that is sampled from."""
    max_tokens: int | None = None
    """The most tokens of one reply."""
    logprobs: bool | Literal["auto"] = "auto"
    """Whether to ask for log-probabilities; `auto` goes without where they are refused."""
    return_token_ids: bool | Literal["auto"] = "auto"
    """Whether to ask for the sampled token ids (vLLM has them); `auto` goes without where they are refused."""
    tokenizer: Annotated[str | None, decides_by(tokenizer_id)] = None
    """The served model's tokenizer, a folder or a name on the Hub. Its vocabulary is noted beside sampled token ids, so
    that they are never taken for another model's."""
    extra_body: dict[str, Any] = {}
    """Further keys of the request, say {"top_k": 20}."""
    send_reasoning: Literal["auto", "always", "never"] = "auto"
    """Whether earlier thinking is sent back. `auto`: beside tool calls, under the name that the server gave it, and
    wherever the server demands it; no more where it refuses."""
    reasoning_field: str | None = None
    """The message's field for earlier thinking; `null`: the one that the server gave it in, or reasoning_content."""
    timeout_s: Annotated[float, MAY_CHANGE] = 600.0
    """Seconds that one request may take."""
    retry_s: Annotated[float, MAY_CHANGE] = 600.0
    """Seconds for which a request is tried again, from its first failure on, where that failure may pass; `Retry-After`
    is obeyed within them."""
    max_retries: Annotated[int | None, MAY_CHANGE] = None
    """The most tries besides the first; `null`: as many as `retry_s` allows."""
    usd_per_million_prompt: Annotated[float | None, MAY_CHANGE] = None
    """US dollars for a million tokens of requests."""
    usd_per_million_completion: Annotated[float | None, MAY_CHANGE] = None
    """US dollars for a million tokens of replies."""
    usd_per_million_cached: Annotated[float | None, MAY_CHANGE] = None
    """US dollars for a million tokens of requests that the server had in its cache; `null`: as the others."""


Send = Callable[[dict[str, Any]], Any]
"""Gives the decoded answer to a request's body, in the place of a server: of a batch file, say. Raises what the openai
client raises, and NotAnswered."""


class NotAnswered(Exception):
    """A request that is on its way to be answered later."""


class _Shared:
    """What all episodes of a model have in common: the connection, and what the server has been found to do.

    refused: what it does not take beyond the text. reasoning_field: where it demands earlier thinking; "" where it
    refuses it; `None` where it has said neither. limit_field: its name for the most tokens of a reply. largest_chars:
    the largest prompt that it took. left_out: how often something in its answers was in no usable shape.
    """

    def __init__(self, config: OpenAIConfig, send: Send | None = None) -> None:
        self.send = send
        url = config.base_url or os.environ.get(URL_VARIABLE, "")
        shown = without_password(url)
        self.key = read_key(config.api_key_env, model=config.name, url=shown, must_be_set=send is None)
        try:
            self.client = _client(config, url or None, self.key.value)
        except ValueError as error:
            raise InputError(
                f"model {config.name}: {shown!r} is not a URL ({error}); expected one like http://HOST:8000/v1"
            ) from None
        self.url = shown or str(self.client.base_url).removesuffix("/")
        self._tell_environment(config)
        self.vocabulary = vocabulary_of(config.tokenizer) if config.tokenizer else None
        self.lock = threading.Lock()
        self.refused: frozenset[str] = frozenset()
        self.reasoning_field: str | None = None
        # A batch is refused as a whole, so its requests have the name that all take.
        self.limit_field = "max_completion_tokens" if send else "max_tokens"
        self.largest_chars = 0
        self.left_out: Counter[str] = Counter()

    def _tell_environment(self, config: OpenAIConfig) -> None:
        """Say what the environment decided, as nothing else shows it."""
        used = [] if config.base_url or URL_VARIABLE not in os.environ else [f"its address from {URL_VARIABLE}"]
        if self.key.variable is not None and config.api_key_env is None:
            used.append(f"its key from {self.key.variable}")
        if used:
            logger.info("model {} at {}: {}", config.name, self.url, " and ".join(used))

    def took(self, prompt_chars: int, read: Read, *, url: str) -> None:
        """Remember an answer: how long its prompt was, and what of it was left out."""
        with self.lock:
            self.largest_chars = max(self.largest_chars, prompt_chars)
            new = [name for name in read.left_out if name not in self.left_out]
            self.left_out.update(read.left_out)
        for name in new:
            logger.warning("{}: an answer has {} in no usable shape; left out, here and in further replies", url, name)


def _client(config: OpenAIConfig, url: str | None, key: str) -> openai.OpenAI:
    """The client of a configuration. url: `None` is OpenAI's. Raises ValueError for what is not a URL."""
    address = urlsplit(url or "")
    _ = address.port  # looked at for its ValueError
    # A proxy from the environment cannot reach a server on this machine.
    local = address.hostname in {"127.0.0.1", "localhost", "::1"}
    timeout = openai.Timeout(config.timeout_s, connect=min(config.timeout_s, CONNECT_S))
    return openai.OpenAI(
        base_url=url,
        api_key=key,
        timeout=timeout,
        max_retries=0,  # requests are tried again here
        http_client=openai.DefaultHttpxClient(trust_env=not local, timeout=timeout),
    )


# What is asked for beyond the text, and what to do where a server refuses it that must have it.
_EXTRAS = {
    "return_token_ids": "take a server that has it (vLLM), or set it to auto and train on text rendered by the chat "
    "template",
    "logprobs": "take a server that has them, or set it to auto and go without",
}


class OpenAIModel:
    """A model behind an OpenAI-compatible server. Shared by threads."""

    def __init__(
        self,
        config: OpenAIConfig,
        *,
        seed: int | None = None,
        shared: _Shared | None = None,
        send: Send | None = None,
    ) -> None:
        """shared: another model's connection. send: what answers in the place of a server."""
        self._seed = seed
        self._shared = shared or _Shared(config, send)
        self.config = msgspec.structs.replace(config, base_url=self._shared.url)
        self._replies: int | None = None  # counted in an episode's view, which one thread uses
        self._stop: threading.Event | None = None

    @property
    def name(self) -> str:
        return self.config.name

    @property
    def sampling(self) -> dict[str, Any]:
        seed = {} if self._seed is None else {"seed": self._seed}
        return self._settings() | seed | self.config.extra_body

    @property
    def key_variable(self) -> str | None:
        """The environment variable that the key comes from; `None` where none is sent."""
        return self._shared.key.variable

    @property
    def client(self) -> openai.OpenAI:
        """The connection, for the server's other APIs."""
        return self._shared.client

    def _settings(self) -> dict[str, Any]:
        settings = {key: getattr(self.config, key) for key in ("temperature", "top_p", "max_tokens")}
        return {key: value for key, value in settings.items() if value is not None}

    def with_settings(self, config: OpenAIConfig, *, seed: int | None) -> OpenAIModel:
        """This model with other settings of what is asked for, over the same connection to the same server."""
        model = OpenAIModel(config, seed=seed, shared=self._shared)
        model._stop = self._stop
        return model

    def for_episode(self, task_id: str, attempt: int, seed: int | None) -> OpenAIModel:
        model = self.with_settings(self.config, seed=seed)
        model._replies = 0
        return model

    def until(self, stop: threading.Event) -> OpenAIModel:
        """This model, or this view of it, which gives up when `stop` is set while it waits to try again."""
        model = self.with_settings(self.config, seed=self._seed)
        model._replies, model._stop = self._replies, stop
        return model

    @property
    def left_out(self) -> dict[str, int]:
        """Unusable parts of the server's answers -> in how many answers, over all episodes."""
        return dict(self._shared.left_out)

    def reply(self, messages: Sequence[dict[str, Any]], *, tools: Sequence[dict[str, Any]] = ()) -> Reply:
        """Raises ModelError, and of it ReasoningWanted; ContextOverflow."""
        return self._replied(messages, tools, None)

    def stream(
        self, messages: Sequence[dict[str, Any]], *, tools: Sequence[dict[str, Any]] = (), on_text: OnText
    ) -> Reply:
        """The same reply; on_text is given its pieces as they come. A stream that breaks off is not tried again."""
        return self._replied(messages, tools, on_text)

    def _replied(
        self, messages: Sequence[dict[str, Any]], tools: Sequence[dict[str, Any]], on_text: OnText | None
    ) -> Reply:
        patience = Patience(retry_s=self.config.retry_s, max_retries=self.config.max_retries, stop=self._stop)
        shown, read = _Shown(on_text), None
        prompt_chars = len(json.dumps([list(messages), list(tools)], default=str))
        while read is None:
            extras = frozenset(name for name in _EXTRAS if getattr(self.config, name)) - self._shared.refused
            limit_field = self._shared.limit_field
            try:
                answer = self._ask(messages, tools, extras, shown if on_text else None)
                read = read_answer(answer, first_call=len(messages))
            # ValueError: a body that is not the JSON it says it is
            except (openai.OpenAIError, AnswerError, ValueError) as error:
                if self._refuses(error, extras) or self._refuses_limit(error, limit_field):
                    continue
                self._refuse_overflow(error, prompt_chars)
                self._refuse_reasoning(error, messages)
                if shown.anything or not self._passes(error) or not self._waits(error, patience):
                    self._fail(error, patience=patience)
        self._shared.took(prompt_chars, read, url=self.config.base_url)
        if self._replies is not None:
            self._replies += 1
        sent_back = self._sent_back(read.thinking, calls=bool(read.reply.tool_calls))
        return msgspec.structs.replace(
            read.reply,
            usage=self._priced(read.reply.usage),
            sent_back=sent_back,
            vocabulary=self._shared.vocabulary if read.reply.token_ids else None,
        )

    def _sent_back(self, thinking: Thinking | None, *, calls: bool) -> dict[str, Any]:
        """The thinking as the next request has it in this reply's message."""
        auto, known = self.config.send_reasoning == "auto", self._shared.reasoning_field
        if self.config.send_reasoning == "never" or (auto and known == ""):
            return {}
        came_in = thinking.field if thinking and thinking.field in _TAKEN_BACK else None
        if auto and known:
            field = known
        elif thinking is None or (auto and not (calls and came_in)):
            return {}
        else:
            field = self.config.reasoning_field or came_in or "reasoning_content"
        text = thinking.text if thinking else ""
        return {field: thinking.value if thinking and field == came_in else text}

    def check(self) -> None:
        """Ask the server whether it is there, takes the key and knows the model. Raises ModelError."""
        client, known = self._shared.client.with_options(max_retries=1), None
        try:
            known = [model.id for model in client.models.list().data]
        except (openai.AuthenticationError, openai.PermissionDeniedError, openai.APIConnectionError) as error:
            self._fail(error)
        except (openai.OpenAIError, ValueError, TypeError, AttributeError) as error:
            logger.debug("{}: no list of models ({}); asking the model itself", self.config.base_url, error)
        if known is not None and self.config.name in known and self.key_variable is None:
            return
        # The model itself decides: some servers give no list, some take names that are not on it, and some show it to
        # everybody, whatever the key.
        try:
            request = {"model": self.config.name, "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 1}
            read_answer(client.post("/chat/completions", body=request, cast_to=object), first_call=0)
        except openai.NotFoundError as error:
            self._fail(error, known)
        except openai.BadRequestError as error:
            if "max_tokens" not in str(error):  # newer OpenAI models know only max_completion_tokens: they are there
                self._fail(error, known)
        except (openai.OpenAIError, AnswerError, ValueError) as error:
            self._fail(error, known)

    def _ask(
        self,
        messages: Sequence[dict[str, Any]],
        tools: Sequence[dict[str, Any]],
        extras: frozenset[str],
        on_text: OnText | None,
    ) -> Any:
        """The decoded answer, as the server sent it."""
        request = {"model": self.config.name, "messages": list(messages), **self._settings()}
        if "max_tokens" in request:
            request[self._shared.limit_field] = request.pop("max_tokens")
        if self._seed is not None:
            request["seed"] = _request_seed(self._seed, self._replies or 0)
        if tools:
            request["tools"] = list(tools)
        request |= {**dict.fromkeys(sorted(extras), True), **self.config.extra_body}
        client = self._shared.client
        if self._shared.send is not None:
            return self._shared.send(request)
        if on_text is None:
            return client.post("/chat/completions", body=request, cast_to=object)
        request |= {"stream": True, "stream_options": {"include_usage": True}}
        stream = client.post(
            "/chat/completions", body=request, cast_to=object, stream=True, stream_cls=openai.Stream[object]
        )
        return gathered(stream, on_text)

    def _refuses(self, error: Exception, extras: frozenset[str]) -> bool:
        """Whether the server refuses token ids or log-probabilities; remembered, and reported once."""
        if not isinstance(error, openai.APIStatusError) or not 400 <= error.status_code < 500:
            return False
        said = said_by(error)
        named = frozenset(name for name in extras if name in said.lower())
        if not named or is_overflow(said, status=error.status_code):
            return False
        for name in sorted(named):
            if getattr(self.config, name) is True:
                raise ModelError(
                    f"{self.config.base_url}: the server refuses {name}, which the config asks for; {_EXTRAS[name]}"
                ) from error
        with self._shared.lock:
            for name in sorted(named - self._shared.refused):
                logger.warning(
                    "{}: the server refuses {} ({}); continuing without it",
                    self.config.base_url,
                    name,
                    self._said(error),
                )
            self._shared.refused |= named
        return True

    def _refuses_limit(self, error: Exception, asked_as: str) -> bool:
        """Whether the server knows the limit of a reply by its newer name alone, as OpenAI's reasoning models do."""
        if not isinstance(error, openai.APIStatusError) or error.status_code not in {400, 422}:
            return False
        if "max_completion_tokens" not in said_by(error) or asked_as != "max_tokens" or self.config.max_tokens is None:
            return False
        self._shared.limit_field = "max_completion_tokens"
        return True

    def _refuse_overflow(self, error: Exception, prompt_chars: int) -> None:
        """Raises ContextOverflow where the server says that the prompt is too long, or says nothing about a prompt that
        is larger than any it took."""
        status = error.status_code if isinstance(error, openai.APIStatusError) else None
        if not isinstance(error, openai.APIError) or isinstance(error, openai.APIConnectionError):
            return
        if is_overflow(said_by(error), status=status):
            raise ContextOverflow(f"{self.config.base_url}: {self._said(error)}") from error
        largest_chars = self._shared.largest_chars
        if status == 400 and 0 < largest_chars < prompt_chars and not names_something_else(said_by(error)):
            said = f"{self.config.base_url}: 400 without a known reason ({self._said(error)}) to a prompt of "
            said += f"{prompt_chars} characters, where {largest_chars} were taken before: read as a full context"
            logger.warning("{}", said)
            raise ContextOverflow(said) from error

    def _refuse_reasoning(self, error: Exception, messages: Sequence[dict[str, Any]]) -> None:
        """Raises ReasoningWanted where the server demands earlier thinking, or refuses it."""
        if self.config.send_reasoning != "auto" or not isinstance(error, openai.APIStatusError):
            return
        said, written = said_by(error), [message for message in messages if message.get("role") == "assistant"]
        named = _REASONING.search(said)
        if error.status_code not in {400, 422} or named is None or not written:
            return
        field = self.config.reasoning_field or named[1]
        carries = [bool(message.get(field)) for message in written]
        if not all(carries) and _WANTED.search(said) and not any(message.get(field) == "" for message in written):
            known = field
        elif any(set(message) & _TAKEN_BACK for message in written) and self._shared.reasoning_field != field:
            known = ""
        else:
            return
        with self._shared.lock:
            if self._shared.reasoning_field != known:
                does = f"demands earlier thinking in {field}" if known else "refuses earlier thinking"
                logger.warning("{}: the server {} ({}); doing so", self.config.base_url, does, self._said(error))
            self._shared.reasoning_field = known
        raise ReasoningWanted(f"{self.config.base_url}: {self._said(error)}", field=known or None) from error

    def _passes(self, error: Exception) -> bool:
        """Whether the same request may be answered later."""
        if isinstance(error, AnswerError):
            return error.passes and not (self._constrains and names_schema(str(error)))
        if isinstance(error, openai.APIStatusError):
            said = said_by(error)
            if _NEVER_PASSES.search(said) or (self._constrains and names_schema(said)):
                return False
            return error.status_code in _PASSING or (error.status_code >= 500 and error.status_code != 501)
        return True  # no connection, no answer in time, a broken stream, a body that is cut off

    @property
    def _constrains(self) -> bool:
        """Whether a schema is asked for: a server that fails because of it will fail again."""
        return "response_format" in self.config.extra_body

    def _waits(self, error: Exception, patience: Patience) -> bool:
        headers = error.response.headers if isinstance(error, openai.APIStatusError) else {}
        if patience.retries == 2:  # two quick tries need no word
            logger.warning(
                "model {} at {}: {}; trying again for {:g} s",
                self.config.name,
                self.config.base_url,
                self._said(error),
                self.config.retry_s,
            )
        return patience.waits(retry_after_s(headers))

    def _priced(self, usage: Usage | None) -> Usage | None:
        """The usage with what it cost, where the configuration has prices."""
        config = self.config
        per_prompt, per_completion = config.usd_per_million_prompt, config.usd_per_million_completion
        if usage is None or per_prompt is None or per_completion is None:
            return usage
        if usage.prompt_tokens is None or usage.completion_tokens is None:
            return msgspec.structs.replace(usage, cost_usd=None)
        per_cached = per_prompt if config.usd_per_million_cached is None else config.usd_per_million_cached
        cached = usage.cached_tokens or 0
        cost = (
            (usage.prompt_tokens - cached) * per_prompt + cached * per_cached + usage.completion_tokens * per_completion
        )
        return msgspec.structs.replace(usage, cost_usd=cost / 1e6)

    def _fail(self, error: Exception, known: list[str] | None = None, *, patience: Patience | None = None) -> NoReturn:
        """Raise ModelError: what is wrong and what to do, in one sentence. known: the models that are there."""
        text = _explain(error, self.config, known, key=self.key_variable, tried=patience.tried if patience else "")
        text = self._shared.key.hidden(text)
        raise ModelError(f"model {self.config.name} at {self.config.base_url}: {text}") from error

    def _said(self, error: Exception) -> str:
        """The text of an error, shortened, without the key."""
        return self._shared.key.hidden(_body(error))


class _Shown:
    """Passes pieces on, and records whether there were any: what was shown cannot be taken back."""

    def __init__(self, on_text: OnText | None) -> None:
        self._on_text, self.anything = on_text, False

    def __call__(self, text: str) -> None:
        self.anything = True
        if self._on_text is not None:
            self._on_text(text)


def names_schema(said: str) -> bool:
    """Whether an error is about the JSON schema that was asked for."""
    return bool(_SCHEMA.search(said))


def _explain(error: Exception, config: OpenAIConfig, known: list[str] | None, *, key: str | None, tried: str) -> str:
    said, tried = _body(error), f" {tried}" if tried else ""
    if isinstance(error, openai.APITimeoutError):
        return f"no answer within {config.timeout_s:g} s{tried}; raise timeout_s or look at the server's load"
    if isinstance(error, openai.APIConnectionError):
        return f"no server answers there ({error.__cause__ or error}){tried}; start the server or correct the URL"
    if isinstance(error, openai.AuthenticationError | openai.PermissionDeniedError):
        source = f"the key in {key}" if key else "a request without a key"
        return f"the server refuses {source} ({said}); set api_key_env to the variable that holds a valid one"
    if isinstance(error, openai.NotFoundError):
        there = f"; models there: {', '.join(known)}" if known else ""
        return f"no model of that name, or no chat API there ({said}){there}; correct the name or the URL"
    if isinstance(error, openai.RateLimitError):
        return f"the server still says that it is asked too often{tried} ({said}); use fewer workers or raise retry_s"
    if isinstance(error, openai.APIStatusError) and error.status_code < 500:
        return (
            f"the server refuses the request ({error.status_code}: {said}); correct the sampling settings or extra_body"
        )
    if isinstance(error, openai.APIStatusError):
        return f"the server fails ({error.status_code}: {said}){tried}; look at its log"
    if isinstance(error, AnswerError):
        return f"{said} ({tried.strip()})" if tried else said
    return f"expected a chat completion, got an answer that cannot be read ({said}){tried}; look at the server's log"


def _request_seed(seed: int, number: int) -> int:
    """The seed of an episode's n-th request. With one seed for all, each request would draw the same noise."""
    return (seed + number * 1_000_003) % 2**31


def said_by(error: Exception) -> str:
    """The full text of an error: the server's message where there is one."""
    body = getattr(error, "body", None)
    code = getattr(error, "code", None)
    text = error_text(body) if body else str(error)
    return f"{text} [{code}]" if isinstance(code, str) and not code.isdigit() and code not in text else text


def _body(error: Exception) -> str:
    """The text of an error, shortened."""
    text = said_by(error)
    return text if len(text) <= 600 else text[:600] + "..."
