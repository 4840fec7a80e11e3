"""Shared parts of the action formats that are written in a message's text.

class MyFormat(TextFormat):
    name = "mine"
"""

from __future__ import annotations

from typing import Any

import msgspec

from srft.agent.models.contract import Reply
from srft.agent.records import Action

EDIT_ARGUMENTS = """\
  command: view, create, replace, insert or undo.
  path: a file, or for view also a folder; absolute, or relative to the repository.
  view_range: for view, the first and the last line, like [20, 60]; -1 is the last line of the file.
  file_text: for create, the whole text of a new file.
  old_text, new_text: for replace; old_text must stand in the file exactly once, white space included.
  insert_line, new_text: for insert; the text goes after that line, 0 is the top of the file.
"""
"""What the edit tool takes, in the words of a prompt."""


class TextFormat:
    """What the formats that live in the message text share."""

    tools: tuple[dict[str, Any], ...] = ()

    def assistant_message(self, reply: Reply) -> dict[str, Any]:
        return {"role": "assistant", "content": reply.content, **reply.sent_back}

    def render_observation(self, action: Action, text: str) -> dict[str, Any]:
        return {"role": "user", "content": text}

    def render_format_error(self, reply: Reply, text: str) -> list[dict[str, Any]]:
        return [{"role": "user", "content": text}]

    def with_action(self, reply: Reply, action: Action) -> Reply:
        start, end = self.span(reply.content)
        before = reply.content[:start]
        if before and not before.endswith("\n"):
            before += "\n\n"
        content = before + self.written(action) + reply.content[end:]
        return msgspec.structs.replace(reply, content=content, tool_calls=(), finish_reason="stop")

    def span(self, text: str) -> tuple[int, int]:
        """The span of the one action in a text. With several: from the first to the end; with none: the end."""
        raise NotImplementedError

    def written(self, action: Action) -> str:
        raise NotImplementedError
