"""Lets a `transformers.Trainer` take turns with another process, some batches at a time: for both workers.

Reads {"batches": N} from stdin, lets the trainer go on for N batches, and writes {"wall_s", "cpu_s", "peak_bytes",
"loss"} to stdout: the loss of the optimizer step that ended with this turn, else null. The end of the input ends the
process. Before the first batch it writes {"ready": true}. It runs in two virtual environments, so it knows nothing of
srft.

    trainer = SomeTrainer(..., callbacks=[Turns()])
    trainer.train()
"""

import json
import os
import sys
import time
from pathlib import Path
from typing import Any

from transformers import TrainerCallback


class Turns(TrainerCallback):
    """The clocks stand still between turns. An optimizer step, with its log entry, belongs to its last batch's turn."""

    def __init__(self) -> None:
        self._answers = os.fdopen(os.dup(1), "w")
        os.dup2(2, 1)  # whatever the libraries print must not get between the answers
        self._left = 0
        self._began = (0.0, 0.0)

    def on_train_begin(self, *_: Any, **__: Any) -> None:
        self._answer({"ready": True})

    def on_step_begin(self, *_: Any, **__: Any) -> None:
        self._wait()

    def on_substep_end(self, *_: Any, **__: Any) -> None:
        self._count(loss=None)
        self._wait()

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
        if "loss" in (logs or {}):
            self._count(loss=float(logs["loss"]))

    def _wait(self) -> None:
        if self._left:
            return
        line = sys.stdin.readline()
        if not line:
            sys.exit(0)
        self._left = json.loads(line)["batches"]
        self._began = time.perf_counter(), time.process_time()

    def _count(self, *, loss: float | None) -> None:
        """One batch is done."""
        self._left -= 1
        if not self._left:
            wall_s, cpu_s = time.perf_counter() - self._began[0], time.process_time() - self._began[1]
            self._answer({"wall_s": wall_s, "cpu_s": cpu_s, "peak_bytes": peak_bytes(), "loss": loss})

    def _answer(self, answer: dict[str, Any]) -> None:
        print(json.dumps(answer), file=self._answers, flush=True)


def peak_bytes() -> int:
    """The most memory that this process has held."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:"))
