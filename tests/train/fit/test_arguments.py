"""A recipe in transformers' words, and the sentences for what cannot be."""

import msgspec
import pytest

from srft.env.errors import InputError
from srft.train.fit.arguments import OURS, REFUSED, training_arguments
from srft.train.fit.recipe import Recipe
from tests.train.training import RECIPE


def arguments(tmp_path, **recipe):
    return training_arguments(msgspec.convert(RECIPE | recipe, Recipe), out=tmp_path, steps=4, evaluates=False)


def test_further_settings_reach_transformers(tmp_path):
    further = {"adam_beta2": 0.95, "adam_epsilon": 1e-6, "ddp_timeout": 7200, "lr_scheduler_kwargs": {"num_cycles": 1}}
    made = arguments(tmp_path, trainer=further)
    assert {name: getattr(made, name) for name in further} == further
    assert (made.learning_rate, made.max_steps, made.gradient_accumulation_steps) == (1e-2, 4, 4)


@pytest.mark.parametrize("name", sorted(OURS))
def test_what_the_recipe_says_itself_is_named(tmp_path, name):
    with pytest.raises(InputError, match=f"recipe: trainer.{name}: the recipe says this itself; set {OURS[name]}"):
        arguments(tmp_path, trainer={name: 1})
    assert hasattr(Recipe, OURS[name])


@pytest.mark.parametrize("name", sorted(REFUSED))
def test_what_the_loss_depends_on_is_refused(tmp_path, name):
    with pytest.raises(InputError, match=f"recipe: trainer.{name}: srft answers for "):
        arguments(tmp_path, trainer={name: True})


@pytest.mark.parametrize(
    ("recipe", "message"),
    [
        ({"trainer": {"adam_beta_2": 0.9}}, "trainer.adam_beta_2: .*no such setting; did you mean adam_beta2"),
        ({"trainer": {"adam_beta2": "high"}}, "trainer.adam_beta2: 'high'; expected float, as 0.999"),
        ({"trainer": {"ddp_timeout": True}}, "trainer.ddp_timeout: True; expected int"),
        ({"trainer": {"hub_strategy": "never"}}, "recipe: trainer: never is not a valid HubStrategy"),
        ({"optimizer": "adam_w"}, "optimizer adam_w: transformers has none of this name; did you mean .*adamw"),
        ({"logger": "wandb"}, "wandb is not installed; install it, or say logger: none"),
        ({"liger": True}, "liger-kernel is not installed; install it, or say liger: false"),
        ({"activation_offload": True}, "activation_offload keeps what gradient_checkpointing saves"),
        ({"micro_batch": 3}, "packs_per_step 4 cannot be divided among 1 processes with micro_batch 3"),
    ],
)
def test_sentences(tmp_path, recipe, message):
    with pytest.raises(InputError, match=message):
        arguments(tmp_path, **recipe)


def test_sharded_gradients_are_sent_after_each_micro_batch_and_checkpoints_are_sharded(tmp_path):
    made = arguments(tmp_path, fsdp=True, gradient_checkpointing=True)
    assert made.accelerator_config.gradient_accumulation_kwargs == {"sync_each_batch": True}
    assert made.fsdp_plugin_args["state_dict_type"] == "SHARDED_STATE_DICT"
    assert (made.fsdp_plugin_args["activation_checkpointing"], made.activation_checkpointing) == (True, False)
    offloaded = arguments(tmp_path, fsdp=True, gradient_checkpointing=True, activation_offload=True)
    assert (offloaded.fsdp_plugin_args["activation_checkpointing"], offloaded.activation_checkpointing) == (False, True)
    assert offloaded.activation_checkpointing_kwargs == {"use_reentrant": False, "offload": True}
