"""Streamed replies, over a real socket: the pieces as they come, and the same reply as unstreamed."""

import json

import pytest

from srft.agent.models.openai import OpenAIConfig, OpenAIModel
from srft.agent.models.stream import StreamingModel
from srft.agent.records import Usage
from srft.env.errors import ModelError


def events(*chunks, end=True):
    """Server-sent events, as the API's."""
    head = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "tiny"}
    lines = [b"data: " + json.dumps({**head, **chunk}).encode() + b"\n\n" for chunk in chunks]
    return b"".join(lines) + (b"data: [DONE]\n\n" if end else b"")


def choice(delta, **more):
    return {"choices": [{"index": 0, "delta": delta, "finish_reason": None, **more}]}


SSE = {"Content-Type": "text/event-stream"}


@pytest.fixture
def model(chat_server):
    return OpenAIModel(OpenAIConfig(base_url=chat_server.url, name="tiny", max_retries=0))


def test_text_with_token_ids(chat_server, model):
    chat_server.answers = [
        (
            200,
            events(
                {**choice({"role": "assistant", "content": ""}), "prompt_token_ids": [1, 2]},
                choice({"reasoning_content": "Hm."}),
                choice({"content": "Hel"}, token_ids=[7], logprobs={"content": [{"token": "Hel", "logprob": -0.5}]}),
                choice({"content": "lo"}, token_ids=[8], logprobs={"content": [{"token": "lo", "logprob": -1.5}]}),
                choice({}, finish_reason="stop"),
                {"choices": [], "usage": {"prompt_tokens": 2, "completion_tokens": 2, "total_tokens": 4}},
            ),
            SSE,
        )
    ]
    pieces = []
    reply = model.stream([{"role": "user", "content": "Hi"}], on_text=pieces.append)
    assert pieces == ["Hm.", "Hel", "lo"]
    assert (reply.content, reply.reasoning, reply.finish_reason) == ("Hello", "Hm.", "stop")
    assert (reply.prompt_token_ids, reply.token_ids, reply.logprobs) == ((1, 2), (7, 8), (-0.5, -1.5))
    assert reply.usage == Usage(prompt_tokens=2, completion_tokens=2)
    assert chat_server.requests[0]["stream"] is True
    assert isinstance(model, StreamingModel)


def test_a_tool_call_in_pieces(chat_server, model):
    def call(**function):
        return choice({"tool_calls": [{"index": 0, "function": function}]})

    begun = {"index": 0, "id": "a1", "type": "function", "function": {"name": "bash", "arguments": ""}}
    chunks = [choice({"tool_calls": [begun]}), call(arguments='{"comm'), call(arguments='and": "ls"}')]
    chat_server.answers = [(200, events(*chunks, choice({}, finish_reason="tool_calls")), SSE)]
    reply = model.stream([], on_text=lambda text: None)
    function = {"name": "bash", "arguments": '{"command": "ls"}'}
    assert reply.tool_calls == ({"id": "a1", "type": "function", "function": function},)


def test_what_a_server_refuses_is_left_out_of_the_next(chat_server, model):
    refused = {"error": {"message": "unknown field return_token_ids"}}
    chat_server.answers = [(400, refused), (200, events(choice({"content": "Hi"}, finish_reason="stop")), SSE)]
    assert model.stream([], on_text=lambda text: None).content == "Hi"
    assert ["return_token_ids" in request for request in chat_server.requests] == [True, False]


@pytest.mark.parametrize(
    "body",
    [
        events(choice({"content": "Hel"})) .replace(b"data: [DONE]", b'data: {"error": {"message": "out of memory"}}'),
        b"data: {\n\n",
        events(),
        events(choice({"content": "Hel"})),
    ],
    ids=["an error on the way", "no JSON", "nothing", "no end"],
)  # fmt: skip
def test_a_stream_that_fails(chat_server, model, body):
    chat_server.answers = [(200, body, SSE)]
    with pytest.raises(ModelError, match=r"model tiny|expected a chat completion"):
        model.stream([], on_text=lambda text: None)


def test_a_stream_that_breaks_off(chat_server, model):
    body = events(choice({"content": "Hel"}), end=False)
    chat_server.answers = [(200, body, {**SSE, "Content-Length": str(len(body) + 100)})]
    with pytest.raises(ModelError, match="model tiny"):
        model.stream([], on_text=lambda text: None)
