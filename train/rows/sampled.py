"""Token ids as they were asked and sampled, for runs that have them.

Reads a trajectory, its turns in text and a tokenizer; writes nothing.

    why_not_sampled(run, turns, decode=decode, size=len(tokenizer))       # None, or "sampled_incomplete"
    sampled_rows(run, stop_ids, action=action, remarks=remarks)

The ids are taken when they are there for every step, are of this vocabulary, are this reply's, and stand behind the
prompt that this template shows.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from itertools import chain

from srft.agent.records import Step, Trajectory
from srft.train.rows.tokenized_row import RowBuilder, TokenizedRow
from srft.train.rows.turns import Turn, holds


def why_not_sampled(
    trajectory: Trajectory, rows: list[list[Turn]], *, decode: Callable[[Sequence[int]], str], size: int
) -> str | None:
    """Why the sampled ids are not taken, `None` where they are. size: of the vocabulary."""
    if not all(step.token_ids and step.prompt_token_ids is not None for step in trajectory.steps):
        return "sampled_incomplete"
    starts = {row[0].step for row in rows}
    before = ""
    for step, turn in zip(trajectory.steps, chain.from_iterable(rows), strict=True):
        ids, asked = step.token_ids or (), step.prompt_token_ids or ()
        if max((*ids, *asked)) >= size:
            return "other_tokenizer"
        before = turn.context if step.index in starts else before + turn.context
        prompt = decode(asked)
        if before != prompt if not step.prompt_shared else not before.endswith(prompt):
            return "other_prompt"
        if not holds(step, decode(ids)):
            return "other_reply" if step.tool_calls else "other_tokenizer"
        counted = step.usage.completion_tokens if step.usage else None
        if counted is not None and abs(counted - len(ids)) > 1:
            return "sampled_incomplete"
        before += turn.reply + turn.shown
    return None


def sampled_rows(
    trajectory: Trajectory,
    stop_ids: Sequence[int],
    *,
    action: Callable[[Step, list[int]], slice],
    remarks: Counter[str],
) -> list[TokenizedRow]:
    """The rows; a prompt that does not repeat what was sampled starts one, and is counted.

    stop_ids: at which a turn may end, that of plain text first, that of a call last. action: which of a reply's tokens
    are its action.
    """
    rows: list[TokenizedRow] = []
    row = RowBuilder()
    asked: list[int] = []  # the prompt and the reply of the step before; `prompt_shared` tells what a prompt repeats
    for step in trajectory.steps:
        prompt = [*asked[: step.prompt_shared], *(step.prompt_token_ids or ())]
        shared = len(row)
        if prompt[:shared] != row.ids:
            rows.append(row.tokenized("sampled"))
            remarks["sampled_drift"] += 1
            row, shared = RowBuilder(), 0
        row.add_context(prompt[shared:])
        sampled = list(step.token_ids or ())
        asked = prompt + sampled
        stopped = sampled[-1] in stop_ids
        said = sampled[:-1] if stopped else sampled
        row.add_reply(step.index, said, action(step, said))
        if stopped:
            row.add_end(step.index, sampled[-1:])
        elif step.finish_reason in ("stop", "tool_calls"):
            # A server may keep the token that ended the turn to itself; the next prompt shows it.
            row.add_end(step.index, [stop_ids[-1 if step.tool_calls else 0]])
    return [*rows, row.tokenized("sampled")]
