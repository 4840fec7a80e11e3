"""The rows of an arm on file: their figures, what became of each run, which steps they hold, what makes them again.

Reads `rows/<arm>/`; writes nothing. What is trained of a run, step by step, is told by `srft.harness.run.run_mask`.

    rows_on_file(round_)["srft"].trained_tokens            # rows.json, an arm each
    runs_on_file(round_, "srft")[run_id].left_out          # what became of each run when these rows were made
    trained_of(open_rows(round_, "srft"), run_id).in_rows  # {0, 1, 2, 3}: from the rows themselves
    rows_command(round_, "srft")                           # srft rows --run runs/first --tokenizer ... --arm srft
"""

from __future__ import annotations

import shlex
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING, Any

import msgspec
import numpy

from srft.env.errors import InputError
from srft.train.rows.mask import ARMS, RUNS, Arm, MaskPolicy, Part, RunInRows, RunsInRows

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from srft.harness.run.store import Round
    from srft.train.rows.rows import Row, RowTable


class RowsFile(msgspec.Struct, frozen=True, kw_only=True):
    """rows.json without what only training needs; see `srft.train.rows.rows.Manifest`, which loads a tokenizer's
    libraries. Fields that are not named here are passed over."""

    arm: str
    tokenizer: str
    policy: MaskPolicy = MaskPolicy()
    settings: dict[str, Any] = {}
    critics: tuple[str, ...] = ()
    runs: int
    runs_used: int
    rows: int
    tokens: int
    written_tokens: int
    trained_tokens: int
    steps: int
    steps_masked: int
    left_out: dict[str, int] = {}
    dropped: dict[str, int] = {}
    remarks: dict[str, int] = {}

    @property
    def masked_share(self) -> float | None:
        """The share of what the models wrote that carries no loss."""
        return 1 - self.trained_tokens / self.written_tokens if self.written_tokens else None


CRITIC_ROWS = "critic"
"""In the place of an arm: rows that a critic is trained on."""


def rows_folder(round_: Round, arm: str) -> Path:
    return round_.path / "rows" / arm


def has_rows(round_: Round, arm: str) -> bool:
    """Whether an arm's rows are there, whole: rows.json is written last."""
    return (rows_folder(round_, arm) / "rows.json").exists()


def arms_on_file(round_: Round) -> list[Arm]:
    """The arms that rows were made of, in the order of `ARMS`."""
    return [arm for arm in ARMS if has_rows(round_, arm)]


def rows_on_file(round_: Round) -> dict[str, RowsFile]:
    """Arm -> its rows.json, in the order of the arms' names. Raises InputError."""
    found = {}
    for path in sorted(round_.path.glob("rows/*/rows.json")):
        if path.parent.name.startswith(".") or path.parent.name == CRITIC_ROWS:  # set aside; of no arm
            continue
        try:
            found[path.parent.name] = msgspec.json.decode(path.read_bytes(), type=RowsFile)
        except (msgspec.DecodeError, UnicodeDecodeError, OSError) as error:
            raise InputError(
                f"{path}: cannot be read ({error}); make the rows again with this version of srft"
            ) from None
    return found


def rows_command(round_: Round, arm: str | None) -> str:
    """What makes the rows of an arm: with the settings of those on file, where there are some."""
    number = round_.path.name.removeprefix("round-")
    words = ["srft", "rows", "--run", str(round_.path.parent)]
    words += ["--round", str(int(number))] if number.isdecimal() and int(number) else []
    made = rows_on_file(round_).get(arm or "")
    words += ["--tokenizer", made.tokenizer if made else "D"]
    words += ["--for", "critic"] if arm == CRITIC_ROWS else ["--arm", arm or "srft"]
    if made:
        words += ["--critic", ",".join(made.critics)] if made.critics else []
        for setting, value in _settings(made, _rendered(round_, arm or "")).items():
            words += ["--set", f"{setting}={value if isinstance(value, str) else msgspec.json.encode(value).decode()}"]
    return shlex.join(words)


def _settings(made: RowsFile, rendered: RunsInRows | None) -> dict[str, Any]:
    """The settings that rows were made with, where they are not the default ones."""
    from srft.train.rows.rows import RowSettings

    usual = msgspec.to_builtins({"policy": MaskPolicy(), "rows": RowSettings()})
    used = {"policy": msgspec.to_builtins(made.policy), "rows": made.settings}
    changed = {
        f"{group}.{name}": value
        for group, values in used.items()
        for name, value in values.items()
        if value != usual[group].get(name) and (group, name) != ("policy", "arm")
    }
    if rendered:
        changed |= {f"template.{name}": value for name, value in rendered.template.items()}
        changed |= {"thinking": rendered.thinking} if rendered.thinking else {}
    return changed


def runs_on_file(round_: Round, arm: str) -> Mapping[str, RunInRows] | None:
    """What became of each run when the arm's rows were made; `None` where there are no rows, or where those that are
    there were made by an earlier version of srft, which did not say."""
    rendered = _rendered(round_, arm)
    return None if rendered is None else rendered.runs


def runs_changed_ns(round_: Round, arm: str) -> int | None:
    """When the arm's rows were made; `None` where there are none."""
    try:
        return (rows_folder(round_, arm) / "rows.json").stat().st_mtime_ns
    except FileNotFoundError:
        return None


def _rendered(round_: Round, arm: str) -> RunsInRows | None:
    path, changed_ns = rows_folder(round_, arm) / RUNS, runs_changed_ns(round_, arm)
    return _read(path, changed_ns) if changed_ns is not None and path.exists() else None


@lru_cache(maxsize=16)
def _read(path: Path, changed_ns: int) -> RunsInRows:
    """changed_ns: when the rows were made, so that others are read anew."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=RunsInRows)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read ({error}); make the rows again with this version of srft") from None


def open_rows(round_: Round, arm: str) -> RowTable:
    """Raises InputError where there are none."""
    from srft.train.rows.rows import RowTable

    if not has_rows(round_, arm):
        made = ", ".join(arms_on_file(round_))
        raise InputError(
            f"{rows_folder(round_, arm)}: no rows{f' (rows were made of {made})' if made else ''}; make them: "
            f"{rows_command(round_, arm)}"
        )
    return RowTable.open(rows_folder(round_, arm))


class TrainedRun(msgspec.Struct, frozen=True, dict=True):
    """What of a run is in an arm's rows, read from the rows themselves; nothing where the arm leaves it out."""

    rows: list[Any]

    @cached_property
    def in_rows(self) -> frozenset[int]:
        """The steps whose replies are in a row; others were cut, or belong to a row that was dropped."""
        return self._steps(lambda row: row.part != Part.CONTEXT)

    @cached_property
    def trained(self) -> frozenset[int]:
        """The steps with loss on one of their tokens at least."""
        return self._steps(lambda row: row.weights > 0)

    @property
    def trained_tokens(self) -> int:
        return sum(row.trained_tokens for row in self.rows)

    def _steps(self, chosen: Any) -> frozenset[int]:
        steps = [numpy.unique(row.step_index[chosen(row)]) for row in self.rows]
        return frozenset(int(step) for found in steps for step in found if step >= 0)


def trained_of(table: RowTable, run_id: str) -> TrainedRun:
    """What an arm's rows hold of a run."""
    from srft.train.rows.show import rows_of_run

    rows: Sequence[Row] = rows_of_run(table, run_id)
    return TrainedRun(list(rows))
