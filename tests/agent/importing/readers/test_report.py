"""Official reports of verdicts."""

import json

import pytest

from srft.agent.importing.readers.report import read_report
from srft.env.errors import InputError


def written(tmp_path, content):
    path = tmp_path / "report.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def test_the_report_of_a_run(tmp_path):
    report = {
        "total_instances": 7,
        "resolved_ids": ["a"],
        "unresolved_ids": ["b", "f"],
        "error_ids": ["c"],
        "empty_patch_ids": ["d"],
        "incomplete_ids": ["e"],
        "infra_failure_ids": ["f"],
    }
    assert read_report(written(tmp_path, report)) == {"a": True, "b": False, "c": False, "d": False}


def test_the_report_of_one_instance(tmp_path):
    report = {"a": {"patch_is_None": False, "resolved": True}}
    assert read_report(written(tmp_path, report)) == {"a": True}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "not JSON"),
        ("[]", "a list; expected a swebench report"),
        ({"resolved_ids": 3}, "resolved_ids: expected a list of instance ids, got 3"),
        ({"resolved_ids": ["a", 3]}, "resolved_ids: expected a list of instance ids, got ['a', 3]"),
        ({"resolved_ids": ["a"], "error_ids": ["a"]}, "a is in resolved_ids and in error_ids"),
        ({"a": {"resolved": "yes"}}, "a: resolved: expected true or false, got 'yes'"),
        ({"a": 1}, "a: resolved: expected true or false, got None"),
    ],
)
def test_a_wrong_report_is_named(tmp_path, content, message):
    with pytest.raises(InputError) as error:
        read_report(written(tmp_path, content))
    assert message in str(error.value)


def test_no_report(tmp_path):
    with pytest.raises(InputError, match="cannot be read"):
        read_report(tmp_path / "none.json")
