"""A prompt's token ids as what they add to the step before: a run repeats its beginning in every request.

Reads and gives ids in memory: `loop.py` keeps what `delta_encode` gives in each Step; `prompts` gives the prompts back.

    delta_encode((1, 2, 3), (1, 2, 3, 4))                 # PromptDelta(shared=3, token_ids=(4,))
    [len(ids) for ids in prompts(trajectory.steps)]       # [812, 1190, 1544]

What came before is the prompt and the reply of the step before. A server that gave no ids for a step breaks the chain:
the step after it is encoded whole.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from srft.agent.records import Step


class PromptDelta(NamedTuple):
    """A prompt's ids as the number it shares with what came before, and the rest."""

    shared: int
    token_ids: tuple[int, ...]


def delta_encode(before: Sequence[int], prompt: Sequence[int] | None) -> PromptDelta | None:
    """A prompt against the prompt and reply of the step before.

    >>> delta_encode((1, 2, 3), (1, 2, 9, 4))
    PromptDelta(shared=2, token_ids=(9, 4))
    """
    if prompt is None:
        return None
    shared = next(
        (place for place, (old, new) in enumerate(zip(before, prompt, strict=False)) if old != new),
        min(len(before), len(prompt)),
    )
    return PromptDelta(shared, tuple(prompt[shared:]))


def prompts(steps: Iterable[Step]) -> Iterator[tuple[int, ...] | None]:
    """The whole prompt ids of each step, from what `delta_encode` kept. `None` where the server gave none."""
    before: tuple[int, ...] = ()
    for step in steps:
        if step.prompt_token_ids is None:
            before = ()
            yield None
        else:
            prompt = (*before[: step.prompt_shared], *step.prompt_token_ids)
            before = (*prompt, *(step.token_ids or ()))
            yield prompt
