"""A run's pages as files: open index.html, or put the folder on any web server.

Writes a new folder; a half-written one is left under a name that says so.

    written = export_pages(Viewer(Path("runs/demo")), Path("pages"), arm="srft")
    written.runs, written.files, written.bytes

Folded texts that are too long for a page lie beside it as .txt. Files cannot be asked: filters, sorting and labels
are the server's.
"""

import os
from pathlib import Path
from typing import NamedTuple

from srft.env.errors import InputError, StorageError
from srft.harness.look.web.pages import ASSETS, STATIC, FileLinks, Pages, page_file, table_file, text_file
from srft.harness.look.web.places import Place
from srft.harness.look.web.table import Query
from srft.harness.look.web.timeline import cut_texts
from srft.harness.look.web.viewer import Viewer
from srft.harness.run.index import RunEntry

PAGE_ROWS = 500


class Written(NamedTuple):
    """problems: what is not in the export, and why."""

    runs: int
    files: int
    bytes: int
    problems: list[str]


def export_pages(viewer: Viewer, folder: Path, *, arm: str | None) -> Written:
    """Raises InputError where the folder is there already or holds files, StorageError where it cannot be written."""
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InputError(f"--export {folder}: is there already; name a new folder, or remove it first")
    unfinished = folder.with_name(f"{folder.name}.unfinished-{os.getpid()}")
    try:
        written = _Export(viewer, unfinished, arm=arm).write()
        if folder.exists():
            folder.rmdir()
        unfinished.rename(folder)
    except OSError as error:
        raise StorageError(f"{folder}: cannot be written ({error.strerror}); make room and try again") from error
    return written


class _Export:
    def __init__(self, viewer: Viewer, folder: Path, *, arm: str | None) -> None:
        self._viewer, self._folder = viewer, folder
        self._query = Query(arm=arm or "")
        self._files = self._bytes = self._runs = 0
        self._problems: list[str] = []
        self._pages = {
            depth: Pages(FileLinks(depth, with_tokens=arm is not None), run=viewer.name, person=viewer.person.name)
            for depth in (0, 1, 2)
        }

    def write(self) -> Written:
        places = self._viewer.library.places()
        for place in places:
            place.refresh()
            self._problems += [f"left out: {why}" for why in place.damaged()]
        for name in ASSETS:
            self._put(f"static/{name}", (STATIC / name).read_bytes())
        self._put("index.html", self._viewer.overview(self._pages[0]))
        for place in places:
            self._write_place(place)
        return Written(self._runs, self._files, self._bytes, self._problems)

    def _write_place(self, place: Place) -> None:
        pages = max(1, -(-len(place.standing) // PAGE_ROWS))
        for number in range(1, pages + 1):
            query = self._query._replace(page=number)
            content = self._viewer.table(self._pages[1], place.key, query, page_rows=PAGE_ROWS)
            self._put(table_file(place.key, number), content)
        for entry in place.standing:
            self._write_run(place, entry)

    def _write_run(self, place: Place, entry: RunEntry) -> None:
        self._runs += 1
        content = self._viewer.timeline(self._pages[2], place.key, entry.id, self._query)
        self._put(page_file(place.key, "run", entry.id), content)
        for part, step in cut_texts(self._viewer.page(place, entry, self._query)):
            pieces = self._viewer.text(place.key, entry.id, part, step)
            # The mark of UTF-8, without which a browser would guess at a file's encoding.
            self._put(text_file(place.key, entry.id, part, step), "\ufeff" + "".join(pieces))
        if self._query.arm:
            self._put(
                page_file(place.key, "tokens", entry.id),
                self._viewer.tokens(self._pages[2], place.key, entry.id, self._query),
            )

    def _put(self, name: str, content: str | bytes) -> None:
        path = self._folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        encoded = content.encode(errors="replace") if isinstance(content, str) else content
        path.write_bytes(encoded)
        self._files += 1
        self._bytes += len(encoded)
