"""How a judge is set up: what `srft critique` takes as a YAML file, or below `judge:` in its configuration.

model: http://127.0.0.1:8000/v1#qwen
information: outcome
context_tokens: 32768
thinking_tokens: 0
    openai: {temperature: 0.0}
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec

from srft.agent.models.openai import OpenAIConfig
from srft.critic.judge.prompt import JudgePrompt
from srft.critic.labels.labels import JudgeInformation
from srft.env.errors import InputError
from srft.env.identity import MAY_CHANGE, decides_by, identity, resolved_path

# Raise it when code changes what comes of the same answers (reading, merging, voting, the leak guard).
JUDGE_VERSION = 2

# An entry of the answer besides its reason, and the object around the entries.
ENTRY_CHARS = 100

_MORE_THAN_0 = msgspec.Meta(gt=0)
_NOT_NEGATIVE = msgspec.Meta(ge=0)


def _served_name(model: str, *, base: Path, record: Any) -> str:
    """The model's name at its endpoint, wherever that is."""
    return model.partition("#")[2] or str(record.openai.name)


def _prompt_id(name: str, *, base: Path, record: Any) -> str:
    """The prompt by its texts."""
    is_file = Path(name).suffix in {".yaml", ".yml"}
    return JudgePrompt.load(resolved_path(name, base) if is_file else name).fingerprint


class JudgeConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which model judges, what it sees, and how it is asked.

    name: under which its labels are asked for. model: an endpoint, `http://HOST/v1#NAME`; `openai`: how it samples
    (a temperature that is not set is the server's).
    information: what it sees besides the run: `outcome`, or that and the test log or the reference fix.
    votes: samples a run, with the seeds `seed`, `seed` + 1, ...
    schema: constrain the answer by a JSON schema; `auto`: unless the server refuses that.
    context_tokens: the model's context; `null`: not known, a run is asked about as a whole until the server says that
    it is too long. chars_per_token: for estimates; low is safe. overlap_steps: what neighbouring windows share.
    task_chars, content_chars, observation_chars, evidence_chars: where texts are cut in their middle: the task; what a
    step thinks, says and calls, each; what it sees; the run's patch, the test log and the reference fix, each.
    reason_chars: the longest reason that is asked for. The schema enforces it, and servers pay for it: xgrammar, which
    vLLM uses, took 3 s for 120 and 6 s for 300 to compile each new schema on a slow CPU, 0.1 s without a limit.
    thinking_tokens: what the model may think before it answers, 0 for one that does not think. With it, each call is
    limited to this and what its entries take, so that a model that runs on costs little; without it, the server's
    limit holds. `openai.max_tokens` is a limit of its own, the same for each call.
    """

    name: Annotated[str, MAY_CHANGE] = "judge"
    model: Annotated[str, decides_by(_served_name)] = ""
    openai: OpenAIConfig = OpenAIConfig()
    prompt: Annotated[str, decides_by(_prompt_id)] = "default"
    information: JudgeInformation = "none"
    votes: Annotated[int, _MORE_THAN_0] = 1
    seed: Annotated[int, _NOT_NEGATIVE] = 0
    schema: bool | Literal["auto"] = "auto"
    context_tokens: Annotated[int, _MORE_THAN_0] | None = None
    chars_per_token: Annotated[float, _MORE_THAN_0] = 3.0
    overlap_steps: Annotated[int, _NOT_NEGATIVE] = 3
    task_chars: Annotated[int, _MORE_THAN_0] = 12_000
    content_chars: Annotated[int, _MORE_THAN_0] = 6_000
    observation_chars: Annotated[int, _MORE_THAN_0] = 4_000
    evidence_chars: Annotated[int, _MORE_THAN_0] = 12_000
    reason_chars: Annotated[int, _MORE_THAN_0] = 200
    thinking_tokens: Annotated[int, _NOT_NEGATIVE] | None = None

    @property
    def context_chars(self) -> float | None:
        return None if self.context_tokens is None else self.context_tokens * self.chars_per_token

    @property
    def entry_chars(self) -> int:
        """What an entry of the answer takes at most."""
        return ENTRY_CHARS + self.reason_chars

    def answer_tokens(self, steps: int) -> int | None:
        """The limit of a call that asks for so many entries; `None` leaves it to the server."""
        if self.openai.max_tokens is not None or self.thinking_tokens is None:
            return self.openai.max_tokens
        return self.thinking_tokens + math.ceil((steps + 1) * self.entry_chars / self.chars_per_token)

    def endpoint(self) -> OpenAIConfig:
        """The model's server and sampling. Raises InputError."""
        url, _, served_name = self.model.partition("#")
        url, served_name = url or self.openai.base_url, served_name or self.openai.name
        if not url.startswith(("http://", "https://")) or not served_name:
            raise InputError(f"judge.model: {self.model!r} is no endpoint; expected http://HOST/v1#NAME")
        if self.votes > 1 and self.openai.temperature == 0:
            raise InputError(
                f"judge.votes: {self.votes} votes at temperature 0 are one vote; set judge.openai.temperature, say to "
                "0.7, or votes to 1"
            )
        # Token ids and logprobs are for training, and a judge's answer is not trained on.
        return msgspec.structs.replace(
            self.openai, base_url=url, name=served_name, logprobs=False, return_token_ids=False
        )

    def settings(self) -> dict[str, Any]:
        """All that the verdicts depend on: not where the server is, how it is reached, or what it costs. Raises
        InputError for a model or a prompt that cannot be."""
        self.endpoint()
        return {"judge_version": JUDGE_VERSION, **identity(self, base=Path())}
