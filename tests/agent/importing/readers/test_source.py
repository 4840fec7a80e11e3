"""Files of runs, whole and torn."""

import gzip
import json

import pyarrow
import pyarrow.parquet
import pytest

from srft.agent.importing.readers.source import raw_runs, run_files
from srft.agent.importing.readers import Tally
from srft.env.errors import InputError


def read(path):
    tally = Tally()
    return [(raw.name, raw.line, raw.content) for raw in raw_runs(path, tally)], tally.damaged


def test_a_document_may_span_lines_and_lines_hold_one_run_each(tmp_path):
    (tmp_path / "a.traj").write_text('{"x":\n1}')
    (tmp_path / "b.traj.json").write_text('{"x": 2}')
    (tmp_path / "c.jsonl").write_text('{"x": 3}\n\n{"x": "\u2028\x85"}', encoding="utf-8")
    (tmp_path / "d.jsonl.gz").write_bytes(gzip.compress(b'{"x": 5}\n'))
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist([{"x": 6}, {"x": 7}]), tmp_path / "e.parquet")
    assert read(tmp_path / "a.traj") == ([("a", None, {"x": 1})], [])
    assert read(tmp_path / "b.traj.json") == ([("b", None, {"x": 2})], [])
    assert read(tmp_path / "c.jsonl") == ([("c", 1, {"x": 3}), ("c", 3, {"x": "\u2028\x85"})], [])
    assert read(tmp_path / "d.jsonl.gz") == ([("d", 1, {"x": 5})], [])
    assert read(tmp_path / "e.parquet") == ([("e", 1, {"x": 6}), ("e", 2, {"x": 7})], [])


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (b'{"x": 1', "r.jsonl:2: not JSON"),
        (b'{"x": "\x00"}', "r.jsonl:2: not JSON"),
        (b'{"x": "\xff"}', "r.jsonl:2: not JSON"),
        (b"[" * 100_000, "r.jsonl:2: not JSON"),
        (b"[]", "r.jsonl:2: expected one run, a JSON object, got list"),
    ],
)
def test_a_damaged_line_costs_that_line(tmp_path, line, message):
    path = tmp_path / "r.jsonl"
    path.write_bytes(b'{"x": 1}\n' + line + b'\n{"x": 3}\n')
    runs, damaged = read(path)
    assert [content for _, _, content in runs] == [{"x": 1}, {"x": 3}]
    assert len(damaged) == 1
    assert message in damaged[0]


def test_lone_surrogates_and_nul_can_be_stored(tmp_path):
    (tmp_path / "r.jsonl").write_text(r'{"a\ud800": ["\udfff", "\ud83d\ude00", "\u0000"]}')
    runs, _ = read(tmp_path / "r.jsonl")
    assert runs[0][2] == {"a\ufffd": ["\ufffd", "\U0001f600", "\x00"]}


def test_a_torn_gzip_file_gives_what_is_before_the_tear(tmp_path):
    path = tmp_path / "r.jsonl.gz"
    path.write_bytes(gzip.compress(b'{"x": 1}\n')[:-4])
    runs, damaged = read(path)
    assert [content for _, _, content in runs] == [{"x": 1}]
    assert "r.jsonl.gz:2: the gzip file is damaged here" in damaged[0]


def test_a_torn_parquet_file_is_named(tmp_path):
    path = tmp_path / "r.parquet"
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist([{"x": 6}]), path)
    path.write_bytes(path.read_bytes()[:-9])
    runs, damaged = read(path)
    assert runs == []
    assert "r.parquet" in damaged[0]


def test_a_folder_is_all_the_traj_files_below_it(tmp_path):
    for name in ("b/b.traj", "a/a.traj.json", "a/preds.json"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(json.dumps({}))
    assert run_files(tmp_path) == [tmp_path / "a" / "a.traj.json", tmp_path / "b" / "b.traj"]
    with pytest.raises(InputError, match=r"no \.traj or \.traj\.json file below this folder"):
        run_files(tmp_path / "a" / ".." / "c" if (tmp_path / "c").mkdir() else tmp_path / "c")
    with pytest.raises(InputError, match="no such file"):
        run_files(tmp_path / "none")
