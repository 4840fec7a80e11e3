"""The engine's archives: what goes into one comes out of it, and paths as the engine tells of them."""

import base64
import io
import json
import tarfile

import pytest
from hypothesis import given
from hypothesis import strategies as st

from srft.env.docker.archive import Found, content_of, found_in, tar_of


@given(st.binary(max_size=3000), st.integers(1, 700))
def test_a_file_comes_back_in_chunks_of_any_size(content: bytes, size: int) -> None:
    archive = tar_of("file", content, mode=0o644, ids=(0, 0))
    assert content_of([archive[at : at + size] for at in range(0, len(archive), size)], limit_bytes=1 << 30) == content


def test_an_archive_has_the_folders_above_its_file() -> None:
    with tarfile.open(fileobj=io.BytesIO(tar_of("new/deep/x", b"12", mode=0o600, ids=(7, 8)))) as archive:
        told = [(member.name, member.isdir(), member.mode, member.uid, member.gid, member.size) for member in archive]
    assert told == [
        ("new", True, 0o755, 7, 8, 0),
        ("new/deep", True, 0o755, 7, 8, 0),
        ("new/deep/x", False, 0o600, 7, 8, 2),
    ]


@pytest.mark.parametrize(
    ("mode", "found"),
    [
        (0o755, Found(False, True, 0o755, "")),
        (1 << 31 | 0o700, Found(True, False, 0o700, "")),
        (1 << 27 | 0o777, Found(False, False, 0o777, "/target")),
        (1 << 25 | 0o644, Found(False, False, 0o644, "")),
    ],
    ids=["file", "directory", "symlink", "fifo"],
)
def test_what_a_path_is(mode: int, found: Found) -> None:
    stat = {"name": "x", "size": 1, "mode": mode, "mtime": "2024-01-01T00:00:00Z", "linkTarget": "/target"}
    assert found_in(base64.b64encode(json.dumps(stat).encode()).decode()) == found
