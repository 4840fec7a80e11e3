"""Configurations: every mistake is one clear sentence."""

import pytest

from srft.env.errors import InputError
from srft.harness.config.config import CollectConfig, read_config
from srft.harness.config.errors import MissingKey
from srft.harness.loop.loop_config import LoopConfig
from srft.harness.run.run_yaml import write_config

GIVEN = {"tasks": "tasks.jsonl", "model": "script:replies.yaml"}


def test_options_beat_sets_beat_the_file(tmp_path):
    file = tmp_path / "collect.yaml"
    file.write_text("workers: 2\nseed: 5\nepisode: {steps: 10, tokens: 99}\ntasks: from-file\n")
    config = read_config(CollectConfig, file=str(file), sets=["episode.steps=20", "seed=6"], seed=7, **GIVEN)
    assert (config.tasks, config.workers, config.seed) == ("tasks.jsonl", 2, 7)
    assert (config.episode.steps, config.episode.tokens) == (20, 99)


def test_a_runs_own_file_is_its_configuration_again(tmp_path):
    config = read_config(CollectConfig, sets=["episode.steps=20", "sandbox.memory_gib=null"], only=("a",), **GIVEN)
    write_config(config, tmp_path, backend="local")
    assert read_config(CollectConfig, file=str(tmp_path / "run.yaml")) == config


def test_a_file_with_a_group_of_that_name_alone_is_not_a_runs(tmp_path):
    file = tmp_path / "mine.yaml"
    file.write_text("collect: {workers: 2}\nworkers: 3\n")
    with pytest.raises(InputError, match="unknown key collect"):
        read_config(CollectConfig, file=str(file), **GIVEN)


@pytest.mark.parametrize(
    ("sets", "message"),
    [
        (["atempts=2"], r"--set atempts=2: unknown key atempts; did you mean attempts\?"),
        (["episode.stepz=2"], r"unknown key episode\.stepz; did you mean episode\.steps\?"),
        (["qqq=2"], r"unknown key qqq; known keys: attempts, workers"),
        (["episode"], "expected key=value"),
        (["workers=many"], "^--set workers=many: expected a whole number, got text$"),
        (["workers.x=1"], r"^--set workers\.x=1: expected a whole number, got a group of keys$"),
        (["episode.steps=0"], "limits.steps is 0; expected more than 0"),
        (
            ["sandbox.kind=vm"],
            "--set sandbox.kind=vm: sandbox.kind vm: choose auto, docker, local or MODULE:NAME",
        ),
    ],
)
def test_a_wrong_set_is_named(sets, message):
    with pytest.raises(InputError, match=message):
        read_config(CollectConfig, sets=sets, **GIVEN)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("workers: [", "not YAML"),
        ("- a\n- b\n", "expected a mapping"),
        ("wrkers: 3\n", r"collect\.yaml: unknown key wrkers; did you mean workers\?"),
        ("workers: x\n", r"collect\.yaml: .*workers"),
    ],
)
def test_a_wrong_file_is_named(tmp_path, text, message):
    file = tmp_path / "collect.yaml"
    file.write_text(text)
    with pytest.raises(InputError, match=message):
        read_config(CollectConfig, file=str(file), **GIVEN)


def test_a_group_that_stands_in_two_places_is_set_in_one(tmp_path):
    file = tmp_path / "loop.yaml"
    file.write_text(
        "{tasks: t, evaluation: e, model: m, recipe: smollm2-135m-cpu, collect: &a {seed: 3}, evaluate: *a}"
    )
    config = read_config(LoopConfig, file=str(file), sets=["collect.seed=5"])
    assert (config.collect.seed, config.evaluate.seed) == (5, 3)


def test_missing_options_are_named():
    with pytest.raises(
        MissingKey, match=r"^--model is missing, for example --model http://localhost:8000/v1#NAME$"
    ) as raised:
        read_config(CollectConfig, tasks="tasks.jsonl")
    assert raised.value.key == "model"


FORMATS = "choose backtick, json, native or xml"


@pytest.mark.parametrize(
    ("sets", "options", "start"),
    [
        (["seed=x"], {}, "--set seed=x: expected a whole number, got text"),
        (["format=yaml"], {}, f"--set format=yaml: {FORMATS}"),
        ([], {"format": "yaml"}, f"--format yaml: {FORMATS}"),
        (["format=xml"], {"workers": 0}, "--workers 0: expected a whole number, 1 or more"),
        (["workers=0"], {"workers": 0}, "--workers 0: expected a whole number, 1 or more"),
        (["workers=0", "workers=-1"], {}, "--set workers=-1: expected a whole number, 1 or more"),
        (["sandbox={kind: vm}"], {}, "--set sandbox={kind: vm}: sandbox.kind vm: choose auto, "),
        (["episode.tokens=0"], {}, "FILE with --set episode.tokens=0: episode: limits.tokens is 0; "),
    ],
)
def test_a_wrong_value_is_not_blamed_on_a_file_that_is_right(tmp_path, sets, options, start):
    file = tmp_path / "collect.yaml"
    file.write_text("workers: 2\nepisode: {steps: 10}\n")
    with pytest.raises(InputError) as raised:
        read_config(CollectConfig, file=str(file), sets=sets, **options, **GIVEN)
    assert str(raised.value).replace(str(file), "FILE").startswith(start)


@pytest.mark.parametrize(
    ("text", "end"),
    [
        ("format: yaml\n", f"format: {FORMATS}"),
        ("episode: {steps: 0}\n", "episode: limits.steps is 0; expected more than 0, or null for no limit"),
    ],
)
def test_a_wrong_value_of_the_file_is_blamed_on_it(tmp_path, text, end):
    file = tmp_path / "collect.yaml"
    file.write_text(text)
    with pytest.raises(InputError) as raised:
        read_config(CollectConfig, file=str(file), sets=["episode.tokens=5"], workers=1, **GIVEN)
    assert str(raised.value).startswith(f"{file}: {end}")
