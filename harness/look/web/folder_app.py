"""The server of a folder of runs: the list of them, two of them compared, and each one's own pages below /at/RUN.

    shelf = Shelf(Path("runs"), person="human")
    serve(make_folder_app(shelf, access=access), listener, on_ready=print)

GET  /?state=running&sort=-score   the runs
GET  /compare?left=RUN&right=RUN   two of them, task by task
GET  /at/RUN/...                   as in `app.py`
"""

import secrets
import threading
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote

from fastapi import FastAPI, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import HTMLResponse, JSONResponse
from starlette.routing import Mount

from srft.env.errors import InputError
from srft.harness.facts.compare import Compared, compare
from srft.harness.look.runs import SORTS, STATES, Asked, RunLine, Runs, wanted
from srft.harness.look.web.app import bare_app, run_app
from srft.harness.look.web.guard import Access, Asgi, Guard, Receive, Scope, Send
from srft.harness.look.web.pages import Pages, ServerLinks
from srft.harness.look.web.table import Query
from srft.harness.look.web.viewer import Missing, Viewer

KEPT_VIEWERS = 8
"""How many runs' short records stay in memory."""


class Shelf:
    """The runs below a folder, each with a name for addresses. Thread-safe. open_viewer: makes the viewer of a run."""

    def __init__(self, folder: Path, *, person: str, open_viewer: Callable[[Path], Viewer]) -> None:
        """Raises InputError where there are none."""
        self.folder, self.name, self.person = folder, folder.resolve().name, person
        self._runs, self._open = Runs(folder), open_viewer
        self._lock = threading.Lock()
        self._viewers: OrderedDict[str, Viewer] = OrderedDict()
        self._runs.refuse_none()

    def lines(self) -> list[RunLine]:
        with self._lock:
            return self._runs.lines()

    def version(self) -> dict[str, str]:
        with self._lock:
            return {"files": self._runs.version(), "live": ""}

    def key(self, run: RunLine) -> str:
        """Its name in addresses: its path below the folder."""
        return self._key(Path(run.name))

    def _key(self, run: Path) -> str:
        return run.relative_to(self.folder).as_posix().replace("~", "~~").replace("/", "~.")

    def run(self, key: str) -> Path:
        """Raises Missing."""
        with self._lock:
            found = next((run for run in self._runs.folders() if self._key(run) == key), None)
        if found is None:
            raise Missing(f"{key}: no such run in {self.folder}")
        return found

    def viewer(self, key: str) -> Viewer:
        """Of a run; those asked for last are kept. Raises InputError."""
        run = self.run(key)
        with self._lock:
            if key in self._viewers:
                self._viewers.move_to_end(key)
                return self._viewers[key]
        opened = self._open(run)
        with self._lock:
            viewer = self._viewers.setdefault(key, opened)
            while len(self._viewers) > KEPT_VIEWERS:
                self._viewers.popitem(last=False)
            return viewer


class _RunApps:
    """The apps of single runs: an ASGI app that hands a request to that of its run."""

    def __init__(self, shelf: Shelf, pages: Pages, *, token: str) -> None:
        self._shelf, self._pages, self._token = shelf, pages, token
        self._apps: dict[str, tuple[Viewer, FastAPI]] = {}
        self._lock = threading.Lock()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        key = scope["path_params"]["key"]
        try:
            app = await run_in_threadpool(self._of, key)
        except InputError as error:
            status = 404 if isinstance(error, Missing) else 400
            page = HTMLResponse(self._pages.html("error.html", status=status, message=str(error)), status)
            await page(scope, receive, send)
            return
        await app(scope, receive, send)

    def _of(self, key: str) -> FastAPI:
        viewer = self._shelf.viewer(key)
        with self._lock:
            if key not in self._apps or self._apps[key][0] is not viewer:
                links = ServerLinks(f"/at/{quote(key, safe='~')}", runs="/")
                self._apps[key] = (viewer, run_app(viewer, links, token=self._token))
                while len(self._apps) > KEPT_VIEWERS:
                    del self._apps[next(one for one in self._apps if one != key)]
            return self._apps[key][1]


def make_folder_app(shelf: Shelf, *, access: Access) -> Asgi:
    token = secrets.token_urlsafe(24)
    pages = Pages(ServerLinks(), run=shelf.name, person=shelf.person, token=token)
    app = bare_app(pages)

    @app.get("/")
    def runs(request: Request) -> HTMLResponse:
        asked = Asked.read(request.query_params)
        lines = shelf.lines()
        return HTMLResponse(
            pages.html(
                "runs.html",
                runs=[(shelf.key(run), run) for run in wanted(lines, asked)],
                total=len(lines),
                models=sorted({model for run in lines for model in run.models}),
                states=STATES,
                sorts=SORTS,
                asked=asked,
                folder=shelf.folder,
            )
        )

    @app.get("/compare")
    def compare_two(left: str = "", right: str = "") -> HTMLResponse:
        sides = tuple(_side(shelf, key) for key in (left, right))
        compared = compare(sides[0].name, sides[1].name, common=True)
        return HTMLResponse(pages.html("compared.html", sides=sides, compared=compared, changes=_changes(compared)))

    @app.get("/version")
    def version() -> JSONResponse:
        return JSONResponse(shelf.version())

    app.router.routes.append(Mount("/at/{key}", app=_RunApps(shelf, pages, token=token)))
    return Guard(app, token=token, access=access)


class Side:
    """One of two runs that are compared. name: as `compare` takes it; title, link: as the page shows it."""

    def __init__(self, key: str, line: RunLine, shelf: Shelf) -> None:
        assert line.score is not None
        self.key, self.folder = key, line.score.folder
        self.name = f"{line.name}:{line.score.folder}"
        self.title = Path(line.name).relative_to(shelf.folder).as_posix()
        self.models = line.models

    def table(self, task_id: str = "") -> str:
        """The address of its table, of one task's episodes where one is named."""
        parts = self.folder.split("/")
        return ServerLinks(f"/at/{quote(self.key, safe='~')}").table("~".join((parts[0], *parts[2:])), Query(q=task_id))


def _side(shelf: Shelf, key: str) -> Side:
    """Raises InputError."""
    path = str(shelf.run(key))
    line = next(run for run in shelf.lines() if run.name == path)
    if line.score is None:
        raise InputError(f"{path}: {line.problem or 'nothing in it is graded'}; it cannot be compared")
    return Side(key, line, shelf)


def _changes(compared: Compared) -> list[tuple[str, tuple[int, int], tuple[int, int]]]:
    """(task, (resolved, attempts) of the first, of the second) of those that are not alike, the gained ones first."""
    return [(task, *compared.changed[task]) for task in (*compared.gained, *compared.lost)]
