"""srft installs whole from wherever people get it: a wheel, a zip archive, a clone, a clone without symbolic links.

All of them are made of a repository that holds the checkout's files as they are now. pip builds with the hatchling of
this environment, and takes no dependencies.
"""

import importlib.util
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.conftest import ROOT

LAYERS = ["env", "agent", "critic", "train", "harness"]


def git_files(*folders: str) -> list[str]:
    """Files of the folders that git tracks, or would track: new ones that it does not ignore count too."""
    command = ["git", "-C", str(ROOT), "ls-files", "-z", "--cached", "--others", "--exclude-standard", "--", *folders]
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    names = ran.stdout.split("\0")
    return sorted({name for name in names if name and ((ROOT / name).is_symlink() or (ROOT / name).is_file())})


def ran(*command: object, folder: Path, **environment: str) -> str:
    """What a command prints; a failure fails the test with all of it."""
    done = subprocess.run(
        [str(word) for word in command],
        cwd=folder,
        env=os.environ | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}"
    return done.stdout


def build(*words: object, folder: Path) -> None:
    """With hatchling, wherever this Python has it from, and without the checkout on the path."""
    found = importlib.util.find_spec("hatchling")
    assert found is not None
    assert found.origin is not None
    ran(sys.executable, "-m", *words, folder=folder, PYTHONPATH=str(Path(found.origin).parents[1]))


def pip(*words: object, folder: Path) -> None:
    build("pip", *words, "--no-deps", "--no-build-isolation", "--quiet", folder=folder)


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A git repository with the checkout's files."""
    pytest.importorskip("hatchling", reason="no hatchling in this environment; make setup installs it")
    if not git_files("env"):
        pytest.skip("not a git checkout with files in it")
    made = tmp_path_factory.mktemp("repository") / "srft"
    for name in git_files("."):
        target = made / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if (ROOT / name).is_symlink():
            target.symlink_to((ROOT / name).readlink())
        else:
            target.write_bytes((ROOT / name).read_bytes())
    ran("git", "init", "--quiet", folder=made)
    ran("git", "add", "--all", folder=made)
    ran("git", "-c", "user.name=a", "-c", "user.email=a@b", "commit", "--quiet", "-m", "all", folder=made)
    return made


def packed(wheel: Path) -> set[str]:
    with zipfile.ZipFile(wheel) as opened:
        return {name for name in opened.namelist() if ".dist-info/" not in name}


def expected() -> set[str]:
    listed = git_files("src/srft", *LAYERS)
    names = {name.removeprefix("src/") if name.startswith("src/") else f"srft/{name}" for name in listed}
    return names - {f"srft/{layer}" for layer in LAYERS}  # the links themselves


def test_the_wheel_holds_what_git_holds_and_nothing_twice(repository: Path, tmp_path: Path) -> None:
    pip("wheel", "-w", tmp_path, repository, folder=tmp_path)
    assert packed(next(tmp_path.glob("srft-*.whl"))) == expected()


def test_the_wheel_of_a_source_distribution_is_the_same(repository: Path, tmp_path: Path) -> None:
    build("hatchling", "build", "-t", "sdist", "-d", tmp_path, folder=repository)
    pip("wheel", "-w", tmp_path, next(tmp_path.glob("srft-*.tar.gz")), folder=tmp_path)
    assert packed(next(tmp_path.glob("srft-*.whl"))) == expected()


def zip_archive(repository: Path, folder: Path) -> str:
    """Unpacked as Python does: links come out as files that hold where they lead."""
    ran("git", "archive", "--format=zip", "-o", folder / "srft.zip", "HEAD", folder=repository)
    with zipfile.ZipFile(folder / "srft.zip") as archive:
        archive.extractall(folder / "unpacked")
    assert not (folder / "unpacked" / "src" / "srft" / "env").is_symlink()
    return str(folder / "unpacked")


def packed_archive(repository: Path, folder: Path) -> str:
    """As it is, as pip takes it."""
    ran("git", "archive", "--format=zip", "--prefix=srft/", "-o", folder / "srft.zip", "HEAD", folder=repository)
    return str(folder / "srft.zip")


def clone_without_links(repository: Path, folder: Path) -> str:
    ran("git", "clone", "--quiet", "-c", "core.symlinks=false", repository, folder / "clone", folder=folder)
    assert (folder / "clone" / "src" / "srft" / "env").is_file()
    return str(folder / "clone")


def address(repository: Path, folder: Path) -> str:
    return f"git+file://{repository}"


@pytest.mark.parametrize(
    "source",
    [
        zip_archive,
        packed_archive,
        pytest.param(clone_without_links, marks=pytest.mark.slow),  # the editable one is quick
        pytest.param(address, marks=pytest.mark.slow),
    ],
)
def test_srft_installs_from(source, repository: Path, tmp_path: Path) -> None:
    installed = tmp_path / "installed"
    pip("install", "--target", installed, source(repository, tmp_path), folder=tmp_path)
    where = "import srft; print(srft.__file__)"
    assert ran(sys.executable, "-c", where, folder=tmp_path, PYTHONPATH=str(installed)).startswith(str(installed))
    shown = ran(sys.executable, "-m", "srft", "runs", "--help", folder=tmp_path, PYTHONPATH=str(installed))
    assert "srft runs" in shown


@pytest.mark.parametrize("source", [address, clone_without_links])
def test_an_editable_install_runs_the_folders_of_the_checkout(source, repository: Path, tmp_path: Path) -> None:
    """`make setup` installs so; in a checkout without symbolic links too."""
    checkout = repository if source is address else Path(source(repository, tmp_path))
    pip("install", "--target", tmp_path / "link", "--editable", checkout, folder=tmp_path)
    (link,) = (tmp_path / "link").glob("*srft*.pth")
    where = "import srft.env.errors, os; print(os.path.realpath(srft.env.errors.__file__))"
    shown = ran(sys.executable, "-c", where, folder=tmp_path, PYTHONPATH=link.read_text().strip())
    assert shown == f"{(checkout / 'env' / 'errors.py').resolve()}\n"
