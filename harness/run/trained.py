"""What was trained: the rows of an arm on file, which of a run's steps are in them, and whether they are still right.

Reads `rows/<arm>/`; writes nothing.

    rows_on_file(round_)["srft"].trained_tokens            # rows.json, an arm each
    of_run = trained_of(open_rows(round_, "srft"), run_id)
    of_run.in_rows, of_run.trained                         # {0, 1, 2, 3}, {0, 1, 3}
    of_run.is_stale(weight_S)                              # the rows hold other weights than the labels give now
"""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any

import msgspec
import numpy

from srft.env.errors import InputError
from srft.train.rows.mask import ARMS, Arm, MaskPolicy, Part

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from srft.harness.run.store import Round
    from srft.train.rows.rows import Row, RowTable


class RowsFile(msgspec.Struct, frozen=True, kw_only=True):
    """rows.json without what only training needs; see `srft.train.rows.rows.Manifest`, which loads a tokenizer's
    libraries. Fields that are not named here are passed over."""

    arm: str
    tokenizer: str
    policy: MaskPolicy = MaskPolicy()
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
    """What makes the rows of an arm."""
    number = round_.path.name.removeprefix("round-")
    round_option = f" --round {int(number)}" if number.isdecimal() and int(number) else ""
    what = "--for critic" if arm == CRITIC_ROWS else f"--arm {arm or 'srft'}"
    return f"srft rows --run {round_.path.parent}{round_option} --tokenizer D {what}"


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
    """What of a run is in an arm's rows; nothing where the arm leaves it out."""

    rows: list[Any]
    trains_whole_steps: bool
    """Whether the policy trains all of a step's tokens: thought and action."""

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

    def is_stale(self, weight_S: NDArray[numpy.float32]) -> bool:
        """Whether the rows hold other weights than these: newer labels, or another critic's."""
        for row in self.rows:
            trained = row.weights > 0
            if (row.weights[trained] != weight_S[row.step_index[trained]]).any():
                return True
            untrained = row.step_index[(row.part != Part.CONTEXT) & ~trained]
            if self.trains_whole_steps and (weight_S[untrained] > 0).any():
                return True
        return False

    def _steps(self, chosen: Any) -> frozenset[int]:
        steps = [numpy.unique(row.step_index[chosen(row)]) for row in self.rows]
        return frozenset(int(step) for found in steps for step in found if step >= 0)


def trained_of(table: RowTable, run_id: str) -> TrainedRun:
    """What an arm's rows hold of a run."""
    from srft.train.rows.show import rows_of_run

    rows: Sequence[Row] = rows_of_run(table, run_id)
    return TrainedRun(list(rows), table.manifest.policy.train == "thought_and_action")
