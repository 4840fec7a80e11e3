"""Training in a process of its own: `srft train`, or torchrun with one process a GPU.

What it takes of memory is free again when it ends, and one process or eight are started alike. Reads and writes what
`srft.harness.stages.train` says.

    figures = train_in_process(TrainConfig(...), recipe="smollm2-135m-cpu", sets=["epochs=2"], processes=1, stop=stop)
"""

import ctypes
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

import msgspec

from srft.env.errors import SrftError
from srft.harness.run.live import Counts
from srft.train.fit.finetune import Trained, read_trained

PROGRESS = Path("checkpoints", "progress.json")
PR_SET_PDEATHSIG = 1
SHUTDOWN_S = 1800


class TrainingFailed(SrftError):
    """The training process ended without a model; what it said stands above."""


def train_in_process(
    *, rows: Path, model: str, out: Path, recipe: str, sets: Sequence[str], processes: int, stop: threading.Event
) -> Trained | None:
    """Train, or resume, or find it done; `None` where it was stopped. Raises TrainingFailed.

    stop: when set, the step under way is finished and a checkpoint written.
    """
    command = [*_launcher(processes), "train", "--rows", str(rows), "--model", model, "--out", str(out)]
    command += ["--recipe", recipe, *(part for text in sets for part in ("--set", text)), "--json"]
    # A session of its own: Ctrl-C in the terminal would reach it, and this process hands it on once more.
    child = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        start_new_session=True,
        preexec_fn=_ends_with_parent(signal.SIGKILL if processes == 1 else signal.SIGTERM),
    )
    code = _wait(child, stop)
    if stop.is_set() and code != 0:
        return None
    trained = read_trained(out)
    if code != 0 or trained is None:
        raise TrainingFailed(f"the training of {out} ended with exit code {code}; what it said stands above")
    return trained


class _Told(msgspec.Struct, frozen=True):
    """How far a training is, in the file that its process writes."""

    step: int
    steps: int
    eta_s: float | None = None


def tell_progress(out: Path, *, step: int, steps: int, eta_s: float | None) -> None:
    """Note how far a training is, beside its checkpoints, with which the file goes away."""
    path = out / PROGRESS
    with suppress(OSError):  # a training is not to end over it
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_suffix(".tmp")
        temporary.write_bytes(msgspec.json.encode(_Told(step, steps, eta_s)))
        os.replace(temporary, path)


def progress_of(out: Path) -> Counts:
    """How far the training of a folder is."""
    try:
        told = msgspec.json.decode((out / PROGRESS).read_bytes(), type=_Told)
    except (OSError, msgspec.DecodeError):
        return Counts()
    return Counts(total=told.steps, done=told.step, eta_s=told.eta_s)


def _launcher(processes: int) -> list[str]:
    if processes == 1:
        return [sys.executable, "-m", "srft.harness.cli"]
    # By default torchrun kills processes that take longer than 30 s to finish a step and write a checkpoint.
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--shutdown-timeout={SHUTDOWN_S}"]
    return [*torchrun, f"--nproc-per-node={processes}", "-m", "srft.harness.cli"]


def _ends_with_parent(number: int) -> Callable[[], None]:
    """What a child does first, so that it does not outlive this process, kill -9 included (Linux)."""
    libc = ctypes.CDLL(None)  # before the fork: the child may not load anything
    return lambda: libc.prctl(PR_SET_PDEATHSIG, number)


def _wait(child: "subprocess.Popen[bytes]", stop: threading.Event) -> int:
    asked = False
    while True:
        try:
            return child.wait(timeout=0.2)
        except subprocess.TimeoutExpired:
            if stop.is_set() and not asked:
                child.send_signal(signal.SIGINT)
                asked = True
