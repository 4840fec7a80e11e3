"""`srft view`: a run, or a folder of runs, in the browser."""

import os
import socket
import sys
import tempfile
import webbrowser
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from srft.env.errors import InputError
from srft.harness.commands.options import OnlyOption, RunOption, TasksOption, ids, required

if TYPE_CHECKING:
    from srft.harness.look.web.guard import Access, Asgi
    from srft.harness.look.web.viewer import Viewer

LOOPBACK = "127.0.0.1"


def view(
    folder: Annotated[
        str | None, typer.Argument(metavar="RUN|FOLDER", help="A run directory (--run too), or a folder of them.")
    ] = None,
    run: RunOption = None,
    port: Annotated[
        int | None,
        typer.Option("--port", metavar="N", min=0, max=65535, help="Where it answers: 8117 unless given; 0: any."),
    ] = None,
    host: Annotated[
        str,
        typer.Option("--host", metavar="ADDRESS", help="Which address of this machine it listens on; 0.0.0.0: all."),
    ] = LOOPBACK,
    allow_host: Annotated[
        list[str] | None,
        typer.Option("--allow-host", metavar="NAME", help="A proxy's name that requests may bear, say *.example.org."),
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
    """Look at a run in the browser, and label its steps; your labels win over every critic's. Of a folder of runs, the
    list of all runs below it.

    Pages follow a run while it is collected. The address that is printed ends in a key, without which nobody else on
    this machine or in the network can read or label; it needs no network. With --export, static pages to share: --only
    names the tasks that go in, and credentials are left out.

    Examples: `srft view runs/first`, `srft view runs`, `srft view runs --host 0.0.0.0 --no-browser`,
    `srft view runs/first --export pages --arm srft`
    """
    from srft.harness.look.web.app import listen, make_app
    from srft.harness.look.web.folder_app import Shelf, make_folder_app
    from srft.harness.look.web.guard import Access
    from srft.harness.look.web.viewer import Viewer

    if export is None and (only or arm):
        raise InputError("--only and --arm go with --export; in the browser both are choices on the page")
    path, is_run = _folder(folder, run, exports=export is not None)
    wanted = frozenset(ids(only) or ()) or None

    def open_viewer(run: Path) -> Viewer:
        viewer = Viewer(run, person=name, tasks=tasks, tokenizer=tokenizer, only=wanted)
        viewer.prepare(search=export is None)
        if export is None:
            viewer.warm()
        return viewer

    if export is not None:
        _export(open_viewer(path), Path(export), arm=arm, only=wanted)
        return
    shelf = None if is_run else Shelf(path, person=name, open_viewer=open_viewer)
    listener = listen(port, host)
    access = Access.here(listener.getsockname()[1], host=host, allowed=tuple(allow_host or ()))
    if shelf is not None:
        app = make_folder_app(shelf, access=access)
    else:
        print("reading the run ...", file=sys.stderr)
        app = make_app(open_viewer(path), access=access)
    _serve(app, listener, access, host, open_browser=not no_browser)


def _folder(folder: str | None, run: str | None, *, exports: bool) -> tuple[Path, bool]:
    """The folder to look at, and whether it is one run's. Raises InputError."""
    from srft.harness.run.find import round_folders

    if folder and run and folder != run:
        raise InputError(f"{folder} and --run {run}: two run directories; name one")
    path = Path(required(folder or run, "RUN"))
    is_run = any(True for _ in round_folders(path))
    if exports and path.is_dir() and not is_run:
        raise InputError(f"--export: {path} is not a run; name the one run to export")
    return path, is_run


def _export(viewer: "Viewer", folder: Path, *, arm: str | None, only: frozenset[str] | None) -> None:
    from srft.harness.look.web.export import export_pages

    known = {entry.task_id for place in viewer.library.places() for entry in place.standing}
    if unknown := sorted((only or frozenset()) - known):
        raise InputError(f"--only {', '.join(unknown)}: no trajectory on it in {viewer.run}")
    written = export_pages(viewer, folder, arm=arm)
    print(f"{folder / 'index.html'}: {written.runs} runs, {written.files} files, {written.bytes / 1e6:.1f} MB")
    if written.credentials:
        print(f"srft: {written.credentials} credentials were left out (keys, tokens, passwords)", file=sys.stderr)
    for problem in written.problems:
        print(f"srft: {problem}", file=sys.stderr)


def _serve(app: "Asgi", listener: socket.socket, access: "Access", host: str, *, open_browser: bool) -> None:
    from srft.harness.look.web.app import serve

    everywhere = host in ("0.0.0.0", "::")
    address = access.address(socket.gethostname() if everywhere else host)
    with tempfile.TemporaryDirectory(prefix="srft-view-") as folder:

        def on_ready() -> None:
            print(f"{address}  (Ctrl-C ends it)", flush=True)
            print(_hint(access, host, is_local=host == LOOPBACK), file=sys.stderr, flush=True)
            if open_browser and _has_display():
                webbrowser.open(_page_that_leads_to(address, Path(folder)))

        serve(app, listener, on_ready=on_ready)


def _hint(access: "Access", host: str, *, is_local: bool) -> str:
    """How to look from another machine."""
    port, name = access.port, socket.gethostname()
    if is_local:
        tunnel = f"ssh -L {port}:{LOOPBACK}:{port} {os.environ.get('USER', 'USER')}@{name}"
        return f"from another machine: {tunnel}, then open the same address there"
    return (
        "whoever has the address with its key can read and label. The connection is not encrypted: in a network that "
        "you do not trust, leave --host out and use ssh -L"
    )


def _page_that_leads_to(address: str, folder: Path) -> str:
    """A file for the browser to open: every user of the machine can see command lines."""
    page = folder / "open.html"
    page.touch(mode=0o600)
    page.write_text(
        f'<!doctype html><meta http-equiv="refresh" content="0; url={address}"><a href="{address}">srft</a>'
    )
    return page.as_uri()


def _has_display() -> bool:
    """Without one, `webbrowser` may start a browser in this terminal."""
    return sys.platform in ("darwin", "win32") or bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))
