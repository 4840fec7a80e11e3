"""What the formats that live in the text of a message share.

class MyFormat(TextFormat):
    name = "mine"
"""

from __future__ import annotations

from typing import Any

import msgspec

from srft.agent.models.contract import Reply
from srft.agent.records import Action


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
