"""Models that reply from a file: `ScriptedModel` from a script, `ReplayModel` from recorded runs.

A script is YAML, or JSONL whose lines are put together:

    flask__flask-1: ["I look.\\n```bash\\nls\\n```", "Done.\\n```bash\\nsubmit\\n```"]
    flask__flask-1#1: [...]        # the second attempt, where it differs

or a plain list of replies, the same for every task. A reply is its text, or an object with the keys of `Reply`.

    ScriptedModel.load("script.yaml").for_episode("flask__flask-1", attempt=0, seed=None).reply([]).content
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import yaml

from srft.agent.importing.importers import read_runs
from srft.agent.models.contract import Reply, well_formed, well_formed_within
from srft.agent.records import Step
from srft.env.errors import InputError


class ScriptExhausted(InputError):
    """The episode wants more replies than its script has."""


class ScriptedModel:
    """Replies from a script, in order. Each episode has its own place in it.

    scripts: replies by task id, or by "id#attempt", which wins; or one list for every task.
    """

    def __init__(
        self, scripts: Mapping[str, Sequence[str | Reply]] | Sequence[str | Reply], *, name: str = "script"
    ) -> None:
        self.name = well_formed(name)  # a file's name need not be UTF-8
        self.sampling: dict[str, Any] = {}
        self._scripts = scripts

    @classmethod
    def load(cls, path: str | Path) -> ScriptedModel:
        """A script from a .yaml or .jsonl file. Raises InputError."""
        path = Path(path)
        return cls(_read_script(path), name=f"script:{path.name}")

    def for_episode(self, task_id: str, attempt: int, seed: int | None) -> ScriptedEpisode:
        key = f"{task_id}#{attempt}"
        if not isinstance(self._scripts, Mapping):
            return ScriptedEpisode(self._scripts, name=self.name, key=key)
        replies = self._scripts.get(key, self._scripts.get(task_id))
        if replies is None:
            raise InputError(f"{self.name}: no replies for {task_id}, attempt {attempt}; add a key {task_id} or {key}")
        return ScriptedEpisode(replies, name=self.name, key=key)

    def reply(self, messages: Sequence[dict[str, Any]], *, tools: Sequence[dict[str, Any]] = ()) -> Reply:
        raise AssertionError("call for_episode first: each episode has its own place in the script")


class ScriptedEpisode:
    """One episode's place in a script."""

    def __init__(self, replies: Sequence[str | Reply], *, name: str, key: str) -> None:
        self.name = name
        self.sampling: dict[str, Any] = {}
        self._replies = replies
        self._key = key
        self._next = 0

    def for_episode(self, task_id: str, attempt: int, seed: int | None) -> ScriptedEpisode:
        """This script from its start."""
        return ScriptedEpisode(self._replies, name=self.name, key=self._key)

    def reply(self, messages: Sequence[dict[str, Any]], *, tools: Sequence[dict[str, Any]] = ()) -> Reply:
        if self._next == len(self._replies):
            raise ScriptExhausted(
                f"{self.name}: {self._key} has {self._next} replies and was asked for one more; end the script with a "
                "reply that submits"
            )
        reply = self._replies[self._next]
        self._next += 1
        return _well_formed(reply if isinstance(reply, Reply) else Reply(content=reply, finish_reason="stop"))


class ReplayModel(ScriptedModel):
    """The replies of recorded runs, of any system, to the character. Attempt k gets the k-th run of its task."""

    @classmethod
    def load(cls, path: str | Path) -> ReplayModel:
        """Raises InputError."""
        scripts = {
            f"{run.task_id}#{run.attempt}": tuple(recorded_reply(step) for step in run.steps) for run in read_runs(path)
        }
        return cls(scripts, name=f"replay:{Path(path).name}")


def recorded_reply(step: Step) -> Reply:
    """A recorded step as the reply that it was."""
    return Reply(
        content=step.content,
        reasoning=step.reasoning,
        tool_calls=step.tool_calls,
        finish_reason="stop",
        author=step.author,
    )


def _well_formed(reply: Reply) -> Reply:
    """The reply as a file can take it: JSON and YAML can spell lone surrogates."""
    names = ("content", "reasoning", "tool_calls", "finish_reason")
    return msgspec.structs.replace(reply, **{name: well_formed_within(getattr(reply, name)) for name in names})


def _read_script(path: Path) -> dict[str, tuple[str | Reply, ...]] | tuple[str | Reply, ...]:
    try:
        text = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error}); expected a script of replies") from None
    if path.suffix != ".jsonl":
        try:
            content = yaml.safe_load(text)
        except yaml.YAMLError as error:
            raise InputError(f"{path}: not YAML ({' '.join(str(error).split())})") from None
        if isinstance(content, list):
            return _replies(content, str(path))
        return _by_task(content, str(path))
    scripts: dict[str, tuple[str | Reply, ...]] = {}
    for number, line in enumerate(text.split(b"\n"), 1):
        if line.strip():
            try:
                content = json.loads(line)
            except ValueError as error:
                raise InputError(f"{path}:{number}: not JSON ({error})") from None
            scripts |= _by_task(content, f"{path}:{number}")
    return scripts


def _by_task(content: Any, where: str) -> dict[str, tuple[str | Reply, ...]]:
    if not isinstance(content, dict):
        raise InputError(f"{where}: expected task ids with lists of replies, got {type(content).__name__}")
    return {str(key): _replies(replies, f"{where}: {key}") for key, replies in content.items()}


def _replies(content: Any, where: str) -> tuple[str | Reply, ...]:
    try:
        return msgspec.convert(content, tuple[str | Reply, ...])
    except msgspec.ValidationError as error:
        raise InputError(f"{where}: expected a list of replies ({error})") from None
