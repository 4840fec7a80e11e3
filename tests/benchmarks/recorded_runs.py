"""What the benchmarks of rows and training read: the recorded runs, and the small models of `make model`.

runs = recorded_runs()                  # None where ../shared/data is not there
manifest = write_arm(folder, runs, Renderer.load(model("smollm2-135m")), RowSettings(max_tokens=2048))
"""

from collections.abc import Sequence
from pathlib import Path

from benchmarks.tiny_task import ROOT

from srft.agent.importing.importers import read_runs
from srft.harness.stages.rows import run_facts
from srft.train.rows.mask import Arm, MaskPolicy
from srft.train.rows.render import Renderer
from srft.train.rows.rows import Manifest, RowSettings, RunToRender, write_rows

RUNS = ROOT.parent / "shared" / "data" / "trajectories" / "gemini3pro_mini_verified.jsonl.gz"
ARM: Arm = "tool_error"
NO_RUNS = "not measured, the recorded runs are not there (../shared/data)"
NO_MODEL = "not measured, no small models; make model fetches them"


def recorded_runs() -> list[RunToRender] | None:
    """All of them, with the facts of ARM."""
    if not RUNS.is_file():
        return None
    return [RunToRender(run, {ARM: run_facts(run, run.recorded_resolved, [], [], ARM)}) for run in read_runs(RUNS)]


def model(name: str) -> Path | None:
    """Its folder; `None` where it is not there."""
    folder = ROOT / ".models" / name
    return folder if folder.is_dir() else None


def write_arm(folder: Path, runs: Sequence[RunToRender], renderer: Renderer, settings: RowSettings) -> Manifest:
    """Write `<folder>/tool_error/`."""
    policies = {ARM: MaskPolicy(arm=ARM)}
    return write_rows(folder, runs, renderer, policies, settings, fingerprints={ARM: "benchmark"})[ARM]
