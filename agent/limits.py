"""When an episode is over.

limits = EpisodeLimits(steps=30, cost_usd=None)
limits.reached(steps, seconds=12.0, format_errors=0)          # None, or "step_limit" and the like
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from srft.agent.records import Step, StopReason, Usage
from srft.env.errors import InputError


class EpisodeLimits(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """When an episode is over; `null`: no limit. All are checked before each request, so a step is always finished."""

    steps: int | None = 100
    """Replies of the model."""
    tokens: int | None = None
    """Tokens sampled in the whole episode."""
    context_tokens: int | None = None
    """Tokens of prompt and reply of one request."""
    wall_s: float | None = 3600.0
    """Seconds from the first request on."""
    cost_usd: float | None = None
    """US dollars for the whole episode."""
    command_timeout_s: float = 60.0
    """Seconds that one command may run."""
    format_errors: int = 3
    """Replies in a row from which no action can be read."""

    def __post_init__(self) -> None:
        for field in self.__struct_fields__:
            value = getattr(self, field)
            if value is not None and not value > 0:
                raise InputError(f"limits.{field} is {value}; expected more than 0, or null for no limit")

    def reached(self, steps: Sequence[Step], *, seconds: float, format_errors: int) -> StopReason | None:
        """The first limit that is reached, `None` where none is. format_errors: in a row, up to now."""
        usages = [step.usage for step in steps if step.usage]
        last = usages[-1] if usages else Usage()
        counted: tuple[tuple[StopReason, float, float | None], ...] = (
            ("format_errors", format_errors, self.format_errors),
            ("step_limit", len(steps), self.steps),
            ("token_limit", sum(usage.completion_tokens or 0 for usage in usages), self.tokens),
            ("cost_limit", sum(usage.cost_usd or 0.0 for usage in usages), self.cost_usd),
            ("wall_limit", seconds, self.wall_s),
            ("context_limit", (last.prompt_tokens or 0) + (last.completion_tokens or 0), self.context_tokens),
        )
        return next((reason for reason, value, limit in counted if limit is not None and value >= limit), None)

    def command_s(self, *, seconds: float) -> float:
        """How long the next command may run: never beyond the episode's time, but at least one second."""
        if self.wall_s is None:
            return self.command_timeout_s
        return min(self.command_timeout_s, max(1.0, self.wall_s - seconds))

    def uncounted(self, usage: Usage | None) -> list[str]:
        """The limits that are set and have no effect, because this usage does not have what they count."""
        usage = usage or Usage()
        counts = {
            "tokens": usage.completion_tokens,
            "context_tokens": usage.prompt_tokens,
            "cost_usd": usage.cost_usd,
        }
        return [name for name, value in counts.items() if getattr(self, name) is not None and value is None]
