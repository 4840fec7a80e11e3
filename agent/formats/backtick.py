"""The format `backtick`: one ```bash block; a block that is just `submit` hands in.

BacktickFormat().parse(Reply(content="I look.\n```bash\nls\n```")).arguments     # {'command': 'ls'}
"""

from __future__ import annotations

import re

from srft.agent.formats.contract import FormatError
from srft.agent.formats.text import TextFormat
from srft.agent.models.contract import Reply
from srft.agent.records import Action
from srft.env.errors import InputError


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

    _block = re.compile(r"```bash[^\S\n]*\n(.*?)\n```", re.DOTALL)

    def parse(self, reply: Reply) -> Action:
        blocks = self._block.findall(reply.content)
        if len(blocks) != 1:
            raise FormatError(f"Expected exactly one ```bash block, found {len(blocks)}.")
        if not blocks[0].strip():
            raise FormatError("The ```bash block is empty; expected a command in it.")
        if blocks[0].strip() == "submit":
            return Action(tool="submit", format=self.name)
        return Action(tool="bash", arguments={"command": blocks[0]}, format=self.name)

    def span(self, text: str) -> tuple[int, int]:
        found = list(self._block.finditer(text))
        return found[0].span() if len(found) == 1 else (found[0].start() if found else len(text), len(text))

    def written(self, action: Action) -> str:
        if action.tool == "edit":
            raise InputError(
                "the format backtick has no edit tool; write a command, or take the format xml, json or native"
            )
        return f"```bash\n{action.arguments.get('command', 'submit')}\n```"
