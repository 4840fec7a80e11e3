"""The cost of a critique before anybody is asked: runs, questions, tokens, dollars and hours.

Reads what `critique` reads: a round's trajectories, its labels and the evidence. Writes nothing, asks no server.

    with Run("runs/first") as run:
        planned = plan_critique(CritiqueConfig(critic="http://127.0.0.1:8000/v1#qwen"), run)
    planned.cost.prompt_tokens, planned.usd, planned.hours

Every question is written as it will be asked and its tokens are counted: by `judge.openai.tokenizer` where that is
given, else by an estimate. What nobody can know is assumed (`CritiqueAssumptions`): how long answers are and how fast
they come; that every first answer is whole; that a server keeps what it promises of its context.
"""

from collections.abc import Iterator
from typing import Annotated, Any

import msgspec

from srft.agent.records import Trajectory
from srft.critic.judge.config import JudgeConfig
from srft.critic.judge.judge import Judge, text_of
from srft.critic.judge.tokens import TokenCounter
from srft.critic.labels.labels import Evidence
from srft.env.errors import ModelError
from srft.harness.config.config import MORE_THAN_0

# What a chat template puts around a message, and before the answer.
_MESSAGE_TOKENS, _ANSWER_TOKENS = 5, 3


class CritiqueAssumptions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What `--plan` cannot read off the runs."""

    entry_tokens: Annotated[float, MORE_THAN_0] = 90.0
    """Tokens of one step's entry in an answer."""
    analysis_tokens: Annotated[float, msgspec.Meta(ge=0)] = 250.0
    """Tokens of the analysis before the entries, where one is asked for."""
    thinking_tokens: Annotated[float, msgspec.Meta(ge=0)] = 0.0
    """Tokens that the model thinks before it answers."""
    reply_tokens_per_s: Annotated[float, MORE_THAN_0] = 50.0
    """How fast one answer comes, beside the others under way."""
    prompt_tokens_per_s: Annotated[float, MORE_THAN_0] = 5_000.0
    """How fast a question is read."""


class Cost(msgspec.Struct, frozen=True, kw_only=True):
    """What some questions take."""

    calls: int = 0
    """Questions, further votes included."""
    prompt_tokens: int = 0
    reply_tokens: int = 0
    windowed: int = 0
    """Runs that take more than one question a vote."""
    cut: int = 0
    """Steps whose texts are cut to fit the context."""

    def plus(self, other: "Cost") -> "Cost":
        names = self.__struct_fields__
        return Cost(**{name: getattr(self, name) + getattr(other, name) for name in names})

    def usd(self, config: JudgeConfig, *, share: float = 1.0) -> float | None:
        """US dollars at the configured prices, none of it from a cache; `None` where there are no prices."""
        per_prompt, per_reply = config.openai.usd_per_million_prompt, config.openai.usd_per_million_completion
        if per_prompt is None or per_reply is None:
            return None
        return (self.prompt_tokens * per_prompt + self.reply_tokens * per_reply) / 1e6 * share


class CritiquePlan(msgspec.Struct, frozen=True, kw_only=True):
    """What the command would do."""

    critic: str
    runs: dict[str, int]
    """Outcome -> the runs that would be judged."""
    steps: int
    """Of these runs."""
    resumed: int
    """Runs that are judged already."""
    skipped: dict[str, int]
    """Runs that are left out, by reason."""
    failing: dict[str, str]
    """Runs that cannot be asked about -> why."""
    cost: Cost
    usd: float | None
    """US dollars, one request after the other."""
    usd_by_batch: float | None
    """US dollars by batch files."""
    hours: float
    """With so many workers as are configured; a batch takes up to a day for each question that builds on an answer."""
    counted_by: str
    """What counted the tokens."""


def cost_of(judge: Judge, trajectory: Trajectory, evidence: Evidence, assumed: CritiqueAssumptions) -> Cost:
    """One run's questions, if each is answered well. Raises InputError; ModelError where the context is too small."""
    transcript = judge.transcript(trajectory, evidence)
    counter, votes = TokenCounter(judge.config.openai.tokenizer), judge.config.votes
    analysis = assumed.analysis_tokens if judge.config.analysis_chars else 0.0
    prompts = replies = cut = 0.0
    planned = judge.plan(transcript, transcript.whole, transcript.room_chars)
    for number, (window, room_chars) in enumerate(planned):
        messages = transcript.messages(window, room_chars=room_chars)
        prompts += (
            sum(counter.of(text_of(message["content"])) + _MESSAGE_TOKENS for message in messages) + _ANSWER_TOKENS
        )
        prompts += analysis if number else 0.0  # of the window before
        replies += assumed.thinking_tokens + analysis + (window.end - window.first) * assumed.entry_tokens
        cut += transcript.cuts(window, room_chars=room_chars)
    return Cost(
        calls=votes * len(planned),
        prompt_tokens=round(votes * prompts),
        reply_tokens=round(votes * replies),
        windowed=int(len(planned) > 1),
        cut=int(cut),
    )


def nobody(request: Any) -> Any:
    """Stands for the server of a judge that only plans."""
    raise AssertionError("a plan asks nobody")


def summed(
    judge: Judge, runs: Iterator[tuple[Trajectory, Evidence]], assumed: CritiqueAssumptions
) -> tuple[Cost, dict[str, str]]:
    """(the cost of these runs, those that cannot be asked about and why)."""
    total, failing = Cost(), {}
    for trajectory, evidence in runs:
        try:
            total = total.plus(cost_of(judge, trajectory, evidence, assumed))
        except ModelError as error:
            failing[f"{trajectory.task_id} attempt {trajectory.attempt}"] = str(error)
    return total, failing


def hours(cost: Cost, assumed: CritiqueAssumptions, *, workers: int) -> float:
    """Of so many questions at a time."""
    seconds = cost.prompt_tokens / assumed.prompt_tokens_per_s + cost.reply_tokens / assumed.reply_tokens_per_s
    return seconds / workers / 3600
