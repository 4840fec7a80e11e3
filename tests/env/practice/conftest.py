"""A small project of a file and its tests, as a git directory; and the engine's backend."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from srft.env.backends import Backend, choose_backend
from srft.env.errors import ImageError
from srft.env.practice.sources import family_source
from srft.env.practice.trials import open_project

PURSE = '''"""A purse."""


class Purse:
    def __init__(self, coins=None):
        self.coins = list(coins or [])

    def add(self, coin):
        if coin <= 0:
            raise ValueError("a coin is worth something")
        self.coins.append(coin)
        return self.total()

    def total(self):
        return sum(self.coins)

    def largest(self, count=1):
        return sorted(self.coins, reverse=True)[:count]


def change(price, paid):
    if paid < price:
        raise ValueError(f"{price - paid} missing")
    return paid - price


def never_called(a, b):
    return a + b
'''

TESTS = """import pathlib
import tempfile

import pytest

from purse import Purse, change


@pytest.fixture
def purse():
    purse = Purse([5, 20])
    purse.add(10)
    return purse


def test_total(purse):
    assert purse.total() == 35


def test_add_tells_the_total(purse):
    assert purse.add(1) == 36


def test_a_coin_of_nothing(purse):
    with pytest.raises(ValueError, match="worth"):
        purse.add(0)


def test_the_coins_are_a_copy():
    coins = [1]
    Purse(coins).add(2)
    assert coins == [1]


class TestLargest:
    def test_one(self, purse):
        assert purse.largest() == [20]

    def test_two(self, purse):
        assert purse.largest(2) == [20, 10]


@pytest.mark.parametrize(("price", "paid", "back"), [(3, 5, 2), (4, 4, 0)])
def test_change(price, paid, back):
    assert change(price, paid) == back


def test_too_little():
    with pytest.raises(ValueError, match="2 missing"):
        change(5, 3)


def test_that_is_flaky():
    marker = pathlib.Path(tempfile.gettempdir()) / "purse-was-tested"
    if marker.exists():
        marker.unlink()
        raise AssertionError
    marker.touch()
"""


def commit(folder: Path) -> None:
    identity = ["-c", "user.name=a", "-c", "user.email=a@b"]
    for arguments in (["init", "-q"], ["add", "-A"], [*identity, "commit", "-q", "-m", "purse"]):
        subprocess.run(["git", *arguments], cwd=folder, check=True)


def write_purse(folder: Path) -> Path:
    """A git directory with a package that pip installs; one of its tests is flaky."""
    (folder / "tests").mkdir(parents=True)
    (folder / "purse.py").write_text(PURSE)
    (folder / "tests" / "test_purse.py").write_text(TESTS)
    (folder / "pyproject.toml").write_text(
        '[build-system]\nrequires = ["setuptools"]\nbuild-backend = "setuptools.build_meta"\n'
        '[project]\nname = "purse"\nversion = "1"\n[tool.setuptools]\npy-modules = ["purse"]\n'
    )
    commit(folder)
    return folder


@pytest.fixture
def purse_package(tmp_path: Path) -> Path:
    return write_purse(tmp_path / "purse")


@pytest.fixture(scope="session")
def backend(base_image: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Backend]:
    """An engine that can build a family's image, for which pip must find pytest."""
    backend = choose_backend("docker")
    try:
        open_project(family_source("bank_ledger"), backend, tmp_path_factory.mktemp("image"), runs=1)
    except ImageError as error:
        pytest.skip(f"no image of a family can be built ({error})")
    yield backend
    backend.close()
