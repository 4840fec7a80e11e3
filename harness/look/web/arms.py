"""What an arm trains of a run: what its rows on file hold, or where it is in none yet, what the policy would do.

Read from the short records and from what the rows stage noted of each run: no trajectory and no row is read.

    arms = Arms(place)
    arms.made                           # arm -> its manifest, where rows of it were made
    masks = arms.masks("srft", critics=())
    masks.of(entry).masked              # 3 steps; `left_out` says why where the arm does not train on the run

What is trained comes from `srft.harness.run.run_mask`, labels from `srft.harness.run.labels`.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any, NamedTuple

from srft.critic.labels.labels import StepLabel
from srft.env.errors import InputError
from srft.harness.look.web.places import Place
from srft.harness.run.entries import CritiqueEntry, RunEntry
from srft.harness.run.labels import codes_by, labels_of_arm
from srft.harness.run.run_mask import RunMask, mask_of
from srft.harness.run.trained import RowsFile, rows_command, rows_on_file, runs_on_file
from srft.train.rows.mask import ARMS, Arm, MaskPolicy, RunFacts, RunInRows, label_source

Mask = RunMask


class MaskView(NamedTuple):
    """What a page says of a run's mask. mask: `None` without an arm, or where it cannot be told, and then `remark` says
    why. note: why it is not that of rows on file. command: what makes the rows again, where they are older than the
    labels."""

    mask: Mask | None = None
    remark: str | None = None
    note: str | None = None
    command: str | None = None


class _LazyLabels(Mapping[int, StepLabel]):
    """Labels that are made when they are first asked for: most runs' masks do not depend on any."""

    def __init__(self, make: Callable[[], dict[int, StepLabel]]) -> None:
        self._make = make

    @cached_property
    def _labels(self) -> dict[int, StepLabel]:
        return self._make()

    def __getitem__(self, step: int) -> StepLabel:
        return self._labels[step]

    def get(self, step: int, default: Any = None) -> Any:
        return self._labels.get(step, default)

    def __iter__(self) -> Iterator[int]:
        return iter(self._labels)

    def __len__(self) -> int:
        return len(self._labels)


class Arms:
    """The arms of one place. orders: what a table was last filtered and sorted to."""

    def __init__(self, place: Place) -> None:
        self._place = place
        self.orders: dict[Any, list[RunEntry]] = {}
        self._masks: dict[tuple[Arm, tuple[str, ...]], Masks] = {}

    @property
    def made(self) -> dict[Arm, RowsFile]:
        """Those that rows were made of, in the order of `ARMS`."""
        found = rows_on_file(self._place.round)
        return {arm: found[arm] for arm in ARMS if arm in found}

    def chosen(self, name: str | None) -> Arm | None:
        """The arm of that name; of none the one that rows were made of, srft before others. Raises InputError."""
        if name:
            for arm in ARMS:
                if arm == name:
                    return arm
            raise InputError(f"arm {name}: expected one of {', '.join(ARMS)}")
        made = self.made
        return "srft" if "srft" in made else next(iter(made), None)

    def judges(self, arm: Arm | None, named: Sequence[str]) -> tuple[str, ...]:
        """Whose verdicts are shown as those that count: the named, else those of the arm's rows, else all critics."""
        sources = self._place.critics()
        if unknown := [name for name in named if name not in sources]:
            raise InputError(f"critic {', '.join(unknown)}: none such; expected some of {', '.join(sorted(sources))}")
        made = self.made.get(arm) if arm else None
        if named or (made and made.critics):
            return tuple(named) or made.critics  # type: ignore[union-attr]
        return tuple(sorted(name for name, source in sources.items() if source in ("model", "rule")))

    def masks(self, arm: Arm, named: Sequence[str]) -> "Masks":
        """Raises InputError where it cannot be told whose labels the arm uses."""
        critics = self.judges(arm, named)
        if label_source(arm) == "critic" and not named and len(critics) != 1 and not self._has_critics(arm):
            found = f"labels by {', '.join(critics)}" if critics else "no critic's labels"
            raise InputError(f"arm {arm}: there are {found}; choose whose it uses")
        key = (arm, critics)
        masks = self._masks.setdefault(key, Masks(self._place, arm, critics))
        made = self.made.get(arm)
        on_file = runs_on_file(self._place.round, arm) if made and self._is_of_rows(arm, critics, made) else None
        if masks.on_file is not on_file:  # rows were made meanwhile: what was sorted by them is sorted again
            self.orders.clear()
        masks.policy, masks.on_file = made.policy if made else MaskPolicy(arm=arm), on_file
        return masks

    def view(self, arm: Arm | None, named: Sequence[str], entry: RunEntry) -> MaskView:
        """What is to be said of a run's mask in an arm."""
        if arm is None:
            return MaskView()
        try:
            mask = self.masks(arm, named).of(entry)
        except InputError as error:
            return MaskView(remark=str(error))
        command = rows_command(self._place.round, arm)
        note = None if mask.is_on_file else self._note(arm, named, entry, command)
        return MaskView(mask, None, note, command if mask.is_stale else None)

    def stale(self, arm: Arm) -> int:
        """How many runs the arm's rows are older than: their labels or their outcome, or the run itself."""
        masks = self.masks(arm, ())
        if masks.on_file is None:
            return 0
        return sum(
            mask.is_stale or not mask.is_on_file for mask in map(masks.of, self._place.standing) if not _is_out(mask)
        )

    def _note(self, arm: Arm, named: Sequence[str], entry: RunEntry, command: str) -> str:
        """Why a run's mask is not that of rows on file."""
        made = self.made.get(arm)
        if made is None:
            return f"Not in rows yet: this is what the arm {arm} would do. Make its rows: {command}"
        critics = self.judges(arm, named)
        if not self._is_of_rows(arm, critics, made):
            return (
                f"The rows of {arm} were made with the labels of {', '.join(made.critics)}; this is what it would do "
                f"with those of {', '.join(critics)}."
            )
        if runs_on_file(self._place.round, arm) is None:
            return (
                "These rows were made by an earlier version of srft, which did not note what became of each run; this "
                f"is what the arm {arm} would do. Make them again: {command}"
            )
        return (
            f"Not in rows yet: they are older than this run. This is what the arm would do. Make them again: {command}"
        )

    def _is_of_rows(self, arm: Arm, critics: Sequence[str], made: RowsFile) -> bool:
        return label_source(arm) != "critic" or set(critics) == set(made.critics)

    def _has_critics(self, arm: Arm) -> bool:
        made = self.made.get(arm)
        return bool(made and made.critics)


def _is_out(mask: Mask) -> bool:
    """Whether no row would be made of a run that is in none."""
    return not mask.is_on_file and mask.now_left_out is not None


class Masks:
    """What one arm trains. Each run's mask is worked out once for each state of its labels.

    on_file: what became of each run in the arm's rows; `None` where there are no rows, or rows of other labels.
    """

    def __init__(self, place: Place, arm: Arm, critics: tuple[str, ...]) -> None:
        self._place, self.arm, self.critics = place, arm, critics
        self.policy = MaskPolicy(arm=arm)
        self.on_file: Mapping[str, RunInRows] | None = None
        self._known: dict[str, tuple[Any, Mask]] = {}

    def of(self, entry: RunEntry) -> Mask:
        told, outcome = self._place.told(entry.id), self._place.outcome(entry)
        in_rows = self.on_file.get(entry.id) if self.on_file is not None else None
        state = (tuple(told), outcome, self.policy, self._place.index.tampers(entry), in_rows)
        known = self._known.get(entry.id)
        if known is None or known[0] != state:
            known = self._known[entry.id] = (state, self._mask(entry, told, outcome, in_rows))
        return known[1]

    def _mask(
        self, entry: RunEntry, told: list[CritiqueEntry], outcome: bool | None, in_rows: RunInRows | None
    ) -> Mask:
        labels = _LazyLabels(lambda: self._labels(entry, told))
        tampering = self._place.index.tampers(entry)
        facts = RunFacts(entry.id, entry.steps, outcome, labels, entry.stop_reason, tampering=tampering)
        return mask_of(facts, self.policy, in_rows)

    def _labels(self, entry: RunEntry, told: list[CritiqueEntry]) -> dict[int, StepLabel]:
        return labels_of_arm(self.arm, told, critics=self.critics, tool_error=entry.tool_error)


def effective_codes(place: Place, entry: RunEntry, critics: Sequence[str]) -> str:
    """The verdicts that count, one letter a step: people's first, else those of these critics; "-" for none."""
    return codes_by(place.told(entry.id), critics=critics, steps=entry.steps)
