"""Files of runs, whole and torn."""

import gzip
import json
from datetime import datetime

import pyarrow
import pyarrow.parquet
import pytest

from srft.agent.importing.readers import Tally
from srft.agent.importing.readers.source import NO_TRAJECTORY, Source, raw_runs, sources
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
    for content in ("{}", "[]", "{", '{"_data_files": [3]}', '{"_data_files": 3}'):
        (tmp_path / "one" / "state.json").write_text(content)
        with pytest.raises(InputError, match=r"one: cannot be read as a dataset that was saved to disk \(\w+: "):
            sources(tmp_path / "one")
    for content in ('{"splits": []}', "{}", '{"splits": 3}'):
        (tmp_path / "two" / "dataset_dict.json").write_text(content)
        with pytest.raises(InputError, match=r"two: cannot be read as a dataset that was saved to disk"):
            sources(tmp_path / "two")
    (tmp_path / "two" / "dataset_dict.json").write_text('{"splits": ["test"]}')
    assert names(tmp_path / "two") == ["test/data-00000-of-00001.arrow"]
    with pytest.raises(InputError, match=r"two: a dataset with the splits test; name one, as in .*two:test"):
        sources(f"{tmp_path / 'two'}:train")


def test_the_splits_of_a_folder_may_be_folders(tmp_path):
    for name in ("train/a.jsonl", "test/b.jsonl", "c-00000-of-00001.jsonl"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("")
    assert names(f"{tmp_path}:test") == [f"{tmp_path}/test/b.jsonl"]
    assert names(f"{tmp_path}:c") == [f"{tmp_path}/c-00000-of-00001.jsonl"]
    assert names(tmp_path) == ["c-00000-of-00001.jsonl", "test/b.jsonl", "train/a.jsonl"]
    with pytest.raises(InputError, match=r":b: no such split; there are c$"):
        sources(f"{tmp_path}:b")


def test_a_split_of_runs_that_have_none_is_not_passed_over(tmp_path):
    for name in ("a/x.traj", "b/x.traj"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).write_text("{}")
    assert names(f"{tmp_path}:b") == [f"{tmp_path}/b/x.traj"]
    with pytest.raises(InputError, match=r":c: no such split; there are none$"):
        sources(f"{tmp_path}:c")
    for name in ("t/one", "t/two"):
        (tmp_path / name / "agent").mkdir(parents=True)
        (tmp_path / name / "result.json").write_text("{}")
    assert len(sources(tmp_path / "t")) == 2
    with pytest.raises(InputError, match=r":c: no such split; there are none$"):
        sources(f"{tmp_path / 't'}:c")


@pytest.mark.parametrize("kind", ["jsonl", "json", "parquet", "arrow", "jsonl.gz", "json.zst"])
def test_shards_of_every_kind(tmp_path, kind):
    (tmp_path / f"b.{kind}").write_text("")
    (tmp_path / f"a.{kind}").write_text("")
    (tmp_path / "x.txt").write_text("")
    assert names(tmp_path) == [f"a.{kind}", f"b.{kind}"]


def test_what_is_no_folder_of_runs(tmp_path):
    (tmp_path / "x.txt").write_text("")
    with pytest.raises(InputError, match=r"below this folder are no run; expected a \.traj"):
        sources(tmp_path)
    for name in ("a.jsonl", "b.parquet", "c.json"):
        (tmp_path / name).write_text("")
    message = "below this folder are 1 jsonl files and 1 parquet files, which may hold the same runs; name the files$"
    with pytest.raises(InputError, match=message):
        sources(tmp_path)
    for name in ("me/mine:a:b:c", "me", "me/mine/more", "a b/c"):
        with pytest.raises(InputError, match=f"^{name}: no such file; expected a .traj, .json, "):
            sources(name)


@pytest.mark.parametrize("name", ["me/mine", "me/mine:runs", "me/mine:runs:train", "m.e-_/m.i"])
def test_names_of_the_hub(name):
    (source,) = sources(name)
    assert (source.name, source.dataset) == (name, name.partition(":")[0])
    assert Source("a", iter).dataset is None


def test_a_file_of_one_run_is_one_whatever_it_is_called(tmp_path):
    for name, stem in (("a", "a"), ("b.txt", "b.txt"), ("c.traj.json.gz", "c"), ("d.json", "d")):
        content = b'\n {"x": 1}'
        (tmp_path / name).write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
        assert read(tmp_path / name) == ([(stem, None, {"x": 1})], [])
    (tmp_path / "e.traj.json").write_text('[{"x": 1}]')
    found, (problem,) = read(tmp_path / "e.traj.json")
    assert found == []
    assert problem == f"{tmp_path}/e.traj.json: expected one run, a JSON object, got list. Fix or remove it."


def test_a_file_that_is_gone_is_damage(tmp_path):
    _, (problem,) = read(tmp_path / "none.jsonl")
    assert problem.startswith(f"{tmp_path}/none.jsonl: cannot be read (No such file or directory); expected a .traj, ")


def test_places_in_a_file_are_told(tmp_path):
    (tmp_path / "r.jsonl").write_text('{"x": 1}\n3\n')
    (tmp_path / "r.json").write_text('[{"x": 1}, 3]')
    pyarrow.parquet.write_table(pyarrow.table({"x": [1]}), tmp_path / "r.parquet")
    tally = Tally()
    told = [raw.where for name in ("r.jsonl", "r.json", "r.parquet") for raw in raw_runs(tmp_path / name, tally)]
    assert told == [f"{tmp_path}/r.jsonl:1", f"{tmp_path}/r.json: run 1", f"{tmp_path}/r.parquet: row 1"]
    assert tally.damaged == [
        f"{tmp_path}/r.jsonl:2: expected one run, a JSON object, got int. Fix or remove it.",
        f"{tmp_path}/r.json: run 2: expected one run, a JSON object, got int. Fix or remove it.",
    ]


def test_a_row_that_python_cannot_hold_costs_that_row(tmp_path):
    days = pyarrow.array([0, 300_000_000_000, 1], pyarrow.timestamp("s"))
    pyarrow.parquet.write_table(pyarrow.table({"day": days}), tmp_path / "r.parquet")
    found, (problem,) = read(tmp_path / "r.parquet")
    assert found == [
        ("r", 1, {"day": datetime(1970, 1, 1)}),
        ("r", 3, {"day": datetime(1970, 1, 1, 0, 0, 1)}),
    ]
    assert problem.startswith(f"{tmp_path}/r.parquet: row 2: cannot be read (")


def test_surrogates_in_lists_and_rows_can_be_stored(tmp_path):
    (tmp_path / "r.json").write_text(r'[{"a\ud800": "\udfff"}]')
    assert read(tmp_path / "r.json")[0] == [("r", 1, {"a\ufffd": "\ufffd"})]


def test_a_torn_list_tells_where(tmp_path):
    (tmp_path / "r.json").write_text('[{"x": 1}, {"x": 2} 3')
    found, (problem,) = read(tmp_path / "r.json")
    assert len(found) == 1
    assert problem == f"{tmp_path}/r.json: run 2: not JSON from here on (the list has no end). Fix or remove it."
    (tmp_path / "r.json").write_bytes(b'[{"x": "\xff"}]')
    found, (problem,) = read(tmp_path / "r.json")
    assert found == []
    assert problem.startswith(f"{tmp_path}/r.json: run 1: not JSON from here on ('utf-8' codec")


def test_a_torn_arrow_file_is_named(tmp_path):
    table = pyarrow.table({"x": [1, 2]})
    with pyarrow.ipc.new_file(str(tmp_path / "r.arrow"), table.schema) as writer:
        writer.write_table(table)
    (tmp_path / "r.arrow").write_bytes((tmp_path / "r.arrow").read_bytes()[:-20])
    found, (problem,) = read(tmp_path / "r.arrow")
    assert found == []
    assert problem.startswith(f"{tmp_path}/r.arrow: not a readable arrow file after row 0 (")


def trial(folder, *, result="{}", trajectory="{}"):
    (folder / "agent").mkdir(parents=True)
    (folder / "verifier").mkdir()
    (folder / "result.json").write_text(result)
    if trajectory is not None:
        (folder / "agent" / "trajectory.json").write_text(trajectory)
    return folder


def of_trial(folder):
    tally = Tally()
    (source,) = sources(folder)
    return list(source.runs(tally)), tally


def test_a_trial_is_its_trajectory_result_and_reward(tmp_path):
    result = {"verifier_result": {"rewards": {"reward": 0.5}}}
    folder = trial(tmp_path / "a__1", result=json.dumps(result), trajectory='{"steps": []}')
    ((run,), _) = of_trial(folder)
    where = f"{folder}/agent/trajectory.json"
    assert run == (where, "a__1", None, {"trajectory": {"steps": []}, "result": result, "reward": 0.5})
    assert sources(folder)[0].name == where
    (folder / "verifier" / "reward.json").write_text('{"reward": 0.25}')
    assert of_trial(folder)[0][0].content["reward"] == 0.25
    (folder / "verifier" / "reward.txt").write_text("1\n")
    assert of_trial(folder)[0][0].content["reward"] == 1.0
    assert of_trial(folder / "agent" / "trajectory.json") == of_trial(folder)


def test_what_a_trial_lacks(tmp_path):
    runs, tally = of_trial(trial(tmp_path / "a", trajectory=None))
    assert (runs, tally.dropped) == ([], {NO_TRAJECTORY: 1})
    assert NO_TRAJECTORY == "Harbor trials without a trajectory"
    result = '{"exception_info": {"exception_type": "Gone"}}'
    runs, tally = of_trial(trial(tmp_path / "b", result=result, trajectory=None))
    assert (runs, tally.dropped) == ([], {f"{NO_TRAJECTORY} (Gone)": 1})
    runs, tally = of_trial(trial(tmp_path / "c", trajectory="[]"))
    told = "expected a JSON object, got list. Fix or remove the trial."
    assert (runs, tally.damaged) == ([], [f"{tmp_path}/c/agent/trajectory.json: {told}"])
    runs, tally = of_trial(trial(tmp_path / "d", trajectory="{"))
    assert tally.damaged[0].startswith(f"{tmp_path}/d/agent/trajectory.json: cannot be read (Expecting property name")
    folder = trial(tmp_path / "e", result='{"verifier_result": {"rewards": 3}}')
    assert of_trial(folder)[0][0].content["reward"] is None
    assert sources(trial(tmp_path / "f" / "trial").parent)[0].name == f"{tmp_path}/f/trial/agent/trajectory.json"


def test_a_trajectory_without_a_trial_is_a_file(tmp_path):
    (tmp_path / "agent").mkdir()
    (tmp_path / "agent" / "trajectory.json").write_text('{"x": 1}')
    ((run,), _) = of_trial(tmp_path / "agent" / "trajectory.json")
    assert run.content == {"x": 1}


def test_an_element_that_is_no_json_is_told(tmp_path):
    (tmp_path / "r.json").write_text('[{"x": 1}, {"x" 2}]')
    _, (problem,) = read(tmp_path / "r.json")
    assert problem.startswith(f"{tmp_path}/r.json: run 2: not JSON from here on (Expecting ':' delimiter")


def test_rows_are_known_by_their_first_bytes(tmp_path):
    pyarrow.parquet.write_table(pyarrow.table({"x": [1]}), tmp_path / "r")
    assert read(tmp_path / "r") == ([("r", 1, {"x": 1})], [])
    (tmp_path / "r").write_bytes((tmp_path / "r").read_bytes()[:-9])
    assert read(tmp_path / "r")[1][0].startswith(f"{tmp_path}/r: not a readable parquet file after row 0 (")
