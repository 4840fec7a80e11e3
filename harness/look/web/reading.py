r"""Texts made readable: Markdown, highlighted code and diffs, outputs without their wrappers, the issue of a task.

Everything is made inert and escaped here; what comes out is markup of our own with the text inside it.

    prose("**Looking** at `a.py`").head                     # <p><strong>Looking</strong> at <code>a.py</code></p>
    code(folded("ls -la"), "bash").head                     # spans of classes, which view.css colours
    unwrapped("<returncode>0</returncode>\n<output>\nhi\n</output>")       # Unwrapped("hi", ("exit code 0",))
    issue_of(run.messages)                                  # the text in <issue>, <pr_description>, ...
"""

import re
from collections.abc import Iterator, Sequence
from functools import lru_cache
from itertools import groupby
from typing import Any, NamedTuple

from markdown_it import MarkdownIt
from markupsafe import Markup, escape
from pygments.lexer import Lexer
from pygments.lexers import get_lexer_by_name, get_lexer_for_filename
from pygments.token import Token
from pygments.util import ClassNotFound

from srft.harness.look.web.folding import PAGE_CHARS, Diff, Folded, folded
from srft.train.rows.show import inert

HIGHLIGHTED_CHARS = 20_000
"""A longer text is shown without colours: they would take longer than its page."""

PROSE_LINES = 24
"""So many lines of a long prose stay in sight."""

_LANGUAGES = {"mswea_bash_command": "bash", "sh": "bash", "shell": "bash", "execute_bash": "bash", "py": "python"}
_SUFFIXES = {"py", "js", "ts", "c", "h", "cpp", "java", "go", "rs", "rb", "sh", "toml", "json", "yaml", "yml", "cfg"}


# ---- code ----


def code(text: Folded, language: str | None) -> Folded:
    """The same in colours, where the language is known and the text is not too long."""
    whole = "\n".join(part for part in (text.head, text.middle, text.tail) if part)
    lexer = _lexer(language) if language else None
    if lexer is None or len(whole) > HIGHLIGHTED_CHARS or not whole:
        return text
    head = len(text.head.split("\n"))
    middle = len(text.middle.split("\n")) if text.middle else 0
    lines = _coloured(whole, lexer)
    return text._replace(
        head=_joined(lines[:head]),
        middle=_joined(lines[head : head + middle]),
        tail=_joined(lines[head + middle :]),
    )


def _joined(lines: Sequence[Markup]) -> Markup:
    return Markup("\n").join(lines)


_CLASSES = (
    (Token.Comment, "y-c"),
    (Token.Keyword, "y-k"),
    (Token.Literal.String, "y-s"),
    (Token.Name.Function, "y-n"),
    (Token.Name.Class, "y-n"),
    (Token.Name.Builtin, "y-b"),
    (Token.Name.Decorator, "y-b"),
    (Token.Name.Variable, "y-b"),
    (Token.Name.Tag, "y-k"),
    (Token.Generic.Inserted, "y-a"),
    (Token.Generic.Deleted, "y-d"),
    (Token.Generic.Heading, "y-c"),
    (Token.Generic.Subheading, "y-c"),
)
"""What is coloured; the rest stays as it is, so that pages stay small."""


@lru_cache(maxsize=256)
def _class_of(kind: Any) -> str | None:
    return next((name for known, name in _CLASSES if kind in known), None)


@lru_cache(maxsize=1 << 13)
def _coloured(text: str, lexer: Lexer) -> list[Markup]:
    """Line by line; what goes over several lines is coloured in each."""
    lines = [Markup("")]
    for kind, value in lexer.get_tokens(inert(text)):
        name = _class_of(kind)
        for number, part in enumerate(value.split("\n")):
            if number:
                lines.append(Markup(""))
            if part:
                lines[-1] += Markup('<span class="{}">{}</span>').format(name, part) if name else escape(part)
    count = text.count("\n") + 1
    return lines[:count] + [Markup("")] * (count - len(lines))


@lru_cache(maxsize=256)
def _lexer(language: str) -> Lexer | None:
    name = _LANGUAGES.get(language, language)
    try:
        return None if name == "text" else get_lexer_by_name(name, stripnl=False, ensurenl=False)
    except ClassNotFound:
        return None


@lru_cache(maxsize=1024)
def _file_lexer(name: str) -> Lexer | None:
    try:
        return get_lexer_for_filename(name, stripnl=False, ensurenl=False)
    except ClassNotFound:
        return None


_SHOWS = re.compile(r"(?:cat|head|tail|sed -n)\b[^|;&<>\n]*?\.(\w+)\s*$")


def language_of_output(command: str, output: str) -> str | None:
    """The language of what a command printed: a diff, or a file that it shows. `None` where that is not plain."""
    if output.startswith(("diff --git ", "--- a/")) or command.startswith("git diff"):
        return "diff"
    shown = _SHOWS.match(command.strip().split(" && ")[-1].strip())
    return shown[1] if shown and shown[1] in _SUFFIXES else None


class PaintedLine(NamedTuple):
    kind: str
    text: Markup


def painted(diff: Diff) -> list[PaintedLine]:
    """A diff's lines, their code in colours."""
    lines: list[PaintedLine] = []
    lexer = None
    for kind, group in groupby(diff.lines, key=lambda line: line.kind in ("add", "del", "same")):
        texts = list(group)
        if not kind:
            named = [line.text for line in texts if line.text.startswith("diff ")]
            lexer = _file_lexer(named[-1].rpartition("/")[2]) if named else lexer
            lines += [PaintedLine(line.kind, escape(inert(line.text))) for line in texts]
            continue
        whole = "\n".join(line.text[1:] for line in texts)
        is_short = lexer is not None and len(whole) <= HIGHLIGHTED_CHARS
        bodies = _coloured(whole, lexer) if is_short and lexer else [escape(inert(line.text[1:])) for line in texts]
        lines += [
            PaintedLine(line.kind, escape(line.text[:1]) + body) for line, body in zip(texts, bodies, strict=True)
        ]
    return lines


# ---- prose ----


class Prose(NamedTuple):
    """Markdown as markup. rest: what is folded; rest_lines: of how many lines. is_whole: whether that is all of it."""

    head: Markup
    rest: Markup | None
    rest_lines: int
    chars: int
    is_whole: bool


def prose(text: str, *, lines: int = PROSE_LINES) -> Prose:
    """Of a very long text the beginning."""
    chars = len(text)
    shown = text.replace("\r\n", "\n").strip("\n")[:PAGE_CHARS]
    head, rest = _split(shown, lines)
    return Prose(
        markdown(head),
        markdown(rest) if rest else None,
        rest.count("\n") + 1 if rest else 0,
        chars,
        chars <= PAGE_CHARS,
    )


def _split(text: str, lines: int) -> tuple[str, str]:
    """At the first blank line behind so many lines that is in no fenced block; not for the sake of a few lines."""
    rows = text.split("\n")
    if len(rows) <= lines + 6:
        return text, ""
    is_fenced = False
    for number, row in enumerate(rows):
        is_fenced ^= row.lstrip().startswith("```")
        if number >= lines and not row.strip() and not is_fenced:
            return "\n".join(rows[:number]), "\n".join(rows[number + 1 :])
    return text, ""


def _fence(text: str, language: str, attributes: str) -> str:
    lexer = _lexer(language) if language else None
    if lexer is None or len(text) > HIGHLIGHTED_CHARS:
        return str(escape(text))
    return str(_joined(_coloured(text.rstrip("\n"), lexer)))


# No HTML of the text's own, no images, and links stay as they were typed: a page leads nowhere that an agent chose.
_MARKDOWN = MarkdownIt("commonmark", {"html": False, "breaks": True, "highlight": _fence})
_MARKDOWN.enable("table").disable(["image", "link", "autolink", "reference", "html_block", "html_inline", "entity"])


@lru_cache(maxsize=1 << 12)
def markdown(text: str) -> Markup:
    """
    >>> markdown("**a** <b> [x](http://y)")
    Markup('<p><strong>a</strong> &lt;b&gt; [x](http://y)</p>\\n')
    """
    return Markup(_MARKDOWN.render(inert(text)))


# ---- what a scaffold puts around texts ----


class Unwrapped(NamedTuple):
    """An output without what its scaffold put around it. notes: what that said, in words."""

    text: str
    notes: tuple[str, ...]


_CODE = re.compile(r"<returncode>\s*(-?\d{1,10})\s*</returncode>\n?")
_OUTPUT = re.compile(r"<output>\n?(.*?)\n?</output>\s*", re.DOTALL)
_LONG = re.compile(
    r"(?:<warning>\s*(?P<warning>.*?)\s*</warning>\s*)?<output_head>\n?(?P<head>.*?)\n?</output_head>\s*"
    r"<elided_chars>\s*(?P<elided>.*?)\s*</elided_chars>\s*<output_tail>\n?(?P<tail>.*?)\n?</output_tail>\s*",
    re.DOTALL,
)
_OPENING = re.compile(r"(?:OBSERVATION|EXECUTION RESULT of \[[^\]\n]*\]):\s*?\n")
_CLOSING = re.compile(
    r"\n?(?:\[(?P<code>exit code -?\d+)\]"
    r"|\[The command completed with (?P<completed>exit code -?\d+)\.?\]|\[Command finished with exit code -?\d+\]"
    r"|\[Current working directory: (?P<folder>[^\]\n]*)\]|\[Python interpreter: [^\]\n]*\]"
    r"|\(Open file: (?P<file>[^)\n]*)\)|\(Current directory: (?P<directory>[^)\n]*)\)|bash-\$)\s*\Z"
)


def unwrapped(text: str) -> Unwrapped:
    """
    >>> unwrapped("out\\n[The command completed with exit code 0.]\\n[Current working directory: /testbed]")
    Unwrapped(text='out', notes=('exit code 0', 'in /testbed'))
    """
    notes: list[str] = []
    if found := _CODE.match(text):
        notes.append(f"exit code {found[1]}")
        text = text[found.end() :]
    if found := _OUTPUT.fullmatch(text):
        text = found[1]
    elif found := _LONG.fullmatch(text):
        text = f"{found['head']}\n… {found['elided']} …\n{found['tail']}"
        notes.append("longer than the agent was shown")
    if found := _OPENING.match(text):
        text = text[found.end() :]
    text, closing = _without_closing(text)
    return Unwrapped(text, tuple(dict.fromkeys([*notes, *closing])))


def _without_closing(text: str) -> tuple[str, list[str]]:
    """(the text without the lines that a scaffold adds at the end, what these say)."""
    notes: list[str] = []
    while found := _CLOSING.search(text, max(0, len(text) - 1_000)):
        text = text[: found.start()]
        code, folder = found["code"] or found["completed"], found["folder"] or found["directory"]
        said = code or (f"in {folder}" if folder else f"open: {found['file']}" if found["file"] else None)
        notes[:0] = [said] if said else []
    return text, notes


# ---- the issue ----

_ISSUE = re.compile(
    r"<(pr_description|issue_description|issue|problem_statement|task_description)>\s*(.*?)\s*</\1>", re.DOTALL
)
_SWE_AGENT = re.compile(r"\bISSUE:\n(.*?)\n\s*INSTRUCTIONS:", re.DOTALL)
_LEAD_IN = re.compile(r"Consider the following (?:PR|issue) description:\s*", re.IGNORECASE)


def issue_of(prompt: Sequence[dict[str, Any]]) -> str | None:
    """What the agent was asked to do: the issue in the messages before its first reply, without the instructions around
    it; where it is not marked, the last of a user's messages, whole."""
    texts = list(_users(prompt))
    for text in texts:
        if found := _ISSUE.search(text):
            return _LEAD_IN.sub("", found[2], count=1)
        if found := _SWE_AGENT.search(text):
            return found[1].strip()
    return texts[-1] if texts else None


def _users(prompt: Sequence[dict[str, Any]]) -> Iterator[str]:
    for message in prompt:
        if message.get("role") == "user" and (text := text_of(message)).strip():
            yield text


def text_of(message: dict[str, Any]) -> str:
    """A message's content as text."""
    content = message.get("content")
    if isinstance(content, list):
        return "\n".join(str(part.get("text", part)) if isinstance(part, dict) else str(part) for part in content)
    return content if isinstance(content, str) else "" if content is None else str(content)


def output(text: str, command: str, *, head: int = 8, tail: int = 5) -> tuple[Folded, tuple[str, ...]]:
    """(what a command printed, folded and in colours; what its scaffold said around it)."""
    bare = unwrapped(text)
    shown = folded(bare.text, head=head, tail=tail)
    return code(shown, language_of_output(command, bare.text)), bare.notes
