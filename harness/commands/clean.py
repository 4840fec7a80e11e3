"""`srft clean`: what killed processes left."""

from typing import Annotated

import typer
from loguru import logger

from srft.env.errors import EngineError
from srft.harness.commands.options import JsonOption, print_json


def clean(
    everything: Annotated[
        bool, typer.Option("--all", help="Also what belongs to srft processes that are still running.")
    ] = False,
    json: JsonOption = False,
) -> None:
    """Remove the containers and snapshots that killed srft processes left.

    Example: `srft clean`
    """
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
