"""Templates and links: the same pages for the server and for an export.

    pages = Pages(ServerLinks(), run="demo")
    pages.html("table.html", table=table, place=place)

Every value that a template prints is made inert first (control and bidi marks become symbols) and then escaped.
"""

import functools
import hashlib
import re
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import quote, urlencode

import jinja2
from markupsafe import Markup

from srft.harness.look.web.table import Query
from srft.harness.run.index import VERDICTS
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
    def report(self) -> str: ...
    def table(self, place: str, query: Query) -> str: ...
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

    def report(self) -> str:
        return f"{self.base}/report"

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

    def report(self) -> str:
        return f"{self._up}report.html"

    def table(self, place: str, query: Query) -> str:
        return f"{self._up}{quote(table_file(place, query.page))}"

    def run(self, place: str, run_id: str, query: Query) -> str:
        return f"{self._up}{quote(page_file(place, 'run', run_id))}"

    def tokens(self, place: str, run_id: str, query: Query) -> str | None:
        return f"{self._up}{quote(page_file(place, 'tokens', run_id))}" if self._with_tokens else None

    def text(self, place: str, run_id: str, part: str, step: int | None = None) -> str:
        return f"{self._up}{quote(text_file(place, run_id, part, step))}"


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
            run_name=run,
            person=person,
            token=token,
            verdict_names=VERDICTS,
            key_of=_key_of,
            none_query=Query(),
        )
        self._environment.filters.update(
            count=_count,
            usd=_usd,
            seconds=_seconds,
            share=_share,
            stretches=_stretches,
            fixed=_fixed,
            brief=_brief,
            moment=_moment,
            ago=_ago,
            span=_span,
        )

        for name in self._environment.list_templates():
            self._environment.get_template(name)  # compiled now, not while the first reader waits

    def html(self, template: str, **values: Any) -> str:
        return self._environment.get_template(template).render(**values)


def _inert(value: Any) -> Any:
    """What a template prints: nothing for `None`, markup as it is, a text made inert."""
    if value is None:
        return ""
    return inert(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def _key_of(verdict: str | None) -> str:
    return {"good": "g", "unnecessary": "u", "mistake": "m", "recover": "r"}.get(verdict or "", "-")


def _count(number: float | None) -> str:
    """
    >>> _count(12345), _count(None)
    ('12,345', '–')
    """
    return "–" if number is None else f"{number:,.0f}"


def _fixed(number: float | None, digits: int = 2) -> str:
    return "–" if number is None else f"{number:.{digits}f}"


def _usd(cost: float | None) -> str:
    """
    >>> _usd(0.0), _usd(0.0012), _usd(1234.5), _usd(None)
    ('$0', '$0.0012', '$1,234.50', '–')
    """
    if not cost:
        return "–" if cost is None else "$0"
    return f"${cost:,.4f}" if cost < 0.01 else f"${cost:,.2f}"


def _brief(value: Any) -> str:
    """A figure of a stage.

    >>> _brief(0.24222979), _brief([0.5, 134515008]), _brief(None), _brief("promoted")
    ('0.2422', '0.5, 134,515,008', '–', 'promoted')
    """
    if isinstance(value, list):
        return ", ".join(map(_brief, value))
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    return "–" if value is None else f"{value:.4g}" if isinstance(value, float) else str(value)


def _moment(stamp: str) -> str:
    """
    >>> _moment("2026-11-24T19:17:47+00:00")
    '2026-11-24 19:17:47'
    """
    return stamp.replace("T", " ").removesuffix("+00:00")


def _seconds(wall_s: float | None) -> str:
    """
    >>> _seconds(0.0123), _seconds(3.21), _seconds(75.0), _seconds(None)
    ('12 ms', '3.2 s', '0:01:15', '–')
    """
    if wall_s is None:
        return "–"
    if wall_s < 1:
        return f"{wall_s * 1000:.0f} ms"
    return f"{wall_s:.1f} s" if wall_s < 60 else clock(wall_s)


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


def _share(share: float | None) -> str:
    return "–" if share is None else f"{share * 100:.0f} %" if share in (0, 1) else f"{share * 100:.1f} %"


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
