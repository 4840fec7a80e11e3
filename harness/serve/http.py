"""An OpenAI-compatible HTTP server over the engine: what `srft serve` runs where there is no vLLM.

    app = make_app(engine, name="my-model")
    serve_http(app, host="127.0.0.1", port=8000, ready=lambda: ..., stop=event)

GET /health, /v1/models; POST /v1/chat/completions and /v1/completions, streams too, with vLLM's `return_token_ids`,
`prompt_logprobs` and token-id prompts. A client that goes away takes its request with it.
"""

from __future__ import annotations

import asyncio
import socket
import threading
import time
import uuid
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import CancelledError
from typing import Any

import msgspec
import uvicorn
from fastapi import FastAPI, Request, Response
from fastapi.responses import StreamingResponse

from srft.agent.models.contract import ContextOverflow, well_formed
from srft.env.errors import InputError, ModelError
from srft.harness.serve import engine as engines
from srft.harness.serve.chat_api import ChatRequest, CompletionRequest, read_chat, read_completion
from srft.harness.serve.conversation import Conversation
from srft.harness.serve.engine import Engine, Generated
from srft.harness.serve.tool_calls import NO_CALLS

POLL_S = 0.05
ALIVE_S = 0.5
LOCAL = frozenset({"127.0.0.1", "localhost", "::1"})


def make_app(engine: Engine, *, name: str) -> FastAPI:
    """The application. name: what requests call the model."""
    app = FastAPI(title="srft serve", openapi_url=None)
    api = _Api(engine, name)
    app.add_api_route("/health", api.health, methods=["GET"])
    app.add_api_route("/v1/models", api.models, methods=["GET"])
    app.add_api_route("/v1/chat/completions", api.chat, methods=["POST"])
    app.add_api_route("/v1/completions", api.completion, methods=["POST"])
    app.add_exception_handler(InputError, _refuse)
    app.add_exception_handler(ContextOverflow, _refuse)
    app.add_exception_handler(ModelError, _fail)
    return app


class Guard:
    """An ASGI layer that refuses what a web page in a browser could send here: to this machine, or by a name that was
    bound to it. hosts: the names that requests may give; `None`: any, of a server for a network."""

    def __init__(self, app: Any, *, hosts: frozenset[str] | None) -> None:
        self._app, self._hosts = app, hosts

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        refusal = self._refusal(Request(scope)) if scope["type"] == "http" else None
        await (self._app if refusal is None else refusal)(scope, receive, send)

    def _refusal(self, request: Request) -> Response | None:
        name = _host_name(request.headers.get("host", ""))
        if self._hosts is not None and name not in self._hosts:
            return _refusal(f"Host {name or 'missing'}: expected one of {', '.join(sorted(self._hosts))}", 403)
        if "origin" in request.headers:
            return _refusal("Origin: a web page may not ask this server; ask it from a program", 403)
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if request.method == "POST" and kind != "application/json":
            return _refusal(f"Content-Type {kind or 'missing'}: expected application/json", 415)
        return None


def _host_name(host: str) -> str:
    """
    >>> _host_name("127.0.0.1:8000"), _host_name("[::1]:80"), _host_name("Localhost")
    ('127.0.0.1', '::1', 'localhost')
    """
    name = host[1 : host.index("]")] if host.startswith("[") and "]" in host else host.partition(":")[0]
    return name.lower()


def names_of(host: str) -> frozenset[str] | None:
    """The names by which a server that listens there is asked; `None` where it listens to every network."""
    if host in ("0.0.0.0", "::", ""):
        return None
    own = set() if host in LOCAL else {host.lower(), socket.gethostname().lower(), socket.getfqdn().lower()}
    return frozenset(own | LOCAL)


def serve_http(
    app: FastAPI, *, host: str, port: int | None, ready: Callable[[str], None], stop: threading.Event
) -> None:
    """Serve until `stop` is set. ready: called with the API's URL when it answers. Raises InputError, and ModelError
    for a server that does not start or ends by itself."""
    listening = socket.socket()
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((host, port or 0))
    except OSError as error:
        listening.close()
        raise InputError(f"--port {port}: cannot listen on {host} ({error.strerror}); give another one") from None
    guarded = Guard(app, hosts=names_of(host))
    server = uvicorn.Server(uvicorn.Config(guarded, log_level="warning", timeout_graceful_shutdown=1))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, name="srft-http", daemon=True)
    thread.start()
    try:
        while not server.started and thread.is_alive():
            time.sleep(POLL_S)
        if not server.started:
            raise ModelError("the HTTP server did not start; what it said stands above. Give the command again.")
        ready(f"http://{host}:{listening.getsockname()[1]}/v1")
        while not stop.wait(ALIVE_S):
            if not thread.is_alive():
                raise ModelError("the HTTP server has ended; what it said stands above. Give the command again.")
    finally:
        server.should_exit = True
        thread.join()
        listening.close()


class _Api:
    """The routes."""

    def __init__(self, engine: Engine, name: str) -> None:
        self._engine, self._name = engine, name

    async def health(self) -> Response:
        return Response(status_code=200 if self._engine.is_alive else 503)

    async def models(self) -> Response:
        model = {"id": self._name, "object": "model", "owned_by": "srft", "max_model_len": self._engine.max_model_len}
        return _json({"object": "list", "data": [model]})

    async def chat(self, request: Request) -> Response:
        asked = read_chat(await request.body())
        self._check_name(asked.model)
        if asked.offered and self._engine.tool_calls is None:
            raise InputError(NO_CALLS)
        prompt = await asyncio.to_thread(Conversation(self._engine.renderer).prompt, asked.messages, tools=asked.tools)
        if asked.stream:
            return self._stream(asked, prompt, _Delta(asked, self._engine, self._head("chat.completion.chunk")))
        generated = await self._generated(request, asked, prompt)
        text, calls = self._engine.called(generated, tools=asked.offered)
        message = {"role": "assistant", "content": text} | ({"tool_calls": calls} if calls else {})
        choice = self._choice(asked, generated) | {"message": message, "logprobs": None}
        choice["finish_reason"] = _reason(generated, calls)
        if asked.logprobs:
            choice["logprobs"] = {"content": self._token_logprobs(generated)}
        return _json(self._head("chat.completion") | self._whole(asked, generated, choice))

    async def completion(self, request: Request) -> Response:
        asked = read_completion(await request.body())
        self._check_name(asked.model)
        prompt = self._encode(asked.prompt) if isinstance(asked.prompt, str) else asked.prompt
        if asked.stream:
            return self._stream(asked, prompt, _Delta(asked, self._engine, self._head("text_completion")))
        if asked.max_tokens is None:
            asked.max_tokens = 16  # the API's default here
        generated = await self._generated(request, asked, prompt)
        text = (self._engine.decode(prompt) if asked.echo else "") + generated.text
        choice = self._choice(asked, generated) | {"text": well_formed(text), "logprobs": None}
        if asked.logprobs is not None:
            choice["logprobs"] = {
                "tokens": [self._engine.decode([token]) for token in generated.token_ids],
                "token_logprobs": generated.logprobs,
            }
        if generated.prompt_logprobs is not None:
            rows = zip(prompt[1:], generated.prompt_logprobs, strict=True)
            choice["prompt_logprobs"] = [None, *({str(token): {"logprob": value}} for token, value in rows)]
        return _json(self._head("text_completion") | self._whole(asked, generated, choice))

    def _check_name(self, name: str) -> None:
        if name != self._name:
            raise InputError(f"model {name!r} is not served here; expected {self._name!r}")

    def _encode(self, text: str) -> list[int]:
        encoding = self._engine.renderer.tokenizer.backend_tokenizer.encode(text)  # type: ignore[attr-defined]
        return list(encoding.ids)

    async def _generated(
        self, request: Request, asked: ChatRequest | CompletionRequest, prompt: Sequence[int]
    ) -> Generated:
        """The reply; given up when the client goes away. Raises InputError, ContextOverflow, ModelError."""
        wants = isinstance(asked, CompletionRequest) and asked.prompt_logprobs is not None
        submitted = self._engine.submit(prompt, asked.sampling(self._engine.defaults), prompt_logprobs=wants)
        waiting = asyncio.wrap_future(submitted.future)
        try:
            while not (await asyncio.wait([waiting], timeout=POLL_S))[0]:
                if await request.is_disconnected():
                    raise ModelError("the client went away")
            return waiting.result()
        except (CancelledError, asyncio.CancelledError):
            raise ModelError("the engine was closed") from None
        finally:
            submitted.cancelled.set()  # of no effect on a finished one

    def _head(self, kind: str) -> dict[str, Any]:
        return {"id": f"srft-{uuid.uuid4().hex}", "object": kind, "created": int(time.time()), "model": self._name}

    def _choice(self, asked: ChatRequest | CompletionRequest, generated: Generated) -> dict[str, Any]:
        ids = {"token_ids": generated.token_ids} if asked.return_token_ids else {}
        return {"index": 0, "finish_reason": generated.finish_reason} | ids

    def _whole(
        self, asked: ChatRequest | CompletionRequest, generated: Generated, choice: dict[str, Any]
    ) -> dict[str, Any]:
        ids = {"prompt_token_ids": generated.prompt_token_ids} if asked.return_token_ids else {}
        return {"choices": [choice], "usage": _usage(generated)} | ids

    def _token_logprobs(self, generated: Generated) -> list[dict[str, Any]]:
        texts = [self._engine.decode([token]) for token in generated.token_ids]
        return [
            {"token": text, "logprob": logprob, "bytes": list(text.encode()), "top_logprobs": []}
            for text, logprob in zip(texts, generated.logprobs, strict=True)
        ]

    def _stream(self, asked: ChatRequest | CompletionRequest, prompt: Sequence[int], delta: _Delta) -> Response:
        grown, loop = asyncio.Event(), asyncio.get_running_loop()
        said: list[Sequence[int]] = [[]]

        def on_token(ids: Sequence[int]) -> None:
            said[0] = ids
            loop.call_soon_threadsafe(grown.set)

        sampling = asked.sampling(self._engine.defaults)
        submitted = self._engine.submit(prompt, sampling, on_token=on_token)
        submitted.future.add_done_callback(lambda _: loop.call_soon_threadsafe(grown.set))
        longest = max(map(len, sampling.stop), default=0)

        async def events() -> AsyncIterator[bytes]:
            try:
                yield delta.begin()
                while not submitted.future.done():
                    await grown.wait()
                    grown.clear()
                    ids = [token for token in said[0] if token not in self._engine.end_ids]
                    text = self._engine.decode(ids)
                    # A stop text may have begun, and a character may not be whole.
                    if not submitted.future.done() and (
                        piece := delta.grow(text[: len(text) - longest].rstrip("\ufffd"))
                    ):
                        yield piece
                yield delta.end(submitted)
                yield b"data: [DONE]\n\n"
            finally:
                submitted.cancelled.set()

        return StreamingResponse(events(), media_type="text/event-stream")


class _Delta:
    """A stream's events, each with what was added to the text."""

    def __init__(self, asked: ChatRequest | CompletionRequest, engine: Engine, head: dict[str, Any]) -> None:
        self._asked, self._engine, self._head, self._sent = asked, engine, head, 0
        self._is_chat = isinstance(asked, ChatRequest)
        self._tools = asked.offered if isinstance(asked, ChatRequest) else []

    def begin(self) -> bytes:
        return self._event({"delta": {"role": "assistant", "content": ""}} if self._is_chat else {"text": ""})

    def grow(self, text: str) -> bytes | None:
        if len(text) <= self._sent or self._tools:  # what a text becomes, a call or not, shows at its end
            return None
        added, self._sent = well_formed(text[self._sent :]), len(text)
        return self._event({"delta": {"content": added}} if self._is_chat else {"text": added})

    def end(self, submitted: engines.Request) -> bytes:
        """What is left of the text, the reason, and what was counted; or the error."""
        try:
            generated = submitted.future.result()
        except (ModelError, CancelledError) as error:
            return _data({"error": {"message": str(error) or "the engine was closed", "type": "server_error"}})
        text, calls = self._engine.called(generated, tools=self._tools)
        delta: dict[str, Any] = {"content": text[self._sent :]}
        if calls:
            delta["tool_calls"] = [{"index": index, **call} for index, call in enumerate(calls)]
        choice: dict[str, Any] = {"delta": delta} if self._is_chat else {"text": text[self._sent :]}
        choice["finish_reason"] = _reason(generated, calls)
        extra: dict[str, Any] = {"usage": _usage(generated)}
        if self._asked.return_token_ids:
            choice["token_ids"] = generated.token_ids
            extra["prompt_token_ids"] = generated.prompt_token_ids
        return self._event(choice, **extra)

    def _event(self, choice: dict[str, Any], **extra: Any) -> bytes:
        return _data(self._head | {"choices": [{"index": 0, "finish_reason": None} | choice]} | extra)


def _reason(generated: Generated, calls: Sequence[Any]) -> str:
    return "tool_calls" if calls and generated.finish_reason == "stop" else generated.finish_reason


def _usage(generated: Generated) -> dict[str, Any]:
    asked, said = len(generated.prompt_token_ids), len(generated.token_ids)
    return {
        "prompt_tokens": asked,
        "completion_tokens": said,
        "total_tokens": asked + said,
        "prompt_tokens_details": {"cached_tokens": generated.cached},
    }


def _data(content: dict[str, Any]) -> bytes:
    return b"data: " + msgspec.json.encode(content) + b"\n\n"


def _json(content: dict[str, Any], status: int = 200) -> Response:
    return Response(msgspec.json.encode(content), status_code=status, media_type="application/json")


def _refusal(message: str, status: int) -> Response:
    return _json({"error": {"message": message, "type": "invalid_request_error", "code": None}}, status)


async def _refuse(_: Request, error: Exception) -> Response:
    code = "context_length_exceeded" if isinstance(error, ContextOverflow) else None
    return _json({"error": {"message": str(error), "type": "invalid_request_error", "code": code}}, 400)


async def _fail(_: Request, error: Exception) -> Response:
    return _json({"error": {"message": str(error), "type": "server_error", "code": None}}, 500)
