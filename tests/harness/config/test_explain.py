"""`srft config`: every setting with its default, its type and its meaning; and it is what `--config` reads."""

import json
from pathlib import Path
from typing import Annotated, Literal

import msgspec
import pytest
import yaml
from typer.testing import CliRunner

from srft.env.identity import ADDS, MAY_CHANGE
from srft.harness.cli import app
from srft.harness.commands.config import as_yaml, records
from srft.harness.config.config import read_config
from srft.harness.config.explain import REQUIRED, Setting, settings

RECORDS = records()
REQUIRED_OF = {
    "collect": {"tasks": "t.jsonl", "model": "demonstrator"},
    "critique": {"critic": "tool_error"},
    "export": {"format": "trl", "out": "rows.jsonl"},
    "loop": {"model": "m", "recipe": "smollm2-135m-cpu"},
    "practice": {"train": 3, "test": 1},
    "rows": {"tokenizer": "models/base"},
    "critic-rows": {"tokenizer": "models/base"},
}


class Inner(msgspec.Struct, kw_only=True):
    """How long it is, in steps."""

    length, height_m = 3, 4
    steps: Annotated[int | None, MAY_CHANGE] = None
    """Replies
    of the model."""


class Outer(msgspec.Struct, kw_only=True):
    """Everything.

    name, other: who is asked (see there: it is told). inner: the rest.
    """

    name: str
    other: Annotated[tuple[str, ...], ADDS] = ("a",)
    kind: Literal["x", "y"] = "x"
    inner: Inner | None = None


def test_a_setting_has_its_type_default_meaning_and_what_a_resumed_run_makes_of_it():
    asked = "who is asked (see there: it is told)"
    assert list(settings(Outer)) == [
        Setting("name", "text", REQUIRED, asked, "decides"),
        Setting("other", "list of text", ["a"], asked, "adds"),
        Setting("kind", "one of x, y", "x", "", "decides", choices=("x", "y")),
        Setting("inner", "group of keys or null", None, "the rest", "decides", is_group=True),
        Setting("inner.steps", "whole number or null", None, "Replies of the model", "may change"),
    ]


def test_it_is_yaml_with_comments():
    text = as_yaml(settings(Outer))
    assert yaml.safe_load(text) == {"other": ["a"], "kind": "x", "inner": None}
    assert "# Replies of the model (whole number or null; may change on resume)\n#   steps: null" in text
    assert "# name: (required)" in text


@pytest.mark.parametrize("command", RECORDS)
def test_every_setting_of_every_command_has_a_meaning(command):
    assert [one.name for one in settings(RECORDS[command]) if not one.meaning] == []


@pytest.mark.parametrize("command", RECORDS)
def test_what_is_printed_is_what_config_reads(command, tmp_path):
    printed = CliRunner().invoke(app, ["config", command])
    assert printed.exit_code == 0
    file = tmp_path / "config.yaml"
    file.write_text(printed.stdout)
    given = REQUIRED_OF.get(command, {})
    assert read_config(RECORDS[command], file=str(file), **given) == read_config(RECORDS[command], **given)


def test_all_commands_are_listed_and_an_unknown_one_is_refused():
    listed = CliRunner().invoke(app, ["config"])
    commands = [line.split()[2] for line in listed.stdout.splitlines() if line.startswith("srft config ")]
    assert commands == list(RECORDS)
    as_json = json.loads(CliRunner().invoke(app, ["config", "rows", "--json"]).stdout)
    assert as_json["rows"][0]["name"] == "tokenizer"
    refused = CliRunner().invoke(app, ["config", "nope"])
    assert "no such command with settings; choose from collect, critique" in str(refused.exception)


def test_the_version_and_the_help(srft):
    version = Path(__file__).parents[3].joinpath("pyproject.toml").read_text().partition('version = "')[2]
    assert (srft("--version").stdout.strip(), srft("--version").returncode) == (version.partition('"')[0], 0)
    assert srft("collect", "-h").stdout == srft("collect", "--help").stdout
    assert (srft().returncode, "Usage:" in srft().stdout) == (0, True)
