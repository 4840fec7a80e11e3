"""Judges' dialects: one loopback server a kind, which refuses, ignores and answers as that kind does.

Each ends in the right verdicts, or in a sentence that says what to do.
"""

import json

import msgspec
import pytest

from srft.agent.records import Action
from srft.critic.judge.config import JudgeConfig
from srft.critic.judge.judge import Judge
from srft.critic.judge.tokens import estimate
from srft.critic.labels.labels import Evidence
from srft.env.errors import ModelError
from tests.agent.conftest import ChatServer
from tests.critic.judge.test_judge import run_of, verdicts

RIGHT = ["mistake", "good", "good"]


class Dialect(list):
    """Answers without end: `serve(request)` gives (status, body)."""

    def __init__(self, server, serve):
        super().__init__()
        self.server, self.serve = server, serve

    def pop(self, place=-1):
        return self.serve(self.server.requests[-1])


@pytest.fixture
def ask():
    """Has the judge ask a server of a kind: (critique, requests)."""
    server = ChatServer()

    def ask(serve, *, run=None, verdicts_of_other=None, **settings):
        server.answers = Dialect(server, serve)
        openai = {"max_retries": 0, "timeout_s": 20.0} | settings.pop("openai", {})
        judge = Judge(msgspec.convert({"model": f"{server.url}#tiny", "openai": openai, **settings}, JudgeConfig))
        return judge.judge(run or run_of(), Evidence(resolved=False)), server.requests

    yield ask
    server.close()


def asked_for(request):
    """The steps of the last question."""
    said = text_of(request["messages"][-1]["content"])
    if "Judge step " in said:
        return [int(said.rpartition("Judge step ")[2].partition(":")[0])]
    first, last = said.rpartition("Judge the steps ")[2].partition(":")[0].split(" to ")
    return list(range(int(first), int(last) + 1))


def text_of(content):
    return content if isinstance(content, str) else "".join(part["text"] for part in content)


def answer(request, **more):
    """The right answer, with all keys that the prompt asks for."""
    entries = [
        {
            "step": step, "command": f"echo {step}", "reason": "So.", "confidence": 0.9,
            "verdict": "mistake" if step == 0 else "good",
        }
        for step in asked_for(request)
    ]  # fmt: skip
    return json.dumps({"analysis": "It went wrong at step 0.", "steps": entries, **more})


def completion(message, *, finish_reason="stop", **more):
    said = {"role": "assistant", "content": None, **message}
    return 200, {"choices": [{"index": 0, "message": said, "finish_reason": finish_reason}], **more}


def counted(request, *, most=10**9):
    tokens = sum(estimate(text_of(message["content"])) for message in request["messages"])
    return {"prompt_tokens": min(tokens, most), "completion_tokens": 20}


def refusal(message, status=400, **more):
    return status, {"error": {"message": message, "type": "invalid_request_error", **more}}


def form_of(request):
    wanted = request.get("response_format", {"type": "none"})
    if wanted["type"] != "json_schema":
        return wanted["type"]
    return "positional" if "prefixItems" in json.dumps(wanted) else "strict"


def openai_strict(request):
    """GPT-4.1: strict schemas, of what it knows."""
    if form_of(request) == "positional":
        return refusal(
            "Invalid schema for response_format 'verdicts': In context=('properties', 'steps'), 'prefixItems' is not "
            "permitted."
        )
    assert form_of(request) == "strict"
    assert request["response_format"]["json_schema"]["strict"] is True
    return completion({"content": answer(request), "refusal": None}, usage=counted(request))


def openai_reasoning(request):
    """GPT-5 and the o-series: another name for the limit, one temperature, thinking that nobody sees."""
    if "max_tokens" in request:
        return refusal(
            "Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens' "
            "instead.",
            param="max_tokens",
            code="unsupported_parameter",
        )
    if request.get("temperature", 1) != 1:
        return refusal(
            "Unsupported value: 'temperature' does not support 0 with this model. Only the default (1) value is "
            "supported.",
            param="temperature",
            code="unsupported_value",
        )
    return openai_strict(request)


def test_openai(ask):
    critique, requests = ask(openai_strict)
    assert (verdicts(critique), critique.remarks) == (RIGHT, {})
    assert [form_of(request) for request in requests] == ["positional", "strict"]


def test_openai_with_reasoning(ask):
    critique, requests = ask(openai_reasoning, thinking_tokens=2000)
    assert (verdicts(critique), critique.remarks) == (RIGHT, {})
    limits = [(request.get("max_tokens"), request.get("max_completion_tokens")) for request in requests]
    assert limits == [(2854, None), (None, 2854), (None, 2854)]
    with pytest.raises(ModelError, match=r"temperature.*Only the default.*correct the sampling settings"):
        ask(openai_reasoning, openai={"temperature": 0.0})


def test_vllm_with_a_reasoning_parser(ask):
    def serve(request):
        assert form_of(request) == "positional"
        return completion({"content": answer(request), "reasoning": "Step 0 breaks it."}, usage=counted(request))

    critique, _ = ask(serve)
    assert (verdicts(critique), critique.remarks) == (RIGHT, {})


def test_vllm_with_a_reasoning_parser_that_takes_the_answer_for_thinking(ask):
    critique, requests = ask(lambda request: completion({"reasoning_content": answer(request)}))
    assert (verdicts(critique), len(requests)) == (RIGHT, 1)


def test_vllm_without_a_reasoning_parser(ask):
    """The schema forbids thinking from the first token on; the analysis is the place to think."""

    def constrained(request):
        schema = request["response_format"]["json_schema"]["schema"]
        assert list(schema["properties"]) == ["analysis", "steps"]
        return completion({"content": answer(request)}, usage=counted(request))

    assert verdicts(ask(constrained)[0]) == RIGHT
    draft = json.dumps({"steps": [{"step": 0, "command": "echo 0", "verdict": "good"}]})
    critique, _ = ask(
        lambda request: completion({"content": f"<think>\n{draft}\n</think>\n\n{answer(request)}"}), schema=False
    )
    assert verdicts(critique) == RIGHT


def deepseek(request):
    if form_of(request) in ("positional", "strict"):
        return refusal("This response_format type is unavailable now")
    assert form_of(request) == "json_object"
    assert "JSON" in request["messages"][0]["content"]
    return completion({"content": answer(request), "reasoning_content": "Hm."}, usage=counted(request))


def test_deepseek(ask):
    critique, requests = ask(deepseek)
    assert (verdicts(critique), critique.remarks) == (RIGHT, {"unconstrained": 1})
    assert [form_of(request) for request in requests] == ["positional", "strict", "json_object"]


def test_anthropics_compatible_endpoint(ask):
    """It ignores schemas without a word, and a cache that is marked takes parts."""

    def serve(request):
        system, user = (message["content"] for message in request["messages"])
        assert [part.get("cache_control") for part in (*system, *user)] == [
            {"type": "ephemeral"}, {"type": "ephemeral"}, None
        ]  # fmt: skip
        text = f"I looked at each step.\n\n```json\n{answer(request)}\n```"
        usage = counted(request) | {"prompt_tokens_details": {"cached_tokens": 800}}
        return completion({"content": text}, usage=usage)

    critique, _ = ask(serve, cache_control=True)
    assert (verdicts(critique), critique.remarks) == (RIGHT, {"schema_ignored": 1})
    assert critique.usage.cached_tokens == 800


def test_geminis_compatible_endpoint(ask):
    """A long run's schema has too many states, the next run's has not; errors come in a list."""
    long = run_of(30)

    def serve(request):
        if form_of(request) == "positional" and len(asked_for(request)) > 20:
            said = "The specified schema produces a constraint that has too many states for serving."
            return 400, [{"error": {"code": 400, "message": said, "status": "INVALID_ARGUMENT"}}]
        return completion({"content": answer(request)}, usage=counted(request))

    critique, requests = ask(serve, run=long)
    assert verdicts(critique) == ["mistake", *["good"] * 29]
    assert [form_of(request) for request in requests] == ["positional", "strict"]


def test_one_runs_refusal_of_a_schema_is_not_the_next_ones(ask):
    server = ChatServer()
    refused = refusal("response_format: the schema has too many states for serving")
    server.answers = Dialect(
        server,
        lambda request: (
            refused
            if form_of(request) == "positional" and len(asked_for(request)) > 20
            else completion({"content": answer(request)})
        ),
    )
    judge = Judge(JudgeConfig(model=f"{server.url}#tiny"))
    judge.judge(run_of(30), Evidence())
    judge.judge(run_of(3), Evidence())
    server.close()
    assert [form_of(request) for request in server.requests] == ["positional", "strict", "positional"]


def test_ollama_that_truncates(ask, caplog):
    """It reads `num_ctx` tokens and says nothing but their number."""
    most = 8192

    def serve(request):
        usage = counted(request, most=most)
        # what it had not read, it makes up
        said = answer(request) if usage["prompt_tokens"] < most else answer(request).replace("mistake", "good")
        return completion({"content": said}, usage=usage)

    run = run_of(12, observation="def answer(xs):\n    return sum(xs) / len(xs)\n" * 60)
    critique, requests = ask(serve, run=run)
    assert verdicts(critique) == ["mistake", *["good"] * 11]
    assert critique.remarks["read_in_part"] == critique.remarks["overflows"] >= 1
    assert all(counted(request)["prompt_tokens"] < most for request in requests[critique.remarks["overflows"] :])
    # A run that it reads whole is not asked about again, and further votes begin where the first one ended.
    critique, requests = ask(serve)
    assert (critique.calls, critique.remarks) == (1, {})
    critique, _ = ask(serve, run=run, votes=2)
    assert critique.calls == 2 * critique.remarks["windows"] // 2 + critique.remarks["overflows"]


def test_a_server_that_does_not_count_what_its_cache_had(ask):
    """It has read a longer question whole, so it does not cut this one."""
    server = ChatServer()
    counts = iter((9000, 700))
    server.answers = Dialect(
        server, lambda request: completion({"content": answer(request)}, usage={"prompt_tokens": next(counts)})
    )
    judge = Judge(JudgeConfig(model=f"{server.url}#tiny"))
    found = [judge.judge(run_of(), Evidence()) for _ in range(2)]
    server.close()
    assert [(critique.calls, critique.remarks) for critique in found] == [(1, {}), (1, {})]


def test_a_count_that_says_nothing_is_no_truncation(ask):
    """Servers that count what their cache had not, and none at all."""
    for usage in ({"prompt_tokens": 30, "completion_tokens": 5}, None, {"prompt_tokens": 0}):
        critique, _ = ask(lambda request, usage=usage: completion({"content": answer(request)}, usage=usage))
        assert (critique.calls, "read_in_part" in critique.remarks) == (1, False)


def test_a_server_that_streams(ask):
    def serve(request):
        assert request["stream"] is True
        text = answer(request)
        pieces = [text[place : place + 50] for place in range(0, len(text), 50)]
        events = [{"choices": [{"index": 0, "delta": {"content": piece}}]} for piece in pieces]
        events += [{"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}]
        events += [{"choices": [], "usage": {"prompt_tokens": 30, "completion_tokens": 9}}]
        body = "".join(f"data: {json.dumps(event)}\n\n" for event in events) + "data: [DONE]\n\n"
        return 200, body.encode(), {"Content-Type": "text/event-stream"}

    critique, _ = ask(serve, stream=True)
    assert (verdicts(critique), critique.usage.completion_tokens) == (RIGHT, 9)


def test_a_judge_that_mixes_up_the_steps_is_asked_again(ask):
    """All numbers are there: the repeated commands alone show it."""

    run = run_of(4)
    actions = [Action(tool="bash", arguments={"command": f"python check_{step}.py"}, format="xml") for step in range(4)]
    steps = [msgspec.structs.replace(step, action=action) for step, action in zip(run.steps, actions, strict=True)]
    run = msgspec.structs.replace(run, steps=tuple(steps))

    def serve(request):
        if len(request["messages"]) == 2:
            entries = [
                {"step": number, "command": f"python check_{step}.py", "verdict": "mistake"}
                for number, step in ((0, 0), (1, 2), (3, 3), (2, 1))
            ]
            return completion({"content": json.dumps({"steps": entries})})
        assert "which step each is about" in request["messages"][-1]["content"]
        request["messages"][-1]["content"] = "Judge the steps 0 to 3: 4"
        return completion({"content": answer(request).replace("echo ", "python check_")})

    critique, requests = ask(serve, run=run)
    assert (verdicts(critique), len(requests)) == ([*RIGHT, "good"], 2)
