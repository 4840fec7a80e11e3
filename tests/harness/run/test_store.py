"""Records on disk: whole or not there."""

import os
import re
import subprocess
import sys

import msgspec
import pytest
from loguru import logger

from srft.env.errors import InputError, StorageError
from srft.harness.run.store import JsonLines, Run, UnreadableRecord, write_atomic


class Record(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    name: str
    number: int | None = None


@pytest.fixture
def lines(tmp_path):
    return JsonLines(tmp_path / "records.jsonl", Record)


def test_what_is_appended_is_read(lines):
    records = [Record("a"), Record("line\u2028separator\u0085\n", 2), Record("\x00\x1b[31m", 3)]
    for record in records:
        lines.append(record)
    assert list(lines.read()) == records
    assert lines.path.read_bytes().count(b"\n") == 3


def test_a_torn_last_line_is_cut_and_the_rest_is_intact(lines):
    lines.append(Record("whole", 1))
    with lines.path.open("ab") as file:
        file.write(b'{"name": "half')
    assert list(lines.read()) == [Record("whole", 1)]
    assert lines.cut_torn_line() == len(b'{"name": "half')
    lines.append(Record("next", 2))
    assert list(lines.read()) == [Record("whole", 1), Record("next", 2)]


def test_behind_a_torn_line_the_next_is_whole(lines):
    lines.append(Record("whole", 1))
    with lines.path.open("ab") as file:
        file.write(b'{"name": "half')
    lines.append(Record("next", 2))
    assert list(lines.read()) == [Record("whole", 1), Record("next", 2)]


APPENDER = """
import sys
from pathlib import Path
from srft.harness.run.store import JsonLines
lines = JsonLines(Path(sys.argv[1]), dict)
for number in range(400):
    lines.cut_torn_line()
    lines.append({"name": "x" * 3000, "number": number})
"""


def test_processes_that_cut_and_append_lose_nothing(lines):
    """The one that looks for a torn line may see another's line grow."""
    appenders = [subprocess.Popen([sys.executable, "-c", APPENDER, lines.path]) for _ in range(3)]
    assert [appender.wait(timeout=120) for appender in appenders] == [0, 0, 0]
    assert sorted(record.number for record in lines.read()) == sorted([*range(400)] * 3)


def test_a_bad_line_costs_that_line_and_is_named(lines):
    said = []
    sink = logger.add(said.append, format="{message}")
    lines.append(Record("good"))
    with lines.path.open("ab") as file:
        file.write(b'{"name": "x", "nmber": 1}\n{"name": "cut sho\n{"name": null}\n\xff\n')
    lines.append(Record("behind", 2))
    for _ in range(2):
        assert list(lines.read()) == [Record("good"), Record("behind", 2)]
    assert len(lines.left_out) == 4
    logger.remove(sink)
    said = "".join(said)
    for number, words in ((2, "nmber"), (3, "malformed"), (4, "null"), (5, "malformed")):
        assert (
            len(re.findall(rf"records\.jsonl:{number}: not a Record of this version of srft \(.*({words})", said)) == 1
        )
    assert said.count("this line is left out, all others are used") == 4
    first, second, *_ = [offset for offset, _ in lines.read_with_offsets()]
    assert list(lines.read_at([second, 24, first])) == [Record("behind", 2), Record("good")]
    with pytest.raises(InputError, match="correct the line or remove it"):
        lines.at(next(iter(lines.left_out)))


def test_a_file_without_a_readable_line_is_refused(lines):
    lines.path.write_bytes(b'{"name": "x", "nmber": 1}\n{"name": "y", "nmber": 2}\n')
    with pytest.raises(InputError, match=r"records\.jsonl:1: .*nmber.* is it of another version of srft\?"):
        list(lines.read())


class Short(msgspec.Struct, frozen=True):
    name: str


def test_the_short_form_leaves_out_the_same_lines(lines):
    lines.append(Record("good", 1))
    with lines.path.open("ab") as file:
        file.write(b'{"name": "x", "number": "one"}\n')
    assert list(JsonLines(lines.path, Short, whole=Record).read()) == [Short("good")]
    assert list(JsonLines(lines.path, Short).read()) == [Short("good"), Short("x")]


@pytest.mark.parametrize(
    "record",
    [
        Record(5),
        Record("lone \ud83d surrogate"),
        Record("object", {"total": 1}),
        Record(object()),
    ],
)
def test_what_would_not_be_read_back_is_not_written(lines, record):
    lines.append(Record("good"))
    with pytest.raises(UnreadableRecord, match=r"records\.jsonl: a Record .*is not written"):
        lines.append(record)
    lines.append(Record("next"))
    assert list(lines.read()) == [Record("good"), Record("next")]


class Figures(msgspec.Struct):
    values: tuple[float, ...]


def test_a_number_that_json_does_not_have_is_not_written(tmp_path):
    figures = JsonLines(tmp_path / "figures.jsonl", Figures)
    with pytest.raises(UnreadableRecord, match="Expected `float`, got `null`"):
        figures.append(Figures((1.0, float("nan"))))
    assert list(figures.read()) == []


def test_a_full_disk_loses_nothing(tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", disk], check=False, capture_output=True
    )
    if mounted.returncode != 0:
        pytest.skip("a small file system cannot be mounted here (that needs root)")
    try:
        lines = JsonLines(disk / "records.jsonl", Record)
        kept: list[Record] = []

        def fill() -> None:
            while True:
                record = Record("x" * 1000, len(kept))
                lines.append(record)
                kept.append(record)

        with pytest.raises(StorageError, match="No space left") as caught:
            fill()
        assert "make room, then give the same command again" in str(caught.value)
        assert list(lines.read()) == kept
        assert lines.cut_torn_line() == 0
        with pytest.raises(StorageError):
            write_atomic(disk / "whole.json", b"x" * 100_000)
        assert sorted(os.listdir(disk)) == ["records.jsonl"]
    finally:
        subprocess.run(["umount", disk], check=True)


def test_one_process_works_in_a_run(tmp_path):
    with Run(tmp_path / "run"):
        other = subprocess.run(
            [
                sys.executable,
                "-c",
                f"from srft.harness.run.store import Run as R\nR({str(tmp_path / 'run')!r}).__enter__()",
            ],
            capture_output=True,
            text=True,
            check=False,
        )
        assert "another srft process works in it" in other.stderr
    with Run(tmp_path / "run") as run:
        assert run.round(0).path.name == "round-000"


def test_a_run_that_cannot_be(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot be a run directory"), Run(tmp_path / "file"):
        pass


def test_a_folder_made_for_an_input_that_is_refused_goes_again(tmp_path):
    def refused(run, leaves=None):
        folder = run.round(0).path
        if leaves:
            (folder / leaves).write_text("mine")
        raise InputError("no such file")

    with pytest.raises(InputError), Run(tmp_path / "new") as run:
        refused(run)
    assert list(tmp_path.iterdir()) == []
    with Run(tmp_path / "old") as run:
        run.round(0)
    with pytest.raises(InputError), Run(tmp_path / "old") as run:
        refused(run)
    assert (tmp_path / "old" / "round-000").is_dir()
    with pytest.raises(InputError), Run(tmp_path / "kept") as run:
        refused(run, leaves="a.txt")
    assert (tmp_path / "kept" / "round-000" / "a.txt").read_text() == "mine"
