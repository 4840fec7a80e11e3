"""The HTTP server over the engine, asked by the project's own client and by the openai package's streams."""

import json
import socket
import threading
import urllib.error
import urllib.request

import openai
import pytest
import uvicorn
from fastapi import FastAPI

from srft.agent.formats.native import NativeFormat
from srft.agent.models.contract import ContextOverflow
from srft.agent.models.openai import OpenAIConfig, OpenAIModel
from srft.env.errors import ModelError
from srft.harness.serve.engine import Engine
from srft.harness.serve.http import make_app, names_of, serve_http
from srft.harness.serve.local_model import LocalModel
from srft.harness.serve.sampling import Choice, Sampler
from tests.harness.serve.conftest import random_model
from tests.train.conftest import TOOLS

ASKED = [{"role": "user", "content": "Say something."}]


@pytest.fixture(scope="module")
def served(base):
    """(URL, engine)."""
    engine = Engine(base, dtype="float32", max_model_len=500)
    stop, found, ready = threading.Event(), [], threading.Event()

    def note(url: str) -> None:
        found.append(url)
        ready.set()

    app = make_app(engine, name="tiny")
    thread = threading.Thread(
        target=serve_http, args=(app,), kwargs={"host": "127.0.0.1", "port": None, "ready": note, "stop": stop}
    )
    thread.start()
    assert ready.wait(30)
    yield found[0], engine
    stop.set()
    thread.join()
    engine.close()


def model_at(url: str, **settings) -> OpenAIModel:
    return OpenAIModel(OpenAIConfig(base_url=url, name="tiny", max_retries=0, **settings))


def post(url: str, content: object) -> tuple[int, dict]:
    request = urllib.request.Request(url, json.dumps(content).encode(), {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status, json.loads(answer.read())
    except urllib.error.HTTPError as error:
        return error.code, json.loads(error.read())


def test_a_reply_is_that_of_the_model_in_process(served):
    url, engine = served
    settings = {"temperature": 0.8, "top_p": 0.9, "max_tokens": 20}
    over_http = model_at(url, **settings).for_episode("t", 0, 5)
    in_process = LocalModel(engine, OpenAIConfig(**settings), name="tiny").for_episode("t", 0, 5)
    for _ in range(2):
        got, expected = over_http.reply(ASKED), in_process.reply(ASKED)
        for field in ("content", "prompt_token_ids", "token_ids", "finish_reason"):
            assert getattr(got, field) == getattr(expected, field)
        assert got.logprobs == pytest.approx(expected.logprobs, abs=1e-5)  # one of them had a part from the cache
        assert got.usage.completion_tokens == len(expected.token_ids)


def test_the_server_is_there_and_knows_its_model(served):
    url, _ = served
    model_at(url).check()
    with pytest.raises(ModelError, match="model 'another' is not served here; expected 'tiny'"):
        OpenAIModel(OpenAIConfig(base_url=url, name="another", max_retries=0)).reply(ASKED)
    with urllib.request.urlopen(url.removesuffix("/v1") + "/health", timeout=10) as answer:
        assert answer.status == 200


def test_too_long_is_an_overflow(served):
    with pytest.raises(ContextOverflow, match="maximum context length is 500"):
        model_at(served[0]).reply([{"role": "user", "content": "x" * 1000}])


@pytest.mark.parametrize("stop", [None, ["e", "xyz"]])
def test_a_stream_adds_up_to_the_reply(served, stop):
    client = openai.OpenAI(base_url=served[0], api_key="none")
    request = {"model": "tiny", "messages": ASKED, "temperature": 0, "max_tokens": 60, "stop": stop}
    whole = client.chat.completions.create(**request)
    events = list(client.chat.completions.create(stream=True, **request))
    assert "".join(event.choices[0].delta.content or "" for event in events) == whole.choices[0].message.content
    assert events[-1].choices[0].finish_reason == whole.choices[0].finish_reason
    assert len(events) >= 2


def test_completions_of_ids_with_the_prompts_logprobs(served):
    url, engine = served
    ids = [5, 9, 20, 31]
    request = {"model": "tiny", "prompt": ids, "max_tokens": 1, "temperature": 0, "prompt_logprobs": 0}
    status, answer = post(url + "/completions", request)
    rows = answer["choices"][0]["prompt_logprobs"]
    assert (status, rows[0]) == (200, None)
    assert [row[str(token)]["logprob"] for row, token in zip(rows[1:], ids[1:], strict=True)] == list(
        engine.logprobs(ids)
    )
    status, answer = post(url + "/completions", {"model": "tiny", "prompt": "def", "echo": True, "max_tokens": 3})
    assert answer["choices"][0]["text"].startswith("def")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ({"model": "tiny"}, "missing required field `messages`"),
        ({"model": "tiny", "messages": ASKED, "temperature": -1}, "`float` >= 0"),
        ({"model": "tiny", "messages": ASKED, "n": 2}, "`int` <= 1"),
        ({"model": "tiny", "messages": [{"content": "x"}]}, "a message has no role"),
        ({"model": "tiny", "messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, "reads text alone"),
    ],
)
def test_a_wrong_request_is_refused_with_the_reason(served, content, said):
    status, answer = post(served[0] + "/chat/completions", content)
    assert status == 400
    assert said in answer["error"]["message"]


def test_a_client_that_goes_away_takes_its_request_with_it(served):
    url, engine = served
    request = {"model": "tiny", "messages": ASKED, "max_tokens": 400, "ignore_eos": True}
    headers = {"Content-Type": "application/json"}
    body = urllib.request.Request(url + "/chat/completions", json.dumps(request).encode(), headers)
    with pytest.raises(OSError, match="timed out"):
        urllib.request.urlopen(body, timeout=0.1)
    deadline = threading.Event()
    for _ in range(100):
        if not engine._running:
            break
        deadline.wait(0.05)
    assert engine._running == []


@pytest.mark.parametrize(
    ("headers", "status", "said"),
    [
        ({"Host": "evil.example:80"}, 403, "Host evil.example: expected one of 127.0.0.1, ::1, localhost"),
        ({"Origin": "http://127.0.0.1:3000"}, 403, "a web page may not ask this server"),
        ({"Content-Type": "text/plain"}, 415, "Content-Type text/plain: expected application/json"),
        ({"Content-Type": "application/x-www-form-urlencoded"}, 415, "expected application/json"),
        ({"Host": "localhost:1", "Content-Type": "application/json; charset=utf-8"}, 200, ""),
        ({"Host": "[::1]:8000"}, 200, ""),
    ],
)
def test_a_web_page_cannot_ask_it(served, headers, status, said):
    request = {"model": "tiny", "messages": ASKED, "max_tokens": 1}
    given = {"Content-Type": "application/json"} | headers
    asked = urllib.request.Request(served[0] + "/chat/completions", json.dumps(request).encode(), given)
    try:
        with urllib.request.urlopen(asked, timeout=60) as answer:
            got, body = answer.status, answer.read()
    except urllib.error.HTTPError as error:
        got, body = error.code, error.read()
    assert got == status
    assert said in body.decode()


def test_a_rebound_name_reads_nothing_either(served):
    asked = urllib.request.Request(served[0] + "/models", headers={"Host": "evil.example"})
    with pytest.raises(urllib.error.HTTPError, match="403"):
        urllib.request.urlopen(asked, timeout=10)


def test_a_server_for_a_network_takes_any_name():
    assert names_of("0.0.0.0") is None
    assert names_of("127.0.0.1") == {"127.0.0.1", "localhost", "::1"}
    assert {"10.0.0.5", "127.0.0.1", socket.gethostname().lower()} <= names_of("10.0.0.5")


async def no_start(scope, receive, send):
    assert scope["type"] == "lifespan"
    await receive()
    await send({"type": "lifespan.startup.failed", "message": "no"})


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_server_that_does_not_start_says_so_and_ends():
    with pytest.raises(ModelError, match="the HTTP server did not start; what it said stands above"):
        serve_http(no_start, host="127.0.0.1", port=None, ready=pytest.fail, stop=threading.Event())


def test_a_server_that_ends_by_itself_is_not_waited_for():
    def ready(url):
        for server in running:
            server.should_exit = True

    running, own = [], uvicorn.Server

    class Noted(own):
        def __init__(self, *given):
            super().__init__(*given)
            running.append(self)

    uvicorn.Server = Noted
    try:
        with pytest.raises(ModelError, match="the HTTP server has ended"):
            serve_http(FastAPI(), host="127.0.0.1", port=None, ready=ready, stop=threading.Event())
    finally:
        uvicorn.Server = own


@pytest.fixture(scope="module")
def calls_tools(tmp_path_factory):
    """(URL, engine) of a model whose template writes calls; what it says is put in its mouth by `says`."""
    folder = random_model(tmp_path_factory.mktemp("models") / "tools", seed=1, template=TOOLS)
    engine = Engine(folder, dtype="float32", max_model_len=2000)
    stop, found, ready = threading.Event(), [], threading.Event()

    def note(url: str) -> None:
        found.append(url)
        ready.set()

    given = {"host": "127.0.0.1", "port": None, "ready": note, "stop": stop}
    thread = threading.Thread(target=serve_http, args=(make_app(engine, name="tiny"),), kwargs=given)
    thread.start()
    assert ready.wait(30)
    yield found[0], engine
    stop.set()
    thread.join()
    engine.close()


def says(engine: Engine, monkeypatch, text: str) -> None:
    """Whatever it is asked, the model writes these tokens and ends its turn."""
    ids = [*engine.renderer.tokenizer(text)["input_ids"], engine.renderer.end_id]

    monkeypatch.setattr(
        "srft.harness.serve.engine.choose",
        lambda samplers, logits: [_next(sampler, ids) for sampler in samplers],
    )


def _next(sampler: Sampler, ids: list[int]) -> Choice:
    place = sampler.__dict__.setdefault("place", -1) + 1
    sampler.__dict__["place"] = place
    return Choice(ids[place], -1.0)


BASH = [{"type": "function", "function": {"name": "bash", "parameters": {"type": "object", "properties": {}}}}]


@pytest.mark.parametrize("stream", [False, True])
def test_calls_come_back_as_the_chat_api_has_them(calls_tools, monkeypatch, stream):
    url, engine = calls_tools
    says(engine, monkeypatch, 'I look.<tool_call>bash {"command": "ls"}</tool_call>')
    model = model_at(url, max_tokens=200)
    reply = model.stream(ASKED, tools=BASH, on_text=lambda _: None) if stream else model.reply(ASKED, tools=BASH)
    assert (reply.content, reply.finish_reason) == ("I look.", "tool_calls")
    assert [call["function"] for call in reply.tool_calls] == [{"name": "bash", "arguments": '{"command": "ls"}'}]
    assert NativeFormat().parse(reply).arguments == {"command": "ls"}
    plain = model.reply(ASKED)
    assert (plain.content, plain.tool_calls) == ('I look.<tool_call>bash {"command": "ls"}</tool_call>', ())


def test_tools_are_refused_where_the_template_has_no_calls(served):
    request = {"model": "tiny", "messages": ASKED, "tools": BASH}
    status, answer = post(served[0] + "/chat/completions", request)
    assert status == 400
    assert "format backtick, xml or json, or serve it with vLLM" in answer["error"]["message"]
