"""The format `backtick`: one ```bash block; a block that is just `submit` hands in.

A line of nothing but backticks ends the block. A reply with other fences in the block or behind it is refused: what is
cut off at one of them would run, and do something else. Where the mark ends in CRLF, the command's lines do too.

BacktickFormat().parse(Reply(content="I look.\n```bash\nls\n```")).arguments     # {'command': 'ls'}
"""

from __future__ import annotations

import re
from typing import NamedTuple

from srft.agent.formats.contract import FormatError
from srft.agent.formats.text import TextFormat
from srft.agent.models.contract import Reply
from srft.agent.records import Action
from srft.env.errors import InputError


class _Block(NamedTuple):
    """A ```bash block: where it begins and ends in the text, its command, and the line that ends it."""

    start: int
    end: int
    command: str
    closing: str


class BacktickFormat(TextFormat):
    """One ```bash block."""

    name = "backtick"
    instructions = """\
Write what you think first, then exactly one fenced block, like this:

```bash
ls -la
```

The block is run with bash. Join several commands with `&&` or put them on lines of their own; a second block in the
same reply is refused. When the work is done, hand it in with a block that holds the one word submit:

```bash
submit
```
"""

    # A longer fence holds shorter ones: what the command writes may have fences of its own.
    _opening = re.compile(r"(?<!`)(`{3,})bash[^\S\n]*\n")

    def parse(self, reply: Reply) -> Action:
        blocks = self._blocks(reply.content)
        if len(blocks) != 1:
            raise FormatError(f"Expected exactly one ```bash block, found {len(blocks)}.")
        if doubt := _doubt(blocks[0], reply.content):
            raise FormatError(
                f"{doubt}, so it is not clear where the command ends. Where a command holds lines that begin with ```, "
                "put the whole of it between ````bash and ````; other fences do not go behind it."
            )
        command = blocks[0].command
        if not command.strip():
            raise FormatError("The ```bash block is empty; expected a command in it.")
        if command.strip() == "submit":
            return Action(tool="submit", format=self.name)
        return Action(tool="bash", arguments={"command": command}, format=self.name)

    def _blocks(self, text: str) -> list[_Block]:
        """The ```bash blocks, each up to the next fence that is as long."""
        blocks, position = [], 0
        while opening := self._opening.search(text, position):
            closing = _fence_line(text, opening.end(), ticks=len(opening[1]))
            if closing is None:
                break
            command = text[opening.end() : max(opening.end(), closing.start() - 1)]
            if opening[0].endswith("\r\n"):
                command = command.removesuffix("\r").replace("\r\n", "\n")
            blocks.append(_Block(opening.start(), closing.end(), command, closing[0]))
            position = closing.start() + len(closing[1])
        return blocks

    def span(self, text: str) -> tuple[int, int]:
        blocks = self._blocks(text)
        if len(blocks) == 1:
            return blocks[0].start, blocks[0].end
        opening = self._opening.search(text)
        return opening.start() if opening else len(text), len(text)

    def written(self, action: Action) -> str:
        if action.tool == "edit":
            raise InputError(
                "the format backtick has no edit tool; write a command, or take the format xml, json or native"
            )
        return f"```bash\n{action.arguments.get('command', 'submit')}\n```"


_FENCE = re.compile(r"^(`{3,})[^\n]*", re.MULTILINE)


def _fence_line(text: str, position: int, *, ticks: int) -> re.Match[str] | None:
    """The next line, from the beginning of one, that begins with so many backticks."""
    return next((fence for fence in _FENCE.finditer(text, position) if len(fence[1]) >= ticks), None)


def _doubt(block: _Block, text: str) -> str | None:
    """Why it is not sure that the block ends where it does."""
    if block.closing.strip("`").strip():
        return f"In the ```bash block stands {block.closing!r}"
    stray = _fence_line(text, block.end, ticks=3)
    return f"Behind the ```bash block stands {stray[0]!r}" if stray else None
