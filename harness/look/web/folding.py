"""Long texts for the eye: head and tail, the middle folded; diffs line by line.

Knows no HTML. A text that is too long for a page is given in part, and `is_whole` says so.

    text = folded("line 1\n...", head=12, tail=6)
    text.head, text.middle, text.tail, text.hidden_lines
"""

import re
from collections.abc import Iterator
from typing import NamedTuple

LINE_CHARS = 1_000
PAGE_CHARS = 40_000
"""What a page holds of one text; the rest is one click away."""

DIFF_LINES = 3_000


class Folded(NamedTuple):
    """A text in three parts; of a short one the first is all. middle: empty where it does not fit a page.

    lines, chars: of the whole text. is_whole: whether the three parts are all of it.
    """

    head: str
    middle: str
    tail: str
    hidden_lines: int
    lines: int
    chars: int
    is_whole: bool


def folded(text: str, *, head: int = 12, tail: int = 6) -> Folded:
    """head, tail: lines that stay in sight. Lines longer than a page is wide many times over are cut."""
    chars = len(text)
    text = text.rstrip("\n")
    lines = text.count("\n") + 1
    # Of a very long text only its two ends are looked at: no page holds its middle.
    is_long = chars > PAGE_CHARS
    rows = text.split("\n") if not is_long else _ends(text, head, tail)
    cut = [_cut(row) for row in rows]
    is_cut = any(len(short) != len(row) for short, row in zip(cut, rows, strict=True))
    if not is_long and len(rows) <= head + tail + 2:
        return Folded("\n".join(cut), "", "", 0, lines, chars, not is_cut)
    if is_long and lines <= head + tail:
        return Folded("\n".join(cut), "", "", 0, lines, chars, False)
    middle = "" if is_long else "\n".join(cut[head : len(cut) - tail])
    first, last = "\n".join(cut[:head]), "\n".join(cut[len(cut) - tail :])
    return Folded(first, middle, last, lines - head - tail, lines, chars, not is_cut and not is_long)


def _ends(text: str, head: int, tail: int) -> list[str]:
    """The first and the last lines of a long text."""
    if text.count("\n") < head + tail:
        return text.split("\n")
    return text.split("\n", head)[:head] + text.rsplit("\n", tail)[-tail:]


def _cut(row: str) -> str:
    if len(row) <= LINE_CHARS:
        return row
    return f"{row[:LINE_CHARS]} … {len(row):,} characters"


class Part(NamedTuple):
    """A piece of what a model wrote: prose, or a fenced block in its language."""

    text: str
    language: str | None


_FENCE = re.compile(r"^```([\w.+-]*)[^\S\n]*\n(.*?)(?:\n```[^\S\n]*$|\Z)", re.MULTILINE | re.DOTALL)


def parts(content: str) -> Iterator[Part]:
    """Prose and fenced blocks in turn, to the character but for the fences and the blank lines around prose.

    >>> list(parts("I look.\\n```bash\\nls\\n```"))
    [Part(text='I look.', language=None), Part(text='ls', language='bash')]
    """
    end = 0
    for found in _FENCE.finditer(content):
        if prose := content[end : found.start()].strip("\n"):
            yield Part(prose, None)
        yield Part(found[2], found[1] or "text")
        end = found.end()
    if (rest := content[end:].strip("\n")) or not end:
        yield Part(rest, None)


class DiffLine(NamedTuple):
    """kind: file, hunk, add, del, or same."""

    kind: str
    text: str


class Diff(NamedTuple):
    """lines: of a long one the first. hidden: how many more there are. files: those it changes. is_whole: whether the
    lines are all of it, uncut."""

    lines: list[DiffLine]
    hidden: int
    files: list[str]
    added: int
    deleted: int
    is_whole: bool


def diff(patch: str) -> Diff:
    """A unified diff in lines."""
    lines, files = [], []
    in_hunk, is_cut = False, False
    for text in patch.removesuffix("\n").split("\n"):
        if text.startswith("diff "):
            in_hunk = False
            files.append(text.rpartition(" b/")[2] if " b/" in text else text)
        in_hunk = in_hunk or text.startswith("@@")
        lines.append(DiffLine(_kind(text, in_hunk=in_hunk), short := _cut(text)))
        is_cut = is_cut or short != text
    added, deleted = (sum(line.kind == kind for line in lines) for kind in ("add", "del"))
    hidden = max(0, len(lines) - DIFF_LINES)
    return Diff(lines[:DIFF_LINES], hidden, files, added, deleted, is_whole=not hidden and not is_cut)


def _kind(text: str, *, in_hunk: bool) -> str:
    if text.startswith("@@"):
        return "hunk"
    if not in_hunk:
        return "file"
    return {"+": "add", "-": "del"}.get(text[:1], "same")
