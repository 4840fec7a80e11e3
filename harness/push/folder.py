"""The folders that `srft push` sends: token rows, a model, trajectories with their labels, each with a card.

Reads a round of a run; writes `RUN/push/<what>/`, made anew each time. Large files are links to the run's own.

    made = Asked(run=Path("runs/demo"), round=1, arm="srft", rows="me/rows", model="me/model")
    for folder in put_together(made):
        folder.what, folder.repository, folder.path, folder.files

No path of this machine goes along: a model or tokenizer that is a folder is named by its last part alone.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal, NamedTuple

import msgspec

from srft.env.errors import InputError, StorageError
from srft.harness.push import card
from srft.harness.push.card import named
from srft.harness.run.store import Round
from srft.harness.run.trained import arms_on_file, has_rows, rows_command, rows_folder

What = Literal["rows", "model", "trajectories"]
KEPT_OUT = {"checkpoints", "training.json", "adapter_config.json", "README.md"}


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """What is pushed where: `OWNER/NAME` each, `None`: not pushed. base: the base model's name on the Hub, for the card
    and an adapter. license: of the card. arm: whose rows and model."""

    run: Path
    round: int
    arm: str | None = None
    rows: str | None = None
    model: str | None = None
    trajectories: str | None = None
    base: str | None = None
    license: str | None = None

    @property
    def folder(self) -> Round:
        return Round(self.run / f"round-{self.round:03d}")


class Folder(NamedTuple):
    """One repository's files. files: name -> bytes."""

    what: What
    repository: str
    path: Path
    files: dict[str, int]

    @property
    def kind(self) -> Literal["model", "dataset"]:
        return "model" if self.what == "model" else "dataset"

    @property
    def bytes(self) -> int:
        return sum(self.files.values())


def put_together(asked: Asked) -> list[Folder]:
    """Raises InputError, StorageError."""
    makers: dict[What, Callable[[Asked, Path], str]] = {"rows": _rows, "model": _model, "trajectories": _trajectories}
    wanted = [(what, repository) for what in makers if (repository := getattr(asked, what)) is not None]
    if not wanted:
        raise InputError("nothing to push; give --rows, --model or --trajectories, each with OWNER/NAME")
    for what, _ in wanted:  # before anything is written
        _CHECKS[what](asked)
    made = []
    for what, repository in wanted:
        path = asked.run / "push" / what
        try:
            shutil.rmtree(path, ignore_errors=True)
            path.mkdir(parents=True)
            (path / "README.md").write_text(makers[what](asked, path), encoding="utf-8")
        except OSError as error:
            raise StorageError(f"{path}: cannot be written ({error.strerror}); make room and try again") from error
        files = {str(file.relative_to(path)): file.stat().st_size for file in sorted(path.rglob("*")) if file.is_file()}
        made.append(Folder(what, repository, path, files))
    return made


# ---- rows ----


def rows_arm(asked: Asked) -> str:
    """The arm whose rows are pushed. Raises InputError."""
    there = arms_on_file(asked.folder)
    if asked.arm is None and len(there) != 1 and there:
        raise InputError(f"rows exist for the arms {' and '.join(there)}; choose one with --arm")
    arm = asked.arm or (there[0] if there else None)
    if arm is None or not has_rows(asked.folder, arm):
        of_arm = f" of the arm {arm}" if arm else ""
        raise InputError(f"no token rows{of_arm} in {asked.folder.path} yet; run {rows_command(asked.folder, arm)}")
    return arm


def _rows(asked: Asked, path: Path) -> str:
    from datasets import Dataset, disable_progress_bars

    arm = rows_arm(asked)
    folder = rows_folder(asked.folder, arm)
    disable_progress_bars()
    (path / "data").mkdir()
    Dataset.from_file(str(folder / "rows.arrow")).to_parquet(path / "data" / "train-00000-of-00001.parquet")
    manifest = msgspec.json.decode((folder / "rows.json").read_bytes())
    manifest["tokenizer"] = named(manifest["tokenizer"])
    _write_json(path / "rows.json", manifest)
    return card.rows(asked, manifest)


# ---- the model ----


def model_folder(asked: Asked) -> Path:
    """The trained model that is pushed. Raises InputError."""
    models = {file.parent.name: file.parent for file in sorted(asked.folder.path.glob("model/*/training.json"))}
    models = {name: path for name, path in models.items() if not name.startswith(".")}
    if asked.arm is None and len(models) > 1:
        raise InputError(f"there are models of {', '.join(models)}; choose one with --arm")
    name = asked.arm or next(iter(models), None)
    if name is None or name not in models:
        there = f"; there are {', '.join(models)}" if models else ""
        what = f"no trained model {name}" if name else "no trained model"
        raise InputError(f"{what} in {asked.folder.path}/model{there}; run srft train --run {asked.run} first")
    return models[name]


def _model(asked: Asked, path: Path) -> str:
    folder = model_folder(asked)
    for file in sorted(folder.rglob("*")):
        inside = file.relative_to(folder)
        if file.is_file() and not any(part in KEPT_OUT or part.startswith(".") for part in inside.parts):
            _link(file, path / inside)
    training = msgspec.json.decode((folder / "training.json").read_bytes())
    training |= {"model": asked.base or named(training["model"]), "rows": Path(training["rows"]).name}
    _write_json(path / "training.json", training)
    adapter = folder / "adapter_config.json"
    if adapter.exists():
        config = msgspec.json.decode(adapter.read_bytes())
        config["base_model_name_or_path"] = training["model"]
        _write_json(path / "adapter_config.json", config)
    return card.model(asked, training, cell=folder.name, is_adapter=adapter.exists())


# ---- trajectories ----


def _has_trajectories(asked: Asked) -> None:
    if not asked.folder.trajectories.path.is_file():
        raise InputError(f"no trajectories in {asked.folder.path}; choose another round with --round")


def _trajectories(asked: Asked, path: Path) -> str:
    round_ = asked.folder
    for lines in (round_.trajectories, round_.critiques):
        if lines.path.is_file():
            _link(lines.path, path / lines.path.name)
    predictions = round_.path / "predictions.jsonl"
    if predictions.is_file():
        _link(predictions, path / predictions.name)
    if round_.grades.path.is_file():
        with (path / "grades.jsonl").open("wb") as file:  # where the logs lie is this machine's
            for grade in round_.grades.read():
                file.write(msgspec.json.encode(msgspec.structs.replace(grade, log_path=None)) + b"\n")
    files = [file.name for file in sorted(path.iterdir())]
    return card.trajectories(asked, files)


_CHECKS: dict[What, Callable[[Asked], Any]] = {
    "rows": rows_arm,
    "model": model_folder,
    "trajectories": _has_trajectories,
}


def _link(file: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    target.symlink_to(file.resolve())


def _write_json(path: Path, content: Any) -> None:
    path.write_bytes(msgspec.json.format(msgspec.json.encode(content)) + b"\n")


def lines_of(folders: list[Folder], *, public: bool) -> Iterator[str]:
    """What would be sent, for a reader."""
    for folder in folders:
        seen = "public" if public else "private"
        count = f"{len(folder.files)} file{'' if len(folder.files) == 1 else 's'}"
        yield f"{folder.repository} ({folder.kind}, {seen}): {count}, {size(folder.bytes)}, from {folder.path}"
        for name, size_bytes in folder.files.items():
            yield f"  {size(size_bytes):>9}  {name}"


def size(count: int) -> str:
    """
    >>> size(999), size(538_000_000)
    ('999 B', '538.0 MB')
    """
    for unit, one in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if count >= one:
            return f"{count / one:.1f} {unit}"
    return f"{count} B"
