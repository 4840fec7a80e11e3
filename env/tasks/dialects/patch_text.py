r"""Unified diffs as text: which files they touch, and the diff that undoes them.

>>> patch = "--- a/x\n+++ b/x\n@@ -1,2 +1 @@\n-one\n-two\n+1\n"
>>> reverse(patch)
'--- a/x\n+++ b/x\n@@ -1 +1,2 @@\n-1\n+one\n+two\n'
>>> changed_files(patch)
[ChangedFile(source='x', target='x')]
"""

import re
from collections.abc import Iterator
from typing import Literal, NamedTuple

_HUNK = re.compile(r"@@ -(\d+(?:,\d+)?) \+(\d+(?:,\d+)?) @@")

_SWAPPED_WORDS = {
    "new file mode": "deleted file mode",
    "deleted file mode": "new file mode",
    "old mode": "new mode",
    "new mode": "old mode",
    "rename from": "rename to",
    "rename to": "rename from",
}
_HEADER_WORD = re.compile("|".join(sorted(_SWAPPED_WORDS, key=len, reverse=True)))


class ChangedFile(NamedTuple):
    """A file of a diff; `None` where it does not exist on that side."""

    source: str | None
    target: str | None


class _Line(NamedTuple):
    kind: Literal["header", "hunk", "body"]
    text: str


def lines_of(patch: str) -> Iterator[_Line]:
    """The lines of a diff with what they are: a removed line `-- a/x` looks like a header, and only counting tells."""
    old = new = 0
    for text in patch.split("\n")[: -1 if patch.endswith("\n") else None]:
        if text.startswith("\\"):  # "\ No newline at end of file" belongs to the line before it
            yield _Line("body", text)
        elif old or new:
            old -= not text.startswith("+")
            new -= not text.startswith("-")
            yield _Line("body", text)
        elif hunk := _HUNK.match(text):
            old, new = (int(side.partition(",")[2] or 1) for side in hunk.groups())
            yield _Line("hunk", text)
        else:
            yield _Line("header", text)


def changed_files(patch: str) -> list[ChangedFile]:
    """The files whose text a diff changes, in its order; renames and modes without a hunk are left."""
    files = []
    source: str | None = None
    for kind, text in lines_of(patch):
        if kind == "header" and text.startswith("--- "):
            source = _path(text[4:], "a/")
        elif kind == "header" and text.startswith("+++ "):
            files.append(ChangedFile(source, _path(text[4:], "b/")))
    return files


def _path(name: str, prefix: str) -> str | None:
    name = name.split("\t", 1)[0].rstrip()
    return None if name == "/dev/null" else name.removeprefix(prefix)


def reverse(patch: str) -> str:
    """The diff that undoes `patch`. Raises ValueError for binary hunks, which carry no old content to put back."""
    out: list[str] = []
    removed: list[str] = []
    added: list[str] = []
    for kind, text in lines_of(patch):
        if kind == "body" and text[:1] in ("-", "+"):
            # Lines that the diff adds are those that its reverse removes, which come first.
            (added if text[0] == "-" else removed).append(("+" if text[0] == "-" else "-") + text[1:])
            last = added if text[0] == "-" else removed
            continue
        if kind == "body" and text.startswith("\\") and (removed or added):
            last.append(text)
            continue
        out += removed + added
        removed, added = [], []
        out.append(_reversed_hunk(text) if kind == "hunk" else _reversed_header(text) if kind == "header" else text)
    return "".join(f"{line}\n" for line in _sources_first(out + removed + added))


def _reversed_hunk(text: str) -> str:
    return _HUNK.sub(lambda hunk: f"@@ -{hunk[2]} +{hunk[1]} @@", text, count=1)


def _reversed_header(text: str) -> str:
    if text.startswith(("GIT binary patch", "Binary files ")):
        raise ValueError("a binary change")
    if text.startswith("diff --git "):
        return re.sub(r"^diff --git a/(.*) b/(.*)$", r"diff --git a/\2 b/\1", text)
    if text.startswith("index "):
        return re.sub(r"^index (\w+)\.\.(\w+)", r"index \2..\1", text)
    if text.startswith("--- "):
        return "+++ " + ("b/" + text[6:] if text.startswith("--- a/") else text[4:])
    if text.startswith("+++ "):
        return "--- " + ("a/" + text[6:] if text.startswith("+++ b/") else text[4:])
    return _HEADER_WORD.sub(lambda word: _SWAPPED_WORDS[word[0]], text, count=1) if _HEADER_WORD.match(text) else text


def _sources_first(lines: list[str]) -> Iterator[str]:
    """Puts `---` before `+++`, and `old`, `from` before `new`, `to`, as git reads them."""
    pairs = (("+++ ", "--- "), ("new mode ", "old mode "), ("rename to ", "rename from "))
    position = 0
    while position < len(lines):
        here, after = lines[position], lines[position + 1] if position + 1 < len(lines) else ""
        if any(here.startswith(second) and after.startswith(first) for second, first in pairs):
            yield from (after, here)
            position += 2
        else:
            yield here
            position += 1
