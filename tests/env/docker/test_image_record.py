"""The record of the images that srft got: what it holds, and files that are not one or cannot be."""

import json
from pathlib import Path

import pytest

from srft.env.docker.image_record import ImageRecord
from srft.env.errors import InputError


def test_the_least_recently_used_comes_first(tmp_path: Path) -> None:
    path = tmp_path / "state" / "images.json"
    record = ImageRecord(path)
    for image in ("a", "b", "c"):
        record.add(image)
    record.touch("a")
    record.touch("not ours")
    record.drop("b")
    record.drop("not ours")
    assert record.by_use() == ImageRecord(path).by_use() == ["c", "a"]


@pytest.mark.parametrize("content", ['["not", "a", "record"]', '{"a": "never"}', '{"a":', ""])
def test_a_file_that_cannot_be_read_is_begun_anew(tmp_path: Path, content: str) -> None:
    path = tmp_path / "images.json"
    path.write_text(content)
    ImageRecord(path).add("b")
    assert list(json.loads(path.read_text())) == ["b"]


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=r"the record of images cannot be kept there .*; set XDG_CACHE_HOME"):
        ImageRecord(tmp_path / "file" / "images.json")
