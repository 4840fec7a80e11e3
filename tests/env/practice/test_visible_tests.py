"""What an agent sees of the tests, and the patch that puts the others back."""

import doctest
import subprocess
from pathlib import Path

import pytest

from srft.env.practice import visible_tests
from srft.env.practice.visible_tests import NoSuchTest, diff, without_tests

SOURCE = b'''import pytest


def test_one():
    assert True


@pytest.mark.parametrize("n", [1, 2])
def test_two(n):
    assert n


class TestThree:
    """A class."""

    def test_a(self):
        assert 1

    def test_b(self):
        assert 2
'''


def test_the_docstrings_tell_the_truth() -> None:
    assert doctest.testmod(visible_tests).failed == 0


def test_whole_functions_go() -> None:
    seen = without_tests("t.py", SOURCE, ["t.py::test_two[1]", "t.py::TestThree::test_b", "other.py::test_one"])
    assert (
        seen
        == b'''import pytest


def test_one():
    assert True


class TestThree:
    """A class."""

    def test_a(self):
        assert 1
'''
    )


def test_an_emptied_class_keeps_pass() -> None:
    seen = without_tests("t.py", SOURCE, ["t.py::TestThree::test_a", "t.py::TestThree::test_b"])
    assert seen.endswith(b'class TestThree:\n    """A class."""\n    pass\n')


def test_a_test_without_a_function() -> None:
    with pytest.raises(NoSuchTest):
        without_tests("t.py", SOURCE, ["t.py::TestThree::test_inherited"])


@pytest.mark.parametrize(
    "tests",
    [["t.py::test_one"], ["t.py::test_two[1]", "t.py::TestThree::test_a", "t.py::TestThree::test_b"]],
)
@pytest.mark.parametrize("end", [b"", b"# no newline at the end"])
def test_the_patch_puts_them_back(tests: list[str], end: bytes, tmp_path: Path) -> None:
    whole = SOURCE + end
    seen = without_tests("t.py", whole, tests)
    (tmp_path / "t.py").write_bytes(seen)
    patch = diff("t.py", seen, whole)
    subprocess.run(["git", "apply", "-"], cwd=tmp_path, input=patch.encode(), check=True)
    assert (tmp_path / "t.py").read_bytes() == whole


def test_equal_files_have_no_patch() -> None:
    assert diff("t.py", SOURCE, SOURCE) == ""
