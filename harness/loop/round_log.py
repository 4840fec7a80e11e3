"""Figures of a loop's stages as curves: in TensorBoard, W&B or trackio, where the recipe's `logger` says so.

Of TensorBoard it writes `RUN/tensorboard/rounds/`; the trainings' own curves lie in `model/<cell>/tensorboard/`, so
`tensorboard --logdir RUN` shows both. A figure's step is the number of its round.

    log = RoundLog("tensorboard", Path("runs/demo"))
    log.stage("evaluate.srft", 1, {"resolved": 15, "rate": 0.375})     # evaluate.srft/resolved, evaluate.srft/rate
    log.close()
"""

import os
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from loguru import logger

from srft.env.errors import InputError

FOLDER = "tensorboard"
PROJECT = "srft"


def check_logger(name: str) -> None:
    """Raises InputError for one that is not installed: before anything is collected."""
    if name != "none" and find_spec(name) is None:
        raise InputError(
            f"recipe: logger: {name} is not installed; install it (pip install {name}), or say logger: none"
        )


class RoundLog:
    """Where the figures go. A logger that fails is reported, and the loop continues."""

    def __init__(self, name: str, run: Path) -> None:
        self._name, self._run = name, run
        self._opened: Any = None

    def stage(self, stage: str, round_number: int, figures: dict[str, Any]) -> None:
        numbers = {f"{stage}/{name}": value for name, value in flat_numbers(figures)}
        if self._name == "none" or not numbers:
            return
        try:
            if self._opened is None:
                self._opened = self._open()
            if self._name == "tensorboard":
                for name, value in numbers.items():
                    self._opened.add_scalar(name, value, round_number)
                self._opened.flush()
            else:
                self._opened.log({"round": round_number, **numbers})
        except Exception as error:  # noqa: BLE001 - a logger's errors are of any type, and a curve is not worth a run
            logger.warning("{}: the figures of {} are not logged ({}); the loop continues", self._name, stage, error)

    def _open(self) -> Any:
        if self._name == "tensorboard":
            from torch.utils.tensorboard import SummaryWriter

            return SummaryWriter(log_dir=str(self._run / FOLDER / "rounds"))  # type: ignore[no-untyped-call]
        # W&B and trackio have the same calls.
        project = os.environ.get(f"{self._name.upper()}_PROJECT", PROJECT)
        name = f"{self._run.resolve().name} rounds"
        return import_module(self._name).init(project=project, name=name, resume="allow")

    def close(self) -> None:
        if self._opened is not None:
            (self._opened.close if self._name == "tensorboard" else self._opened.finish)()
            self._opened = None


def flat_numbers(figures: dict[str, Any], above: str = "") -> list[tuple[str, float]]:
    """The numbers among figures, those of groups and lists too.

    >>> flat_numbers({"rate": 0.5, "interval": [0.25, 0.75], "by": {"a": 1}, "decision": "promoted", "none": None})
    [('rate', 0.5), ('interval/0', 0.25), ('interval/1', 0.75), ('by/a', 1)]
    """
    found: list[tuple[str, float]] = []
    for name, value in figures.items():
        if isinstance(value, int | float):
            found.append((above + name, value))
        elif isinstance(value, dict):
            found += flat_numbers(value, f"{above}{name}/")
        elif isinstance(value, list | tuple):
            found += flat_numbers({str(place): one for place, one in enumerate(value)}, f"{above}{name}/")
    return found
