"""Shell text, taken apart: which programs a command line runs, on what, and which files it writes by redirection.

Reads the text of one action, writes nothing, runs nothing. Text that a heredoc carries into a file is no command; text
that it carries into a shell is.

    >>> [command.words for command in commands("cd src && X=1 timeout 9 git log --all | head")]
    [('cd', 'src'), ('git', 'log', '--all'), ('head',)]
    >>> commands("cat > a.py <<'EOF'\\nrm b.py\\nEOF")
    [Command(words=('cat',), writes=('a.py',), stdin='rm b.py\\n', joined='', text="cat > a.py <<'EOF'")]

Understood: quotes, comments, lists, pipes, subshells, substitutions, redirections, heredocs, the assignments before a
program, the reserved words, `[[ ]]`, `(( ))`, arrays, and programs that run another (`env`, `xargs`, `find -exec`,
`bash -c`, ...). Not understood: variables keep their `$name`, functions and aliases are not looked up, and a `case` in
a substitution ends it early. Nothing is refused: whatever the text, there is an answer.

tree-sitter-bash was tried in its place. It names the same programs in 9,864 of 9,866 recorded commands; in the other
two, a heredoc with quotes, it loses its way and takes the file's text for commands. It gives a tree of the text as it
stands: words without their quotes, runners, redirections and heredocs' texts, most of this file, would still be ours.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

SHELLS = frozenset(("sh", "bash", "dash", "zsh", "ksh"))

_RESERVED = frozenset(("if", "then", "elif", "else", "fi", "while", "until", "do", "done", "esac", "!", "{", "}"))
_HEADS = frozenset(("for", "case", "select", "function"))
"""What stands after these up to the next separator is no program."""

_ASSIGNMENT = re.compile(r"[A-Za-z_]\w*(\[[^]]*\])?\+?=")
_OPERATOR = re.compile(r"&&|\|\||;;|\|&|[|;()]|&")
_REDIRECTION = re.compile(r"(?:\d+|\{\w+\}|&)?(<<<|<<-?|<>|>>|>\||>&|<&|>(?!\()|<(?!\())")
_IN_TEST = re.compile(r"&&|\|\||[()<>]")
_PLAIN = re.compile(r"[^\s\\'\"$`;&|()<>]+")
_IN_QUOTES = re.compile(r"[^\\\"$`]+")
_MAX_DEPTH = 20
"""Of commands within commands. What lies deeper is not looked at; no person writes it."""

# Programs that run the program after them -> their options that take a value of their own.
_RUNNERS = {
    "builtin": "", "command": "", "doas": "u", "env": "uCS", "exec": "a", "ionice": "cn", "nice": "n", "nohup": "",
    "setsid": "", "stdbuf": "ioe", "sudo": "ugCDhpRrTU", "time": "fo", "timeout": "ks", "xargs": "EILPadns",
}  # fmt: skip


class Command(NamedTuple):
    """One program call.

    words: its words without their quotes, the program first. writes: the files that output is redirected into.
    stdin: a heredoc's or here-string's text. joined: the operator before it: "" for the first, ";" also for a new line,
    "$" for a substitution. text: unchanged.
    """

    words: tuple[str, ...]
    writes: tuple[str, ...] = ()
    stdin: str | None = None
    joined: str = ""
    text: str = ""

    @property
    def program(self) -> str:
        """The program's name without its folder, "" where only a file is written."""
        return self.words[0].rpartition("/")[2] if self.words else ""


def commands(text: str) -> list[Command]:
    """The commands of a text in their order, those in substitutions before the one they are for, runners taken off."""
    return list(_run_by(_split(text, depth=0), depth=0))


def _split(text: str, *, depth: int) -> list[Command]:
    scanner = _Scanner(text, depth)
    scanner.scan()
    return [draft.command() for draft in scanner.found]


def _run_by(split: Sequence[Command], *, depth: int) -> Iterator[Command]:
    """The commands, each followed or replaced by what it runs in its turn."""
    for command in split:
        inner = _inner(command)
        if inner is None or depth == _MAX_DEPTH:
            yield command
        elif isinstance(inner, str):
            yield command
            yield from _run_by(_split(inner, depth=depth + 1), depth=depth + 1)
        else:
            if command.program == "find":
                yield command
            yield from _run_by([command._replace(words=inner)], depth=depth + 1)


def _inner(command: Command) -> str | tuple[str, ...] | None:
    """What a command runs: shell text, the words of another command, or `None` where it runs itself alone."""
    program, words = command.program, command.words
    if program in SHELLS:
        for place, word in enumerate(words[1:], 1):
            if re.fullmatch(r"-\w*c", word):
                return " ".join(words[place + 1 : place + 2])
        return command.stdin if all(word.startswith("-") for word in words[1:]) else None
    if program == "eval":
        return " ".join(words[1:])
    if program == "find":
        starts = [place for place, word in enumerate(words) if word in ("-exec", "-execdir", "-ok", "-okdir")]
        return words[starts[0] + 1 :] if starts and starts[0] + 1 < len(words) else None
    if program not in _RUNNERS:
        return None
    return _after_options(words, _RUNNERS[program], positional=program == "timeout") or None


def _after_options(words: tuple[str, ...], valued: str, *, positional: bool) -> tuple[str, ...]:
    """The words from the program on that a runner runs; `positional`: one word of its own comes first."""
    place = 1
    while place < len(words) and (words[place].startswith("-") or _ASSIGNMENT.match(words[place])):
        if words[place] == "--":
            place += 1
            break
        place += 2 if re.fullmatch(rf"-\w*[{valued or '-'}]", words[place]) else 1
    return words[place + positional :]


@dataclass
class _Draft:
    """A command while it is read. A heredoc's text comes after the line that names it."""

    start: int
    joined: str
    words: list[str] = field(default_factory=list)
    writes: list[str] = field(default_factory=list)
    stdin: str | None = None
    text: str = ""

    def command(self) -> Command:
        return Command(tuple(self.words), tuple(self.writes), self.stdin, self.joined, self.text)


class _Heredoc(NamedTuple):
    draft: _Draft
    delimiter: str
    tabs: bool
    literal: bool


class _Scanner:
    """Reads one text from `position` to its end, or to the parenthesis that closes it."""

    def __init__(self, text: str, depth: int, position: int = 0, joined: str = "") -> None:
        self.text = text
        self.position = position
        self.found: list[_Draft] = []
        self._depth = depth
        self._heredocs: list[_Heredoc] = []
        self._draft = _Draft(position, joined)

    def scan(self, *, closing: bool = False) -> None:
        """closing: stop after the `)` that no `(` of this text opened."""
        text, opened = self.text, 0
        while self.position < len(text):
            char = text[self.position]
            if char == "\n":
                self._end_command(";", 1)
                self._read_heredocs()
            elif char.isspace():
                self.position += 1
            elif text.startswith("\\\n", self.position):
                self.position += 2
            elif char == "#":
                end = text.find("\n", self.position)
                self.position = len(text) if end < 0 else end
            elif text.startswith("((", self.position) and (end := self._arithmetic_end()):
                self.position = end
            elif self._is_in_test() and (found := _IN_TEST.match(text, self.position)):
                self._draft.words.append(found[0])
                self.position = found.end()
            elif redirection := _REDIRECTION.match(text, self.position):
                self._redirect(redirection)
            elif operator := _OPERATOR.match(text, self.position):
                if operator[0] == ")" and closing and opened == 0:
                    self._end_command(";", 1)
                    return
                opened += {"(": 1, ")": -1}.get(operator[0], 0)
                self._end_command(operator[0], len(operator[0]))
            else:
                self._add_word()
        self._end_command(";", 0)

    def _arithmetic_end(self) -> int:
        """Where a `(( ))` ends that begins here; 0 where it is two subshells, as bash takes it for only then."""
        inside = 0
        if self._draft.words and self._draft.words[0] != "for":
            return 0
        for place in range(self.position + 2, len(self.text)):
            if self.text.startswith("))", place) and inside == 0:
                return place + 2
            inside += {"(": 1, ")": -1}.get(self.text[place], 0)
            if inside < 0 or self.text[place] == "\n":
                break
        return 0

    def _is_in_test(self) -> bool:
        """Whether it stands between `[[` and `]]`, where `<`, `>`, `&&` and parentheses are words."""
        words = self._draft.words
        return bool(words) and words[0] == "[[" and words[-1] != "]]"

    def _skip_array(self) -> None:
        """Pass over an array's words; commands substituted in them are found."""
        self.position += 1
        while self.position < len(self.text) and self.text[self.position] != ")":
            before = self.position
            self._word()
            self.position += self.position == before
        self.position += 1

    def _add_word(self) -> None:
        start = self.position
        word, words = self._word(), self._draft.words
        bare = self.text[start : self.position] == word
        if not words and (assigned := _ASSIGNMENT.match(self.text, start)):
            if assigned.end() == self.position and self.text.startswith("(", self.position):
                self._skip_array()
            return
        if not words and bare and word in _RESERVED:
            return
        words.append(word)

    def _end_command(self, operator: str, length: int) -> None:
        draft = self._draft
        draft.text = self.text[draft.start : self.position].strip()
        named = bool(draft.words) and draft.words[0] not in _HEADS
        if named or draft.writes:
            self.found.append(draft)
        self.position += length
        kind = {"(": draft.joined, ")": ";", ";;": ";", "|&": "|"}.get(operator, operator)
        # An empty command (a blank line, a subshell's opening) leaves the operator before it in force.
        joined = kind if named or draft.writes or draft.words else draft.joined
        self._draft = _Draft(self.position, joined if self.found else "")

    def _redirect(self, found: re.Match[str]) -> None:
        self.position = found.end()
        while self.text[self.position : self.position + 1] in (" ", "\t"):
            self.position += 1
        start = self.position
        target = self._word()
        if found[1] in ("<<", "<<-"):
            literal = self.text[start : self.position] != target
            self._heredocs.append(_Heredoc(self._draft, target, found[1] == "<<-", literal))
        elif found[1] == "<<<":
            self._draft.stdin = target + "\n"
        elif ">" in found[1] and not (found[1] == ">&" and re.fullmatch(r"\d+|-", target)):
            self._draft.writes.append(target)

    def _read_heredocs(self) -> None:
        for heredoc in self._heredocs:
            lines: list[str] = []
            while self.position < len(self.text):
                end = self.text.find("\n", self.position)
                end = len(self.text) if end < 0 else end
                line = self.text[self.position : end]
                line = line.lstrip("\t") if heredoc.tabs else line
                self.position = min(end + 1, len(self.text))
                if line == heredoc.delimiter:
                    break
                lines.append(line + "\n")
            heredoc.draft.stdin = "".join(lines)
            if not heredoc.literal:
                self._substitutions_of(heredoc.draft.stdin)
        self._heredocs.clear()
        self._draft.start = self.position

    def _substitutions_of(self, text: str) -> None:
        if "$(" in text or "`" in text:
            scanner = _Scanner(text, self._depth)
            while scanner.position < len(text):
                scanner._quoted(closing="")
            self.found.extend(scanner.found)

    def _word(self) -> str:
        """The word that begins here, without its quotes; commands substituted in it are found first."""
        parts: list[str] = []
        text = self.text
        while self.position < len(text):
            if plain := _PLAIN.match(text, self.position):
                parts.append(plain[0])
                self.position = plain.end()
                continue
            char = text[self.position]
            if char == "\\":
                parts.append(text[self.position + 1 : self.position + 2].strip("\n"))
                self.position += 2
            elif char == "'" or text.startswith("$'", self.position):
                parts.append(self._single_quoted(escapes=char == "$"))
            elif char == '"' or text.startswith('$"', self.position):
                self.position += 1 if char == '"' else 2
                parts.append(self._quoted(closing='"'))
            elif char in "$`" or text[self.position : self.position + 2] in ("<(", ">("):
                parts.append(self._expansion())
            else:
                break
        return "".join(parts)

    def _single_quoted(self, *, escapes: bool) -> str:
        pattern = r"\$'((?:[^'\\]|\\.)*)'?" if escapes else r"'([^']*)'?"
        found = re.compile(pattern, re.DOTALL).match(self.text, self.position)
        assert found is not None  # it stands on the quote, and a missing end is the text's end
        self.position = found.end()
        return re.sub(r"\\(.)", r"\1", found[1].replace("\\n", "\n")) if escapes else found[1]

    def _quoted(self, *, closing: str) -> str:
        """The text up to the closing double quote, which is passed; with no closing, that of a heredoc."""
        parts: list[str] = []
        while self.position < len(self.text):
            char = self.text[self.position]
            if plain := _IN_QUOTES.match(self.text, self.position):
                parts.append(plain[0])
                self.position = plain.end()
            elif char == closing:
                self.position += 1
                break
            elif char == "\\":
                escaped = self.text[self.position : self.position + 2]
                parts.append(escaped[1:] if escaped[1:] in '$`"\\' else escaped.replace("\\\n", ""))
                self.position += 2
            elif char == '"':
                parts.append(char)
                self.position += 1
            else:
                parts.append(self._expansion())
        return "".join(parts)

    def _expansion(self) -> str:
        """A `$...`, a backquoted command or a process substitution, kept unchanged; commands in it are found."""
        start, text = self.position, self.text
        if text.startswith("$((", start):
            end = text.find("))", start)
            self.position = len(text) if end < 0 else end + 2
        elif text[start : start + 2] in ("$(", "<(", ">("):
            self._nested(text, start + 2)
        elif text.startswith("${", start):
            end = text.find("}", start)
            self.position = len(text) if end < 0 else end + 1
        elif text[start] == "`":
            found = re.compile(r"`((?:[^`\\]|\\.)*)`?", re.DOTALL).match(text, start)
            assert found is not None  # it stands on the quote, and a missing end is the text's end
            self._nested(re.sub(r"\\([`$\\])", r"\1", found[1]), 0)
            self.position = found.end()
        else:
            self.position += 1
        return text[start : self.position]

    def _nested(self, text: str, position: int) -> None:
        if self._depth == _MAX_DEPTH:
            self.position = len(text)
            return
        scanner = _Scanner(text, self._depth + 1, position, joined="$")
        scanner.scan(closing=True)
        for draft in scanner.found:
            draft.joined = "$"
        self.found.extend(scanner.found)
        self.position = scanner.position
