"""The critic that a configuration names.

open_critic("tool_error"), open_critic("edits"), open_critic("milestones")       # rules
open_critic("file:labels.jsonl"), open_critic("oracle:labels.jsonl")
open_critic("oracle", tasks=lambda: load_tasks("practice"))           # of the demonstrator's runs
open_critic("http://localhost:8000/v1#qwen", judge=JudgeConfig(information="outcome"))
open_critic("local:runs/first/round-000/model/critic")                 # one's own, see `srft rows --for critic`
open_critic("judge", judge=JudgeConfig(model="http://localhost:8000/v1#qwen"))
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

import msgspec

from srft.agent.models.endpoint import read_endpoint
from srft.agent.models.openai import Send
from srft.critic.distil import TrainedCritic
from srft.critic.judge.config import JudgeConfig
from srft.critic.judge.judge import Judge
from srft.critic.labels.labels import Critic
from srft.critic.rules.edits import EditsCritic
from srft.critic.rules.milestones import MilestonesCritic
from srft.critic.rules.oracle import OracleCritic
from srft.env.errors import InputError
from srft.env.tasks.task import Task


def open_critic(
    name: str,
    *,
    judge: JudgeConfig | None = None,
    tasks: Callable[[], Iterable[Task]] | None = None,
    send: Send | None = None,
) -> Critic:
    """The critic, an endpoint not asked yet. tasks: reads those of the runs, for `oracle`. send: answers a judge's
    requests in the place of its server. Raises InputError."""
    kind, _, file = name.partition(":")
    if kind in {"file", "oracle"} and file:
        from srft.critic.labels.label_file import FileCritic

        return FileCritic(file, source="human" if kind == "file" else "oracle")
    if name == "oracle":
        if tasks is None:
            raise InputError("critic: oracle needs the tasks that the runs are on; give them, or labels as oracle:FILE")
        return OracleCritic(tasks())
    if kind == "local" and file:
        from srft.harness.stages.trained_critic import trained_critic

        return trained_critic(file, judge=judge)
    if name == "edits":
        return EditsCritic()
    if name == "milestones":
        return MilestonesCritic()
    if name in {"tool_error", "exploit"}:
        from srft.critic.rules.rules import ExploitCritic, ToolErrorCritic

        return ToolErrorCritic() if name == "tool_error" else ExploitCritic()
    if read_endpoint(name) or name == "judge":
        config = judge or JudgeConfig()
        config = config if name == "judge" else msgspec.structs.replace(config, model=name)
        return Judge(config, send=send)
    raise InputError(
        f"--critic {name}: not a critic. Give tool_error, edits, milestones, exploit, oracle, file:FILE, oracle:FILE, "
        "local:DIR, http://HOST/v1#NAME, openai:NAME, or a judge's YAML file."
    )


def check_critic(critic: Critic) -> None:
    """Ask a judge's server whether it is there, takes the key and knows the model; open a trained critic's model.
    Raises ModelError, InputError."""
    if isinstance(critic, Judge | TrainedCritic):
        critic.check()


@contextmanager
def closing_critic(critic: Critic) -> Iterator[None]:
    """Gives back the memory of a trained critic's model in the end. The others hold nothing."""
    try:
        yield
    finally:
        if isinstance(critic, TrainedCritic):
            critic.close()
