"""Tasks from files, task repos and older rows."""

import json

import pyarrow
import pyarrow.parquet
import pytest

from srft.env.errors import InputError
from srft.env.tasks.task import EVAL_TYPES, load_tasks
from tests import tiny


def _write(path, rows):
    path.write_bytes(b"".join(json.dumps(row).encode() + b"\n" for row in rows))
    return str(path)


def test_the_same_rows_from_every_kind_of_file(tmp_path):
    rows = [tiny.row(0), tiny.row(1)]
    jsonl = load_tasks(_write(tmp_path / "tasks.jsonl", rows))
    (tmp_path / "tasks.json").write_text(json.dumps(rows))
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / "tasks.parquet")
    assert load_tasks(str(tmp_path / "tasks.json")) == jsonl
    assert load_tasks(str(tmp_path / "tasks.parquet")) == jsonl
    assert jsonl[0].FAIL_TO_PASS == ("test_answer",)
    assert [task.instance_id for task in load_tasks(str(tmp_path / "tasks.json"), only=["tiny__tiny-1"])] == [
        "tiny__tiny-1"
    ]


def test_a_line_separator_inside_a_row_does_not_end_it(tmp_path):
    row = tiny.row(0) | {"problem_statement": "one\u2028two\u0085three"}
    path = tmp_path / "tasks.jsonl"
    path.write_bytes(json.dumps(row, ensure_ascii=False).encode() + b"\n")
    assert load_tasks(str(path))[0].problem_statement == "one\u2028two\u0085three"


def test_the_view_has_no_answer(tmp_path):
    task = load_tasks(_write(tmp_path / "t.jsonl", [tiny.row(0) | {"hints_text": "look at answer.txt"}]))[0]
    assert task.hints_text == "look at answer.txt"
    assert set(task.view.__struct_fields__) == {"instance_id", "repo", "problem_statement", "workdir"}


def test_columns_that_follow_are_derived_and_others_are_named(tmp_path):
    row = tiny.row(0) | {"instance_id": "pallets__flask-5014", "repo": "pallets/flask"}
    for column in ("image", "log_parser", "eval_type"):
        del row[column]
    task = load_tasks(_write(tmp_path / "t.jsonl", [row]))[0]
    assert task.image == "swebench/sweb.eval.x86_64.pallets_1776_flask-5014:latest"
    assert (task.log_parser, task.eval_type) == ("parse_log_pytest", "pass_and_fail")
    del row["eval_script"]
    with pytest.raises(InputError, match=r"t\.jsonl:1: a row of an older schema, and eval_script does not follow"):
        load_tasks(_write(tmp_path / "t.jsonl", [row]))


def test_evaluation_types_are_swebench_s():
    from swebench.harness.constants import EvalType

    assert tuple(kind.value for kind in EvalType) == EVAL_TYPES


def test_derived_parsers_are_the_registry_s(verified_tasks):
    """What we derive for the real rows is what their own columns say."""
    from swebench.harness.log_parsers import PARSER_REGISTRY
    from swebench.harness.log_parsers.python import MAP_REPO_TO_PARSER_PY

    for task in verified_tasks.values():
        assert PARSER_REGISTRY[task.log_parser] is MAP_REPO_TO_PARSER_PY[task.repo]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([tiny.row(0), tiny.row(0)], "is there twice"),
        ([{k: v for k, v in tiny.row(0).items() if k != "patch"}], "missing column patch"),
        ([tiny.row(0) | {"FAIL_TO_PASS": "not json"}], "FAIL_TO_PASS: expected JSON"),
        ([tiny.row(0) | {"FAIL_TO_PASS": {"a": 1}}], r"Expected `array`"),
        (
            [tiny.row(0) | {"eval_type": "sometimes"}],
            r"tasks\.jsonl:1: eval_type: expected one of pass_and_fail, fail_only, got 'sometimes'; fix it",
        ),
        ([tiny.row(0) | {"image": 5}], r"Expected `str`, got `int` - at `\$\.image`"),
        ([["a", "list"]], "expected a JSON object, got list"),
        ([], "no tasks in it"),
    ],
)
def test_bad_rows_are_named(tmp_path, rows, message):
    with pytest.raises(InputError, match=message):
        load_tasks(_write(tmp_path / "tasks.jsonl", rows))


def test_bad_sources_are_named(tmp_path):
    with pytest.raises(InputError, match="no such file"):
        load_tasks(str(tmp_path / "nothing.jsonl"))
    with pytest.raises(InputError, match="not a swebench-5 task repo"):
        load_tasks(str(tmp_path))
    (tmp_path / "bad.parquet").write_bytes(b"not parquet")
    with pytest.raises(InputError, match="not a readable parquet file"):
        load_tasks(str(tmp_path / "bad.parquet"))
    with pytest.raises(InputError, match="no task nobody__nothing-1; "):
        load_tasks(_write(tmp_path / "t.jsonl", [tiny.row(0)]), only=["nobody__nothing-1"])


def test_a_task_repo(tmp_path):
    folder = tmp_path / "repo" / "tasks" / "tiny__tiny-0"
    folder.mkdir(parents=True)
    row = tiny.row(0)
    (folder / "task.yaml").write_text(
        "repo: tiny/even\nbase_commit: ''\nversion: '1'\nimage: srft/tiny:latest\nlog_parser: parse_log_pytest\n"
        "eval_type: pass_and_fail\nsplit: test\n"
    )
    (folder / "tests.json").write_text(json.dumps({"FAIL_TO_PASS": ["test_answer"], "PASS_TO_PASS": ["test_kept"]}))
    for name, column in (("gold.patch", "patch"), ("test.patch", "test_patch"), ("eval.sh", "eval_script"),
                         ("problem_statement.md", "problem_statement")):  # fmt: skip
        (folder / name).write_text(str(row[column]))
    (folder / "Dockerfile").write_text(tiny.DOCKERFILE)
    task = load_tasks(str(tmp_path / "repo"))[0]
    assert task.dockerfile == folder / "Dockerfile"
    of_row = load_tasks(_write(tmp_path / "t.jsonl", [row]))[0]
    assert (task.patch, task.test_patch, task.eval_script) == (of_row.patch, of_row.test_patch, of_row.eval_script)
    before = task.fingerprint
    (folder / "Dockerfile").write_text(f"{tiny.DOCKERFILE}RUN true\n")
    assert load_tasks(str(tmp_path / "repo"))[0].fingerprint != before  # another image, another grade
    (folder / "tests.json").write_text("{")
    with pytest.raises(InputError, match="not a readable swebench-5 task"):
        load_tasks(str(tmp_path / "repo"))


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ("a__tiny-9", "no task a__tiny-9; did you mean a__tiny-2 or a__tiny-1 or a__tiny-0?"),
        ("tiny-1", "no task tiny-1; did you mean a__tiny-1"),
        ("nothing", "no task nothing; its 3 tasks are a__tiny-0, a__tiny-1, a__tiny-2"),
    ],
)
def test_a_mistyped_id_names_what_is_near(tmp_path, asked, said):
    tiny.write_tasks(tmp_path / "tasks.jsonl", 3, owner="a")
    with pytest.raises(InputError) as refused:
        load_tasks(str(tmp_path / "tasks.jsonl"), only=[asked])
    assert said in str(refused.value)
