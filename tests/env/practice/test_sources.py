"""Where the code comes from: families, packages, git directories."""

from pathlib import Path

import pytest

from srft.env.errors import InputError
from srft.env.practice.families import families, family_files
from srft.env.practice.sources import family_source, is_source, is_test, package_source


def test_every_family_has_tests_and_sources() -> None:
    for name in families():
        files = family_files(name)
        assert any(map(is_test, files)), name
        assert any(is_source(path) for path in files), name


def test_an_unknown_family() -> None:
    with pytest.raises(InputError, match="family bank_legder: there is none of that name; did you mean bank_ledger"):
        family_source("bank_legder")


def test_the_dockerfile_of_a_package() -> None:
    source = package_source("More_Itertools==10.5.0", requirements=("six",))
    text = source.dockerfile(copies=[("testbed/", "/testbed/")])
    assert (source.name, source.version) == ("more-itertools", "10.5.0")
    assert "pip install -q pytest==8.3.4 six\n" in text
    assert "--no-binary More_Itertools -d /opt/sdist More_Itertools==10.5.0" in text
    assert text.endswith("COPY testbed/ /testbed/\n")


def test_a_git_directory(purse_package: Path) -> None:
    source = package_source(str(purse_package))
    assert sorted(source.context) == ["purse.py", "pyproject.toml", "tests/test_purse.py"]
    assert "COPY source/ /testbed/" in source.setup
    (purse_package / "purse.py").write_text("changed, not committed\n")
    assert package_source(str(purse_package)).fingerprint == source.fingerprint


@pytest.mark.parametrize("package", ["more-itertools", "more-itertools>=3", "no/such/folder"])
def test_what_is_no_package(package: str) -> None:
    with pytest.raises(InputError, match="expected NAME==VERSION"):
        package_source(package)


def test_a_folder_without_git(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="git cannot read a commit there"):
        package_source(str(tmp_path))


def test_what_bugs_are_put_into() -> None:
    paths = ["pkg/core.py", "setup.py", "tests/helper.py", "pkg/test_core.py", "docs/conf.py", "core.txt", "a b.py"]
    assert [path for path in paths if is_source(path)] == ["pkg/core.py"]
