"""The layout's promises: layers import leftward, importing the environment is light, the wheel holds what git holds."""

import ast
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
LAYERS = ["env", "agent", "critic", "train", "harness"]
UNNAMED = {"utils", "util", "common", "helpers", "helper", "misc"}
# Loads swebench, whose import is slow and broad; it is imported where a patch is graded.
HEAVY_BY_DESIGN = {"srft.env.grading.grade"}


def modules(layer: str) -> list[Path]:
    return sorted((ROOT / layer).rglob("*.py"))


def dotted(path: Path) -> str:
    """The name that a module is imported by."""
    return ".".join(["srft", *path.relative_to(ROOT).with_suffix("").parts])


def imported(path: Path) -> Iterator[tuple[int, str]]:
    """(line, absolute module name) for each import in a file, wherever it stands in it."""
    package = ["srft", *path.relative_to(ROOT).parent.parts]
    for node in ast.walk(ast.parse(path.read_text(), str(path))):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join([*above, *filter(None, [node.module])])
            # `from srft import env` names the layer last.
            yield from ((node.lineno, f"{module}.{alias.name}") for alias in node.names)


@pytest.mark.parametrize("layer", LAYERS)
def test_layers_import_leftward(layer: str) -> None:
    to_the_right = LAYERS[LAYERS.index(layer) + 1 :]
    wrong = [
        f"{path.relative_to(ROOT)}:{line} imports {name}"
        for path in modules(layer)
        for line, name in imported(path)
        if name.split(".")[0] == "srft" and name.split(".")[1:2] and name.split(".")[1] in to_the_right
    ]
    assert wrong == []


@pytest.mark.parametrize("folder", [*LAYERS, "tests"])
def test_nothing_imports_a_bare_layer(folder: str) -> None:
    wrong = [
        f"{path.relative_to(ROOT)}:{line} imports {name}"
        for path in modules(folder)
        for line, name in imported(path)
        if name.split(".")[0] in LAYERS
    ]
    assert wrong == []


def test_imported_finds_every_spelling(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.modules[__name__], "ROOT", tmp_path)
    path = tmp_path / "agent" / "loop.py"
    path.parent.mkdir()
    path.write_text(
        "import srft.train.rows.mask\nfrom srft import harness\nfrom srft.env.tasks.task import Task\n"
        "from . import model\nfrom ..critic.judge import x\ndef f():\n    from srft.train import rows as r\n"
    )
    assert sorted(imported(path)) == [
        (1, "srft.train.rows.mask"),
        (2, "srft.harness"),
        (3, "srft.env.tasks.task.Task"),
        (4, "srft.agent.model"),
        (5, "srft.critic.judge.x"),
        (7, "srft.train.rows"),
    ]


def test_importing_env_pulls_in_neither_torch_nor_transformers() -> None:
    names = [dotted(path) for path in modules("env") if path.stem != "__init__" and "modules" not in path.parts]
    names = ["srft.env", *sorted(set(names) - HEAVY_BY_DESIGN)]
    script = (
        f"import importlib, sys\nfor name in {names!r}: importlib.import_module(name)\n"
        "print(sorted({'torch', 'transformers'} & set(sys.modules)))"
    )
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False, timeout=120)
    assert (ran.stdout, ran.returncode) == ("[]\n", 0), ran.stderr


@pytest.mark.parametrize("name", ["web.viewer", "web.app", "show"])
def test_looking_at_a_run_pulls_in_neither_torch_nor_transformers(name: str) -> None:
    """Else `srft show` and `srft view` would begin with seconds of silence."""
    module = f"srft.harness.look.{name}"
    script = f"import sys, {module}\nprint(sorted({{'torch', 'transformers'}} & set(sys.modules)))"
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False, timeout=120)
    assert (ran.stdout, ran.returncode) == ("[]\n", 0), ran.stderr


def test_no_file_is_named_for_nothing() -> None:
    assert [path for layer in [*LAYERS, "tests"] for path in modules(layer) if path.stem in UNNAMED] == []


def test_wheel_holds_what_git_holds(tmp_path: Path) -> None:
    listed = git_files("src/srft", *LAYERS)
    if not listed:
        pytest.skip("not a git checkout with files in it")
    expected = {name.removeprefix("src/") if name.startswith("src/") else f"srft/{name}" for name in listed}
    expected -= {f"srft/{layer}" for layer in LAYERS}  # the links themselves

    ran = subprocess.run(
        [
            sys.executable,
            "-m",
            "pip",
            "wheel",
            "--no-deps",
            "--no-build-isolation",
            "-q",
            "-w",
            tmp_path,
            copy_of_checkout(tmp_path),
        ],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert ran.returncode == 0, ran.stderr
    with zipfile.ZipFile(next(tmp_path.glob("srft-*.whl"))) as wheel:
        packed = {name for name in wheel.namelist() if ".dist-info/" not in name}
    assert packed == expected


def git_files(*folders: str) -> list[str]:
    """Files of the folders that git tracks, or would track: new ones that it does not ignore count too."""
    command = ["git", "-C", str(ROOT), "ls-files", "-z", "--cached", "--others", "--exclude-standard", "--", *folders]
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    names = ran.stdout.split("\0")
    return sorted({name for name in names if name and ((ROOT / name).is_symlink() or (ROOT / name).is_file())})


def copy_of_checkout(tmp_path: Path) -> Path:
    """The checkout's files in a folder of their own: building in the checkout would leave build/ and egg-info there."""
    copy = tmp_path / "checkout"
    for name in git_files("."):
        target = copy / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if (ROOT / name).is_symlink():
            target.symlink_to((ROOT / name).readlink())
        else:
            target.write_bytes((ROOT / name).read_bytes())
    return copy
