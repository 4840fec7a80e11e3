"""The forms of the answer that servers are asked to keep to."""

import json

import pytest

from srft.critic.judge.config import JudgeConfig
from srft.critic.judge.schemas import answer_format, is_kept

CONFIG = JudgeConfig(reason_chars=120, command_chars=40, analysis_chars=900)


def schema_of(form, config=CONFIG):
    wanted = answer_format(form, [4, 5], config)
    assert (wanted["type"], wanted["json_schema"]["name"], wanted["json_schema"]["strict"]) == (
        "json_schema", "verdicts", True
    )  # fmt: skip
    return wanted["json_schema"]["schema"]


def test_the_positional_form_fixes_number_order_and_count():
    schema = schema_of("positional")
    assert list(schema["properties"]) == ["analysis", "steps"]
    assert schema["properties"]["analysis"] == {"type": "string", "maxLength": 900}
    steps = schema["properties"]["steps"]
    assert (steps["minItems"], steps["maxItems"]) == (2, 2)
    assert [entry["properties"]["step"] for entry in steps["prefixItems"]] == [
        {"type": "integer", "enum": [4]}, {"type": "integer", "enum": [5]}
    ]  # fmt: skip
    assert list(steps["items"]["properties"]) == ["step", "command", "reason", "verdict", "confidence"]
    assert steps["items"]["properties"]["reason"] == {"type": "string", "maxLength": 120}
    assert steps["items"]["properties"]["command"] == {"type": "string", "maxLength": 48}
    assert steps["items"]["properties"]["verdict"]["enum"] == ["good", "recover", "unnecessary", "mistake", "abstain"]
    assert steps["items"]["properties"]["confidence"]["enum"] == [tenth / 10 for tenth in range(11)]


def test_the_strict_form_has_only_what_openai_takes():
    """All properties required, none beside them, and no word on lengths, counts or places."""
    found = set()

    def look(schema):
        if isinstance(schema, dict):
            if schema.get("type") == "object":
                assert schema["required"] == list(schema["properties"])
                assert schema["additionalProperties"] is False
            found.update(key for key in schema if key not in schema.get("properties", {}))
            for value in schema.values():
                look(value)

    look(schema_of("strict"))
    names = {"analysis", "steps", "step", "command", "reason", "verdict", "confidence"}
    assert found - names == {"type", "properties", "required", "additionalProperties", "items", "enum"}


def test_what_is_not_wanted_is_in_no_form():
    config = JudgeConfig(command_chars=0, analysis_chars=0)
    schema = schema_of("strict", config)
    assert list(schema["properties"]) == ["steps"]
    assert "command" not in schema["properties"]["steps"]["items"]["properties"]
    assert answer_format("json_object", [0], config) == {"type": "json_object"}
    assert answer_format("none", [0], config) is None


@pytest.mark.parametrize(
    ("form", "text", "kept"),
    [
        ("positional", json.dumps({"steps": [{"step": 4}, {"step": 5}]}), True),
        ("positional", json.dumps({"steps": [{"step": 5}, {"step": 4}]}), False),
        ("positional", json.dumps({"steps": [{"step": 4}]}), False),
        ("strict", json.dumps({"steps": [{"step": 4}]}), True),
        ("strict", json.dumps({"steps": [4]}), False),
        ("strict", json.dumps({"steps": None}), False),
        ("strict", json.dumps([{"step": 4}]), False),
        ("strict", 'Here: {"steps": []}', False),
        ("strict", "\ud800", False),
        ("json_object", "Here you are", True),
        ("none", "Here you are", True),
    ],
)
def test_a_schema_that_was_ignored_is_noticed(form, text, kept):
    assert is_kept(form, text, [4, 5]) == kept
