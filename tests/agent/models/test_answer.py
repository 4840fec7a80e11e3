"""What servers answer, in every dialect, and what is made of it."""

import math

import pytest

from srft.agent.models.answer import AnswerError, read_answer
from srft.agent.models.contract import ContextOverflow
from srft.agent.records import Usage

USAGE = {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15}


def answer(message, *, usage=USAGE, finish_reason="stop", top=None, **choice):
    said = {"index": 0, "message": {"role": "assistant", **message}, "finish_reason": finish_reason, **choice}
    return {"id": "c1", "choices": [said], "usage": usage, **(top or {})}


def read(message=None, **more):
    return read_answer(answer({"content": "x"} if message is None else message, **more), first_call=2)


def call(name="bash", arguments="{}", **more):
    return {"id": "a", "type": "function", "function": {"name": name, "arguments": arguments}, **more}


@pytest.mark.parametrize(
    ("message", "content", "reasoning"),
    [
        ({"content": "x"}, "x", None),
        ({"content": None}, "", None),
        ({}, "", None),
        ({"content": [{"type": "text", "text": "I "}, {"type": "text", "text": "look."}]}, "I look.", None),
        ({"content": ["I ", {"type": "output_text", "text": {"value": "look."}}]}, "I look.", None),
        ({"content": {"type": "text", "text": "x"}}, "x", None),
        ({"content": {"steps": [1]}}, '{"steps": [1]}', None),
        ({"content": 5}, "5", None),
        ({"content": []}, "", None),
        ({"content": None, "refusal": "I will not."}, "I will not.", None),
        ({"content": "a\ud83db"}, "a\ufffdb", None),
        ({"content": "x", "reasoning_content": "hm"}, "x", "hm"),
        ({"content": "x", "reasoning": "hm"}, "x", "hm"),
        ({"content": "x", "thinking": "hm"}, "x", "hm"),
        ({"content": "x", "reasoning_content": None, "reasoning": "hm"}, "x", "hm"),
        ({"content": "x", "reasoning_content": ""}, "x", None),
        ({"content": "x", "reasoning": {"text": "hm"}}, "x", "hm"),
        ({"content": "x", "reasoning_details": [{"type": "reasoning.text", "text": "hm"}]}, "x", "hm"),
        ({"content": "x", "reasoning_details": [{"type": "reasoning.summary", "summary": "hm"}]}, "x", "hm"),
        ({"content": "x", "reasoning": "hm", "reasoning_details": [{"text": "hm"}]}, "x", "hm"),
        ({"content": "x", "thinking_blocks": [{"type": "thinking", "thinking": "hm", "signature": "s"}]}, "x", "hm"),
        (
            {"content": [{"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]}, {"text": "x"}]},
            "x",
            "hm",
        ),
        ({"content": [{"type": "thinking", "thinking": "hm"}]}, "", "hm"),
        ({"content": "<think>hm</think>x"}, "x", "hm"),
        ({"content": "\n<think>\nhm\n</think>\n\nx\n"}, "x\n", "hm"),
        ({"content": "[THINK]hm[/THINK]x"}, "x", "hm"),
        ({"content": "<think>\n\n</think>\n\nx"}, "x", None),
        ({"content": "I write <think>hm</think>"}, "I write <think>hm</think>", None),
        ({"content": "<think>never ends"}, "<think>never ends", None),
        ({"content": "<think>a</think>x", "reasoning_content": "hm"}, "<think>a</think>x", "hm"),
    ],
)
def test_content_and_thinking(message, content, reasoning):
    reply = read(message).reply
    assert (reply.content, reply.reasoning) == (content, reasoning)


def test_a_part_without_text_is_counted():
    assert read({"content": [{"type": "image_url", "image_url": {}}, {"text": "x"}]}).left_out == (
        "content of type image_url",
    )


@pytest.mark.parametrize(
    ("given", "calls"),
    [
        ([call()], [("a", "bash", "{}")]),
        ([call(id="")], [("call00200", "bash", "{}")]),
        ([call(id=None), call(id=None)], [("call00200", "bash", "{}"), ("call00201", "bash", "{}")]),
        ([call(), call()], [("a", "bash", "{}"), ("call00201", "bash", "{}")]),
        ([call(id=7)], [("7", "bash", "{}")]),
        (
            [{"function": {"name": "bash", "arguments": {"command": "ls"}}}],
            [("call00200", "bash", '{"command": "ls"}')],
        ),
        ([call(arguments=None)], [("a", "bash", "{}")]),
        ([{"id": "a", "function": None}], [("a", "", "{}")]),
        ([{"id": "a", "function": {"name": None}}], [("a", "", "{}")]),
        ([{"id": "a", "type": "custom", "custom": {"name": "bash", "input": "ls"}}], [("a", "bash", "ls")]),
        (call(), [("a", "bash", "{}")]),
        (None, []),
        ("none", []),
    ],
)
def test_tool_calls(given, calls):
    reply = read({"content": None, "tool_calls": given}, finish_reason="tool_calls").reply
    assert [(c["id"], c["function"]["name"], c["function"]["arguments"]) for c in reply.tool_calls] == calls
    assert all(c["type"] == "function" for c in reply.tool_calls)


def test_the_call_of_the_older_api_and_what_is_wanted_back_with_a_call():
    old = read({"content": None, "function_call": {"name": "bash", "arguments": "{}"}}).reply.tool_calls
    assert old == ({"id": "call00200", "type": "function", "function": {"name": "bash", "arguments": "{}"}},)
    signed = {"extra_content": {"google": {"thought_signature": "s"}}}
    assert read({"tool_calls": [call(**signed, index=0)]}).reply.tool_calls == (call(**signed),)


@pytest.mark.parametrize(
    ("usage", "known", "left_out"),
    [
        (None, None, ()),
        ({}, None, ()),
        ({"total_tokens": 7}, None, ()),
        ({"prompt_tokens": None, "completion_tokens": None}, None, ()),
        ({"prompt_tokens": 3.0, "completion_tokens": "2"}, Usage(prompt_tokens=3, completion_tokens=2), ()),
        ({"input_tokens": 3, "output_tokens": 2}, Usage(prompt_tokens=3, completion_tokens=2), ()),
        ({"prompt_tokens": 3, "cost": "0.01"}, Usage(prompt_tokens=3, cost_usd=0.01), ()),
        ({"prompt_tokens": 3, "cost": {"total_cost": 0.06, "prompt": 0.01}}, Usage(prompt_tokens=3, cost_usd=0.06), ()),
        ({"prompt_tokens": 3, "cost": {"upstream": 1}}, Usage(prompt_tokens=3), ("cost",)),
        ({"prompt_tokens": 3, "cost": math.nan}, Usage(prompt_tokens=3), ("cost",)),
        ({"prompt_tokens": 3, "cost": -1}, Usage(prompt_tokens=3), ("cost",)),
        ({"prompt_tokens": 10**400, "completion_tokens": [2]}, None, ("usage",)),
        ({"prompt_tokens": 3, "completion_tokens": -2}, Usage(prompt_tokens=3), ("usage",)),
        ({"prompt_tokens": True, "completion_tokens": 2.5}, None, ("usage",)),
        ({"prompt_tokens": 3, "prompt_tokens_details": {}}, Usage(prompt_tokens=3), ()),
        ({"prompt_tokens": 3, "prompt_tokens_details": [1]}, Usage(prompt_tokens=3), ()),
        (
            {"prompt_tokens": 3, "prompt_tokens_details": {"cached_tokens": 2}},
            Usage(prompt_tokens=3, cached_tokens=2),
            (),
        ),
        ({"prompt_tokens": 3, "prompt_cache_hit_tokens": 2}, Usage(prompt_tokens=3, cached_tokens=2), ()),
        ("many", None, ("usage",)),
    ],
)
def test_usage(usage, known, left_out):
    found = read(usage=usage)
    assert (found.reply.usage, found.left_out) == (known, left_out)


def tokens(*logprobs):
    return {"content": [{"token": "t", "logprob": value, "bytes": None, "top_logprobs": []} for value in logprobs]}


@pytest.mark.parametrize(
    ("logprobs", "known", "left_out"),
    [
        (tokens(-0.5, -1), (-0.5, -1.0), ()),
        (None, None, ()),
        ({"content": None, "refusal": None}, None, ()),
        ({"content": []}, None, ()),
        (tokens(-0.5, math.nan), None, ("log-probabilities",)),
        (tokens(-0.5, -math.inf), None, ("log-probabilities",)),
        (tokens(-0.5, None), None, ("log-probabilities",)),
        (tokens("-inf"), None, ("log-probabilities",)),
        (tokens(True), None, ("log-probabilities",)),
        (tokens(-(10**400)), None, ("log-probabilities",)),
        ({"tokens": ["a"], "token_logprobs": [-0.5]}, None, ("log-probabilities",)),
        ([{"token": "x", "logprob": -0.1}], None, ("log-probabilities",)),
        ({"content": [1]}, None, ("log-probabilities",)),
        ("none", None, ("log-probabilities",)),
    ],
)
def test_logprobs(logprobs, known, left_out):
    found = read(logprobs=logprobs)
    assert (found.reply.logprobs, found.left_out, found.reply.content) == (known, left_out, "x")


@pytest.mark.parametrize(
    ("ids", "known", "left_out"),
    [
        ([1, 2], (1, 2), ()),
        (None, None, ()),
        ([], None, ()),
        *[(ids, None, ("token ids",)) for ids in ([[1, 2]], [1.0], ["1"], {"ids": [1]}, [True], [-1], [10**30], "12")],
    ],
)
def test_token_ids(ids, known, left_out):
    found = read(token_ids=ids)
    assert (found.reply.token_ids, found.left_out) == (known, left_out)
    asked = read(top={"prompt_token_ids": ids})
    assert (asked.reply.prompt_token_ids, asked.left_out) == (known, left_out)


@pytest.mark.parametrize(
    ("reason", "known", "left_out"),
    [
        ("stop", "stop", ()),
        ("eos", "eos", ()),
        ({"type": "length", "length": 7}, "length", ()),
        (None, None, ()),
        ("", None, ()),
        (0, None, ("finish_reason",)),
        ([1], None, ("finish_reason",)),
    ],
)
def test_finish_reasons(reason, known, left_out):
    found = read(finish_reason=reason)
    assert (found.reply.finish_reason, found.left_out) == (known, left_out)


@pytest.mark.parametrize(
    ("said", "passes"),
    [
        ({"error": {"message": "Provider returned error", "code": 429}}, True),
        ({"error": "upstream failed", "choices": []}, True),
        ({"error": {"message": "no key", "code": 401}}, False),
        ({"choices": [{"error": {"code": 502, "message": "upstream"}, "finish_reason": "error", "message": {}}]}, True),
        ({"choices": [{"error": {"message": "upstream"}, "message": {"content": "half"}}]}, True),
        ({"choices": [{"finish_reason": "error", "message": {"content": ""}}]}, True),
        ({"error": {"message": "died"}, "choices": [{"message": {"content": ""}, "finish_reason": None}]}, True),
        ({"choices": []}, True),
        ({"choices": "none"}, True),
        ({"choices": [None]}, True),
        ({"choices": [{"index": 0, "finish_reason": "stop"}]}, True),
        ([1, 2], True),
        ("busy", True),
        (None, True),
    ],
)
def test_failures_are_never_replies(said, passes):
    with pytest.raises(AnswerError, match="expected a chat completion") as error:
        read_answer(said, first_call=0)
    assert error.value.passes is passes


@pytest.mark.parametrize(
    "said",
    [
        {"error": {"code": 400, "message": "too long", "type": "exceed_context_size_error"}},
        {"choices": [{"error": {"code": 400, "message": "prompt is too long"}, "finish_reason": "error"}]},
        answer({"content": ""}, finish_reason="model_context_window_exceeded"),
    ],
)
def test_a_full_context_said_with_status_200(said):
    with pytest.raises(ContextOverflow):
        read_answer(said, first_call=0)


def test_text_of_the_completions_api():
    assert read_answer({"choices": [{"text": "x", "finish_reason": "stop"}]}, first_call=0).reply.content == "x"
