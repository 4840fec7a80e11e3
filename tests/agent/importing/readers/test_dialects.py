"""Messages in the dialects of OpenAI, ShareGPT, SWE-agent, nebius and Anthropic."""

import pytest

from srft.agent.importing.readers.dialects import (
    chat_messages,
    objects,
    pruned_arguments,
    tool_descriptions,
    without_nulls,
)
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
        (
            {"from": "tool_call", "value": [{"name": "f"}, {"name": "g"}]},
            [{"role": "assistant", "content": "", "tool_calls": [{"function": {"name": n}} for n in ("f", "g")]}],
        ),
        ({"role": "user", "content": "A", "value": "B", "text": "C"}, [{"role": "user", "content": "A"}]),
        ({"role": "user", "content": None, "value": "B", "text": "C"}, [{"role": "user", "content": "B"}]),
        ({"role": "assistant", "content": None, "text": "C"}, [{"role": "assistant", "content": None}]),
        ({"role": "tool", "content": None, "text": "C"}, [{"role": "tool", "content": None}]),
        ({"role": "user", "content": None}, [{"role": "user"}]),
        (
            {"role": "user", "content": "A", "tool_call_id": None, "name": "n", "tool_call_ids": []},
            [{"role": "user", "content": "A", "name": "n"}],
        ),
        (
            {"role": "assistant", "content": "A", "tool_calls": '[{"id": "c"}]', "function_call": {"name": "f"}},
            [{"role": "assistant", "content": "A", "tool_calls": [{"id": "c"}]}],
        ),
        (
            {"role": "assistant", "content": "A", "reasoning_content": "", "reasoning": 3, "thinking": "hm"},
            [{"role": "assistant", "content": "A", "reasoning_content": "hm"}],
        ),
        (
            {
                "role": "assistant",
                "content": [{"type": "thinking", "thinking": "one"}, {"type": "tool_use", "id": "d"}],
                "thinking_blocks": [{"type": "thinking", "thinking": "two"}, {"thinking": 3}],
                "tool_calls": [CALL],
            },
            [{"role": "assistant", "content": [], "tool_calls": [CALL], "reasoning_content": "one\ntwo"}],
        ),
        (
            {"role": "assistant", "content": [{"type": "thinking", "thinking": "one"}], "reasoning": "hm"},
            [{"role": "assistant", "content": [], "reasoning_content": "hm"}],
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
                    {"type": "redacted_thinking", "data": "x"},
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


@pytest.mark.parametrize(
    ("names", "role"),
    [
        ("system developer", "system"),
        ("user human environment", "user"),
        ("assistant ai bot chatgpt gpt model", "assistant"),
        ("tool function function_response ipython observation tool_response", "tool"),
        ("wizard", "wizard"),
    ],
)
def test_roles_by_their_other_names(names, role):
    messages = [chat_messages({"role": name, "content": "A"}, "w") for name in names.split()]
    assert messages == [[{"role": role, "content": "A"}]] * len(messages)


def test_the_results_of_several_calls():
    texts = [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]
    blocks = [{"type": "tool_result", "tool_use_id": "c", "content": texts}]
    assert chat_messages({"role": "user", "content": blocks}, "w") == [
        {"role": "tool", "content": "a\nb", "tool_call_id": "c"}
    ]
    blocks = [{"type": "text", "text": "x"}, {"type": "tool_result", "content": [{"type": "image"}]}]
    with pytest.raises(InputError, match=r"^w\.content\[1\]\.content\[0\]: expected a text part, got image"):
        chat_messages({"role": "user", "content": blocks}, "w")


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
        ({"role": "tool", "content": "x", "tool_call_ids": [3]}, "w.tool_call_ids: expected a list of ids, got [3]"),
        (
            {"role": "assistant", "content": "", "tool_calls": "c"},
            "w.tool_calls: a text, but not JSON (Expecting value",
        ),
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
        [{"type": "function", "name": "f", "parameters": {"properties": {"a": {}}}, "function": None}],
    ],
)
def test_descriptions_of_tools_in_any_form(given):
    function = {"name": "f", "parameters": {"properties": {"a": {}}}}
    assert tool_descriptions(given, "w") == ({"type": "function", "function": function},)


def test_what_describes_no_tools():
    assert tool_descriptions("", "w") == tool_descriptions([], "w") == ()
    assert tool_descriptions(" \n", "w") == ()


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        ("x", "w: a text, but not JSON (Expecting value: line 1 column 1 (char 0)). Fix or remove the run."),
        ({}, "w: expected a list of tool descriptions, got dict"),
        ([3], "w[0]: expected an object with a name, or one whose function has a name"),
        ([{"name": "f"}, {"function": {}}], "w[1]: expected an object with a name"),
        (["["], "w[0]: a text, but not JSON"),
        ([{"name": "f", "parameters": "["}], "w[0].parameters: a text, but not JSON"),
    ],
)
def test_a_wrong_description_of_tools_is_named(given, problem):
    with pytest.raises(InputError) as error:
        tool_descriptions(given, "w")
    assert str(error.value).startswith(problem)


def test_lists_of_objects_also_as_text():
    assert objects({"a": [1]}, "a", "w") == objects({"a": "[1]"}, "a", "w") == [1]
    for value, problem in (({}, "w: a: expected a list of objects, got dict"), ("[", "w: a: a text, but not JSON")):
        with pytest.raises(InputError) as error:
            objects({"a": value}, "a", "w")
        assert str(error.value).startswith(problem)


@pytest.mark.parametrize(
    ("schema", "kept", "dropped"),
    [
        (None, {}, 1),
        ({}, {}, 1),
        ({"properties": ["a"]}, {}, 1),
        ({"properties": {"b": {"type": "null"}}}, {}, 1),
        ({"properties": {"a": 3}}, {}, 1),
        ({"properties": {"a": {"type": "string"}}}, {}, 1),
        ({"properties": {"a": {"type": ["string", "number"]}}}, {}, 1),
        ({"properties": {"a": {"type": "null"}}}, {"a": None}, 0),
        ({"properties": {"a": {"type": ["string", "null"]}}}, {"a": None}, 0),
        ({"properties": {"a": {"anyOf": [{"type": "string"}, {"type": "null"}]}}}, {"a": None}, 0),
        ({"properties": {"a": {"anyOf": [{"type": "string"}, 3]}}}, {}, 1),
    ],
)
def test_a_null_stays_where_the_schema_takes_one(schema, kept, dropped):
    assert pruned_arguments({"a": None, "b": 1}, schema) == ({**kept, "b": 1}, dropped)


def test_nulls_at_depth_all_go():
    value = {"a": [{"b": None, "c": [None, 1]}, None], "d": {"e": None, "f": ""}}
    assert without_nulls(value) == {"a": [{"c": [None, 1]}, None], "d": {"f": ""}}
    assert pruned_arguments(value, {"properties": {"d": {"type": "null"}}}) == (without_nulls(value), 2)
