"""Files of runs, whole and torn."""

import gzip
import json

import pyarrow
import pyarrow.parquet
import pytest

from srft.agent.importing.readers import Tally
from srft.agent.importing.readers.source import raw_runs, sources
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


def test_zst_and_arrow(tmp_path):
    for name, content in (("a.jsonl.zst", b'{"x": 1}\n{"x": 2}\n'), ("b.json.zst", b' [{"x": 1}, {"x": 2}]')):
        with pyarrow.output_stream(tmp_path / name, compression="zstd") as file:
            file.write(content)
        assert read(tmp_path / name) == ([(name[0], 1, {"x": 1}), (name[0], 2, {"x": 2})], [])
    table = pyarrow.Table.from_pylist([{"x": 1}, {"x": 2}])
    for name, new in (("c.arrow", pyarrow.ipc.new_stream), ("d.arrow", pyarrow.ipc.new_file)):
        with new(str(tmp_path / name), table.schema) as writer:
            writer.write_table(table)
        assert read(tmp_path / name) == ([(name[0], 1, {"x": 1}), (name[0], 2, {"x": 2})], [])


def test_a_torn_zst_file_gives_what_is_before_the_tear(tmp_path):
    path = tmp_path / "r.jsonl.zst"
    with pyarrow.output_stream(path, compression="zstd") as file:
        file.write(b"".join(b'{"x": %d}\n' % number for number in range(200_000)))
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    runs, damaged = read(path)
    assert len(runs) > 1000
    assert len(damaged) == 1
    assert "r.jsonl.zst:" in damaged[0]


@pytest.mark.parametrize("text", ["", "é" * 700_000, "x" * 3_000_000])
def test_a_json_list_is_read_run_by_run(tmp_path, text):
    runs = [{"x": text}, {"y": ["]", ","]}, 3, {"z": {}}]
    (tmp_path / "r.json").write_text(f"\n {json.dumps(runs, ensure_ascii=False, indent=1)}\n", encoding="utf-8")
    found, damaged = read(tmp_path / "r.json")
    assert found == [("r", 1, runs[0]), ("r", 2, runs[1]), ("r", 4, runs[3])]
    assert len(damaged) == 1
    assert "r.json: run 3: expected one run, a JSON object, got int" in damaged[0]
    (tmp_path / "e.json").write_text("[]")
    assert read(tmp_path / "e.json") == ([], [])


@pytest.mark.parametrize("text", ['[{"x": 1}, {"x": ', '[{"x": 1} {"x": 2}]', '[{"x": 1}, ', '[{"x": 1}'])
def test_a_torn_json_list_gives_what_is_before_the_tear(tmp_path, text):
    (tmp_path / "r.json").write_text(text)
    found, damaged = read(tmp_path / "r.json")
    assert [content for _, _, content in found] in ([{"x": 1}], [])
    assert len(damaged) == 1
    assert "r.json: run " in damaged[0]
    assert "not JSON from here on" in damaged[0]


def names(path):
    return [source.name.removeprefix(f"{path}/") for source in sources(path)]


def test_a_folder_is_all_the_traj_files_below_it(tmp_path):
    for name in ("b/b.traj", "a/a.traj.json", "a/preds.json"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(json.dumps({}))
    assert names(tmp_path) == ["a/a.traj.json", "b/b.traj"]
    (tmp_path / "c").mkdir()
    with pytest.raises(InputError, match=r"below this folder are no run; expected a \.traj"):
        sources(tmp_path / "c")
    with pytest.raises(InputError, match="no such file"):
        sources(tmp_path / "none")


def test_a_folder_of_shards_is_one_split_and_one_kind(tmp_path):
    for name in ("data/tool-00000-of-00002.parquet", "data/tool-00001-of-00002.parquet", "README.md", "info.json"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("{}")
    (tmp_path / ".cache").mkdir()
    (tmp_path / ".cache" / "x.parquet").write_text("")
    tool = ["data/tool-00000-of-00002.parquet", "data/tool-00001-of-00002.parquet"]
    assert names(tmp_path) == tool
    (tmp_path / "data" / "xml-00000-of-00001.parquet").write_text("")
    with pytest.raises(InputError, match=r"the splits tool, xml, which may hold the same runs; name them, as .*:tool"):
        sources(tmp_path)
    assert [source.name.removeprefix(f"{tmp_path}/") for source in sources(f"{tmp_path}:tool")] == tool
    with pytest.raises(InputError, match="no such split; there are tool, xml"):
        sources(f"{tmp_path}:none")
    (tmp_path / "runs.jsonl").write_text("")
    with pytest.raises(InputError, match="1 jsonl files and 3 parquet files, which may hold the same runs"):
        sources(tmp_path)


def test_what_datasets_saved_to_disk(tmp_path):
    datasets = pytest.importorskip("datasets")
    rows = datasets.Dataset.from_list([{"x": 1}, {"x": 2}])
    rows.save_to_disk(tmp_path / "one")
    (source,) = sources(tmp_path / "one")
    assert [raw.content for raw in source.runs(Tally())] == [{"x": 1}, {"x": 2}]
    datasets.DatasetDict(train=rows, test=rows).save_to_disk(tmp_path / "two")
    with pytest.raises(InputError, match=r"a dataset with the splits train, test; name one, as in .*two:train"):
        sources(tmp_path / "two")
    assert names(f"{tmp_path / 'two'}:test") == [str(tmp_path / "two" / "test" / "data-00000-of-00001.arrow")]
    (tmp_path / "one" / "state.json").write_text("{}")
    with pytest.raises(InputError, match="cannot be read as a dataset that was saved to disk"):
        sources(tmp_path / "one")
