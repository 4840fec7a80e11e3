"""Recorded runs of other systems."""

import gzip
import json

import pytest

from srft.agent.importers import RecordedRun, read_mini_runs
from srft.env.errors import InputError

MESSAGES = [
    {"role": "system", "content": "S"},
    {"role": "user", "content": "<returncode>9</returncode>"},
    {"role": "assistant", "content": "a\u2028"},
    {"role": "user", "content": "<returncode>-1</returncode>\n<output>\n<returncode>3</returncode></output>"},
    {"role": "assistant", "content": "b"},
    {"role": "user", "content": "The last command timed out <returncode>0</returncode>"},
    {"role": "assistant", "content": "c"},
]
RUN = {"instance_id": "t", "messages": MESSAGES, "info": {"exit_status": "Submitted", "submission": "diff"}}
RECORDED = RecordedRun(
    instance_id="t",
    messages=tuple(MESSAGES),
    replies=("a\u2028", "b", "c"),
    exit_codes=(-1, None, None),
    submission="diff",
    exit_status="Submitted",
    resolved=None,
)


def test_one_file(tmp_path):
    path = tmp_path / "t.traj.json"
    path.write_text(json.dumps({**RUN, "instance_id": None}))
    assert list(read_mini_runs(path)) == [RECORDED]


def test_lines_and_gzip(tmp_path):
    lines = "".join(json.dumps(run, ensure_ascii=False) + "\n" for run in (RUN, {**RUN, "resolved": True})).encode()
    (tmp_path / "r.jsonl").write_bytes(lines)
    (tmp_path / "r.jsonl.gz").write_bytes(gzip.compress(lines))
    for name in ("r.jsonl", "r.jsonl.gz"):
        assert [run.resolved for run in read_mini_runs(tmp_path / name)] == [None, True]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (b'{"instance_id": "t"', "r.jsonl:2: not JSON"),
        (b"[]", "r.jsonl:2: expected an object with messages"),
        (b'{"messages": []}', "r.jsonl:2: no instance_id"),
        (b'{"instance_id": "t", "messages": [{"role": "user"}]}', "r.jsonl:2: messages[0] has no text"),
        (b'{"instance_id": "t", "messages": [], "trajectory_format": "x-2"}', "r.jsonl:2: trajectory_format is 'x-2'"),
    ],
)
def test_a_bad_line_is_named(tmp_path, line, message):
    path = tmp_path / "r.jsonl"
    path.write_bytes(json.dumps(RUN).encode() + b"\n" + line + b"\n")
    runs = read_mini_runs(path)
    assert next(runs) == RECORDED
    with pytest.raises(InputError) as error:
        next(runs)
    assert message in str(error.value)


def test_a_cut_gzip_file_is_named(tmp_path):
    path = tmp_path / "r.jsonl.gz"
    path.write_bytes(gzip.compress(json.dumps(RUN).encode() + b"\n")[:-10])
    with pytest.raises(InputError, match=r"r\.jsonl\.gz:.*damaged"):
        list(read_mini_runs(path))


def test_no_file(tmp_path):
    with pytest.raises(InputError, match="no such file"):
        list(read_mini_runs(tmp_path / "none.jsonl"))


def test_the_recorded_runs(recorded_runs):
    runs = list(read_mini_runs(recorded_runs))
    codes = [code for run in runs for code in run.exit_codes]
    assert (len(runs), len(codes), sum(code is not None for code in codes)) == (246, 10222, 9609)
    assert {run.exit_status for run in runs} == {"Submitted"}
