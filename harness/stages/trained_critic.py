"""A critic of one's own, opened from the folder that `srft train` wrote.

Reads the folder's `training.json` and weights; writes nothing.

    critic = trained_critic("runs/first/round-000/model/critic")                     # in this process
    critic = trained_critic(folder, judge=JudgeConfig(model="http://localhost:8000/v1#critic"))      # served elsewhere

The folder says how runs are shown to it, so that one served elsewhere is asked as it was trained.
"""

from collections.abc import Callable, Sequence

import msgspec

from srft.agent.models.openai import OpenAIConfig
from srft.critic.distil import Opened, TrainedCritic
from srft.critic.judge.config import JudgeConfig
from srft.env.errors import InputError
from srft.harness.stages.models import check_model, close_model, open_model

NAME = "critic"
"""What it is called where `judge.name` is not set."""


def trained_critic(folder: str, *, judge: JudgeConfig | None = None) -> TrainedCritic:
    """The critic, its model not opened yet. judge: its name and, where it is served, its endpoint and how that is
    reached; what else is set there is for judges that are asked in words. Raises InputError."""
    from srft.train.fit.finetune import read_trained
    from srft.train.fit.weights import weights_id

    judge = judge or JudgeConfig()
    trained = read_trained(folder)
    if trained is None or trained.form is None:
        found = "says nothing of one" if trained else "is not there"
        raise InputError(
            f"critic: local:{folder}: no critic that srft trained (its training.json {found}). Make rows with `srft "
            "rows --for critic` and train on them with `srft train`. A model that is asked in words is served, and "
            "named by its URL."
        )
    form = trained.form
    opened: Callable[[], Opened]
    if judge.model:
        settings = msgspec.structs.replace(judge.endpoint(), temperature=0.0, max_tokens=form.reply_tokens)

        def opened() -> Opened:
            return _served(settings)
    else:
        settings = OpenAIConfig(temperature=0.0, max_tokens=form.reply_tokens)

        def opened() -> Opened:
            return _in_process(folder, settings)

    return TrainedCritic(
        form,
        opened,
        id=weights_id(folder),
        name=NAME if judge.name == JudgeConfig().name else judge.name,
        trained_on=frozenset(trained.task_ids) - frozenset(trained.held_out_tasks),
    )


def _served(settings: OpenAIConfig) -> Opened:
    model = open_model(f"{settings.base_url}#{settings.name}", settings=settings)
    check_model(model)
    return Opened(model, None, lambda: close_model(model))


def _in_process(folder: str, settings: OpenAIConfig) -> Opened:
    from srft.harness.serve.local_model import LocalModel

    model = open_model(f"local:{folder}", settings=settings)
    assert isinstance(model, LocalModel)
    tokenizer = model.engine.renderer.tokenizer

    def pieces(token_ids: Sequence[int]) -> list[str]:
        return [str(tokenizer.decode([token])) for token in token_ids]

    return Opened(model, pieces, model.close)
