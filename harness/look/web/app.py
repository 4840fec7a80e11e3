"""The server of one run: addresses to pages. Reads the run as it is at each request; writes labels, nothing else.

    access = Access.here(port)
    serve(make_app(Viewer(Path("runs/demo")), access=access), listener, access, host="127.0.0.1", on_ready=print)

GET  /                          the run at a glance
GET  /table/PLACE?outcome=...   trajectories, filtered and sorted; with text=... those that hold it
GET  /csv/PLACE?outcome=...     the same as CSV
GET  /run/PLACE/ID?arm=...      one of them, with #step-12
GET  /tokens/PLACE/ID?arm=...   its token rows
GET  /text/PLACE/ID?part=...    a folded text, whole
GET  /next/PLACE/ID?kind=...    the next mistake, disagreement or unlabelled step
GET  /contrast, /outcomes       two runs, two places side by side
GET  /version, /live            changes when something on file does; the work under way
POST /labels                    a person's word on a step

`folder_app.py` serves a folder of runs: the same addresses, below /at/RUN.
"""

import gc
import secrets
import socket
from collections.abc import Callable

import msgspec
import uvicorn
from fastapi import FastAPI, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import FileResponse, HTMLResponse, JSONResponse, Response, StreamingResponse

from srft.env.errors import InputError, StorageError
from srft.harness.look.web.guard import Access, Asgi, Guard
from srft.harness.look.web.pages import ASSETS, STATIC, Pages, ServerLinks, asset_hash
from srft.harness.look.web.people import Word
from srft.harness.look.web.table import Query
from srft.harness.look.web.viewer import Missing, Viewer

BODY_BYTES = 1 << 16
USUAL_PORT = 8117
FOREVER = "private, max-age=31536000, immutable"


def make_app(viewer: Viewer, *, access: Access) -> Asgi:
    token = secrets.token_urlsafe(24)
    return Guard(run_app(viewer, ServerLinks(), token=token), token=token, access=access)


def run_app(viewer: Viewer, links: ServerLinks, *, token: str) -> FastAPI:
    """The pages of a run, without a guard. Endpoints are plain functions, which FastAPI runs on threads: a slow page
    holds up no other."""
    pages = Pages(links, run=viewer.name, person=viewer.person.name, token=token)
    app = bare_app(pages)
    _add_pages(app, viewer, pages)
    _add_parts(app, viewer, pages)
    _add_labels(app, viewer, pages)
    return app


def bare_app(pages: Pages) -> FastAPI:
    """Errors as pages, and the static files."""
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)

    def on_error(request: Request, error: Exception) -> Response:
        status = 404 if isinstance(error, Missing) else 500 if isinstance(error, StorageError) else 400
        if request.method == "POST":
            return JSONResponse({"error": str(error)}, status)
        return HTMLResponse(pages.html("error.html", status=status, message=str(error)), status)

    def on_no_page(request: Request, error: Exception) -> Response:
        return HTMLResponse(pages.html("error.html", status=404, message=f"no page {request.url.path}"), 404)

    app.add_exception_handler(InputError, on_error)
    app.add_exception_handler(StorageError, on_error)
    app.add_exception_handler(404, on_no_page)

    @app.get("/static/{name}")
    def static(name: str, v: str = "") -> Response:
        if name not in ASSETS:
            raise Missing(f"no file {name}")
        # Asked for by what is in it, a file never changes.
        headers = {"cache-control": FOREVER} if v == asset_hash(name) else None
        return FileResponse(STATIC / name, headers=headers)

    return app


def _add_pages(app: FastAPI, viewer: Viewer, pages: Pages) -> None:
    @app.get("/")
    def overview() -> HTMLResponse:
        return HTMLResponse(viewer.overview(pages))

    @app.get("/table/{place}")
    def table(place: str, request: Request) -> HTMLResponse:
        return HTMLResponse(viewer.table(pages, place, Query.read(request.query_params)))

    @app.get("/run/{place}/{run_id:path}")
    def run(place: str, run_id: str, request: Request) -> HTMLResponse:
        return HTMLResponse(viewer.timeline(pages, place, run_id, Query.read(request.query_params)))

    @app.get("/tokens/{place}/{run_id:path}")
    def tokens(place: str, run_id: str, request: Request) -> HTMLResponse:
        return HTMLResponse(viewer.tokens(pages, place, run_id, Query.read(request.query_params)))

    @app.get("/contrast")
    def contrast(
        place: str = "",
        left: str = "",
        right: str = "",
        other: str = "",
        arm: str = "",
        against: str = "",
        critic: str = "",
    ) -> HTMLResponse:
        keys, runs, arms = (place, other or place), (left, right or left), (arm, against or arm)
        return HTMLResponse(viewer.contrast(pages, keys, runs, arms, critic=critic))

    @app.get("/next/{place}/{run_id:path}")
    def following(place: str, run_id: str, request: Request, kind: str = "", after: int = -1) -> JSONResponse:
        query = Query.read(request.query_params)
        found = viewer.next_step(place, run_id, query, after=after, kind=kind)
        href = found and f"{ServerLinks().run(place, found.run_id, query)}#step-{found.step}"
        return JSONResponse({"run": found and found.run_id, "step": found and found.step, "href": href})

    @app.get("/outcomes")
    def outcomes(left: str = "", right: str = "") -> HTMLResponse:
        return HTMLResponse(viewer.outcomes(pages, left, right))


def _add_parts(app: FastAPI, viewer: Viewer, pages: Pages) -> None:
    """What is not a page of its own."""

    @app.get("/csv/{place}")
    def csv(place: str, request: Request) -> StreamingResponse:
        lines = viewer.csv(place, Query.read(request.query_params))
        headers = {"content-disposition": f'attachment; filename="{viewer.csv_name(place)}"'}
        return StreamingResponse(lines, media_type="text/csv; charset=utf-8", headers=headers)

    @app.get("/text/{place}/{run_id:path}")
    def text(place: str, run_id: str, part: str = "", step: str = "") -> StreamingResponse:
        number = int(step) if step.isdecimal() and len(step) < 10 else None
        pieces = viewer.text(place, run_id, part, number)
        return StreamingResponse(pieces, media_type="text/plain; charset=utf-8")

    @app.get("/version")
    def version() -> JSONResponse:
        return JSONResponse(viewer.version())

    @app.get("/live")
    def live() -> HTMLResponse:
        return HTMLResponse(viewer.live(pages))


def _add_labels(app: FastAPI, viewer: Viewer, pages: Pages) -> None:
    @app.post("/labels")
    async def label(request: Request) -> JSONResponse:
        body = bytearray()
        async for chunk in request.stream():
            body += chunk
            if len(body) > BODY_BYTES:
                raise InputError(f"a label of more than {BODY_BYTES:,} bytes")
        try:
            word = msgspec.json.decode(bytes(body), type=Word)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise InputError(f"not a label: {error}") from None
        return JSONResponse(await run_in_threadpool(viewer.label, pages, word))


def listen(port: int | None, host: str = "127.0.0.1") -> socket.socket:
    """A socket on that address of this machine. Without a port the usual one, or where that is taken any free one.

    Raises InputError.
    """
    try:
        family, *_, address = socket.getaddrinfo(host, 0, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
    except OSError as error:
        raise InputError(
            f"--host {host}: not an address of this machine ({error.strerror}); give 0.0.0.0 for all of them"
        ) from None
    for candidate in (USUAL_PORT, 0) if port is None else (port,):
        listener = socket.socket(family, socket.SOCK_STREAM)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((address[0], candidate))
            return listener
        except OSError as error:
            listener.close()
            reason = error.strerror
    if port is None:
        raise InputError(f"--host {host}: cannot be listened on ({reason}); give an address of this machine")
    raise InputError(f"--port {port}: cannot be listened on ({reason}); give another, or none")


def serve(app: Asgi, listener: socket.socket, *, on_ready: Callable[[], None]) -> None:
    """Answer until Ctrl-C. on_ready: called once it answers."""

    class Server(uvicorn.Server):
        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets)
            on_ready()

    gc.collect()
    gc.freeze()  # the short records stay: a collection in the middle of a page need not walk over a million of them
    config = uvicorn.Config(app, log_level="warning", access_log=False, server_header=False)  # type: ignore[arg-type]
    Server(config).run(sockets=[listener])
