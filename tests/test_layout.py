"""The layout's promises: layers import leftward, importing the environment is light."""

import ast
import subprocess
import sys
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
