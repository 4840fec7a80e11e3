"""`srft view`: a run in the browser."""

import os
import sys
import webbrowser
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from srft.env.errors import InputError
from srft.harness.commands.options import OnlyOption, RunOption, TasksOption, ids, required

if TYPE_CHECKING:
    from srft.harness.look.web.viewer import Viewer


def view(
    folder: Annotated[str | None, typer.Argument(metavar="RUN", help="The run directory; --run names it too.")] = None,
    run: RunOption = None,
    port: Annotated[
        int | None,
        typer.Option("--port", metavar="N", min=0, max=65535, help="Where it answers: 8117 unless given; 0: any."),
    ] = None,
    no_browser: Annotated[bool, typer.Option("--no-browser", help="Print the address, open nothing.")] = False,
    export: Annotated[
        str | None, typer.Option("--export", metavar="DIR", help="Write the pages into a new folder, and end.")
    ] = None,
    only: OnlyOption = None,
    arm: Annotated[
        str | None, typer.Option("--arm", metavar="ARM", help="With --export: whose masks and tokens the pages show.")
    ] = None,
    tasks: TasksOption = None,
    tokenizer: Annotated[
        str | None, typer.Option("--tokenizer", metavar="DIR", help="Where the rows' tokenizer is now.")
    ] = None,
    name: Annotated[str, typer.Option("--as", metavar="NAME", help="Whose labels you give.")] = "human",
) -> None:
    """Look at a run in the browser, and label its steps; your labels win over every critic's.

    Answers on this machine alone; needs no network. A run may be looked at while it is collected. With --export, static
    pages to share: --only names the tasks that go in.

    Example: `srft view runs/first`, `srft view runs/first --export pages --arm srft`
    """
    from srft.harness.look.web.viewer import Viewer

    if folder and run and folder != run:
        raise InputError(f"{folder} and --run {run}: two run directories; name one")
    path = Path(required(folder or run, "RUN"))
    if export is None and (only or arm):
        raise InputError("--only and --arm go with --export; in the browser both are choices on the page")
    wanted = frozenset(ids(only) or ()) or None
    viewer = Viewer(path, person=name, tasks=tasks, tokenizer=tokenizer, only=wanted)
    print("reading the run ...", file=sys.stderr)
    viewer.prepare()
    known = {entry.task_id for place in viewer.library.places() for entry in place.standing}
    if unknown := sorted((wanted or frozenset()) - known):
        raise InputError(f"--only {', '.join(unknown)}: no trajectory on it in {path}")
    if export is not None:
        _export(viewer, Path(export), arm=arm)
    else:
        _serve(viewer, port, open_browser=not no_browser)


def _export(viewer: "Viewer", folder: Path, *, arm: str | None) -> None:
    from srft.harness.look.web.export import export_pages

    written = export_pages(viewer, folder, arm=arm)
    print(f"{folder / 'index.html'}: {written.runs} runs, {written.files} files, {written.bytes / 1e6:.1f} MB")
    for problem in written.problems:
        print(f"srft: {problem}", file=sys.stderr)


def _serve(viewer: "Viewer", port: int | None, *, open_browser: bool) -> None:
    from srft.harness.look.web.app import listen, make_app, serve

    def on_ready(address: str) -> None:
        print(f"{address}  (Ctrl-C ends it)", flush=True)
        if open_browser and _has_display():
            webbrowser.open(address)

    viewer.warm()
    serve(make_app(viewer), listen(port), on_ready=on_ready)


def _has_display() -> bool:
    """Without one, `webbrowser` may start a browser in this terminal."""
    return sys.platform in ("darwin", "win32") or bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))
