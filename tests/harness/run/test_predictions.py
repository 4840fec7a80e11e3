import doctest
import json
from pathlib import Path

import pytest

from srft.env.errors import InputError
from srft.env.tasks.task import Task
from srft.harness.run import predictions
from srft.harness.run.predictions import Prediction, prediction_line, read_predictions

PATCH = "--- a/x \n+++ b/x\n@@ -1 +1 @@\n-a\r\n+b\u2028\u0085\x1c \t\n"


def task(instance_id: str, patch: str = "gold\n") -> Task:
    return Task(
        instance_id=instance_id,
        repo="o/r",
        base_commit="",
        problem_statement="",
        patch=patch,
        test_patch="",
        FAIL_TO_PASS=(),
        PASS_TO_PASS=(),
        image="i",
        eval_script="",
        log_parser="",
        eval_type="",
    )


TASKS = [task("o__r-1"), task("o__r-2")]
FIRST = {"instance_id": "o__r-1", "model_name_or_path": "m", "model_patch": PATCH}
SECOND = {"instance_id": "o__r-2", "model_name_or_path": "m", "model_patch": None}
EXPECTED = {
    "o__r-1": Prediction(instance_id="o__r-1", model_patch=PATCH, model_name_or_path="m"),
    "o__r-2": Prediction(instance_id="o__r-2", model_patch=None, model_name_or_path="m"),
}


def write(path: Path, content: str) -> Path:
    path.write_bytes(content.encode(errors="surrogatepass"))
    return path


def test_the_docstrings_tell_the_truth() -> None:
    assert doctest.testmod(predictions).failed == 0


@pytest.mark.parametrize("ensure_ascii", [True, False])
def test_jsonl_to_the_character(tmp_path: Path, ensure_ascii: bool) -> None:
    lines = [json.dumps(entry, ensure_ascii=ensure_ascii) for entry in (FIRST, SECOND)]
    assert read_predictions(write(tmp_path / "p.jsonl", "\n".join(lines) + "\n\n"), TASKS) == EXPECTED


def test_json_list(tmp_path: Path) -> None:
    assert read_predictions(write(tmp_path / "p.json", json.dumps([FIRST, SECOND])), TASKS) == EXPECTED


def test_json_dict_keyed_by_instance_id(tmp_path: Path) -> None:
    without_id = {key: value for key, value in SECOND.items() if key != "instance_id"}
    path = write(tmp_path / "p.json", json.dumps({"o__r-1": FIRST, "o__r-2": without_id}))
    assert read_predictions(path, TASKS) == EXPECTED


def test_gold() -> None:
    assert read_predictions("gold", [task("o__r-1", patch=PATCH)]) == {
        "o__r-1": Prediction(instance_id="o__r-1", model_patch=PATCH, model_name_or_path="gold")
    }


@pytest.mark.parametrize("patch", [None, "", " \n", PATCH, "\ud800 lone", "caf\u00e9 \U0001f600"])
def test_our_own_lines_come_back(tmp_path: Path, patch: str | None) -> None:
    made = Prediction(instance_id="o__r-1", model_patch=patch, model_name_or_path=None)
    (tmp_path / "predictions.jsonl").write_bytes(prediction_line(made))
    assert read_predictions(tmp_path / "predictions.jsonl", TASKS) == {"o__r-1": made}


def test_other_keys_are_left(tmp_path: Path) -> None:
    path = write(tmp_path / "p.jsonl", json.dumps({**FIRST, "cost": 1.5}))
    assert read_predictions(path, TASKS) == {"o__r-1": EXPECTED["o__r-1"]}


def test_a_subset_of_the_tasks(tmp_path: Path) -> None:
    path = write(tmp_path / "p.json", json.dumps([FIRST, SECOND]))
    assert read_predictions(path, TASKS[:1], subset=True) == {"o__r-1": EXPECTED["o__r-1"]}


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        (
            "p.jsonl",
            json.dumps(FIRST) + "\n" + '{"instance_id": "o__r-2"}\n',
            "p.jsonl:2: missing model_patch; give the diff as text, or null where there is none",
        ),
        ("p.jsonl", '{"model_patch": ""}', "p.jsonl:1: missing instance_id; give the text that names the task"),
        (
            "p.jsonl",
            '{"instance_id": "o__r-3", "model_patch": ""}',
            "p.jsonl:1: instance_id 'o__r-3' is in none of the 2 tasks; "
            "take the tasks that these predictions were made for, or remove the entry",
        ),
        (
            "p.jsonl",
            json.dumps(FIRST) + "\n\n" + json.dumps(FIRST),
            "p.jsonl:3: instance_id 'o__r-1' is at {path}:1 already; keep one patch a task",
        ),
        (
            "p.jsonl",
            json.dumps(FIRST) + '\n{"instance_id": "o__r-2", "mod\n',
            "p.jsonl:2: not readable JSON (Unterminated string starting at: line 1 column 27 (char 26)); "
            "write one JSON object a line",
        ),
        ("p.jsonl", '["o__r-1"]', "p.jsonl:1: expected a JSON object, got a list; write instance_id and model_patch"),
        (
            "p.json",
            json.dumps(FIRST) + "\n" + json.dumps(SECOND),
            "p.json: not readable JSON (Extra data: line 2 column 1 (char {extra})); "
            "where it holds one object a line, name it .jsonl",
        ),
        ("p.json", "3", "p.json: expected a JSON list or object of predictions, got a number"),
        (
            "p.json",
            json.dumps([{**FIRST, "model_patch": ["diff"]}]),
            "p.json[0]: model_patch is a list; give the diff as text, or null where there is none",
        ),
        (
            "p.json",
            json.dumps([{**FIRST, "instance_id": None}]),
            "p.json[0]: instance_id is null; give the text that names the task",
        ),
        (
            "p.json",
            json.dumps({"o__r-2": FIRST}),
            "p.json['o__r-2']: its instance_id is 'o__r-1'; make key and field the same",
        ),
        (
            "p.json",
            '{"o__r-1": {"model_patch": ""}, "o__r-1": {"model_patch": ""}}',
            "p.json: not readable JSON (the key 'o__r-1' is there twice); "
            "where it holds one object a line, name it .jsonl",
        ),
        ("p.txt", "", "p.txt: expected a .jsonl or .json file of predictions, or the word 'gold'"),
    ],
)
def test_bad_files(tmp_path: Path, name: str, content: str, message: str) -> None:
    path = write(tmp_path / name, content)
    with pytest.raises(InputError) as raised:
        read_predictions(path, TASKS)
    expected = message.replace("{path}", str(path)).replace("{extra}", str(len(json.dumps(FIRST)) + 1))
    assert str(raised.value) == f"{tmp_path}/{expected}"


def test_bytes_that_are_no_text(tmp_path: Path) -> None:
    path = tmp_path / "p.jsonl"
    path.write_bytes(b'{"instance_id": "\xff\xfe"}\n')
    with pytest.raises(InputError, match=r"p\.jsonl:1: not readable JSON \('utf-8' codec"):
        read_predictions(path, TASKS)


def test_no_such_file(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be read \\(No such file or directory\\); expected a file"):
        read_predictions(tmp_path / "p.jsonl", TASKS)
