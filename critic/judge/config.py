"""The configuration of a judge: what `srft critique` takes as a YAML file, or below `judge:` in its configuration.

model: http://127.0.0.1:8000/v1#qwen
prompt: propagating
context_tokens: 32768
thinking_tokens: 0
    openai: {temperature: 0.0}
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec

from srft.agent.models.endpoint import Endpoint, read_endpoint
from srft.agent.models.openai import OpenAIConfig
from srft.critic.judge.prompt import JudgePrompt
from srft.critic.labels.labels import JudgeInformation
from srft.env.errors import InputError
from srft.env.identity import MAY_CHANGE, decides_by, identity, resolved_path

# Raise it when code changes what comes of the same answers (questions, reading, merging, voting, the leak guard).
JUDGE_VERSION = 3

# An entry of the answer besides its command and its reason, and the object around the entries.
ENTRY_CHARS = 100

_MORE_THAN_0 = msgspec.Meta(gt=0)
_NOT_NEGATIVE = msgspec.Meta(ge=0)


def _served_name(model: str, *, base: Path, record: Any) -> str:
    """The model's name at its endpoint, wherever that is."""
    endpoint = read_endpoint(model)
    return (endpoint.name if endpoint else "") or str(record.openai.name)


def _prompt_id(name: str, *, base: Path, record: Any) -> str:
    """The prompt by its texts."""
    is_file = Path(name).suffix in {".yaml", ".yml"}
    return JudgePrompt.load(resolved_path(name, base) if is_file else name).fingerprint


class JudgeConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which model judges, what it sees, and how it is asked."""

    name: Annotated[str, MAY_CHANGE] = "judge"
    """The name under which its labels are asked for."""
    model: Annotated[str, decides_by(_served_name)] = ""
    """The endpoint, `http://HOST/v1#NAME` or `openai:NAME`."""
    openai: OpenAIConfig = OpenAIConfig()
    """How it is reached and samples; a temperature that is not set is the server's."""
    prompt: Annotated[str, decides_by(_prompt_id)] = "default"
    """`default`: a step answers for its own harm. `propagating`: steps that build on an error are mistakes too, as
    AgentProcessBench labels them. Or a YAML file."""
    information: JudgeInformation = "outcome_if_known"
    """What it sees besides the run: nothing (`none`), the outcome where it is known (`outcome_if_known`), the outcome
    of every run (`outcome`), or that and the test log (`test_log`) or the reference fix (`gold_patch`)."""
    votes: Annotated[int, _MORE_THAN_0] = 1
    """Samples a run, with the seeds `seed`, `seed` + 1, ..."""
    seed: Annotated[int, _NOT_NEGATIVE] = 0
    """The first sample's seed."""
    schema: bool | Literal["auto"] = "auto"
    """Whether to constrain the answer by a JSON schema. `auto`: as far as the server takes one (see `schemas.py`)."""
    context_tokens: Annotated[int, _MORE_THAN_0] | None = None
    """The model's context. `null`: not known, so a run is asked about as a whole until the server says, or its count of
    tokens shows, that it is too long."""
    chars_per_token: Annotated[float, _MORE_THAN_0] = 3.0
    """Characters of a token, to stay within the context; low is safe."""
    overlap_steps: Annotated[int, _NOT_NEGATIVE] = 3
    """Steps that neighbouring windows share."""
    min_text_chars: Annotated[int, _MORE_THAN_0] = 4_000
    """A run that does not fit the context has its longest texts cut in their middle, to no less than this; one that
    does not fit even so is asked about in windows, whole texts in each."""
    evidence_chars: Annotated[int, _MORE_THAN_0] = 12_000
    """Where the run's patch, the test log and the reference fix are cut in their middle, each."""
    analysis_chars: Annotated[int, _NOT_NEGATIVE] = 1_200
    """The longest analysis of the run that is asked for before the verdicts; 0: none. Windows hand it on."""
    command_chars: Annotated[int, _NOT_NEGATIVE] = 40
    """How much of its step's command each entry repeats, which proves that it is about that step; 0: nothing."""
    reason_chars: Annotated[int, _MORE_THAN_0] = 200
    """The longest reason that is asked for. The schema enforces it, and servers pay for it: xgrammar, which vLLM uses,
    took 3 s for 120 and 6 s for 300 to compile each new schema on a slow CPU, 0.1 s without a limit."""
    thinking_tokens: Annotated[int, _NOT_NEGATIVE] | None = None
    """What the model may think before it answers, 0 for one that does not think. With it, each call is limited to this
    and what its entries take, so that a model that runs on costs little; without it, the server's limit holds.
    `openai.max_tokens` is a limit of its own, the same for each call."""
    repairs: Annotated[int, _NOT_NEGATIVE] = 3
    """How often what an answer misses is asked for; it ends earlier when an answer adds nothing."""
    stream: Annotated[bool, MAY_CHANGE] = False
    """Take the answers as streams: for servers and proxies that give up on long answers."""
    cache_control: Annotated[bool, MAY_CHANGE] = False
    """Mark what questions share for prompt caches that want it marked (Anthropic's models, through most routers)."""

    @property
    def context_chars(self) -> float | None:
        return None if self.context_tokens is None else self.context_tokens * self.chars_per_token

    @property
    def entry_chars(self) -> int:
        """What an entry of the answer takes at most."""
        return ENTRY_CHARS + self.command_chars + self.reason_chars

    def answer_tokens(self, steps: int) -> int | None:
        """The limit of a call that asks for so many entries; `None` leaves it to the server."""
        if self.openai.max_tokens is not None or self.thinking_tokens is None:
            return self.openai.max_tokens
        answer_chars = self.analysis_chars + (steps + 1) * self.entry_chars
        return self.thinking_tokens + math.ceil(answer_chars / self.chars_per_token)

    def endpoint(self) -> OpenAIConfig:
        """The model's server and sampling. Raises InputError."""
        named = Endpoint("", "") if not self.model and self.openai.base_url else read_endpoint(self.model)
        served_name = (named.name if named else "") or self.openai.name
        if named is None or not served_name:
            raise InputError(
                f"judge.model: {self.model!r} is not an endpoint; expected http://HOST/v1#NAME or openai:NAME"
            )
        if self.votes > 1 and self.openai.temperature == 0:
            raise InputError(
                f"judge.votes: {self.votes} votes at temperature 0 are one vote; set judge.openai.temperature, say to "
                "0.7, or votes to 1"
            )
        # Token ids and logprobs are for training, and a judge's answer is not trained on.
        return msgspec.structs.replace(
            self.openai,
            base_url=named.url or self.openai.base_url,
            name=served_name,
            logprobs=False,
            return_token_ids=False,
        )

    def settings(self) -> dict[str, Any]:
        """All that the verdicts depend on: not where the server is, how it is reached, or what it costs. Raises
        InputError for a model or a prompt that cannot be."""
        self.endpoint()
        return {"judge_version": JUDGE_VERSION, **identity(self, base=Path())}
