"""What of a record decides, by the marks at its fields."""

import doctest
from pathlib import Path
from typing import Annotated, Any

import msgspec
import pytest

from srft.env import identity as module
from srft.env.errors import InputError
from srft.env.identity import ADDS, MAY_CHANGE, additions, adds_by, decides_by, file_id, identity, marks, resolved_path


def lines_of(value: str, *, base: Path, record: Any) -> dict[str, int]:
    return {line: len(line) for line in (base / value).read_text().split()}


def named_file(value: str, *, base: Path, record: Any) -> str:
    return file_id(resolved_path(value, base))


class Inner(msgspec.Struct, frozen=True, kw_only=True):
    steps: int = 3
    wait_s: Annotated[float, MAY_CHANGE] = 1.0


class Outer(msgspec.Struct, frozen=True, kw_only=True):
    name: str
    inner: Inner = Inner()
    maybe: Inner | None = None
    ours: Annotated[Inner | None, ADDS] = None
    theirs: Annotated[Inner, MAY_CHANGE] = Inner()
    many: Annotated[int, msgspec.Meta(gt=0), ADDS] = 1
    file: Annotated[str | None, decides_by(named_file)] = None
    lines: Annotated[str | None, adds_by(lines_of)] = None
    wordy: str | None = msgspec.field(name="words", default=None)
    limit: float | None = 4.0


HERE = Path()


def test_doctests():
    assert doctest.testmod(module).failed == 0


def test_a_setting_at_its_default_is_left_out_and_what_is_required_is_not():
    assert identity(Outer(name="a"), base=HERE) == {"name": "a"}
    assert additions(Outer(name="a"), base=HERE) == {}


def test_each_setting_counts_as_it_is_marked():
    every = Outer(
        name="a",
        inner=Inner(steps=5, wait_s=9.0),
        maybe=Inner(),
        ours=Inner(steps=7),
        theirs=Inner(steps=8),
        many=2,
        wordy="w",
        limit=None,
    )
    assert identity(every, base=HERE) == {
        "inner.steps": 5,
        "limit": None,
        "maybe": True,
        "name": "a",
        "words": "w",
    }
    assert additions(every, base=HERE) == {"many": 2, "ours": True, "ours.steps": 7}


def test_a_file_counts_by_its_content_wherever_it_lies(tmp_path):
    (tmp_path / "a").mkdir()
    for name, text in (("one.txt", "x"), ("a/two.txt", "x"), ("other.txt", "y")):
        (tmp_path / name).write_text(text)
    one, two, other = (
        identity(Outer(name="a", file=str(tmp_path / name)), base=HERE)
        for name in ("one.txt", "a/two.txt", "other.txt")
    )
    assert one == two == {"name": "a", "file": file_id(tmp_path / "one.txt")}
    assert one != other
    assert identity(Outer(name="a", file="run:a/two.txt"), base=tmp_path) == one
    with pytest.raises(InputError, match="gone: cannot be read"):
        identity(Outer(name="a", file=str(tmp_path / "gone")), base=HERE)


def test_a_folder_counts_by_the_names_and_contents_of_its_files(tmp_path):
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "f").write_text("x")
    assert file_id(tmp_path / "one") == file_id(tmp_path / "two")
    (tmp_path / "two" / "f").rename(tmp_path / "two" / "g")
    assert file_id(tmp_path / "one") != file_id(tmp_path / "two")


def test_what_adds_by_its_content(tmp_path):
    (tmp_path / "lines").write_text("aa b")
    assert additions(Outer(name="a", lines="lines"), base=tmp_path) == {"lines": {"aa": 2, "b": 1}}


def test_marks_stand_in_unions_and_beside_limits():
    assert {name: mark.kind for name, mark in marks(Outer).items()} == {
        "name": "decides",
        "inner": "decides",
        "maybe": "decides",
        "ours": "adds",
        "theirs": "may change",
        "many": "adds",
        "file": "decides",
        "lines": "adds",
        "wordy": "decides",
        "limit": "decides",
    }
