"""Templates and links: the same pages for the server and for an export.

    pages = Pages(ServerLinks(), run="demo")
    pages.html("table.html", table=table, place=place)

Every value that a template prints is made inert first (control and bidi marks become symbols) and then escaped.
"""

import functools
import hashlib
import re
from collections.abc import Callable, Iterator
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import quote, urlencode

import jinja2
from markupsafe import Markup, escape

from srft.harness.look import format
from srft.harness.look.tables import cell_of
from srft.harness.look.web.places import key_of
from srft.harness.look.web.table import Query
from srft.harness.run.entries import VERDICTS, RunEntry
from srft.harness.run.trained import rows_command
from srft.harness.stages.progress import clock
from srft.train.rows.show import inert

FOLDER = Path(__file__).parent
STATIC = FOLDER / "static"
ASSETS = ("view.css", "live.css", "view.js", "live.js", "table.js", "view.svg")


@functools.cache
def asset_hash(name: str) -> str:
    """What a static file is asked for by, so that a browser may keep it for ever."""
    return hashlib.sha256((STATIC / name).read_bytes()).hexdigest()[:12]


class Links(Protocol):
    """Where pages lie. is_static: whether they are files, which cannot be asked or labelled."""

    is_static: bool
    runs: str | None

    def asset(self, name: str) -> str: ...
    def overview(self) -> str: ...
    def table(self, place: str, query: Query) -> str: ...  # empty: there is none
    def run(self, place: str, run_id: str, query: Query) -> str: ...
    def tokens(self, place: str, run_id: str, query: Query) -> str | None: ...
    def text(self, place: str, run_id: str, part: str, step: int | None = None) -> str: ...


class ServerLinks:
    """Addresses of the server. base: what stands before all of them; runs: where the list of all runs is, if there is
    one."""

    is_static = False

    def __init__(self, base: str = "", *, runs: str | None = None) -> None:
        self.base, self.runs = base, runs

    def asset(self, name: str) -> str:
        return f"{self.base}/static/{name}?v={asset_hash(name)}"

    def overview(self) -> str:
        return f"{self.base}/"

    def csv(self, place: str, query: Query) -> str:
        return _asked(f"{self.base}/csv/{quote(place)}", query.address(page=1))

    def form(self, name: str) -> str:
        """Where a form is sent to, such as `outcomes`."""
        return f"{self.base}/{name}"

    def table(self, place: str, query: Query) -> str:
        return _asked(f"{self.base}/table/{quote(place)}", query.address())

    def run(self, place: str, run_id: str, query: Query) -> str:
        return _asked(f"{self.base}/run/{quote(place)}/{quote(run_id, safe='')}", query.address(page=1))

    def tokens(self, place: str, run_id: str, query: Query) -> str | None:
        return _asked(f"{self.base}/tokens/{quote(place)}/{quote(run_id, safe='')}", query.address(page=1))

    def text(self, place: str, run_id: str, part: str, step: int | None = None) -> str:
        asked = {"part": part} | ({} if step is None else {"step": str(step)})
        return f"{self.base}/text/{quote(place)}/{quote(run_id, safe='')}?{urlencode(asked)}"

    def contrast(
        self,
        place: str,
        left: str,
        right: str,
        *,
        arms: tuple[str, str] = ("", ""),
        critic: str = "",
        other: str = "",
    ) -> str:
        """Two runs, of one place unless `other` is the right one's, each under an arm, with one critic's labels."""
        asked = {"place": place, "left": left, "right": right, "other": other, "arm": arms[0], "against": arms[1]}
        asked["critic"] = critic
        return f"{self.base}/contrast?{urlencode({name: value for name, value in asked.items() if value})}"

    def outcomes(self, left: str, right: str) -> str:
        return f"{self.base}/outcomes?{urlencode({'left': left, 'right': right})}"


class FileLinks:
    """Paths of an export, from a page so many folders down. with_tokens: whether it has token pages."""

    is_static = True
    runs: str | None = None

    def __init__(self, depth: int, *, with_tokens: bool) -> None:
        self._up, self._with_tokens = "../" * depth, with_tokens

    def asset(self, name: str) -> str:
        return f"{self._up}static/{name}"

    def overview(self) -> str:
        return f"{self._up}index.html"

    def table(self, place: str, query: Query) -> str:
        return f"{self._up}{quote(table_file(place, query.page))}"

    def run(self, place: str, run_id: str, query: Query) -> str:
        return f"{self._up}{quote(page_file(place, 'run', run_id))}"

    def tokens(self, place: str, run_id: str, query: Query) -> str | None:
        return f"{self._up}{quote(page_file(place, 'tokens', run_id))}" if self._with_tokens else None

    def text(self, place: str, run_id: str, part: str, step: int | None = None) -> str:
        return f"{self._up}{quote(text_file(place, run_id, part, step))}"


class NoLinks(FileLinks):
    """Of a page that stands alone."""

    def __init__(self) -> None:
        super().__init__(0, with_tokens=False)

    def table(self, place: str, query: Query) -> str:
        return ""


def table_file(place: str, page: int) -> str:
    return f"{_safe(place)}/table{'' if page == 1 else f'-{page}'}.html"


def page_file(place: str, kind: str, run_id: str) -> str:
    return f"{_safe(place)}/{kind}/{_safe(run_id)}.html"


def text_file(place: str, run_id: str, part: str, step: int | None) -> str:
    return f"{_safe(place)}/text/{_safe(run_id)}{'' if step is None else f'.{step}'}.{part}.txt"


def _safe(name: str) -> str:
    """A file name: the name itself where it is plain, else a hash of it, so that none leads out of the folder."""
    plain = re.fullmatch(r"\w[\w.~-]{0,100}", name, re.ASCII)
    return name if plain else hashlib.sha256(name.encode(errors="surrogatepass")).hexdigest()[:16]


def _asked(path: str, query: str) -> str:
    return f"{path}?{query}" if query else path


class _Compiled(jinja2.BytecodeCache):
    """Templates as compiled by this process: a folder of runs has an environment a run."""

    def __init__(self) -> None:
        self._codes: dict[str, bytes] = {}

    def load_bytecode(self, bucket: jinja2.bccache.Bucket) -> None:
        if bucket.key in self._codes:
            bucket.bytecode_from_string(self._codes[bucket.key])

    def dump_bytecode(self, bucket: jinja2.bccache.Bucket) -> None:
        self._codes[bucket.key] = bucket.bytecode_to_string()


_compiled = _Compiled()


class Pages:
    """Renders templates. token: what a page must show to be allowed to label; `None` where it cannot."""

    def __init__(self, links: Links, *, run: str, person: str, token: str | None = None) -> None:
        self.is_static = links.is_static
        self._environment = jinja2.Environment(
            loader=jinja2.FileSystemLoader(FOLDER / "templates"),
            autoescape=True,
            undefined=jinja2.StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
            finalize=_inert,
            bytecode_cache=_compiled,
        )
        self._environment.globals.update(
            links=links,
            outcome_words=format.OUTCOMES,
            run_name=run,
            person=person,
            token=token,
            verdict_names=VERDICTS,
            key_of=_key_of,
            none_query=Query(),
            cell_of=cell_of,
            key_of_folder=key_of,
        )
        figures: dict[str, Callable[..., Any]] = {
            "count": format.count,
            "usd": format.dollars,
            "seconds": format.seconds_text,
        }
        figures |= {"share": format.percent, "fixed": partial(format.decimal, digits=2), "plural": format.plural}
        figures |= {"words": format.words, "shown": format.printable, "interval": format.interval_text}
        self._environment.filters |= {name: _figure(write) for name, write in figures.items()}
        self._environment.filters |= {"stretches": _stretches, "moment": _moment, "ago": _ago, "span": _span}
        self._environment.filters |= {"run_name_of": _run_name_of, "rows_command": rows_command}

        for name in self._environment.list_templates():
            self._environment.get_template(name)  # compiled now, not while the first reader waits

    def html(self, template: str, **values: Any) -> str:
        return self._environment.get_template(template).render(**values)


def _inert(value: Any) -> Any:
    """What a template prints: nothing for `None`, markup as it is, a text made inert."""
    if value is None:
        return ""
    return inert(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def _run_name_of(entry: RunEntry) -> str:
    """A run as people name it."""
    return f"{entry.task_id}#{entry.attempt}"


def _key_of(verdict: str | None) -> str:
    return {"good": "g", "unnecessary": "u", "mistake": "m", "recover": "r"}.get(verdict or "", "-")


def _figure(write: Callable[..., Any]) -> Callable[..., Markup]:
    """A filter for figures and our own sentences. Where a line of a page breaks is its sheet's matter: spaces that do
    not break become plain ones, so that a figure is found by searching for it as it reads."""
    return lambda *values, **options: escape(str(write(*values, **options)).replace(format.SPACE, " "))


def _moment(stamp: str) -> str:
    """
    >>> _moment("2026-11-24T19:17:47+00:00")
    '2026-11-24 19:17:47'
    """
    return stamp.replace("T", " ").removesuffix("+00:00")


def _span(seconds: float) -> str:
    """
    >>> _span(3.2), _span(75.0)
    ('3 s', '0:01:15')
    """
    return f"{seconds:.0f} s" if seconds < 60 else clock(seconds)


def _ago(seconds: float) -> str:
    """
    >>> _ago(3.2), _ago(75.0), _ago(7300.0)
    ('3 s', '1 min', '2 h')
    """
    if seconds < 60:
        return f"{seconds:.0f} s"
    return f"{seconds // 60:.0f} min" if seconds < 3600 else f"{seconds // 3600:.0f} h"


def _stretches(codes: str) -> Iterator[tuple[str, int, int]]:
    """(letter, first step, steps) of neighbouring steps with one verdict.

    >>> list(_stretches("ggm"))
    [('g', 0, 2), ('m', 2, 1)]
    """
    first = 0
    for code, alike in groupby(codes):
        length = len(list(alike))
        yield code, first, length
        first += length
