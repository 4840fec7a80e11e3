"""A growing file of lines: read once, kept up with; torn, replaced and damaged ones."""

import msgspec
import pytest

from srft.harness.look.web import lines as lines_module
from srft.harness.look.web.lines import Lines, Span


class Word(msgspec.Struct, frozen=True, array_like=True):
    span: Span
    text: str


class _Line(msgspec.Struct):
    text: str


def shorten(line, span):
    return Word(span, msgspec.json.decode(line, type=_Line).text)


@pytest.fixture
def words(tmp_path):
    def open_lines():
        return Lines(tmp_path / "w.jsonl", shorten=shorten, kind=Word, cache=tmp_path / "index" / "w.index")

    return open_lines


def texts(lines):
    return [record.text for record in lines.records]


def test_appended_lines_are_read_and_a_torn_one_waits(tmp_path, words):
    path, lines = tmp_path / "w.jsonl", words()
    assert (lines.refresh(), lines.records) == (False, [])
    path.write_bytes(b'{"text":"a"}\n{"text":"b')
    assert (lines.refresh(), texts(lines)) == (True, ["a"])
    assert not lines.refresh()
    with path.open("ab") as file:
        file.write('\u2028"}\n\n{"text":"c"}\n'.encode())
    assert (lines.refresh(), texts(lines)) == (True, ["a", "b\u2028", "c"])
    assert lines.at(lines.records[2].span) == b'{"text":"c"}\n'


def test_a_replaced_file_is_read_anew(tmp_path, words):
    path, lines = tmp_path / "w.jsonl", words()
    path.write_bytes(b'{"text":"a"}\n{"text":"b"}\n')
    lines.refresh()
    path.write_bytes(b'{"text":"x"}\n{"text":"y"}\n{"text":"z"}\n')
    assert (lines.refresh(), texts(lines)) == (True, ["x", "y", "z"])
    path.unlink()
    assert (lines.refresh(), lines.records) == (True, [])


def test_what_cannot_be_read_is_counted(tmp_path, words):
    lines = words()
    (tmp_path / "w.jsonl").write_bytes(
        b'{"text":"\xff"}\n{"text":1}\n{"text":\n{"text":"\\ud800!"}\n' + b"[" * 100_000 + b'\n{"text":"end"}\n'
    )
    lines.refresh()
    assert texts(lines) == ["\ufffd", "?!", "end"]
    assert [damaged.line for damaged in lines.damaged] == [2, 3, 5]
    assert "Expected `str`, got `int`" in lines.damaged[0].reason


def test_the_index_is_kept_used_and_grown(tmp_path, words, monkeypatch):
    monkeypatch.setattr(lines_module, "WORTH_KEEPING_S", -1.0)
    path = tmp_path / "w.jsonl"
    path.write_bytes(b'{"text":"a"}\n{"text":0}\n{"text":"b"}\n')
    words().refresh()
    with path.open("ab") as file:
        file.write(b'{"text":"c"}\n')

    read = []
    again = Lines(
        path,
        shorten=lambda line, span: read.append(line) or shorten(line, span),
        kind=Word,
        cache=tmp_path / "index" / "w.index",
    )
    assert again.refresh()
    assert (texts(again), read) == (["a", "b", "c"], [b'{"text":"c"}\n'])
    assert [damaged.line for damaged in again.damaged] == [2]
    assert words().refresh()  # all of it from the index is news to one who has just begun


@pytest.mark.parametrize("spoilt", [b"", b"junk", b'{"end":9,"lines":1,"last":[0,5],"mark":"no","version":1}\n[]\n'])
def test_an_index_of_another_file_is_made_again(tmp_path, words, spoilt):
    (tmp_path / "w.jsonl").write_bytes(b'{"text":"a"}\n')
    (tmp_path / "index").mkdir()
    (tmp_path / "index" / "w.index").write_bytes(spoilt)
    lines = words()
    lines.refresh()
    assert texts(lines) == ["a"]
