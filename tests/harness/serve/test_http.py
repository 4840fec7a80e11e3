"""The HTTP server over the engine, asked by the project's own client and by the openai package's streams."""

import json
import threading
import urllib.error
import urllib.request

import openai
import pytest

from srft.agent.models.contract import ContextOverflow
from srft.agent.models.openai import OpenAIConfig, OpenAIModel
from srft.env.errors import ModelError
from srft.harness.serve.engine import Engine
from srft.harness.serve.http import make_app, serve_http
from srft.harness.serve.local_model import LocalModel

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
    assert len(events) > 2


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
    body = urllib.request.Request(url + "/chat/completions", json.dumps(request).encode())
    with pytest.raises(OSError, match="timed out"):
        urllib.request.urlopen(body, timeout=0.1)
    deadline = threading.Event()
    for _ in range(100):
        if not engine._running:
            break
        deadline.wait(0.05)
    assert engine._running == []
