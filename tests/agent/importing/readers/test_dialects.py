"""Messages in the dialects of OpenAI, ShareGPT, SWE-agent, nebius and Anthropic."""

import pytest

from srft.agent.importing.readers.dialects import chat_messages, tool_descriptions
from srft.env.errors import InputError

CALL = {"id": "c", "type": "function", "function": {"name": "bash", "arguments": "{}"}}


@pytest.mark.parametrize(
    ("message", "messages"),
    [
        ({"from": "human", "value": "T"}, [{"role": "user", "content": "T"}]),
        ({"from": "gpt", "value": "A"}, [{"role": "assistant", "content": "A"}]),
        ({"from": "observation", "value": "o"}, [{"role": "tool", "content": "o"}]),
        (
            {"from": "function_call", "value": '{"name": "bash", "arguments": {"command": "ls"}}'},
            [
                {
                    "role": "assistant",
                    "content": "",
                    "tool_calls": [{"function": {"name": "bash", "arguments": {"command": "ls"}}}],
                }
            ],
        ),
        ({"role": "developer", "content": "D"}, [{"role": "system", "content": "D"}]),
        ({"role": "ai", "text": "A", "system_prompt": None}, [{"role": "assistant", "content": "A"}]),
        ({"role": "system", "text": None, "system_prompt": "S"}, [{"role": "system", "content": "S"}]),
        ({"role": "assistant", "content": None}, [{"role": "assistant", "content": None}]),
        (
            {
                "role": "assistant",
                "content": None,
                "tool_calls": None,
                "function_call": {"name": "f", "arguments": "{}"},
            },
            [
                {
                    "role": "assistant",
                    "content": None,
                    "tool_calls": [{"function": {"name": "f", "arguments": "{}"}}],
                }
            ],
        ),
        (
            {"role": "assistant", "content": "A", "tool_calls": [CALL], "reasoning": "hm", "audio": None},
            [{"role": "assistant", "content": "A", "tool_calls": [CALL], "reasoning_content": "hm"}],
        ),
        (
            {"role": "assistant", "content": "A", "thinking_blocks": [{"type": "thinking", "thinking": "hm"}]},
            [{"role": "assistant", "content": "A", "reasoning_content": "hm"}],
        ),
        (
            {"role": "tool", "content": "o", "tool_call_ids": ["a", "b"], "name": "bash"},
            [
                {"role": "tool", "content": "o", "name": "bash", "tool_call_id": "a"},
                {"role": "tool", "content": "", "name": "bash", "tool_call_id": "b"},
            ],
        ),
        (
            {
                "role": "assistant",
                "content": [
                    {"type": "thinking", "thinking": "hm", "signature": "s"},
                    {"type": "text", "text": "A"},
                    {"type": "tool_use", "id": "c", "name": "bash", "input": {"command": "ls"}},
                ],
            },
            [
                {
                    "role": "assistant",
                    "content": [{"type": "text", "text": "A"}],
                    "reasoning_content": "hm",
                    "tool_calls": [{"id": "c", "function": {"name": "bash", "arguments": {"command": "ls"}}}],
                }
            ],
        ),
        (
            {
                "role": "user",
                "content": [
                    {"type": "tool_result", "tool_use_id": "c", "content": [{"type": "text", "text": "o"}]},
                    {"type": "tool_result", "tool_use_id": "d", "content": None},
                    {"type": "text", "text": "Go on."},
                ],
            },
            [
                {"role": "tool", "content": "o", "tool_call_id": "c"},
                {"role": "tool", "content": None, "tool_call_id": "d"},
                {"role": "user", "content": [{"type": "text", "text": "Go on."}]},
            ],
        ),
    ],
)
def test_a_message_in_any_dialect(message, messages):
    assert chat_messages(message, "w") == messages


def test_roles_of_a_datasets_own():
    assert chat_messages({"role": "wizard", "content": "A"}, "w", roles={"wizard": "assistant"}) == [
        {"role": "assistant", "content": "A"}
    ]


@pytest.mark.parametrize(
    ("message", "problem"),
    [
        ("text", "w: expected an object with role and content, got str"),
        ({"content": "x"}, "w.role: expected one of system, user, assistant, tool, got None"),
        ({"from": "function_call", "value": "ls"}, "w.value: a text, but not JSON"),
        ({"role": "tool", "content": "x", "tool_call_ids": "c"}, "w.tool_call_ids: expected a list of ids, got 'c'"),
    ],
)
def test_what_is_no_message(message, problem):
    with pytest.raises(InputError) as error:
        chat_messages(message, "w")
    assert str(error.value).startswith(problem)


@pytest.mark.parametrize(
    "given",
    [
        [
            {
                "type": "function",
                "function": {"name": "f", "parameters": {"properties": {"a": {"enum": None}, "b": None}}},
            }
        ],
        '[{"name": "f", "parameters": {"properties": {"a": {}}}}]',
        ['{"name": "f", "input_schema": {"properties": {"a": {}}}}'],
        [{"name": "f", "parameters": '{"properties": {"a": {}}}', "description": None}],
    ],
)
def test_descriptions_of_tools_in_any_form(given):
    function = {"name": "f", "parameters": {"properties": {"a": {}}}}
    assert tool_descriptions(given, "w") == ({"type": "function", "function": function},)


def test_what_describes_no_tools():
    assert tool_descriptions("", "w") == tool_descriptions([], "w") == ()
    for given in ("x", {}, [3], [{"function": {}}]):
        with pytest.raises(InputError, match=r"^w"):
            tool_descriptions(given, "w")
