"""`srft clean`: what killed processes left, and what a run has set aside."""

from pathlib import Path
from typing import Annotated

import typer
from loguru import logger

from srft.env.errors import EngineError, InputError
from srft.harness.commands.options import JsonOption, RunOption, print_json


def clean(
    everything: Annotated[
        bool, typer.Option("--all", help="Also what belongs to srft processes that are still running.")
    ] = False,
    run: RunOption = None,
    dry: Annotated[bool, typer.Option("--dry-run", help="With --run: name what is set aside, remove nothing.")] = False,
    json: JsonOption = False,
) -> None:
    """Remove the containers and snapshots that killed srft processes left. With --run instead what a loop set aside:
    models, evaluations and runs made from other inputs than there are now, which it would bring back for those.

    Examples: `srft clean`, `srft clean --run runs/demo --dry-run`
    """
    if run is not None:
        _clean_run(run, dry=dry, json=json)
        return
    from srft.env.backends import choose_backend

    removed = []
    for kind in ("docker", "local"):
        try:
            removed += choose_backend(kind).reap(everything=everything)
        except EngineError as error:
            logger.info("{} sandboxes: none here ({})", kind, error)
    if json:
        print_json({"removed": removed})
        return
    for name in removed:
        print(f"removed {name}")
    print(f"{len(removed)} removed")


def _clean_run(run: str, *, dry: bool, json: bool) -> None:
    from srft.harness.run.stages import remove, set_aside_below
    from srft.harness.run.store import Run

    if not Path(run).is_dir():
        raise InputError(f"{run}: no such run directory; check --run")
    with Run(run):
        found = list(set_aside_below(Path(run)))
        for aside in found:
            if not dry:
                remove(aside.path)
    if json:
        content = [
            {"path": str(one.path), "of": str(one.of), "bytes": one.size_bytes, "what": one.what} for one in found
        ]
        print_json({"set_aside" if dry else "removed": content})
        return
    for one in found:
        size = f"{one.size_bytes / (1 << 30):,.2f} GiB"
        print(f"{'set aside' if dry else 'removed'} {one.path} ({size}): {one.what}")
    total = sum(one.size_bytes for one in found) / (1 << 30)
    print(f"{len(found)} {'set aside' if dry else 'removed'}, {total:,.2f} GiB")
