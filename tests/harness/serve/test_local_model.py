"""The engine as a Model: seeds, settings, a conversation's ids, and rows that go on without a break."""

import msgspec
import pytest

from srft.agent.models.human import HumanModel
from srft.agent.models.openai import OpenAIConfig
from srft.agent.prompt_delta import delta_encode
from srft.env.errors import InputError, ModelError
from srft.harness.config.config import CollectConfig
from srft.harness.serve.local_model import LocalModel
from srft.harness.stages.models import close_model, configured_model
from srft.train.rows.render import Renderer
from tests.train.conftest import make_run

ASKED = [{"role": "user", "content": "Say something."}]


def test_an_episode_repeats_itself_and_its_replies_differ(tiny_engine):
    model = LocalModel(tiny_engine, OpenAIConfig(temperature=1.0, max_tokens=12), name="m")
    one, same, other = (model.for_episode("t", 0, seed) for seed in (7, 7, 8))
    first = [one.reply(ASKED).token_ids for _ in range(2)]
    assert [same.reply(ASKED).token_ids for _ in range(2)] == first
    assert first[0] != first[1]
    assert other.reply(ASKED).token_ids != first[0]
    assert one.sampling == {"temperature": 1.0, "max_tokens": 12, "seed": 7}


def test_a_reply_says_what_was_asked_and_sampled(tiny_engine):
    reply = LocalModel(tiny_engine, OpenAIConfig(temperature=0, max_tokens=5), name="m").reply(ASKED)
    assert len(reply.token_ids) == len(reply.logprobs) == reply.usage.completion_tokens <= 5
    assert len(reply.prompt_token_ids) == reply.usage.prompt_tokens
    assert reply.vocabulary == tiny_engine.renderer.vocabulary
    assert tiny_engine.decode(reply.prompt_token_ids) == (
        "<|im_start|>user\nSay something.<|im_end|>\n<|im_start|>assistant\n"
    )


def test_what_an_episode_sampled_trains_as_one_row(tiny_engine, base):
    """Prompts go on from what was sampled, though these random replies would be encoded otherwise."""
    settings = OpenAIConfig(temperature=1.0, max_tokens=20, extra_body={"ignore_eos": True})
    model = LocalModel(tiny_engine, settings, name="m").for_episode("t", 0, 3)
    messages, steps, seen = [*ASKED], [], ()
    for index in range(4):
        reply = model.reply(messages)
        delta = delta_encode(seen, reply.prompt_token_ids)
        seen = (*reply.prompt_token_ids, *reply.token_ids)
        assert delta.shared == (0 if index == 0 else delta.shared)
        messages += [{"role": "assistant", "content": reply.content}, {"role": "user", "content": f"And {index}?"}]
        steps.append((reply, delta))
        assert reply.usage.cached_tokens >= (0 if index == 0 else len(steps[-2][0].prompt_token_ids))
    run = make_run([reply.content for reply, _ in steps])
    run = msgspec.structs.replace(
        run,
        messages=tuple(messages[:-1]),
        steps=tuple(
            msgspec.structs.replace(
                step,
                prompt_shared=delta.shared,
                prompt_token_ids=delta.token_ids,
                token_ids=reply.token_ids,
                finish_reason=reply.finish_reason,
            )
            for step, (reply, delta) in zip(run.steps, steps, strict=True)
        ),
    )
    rendering = Renderer.load(base).render(run)
    assert [row.mask_source for row in rendering.rows] == ["sampled"]
    assert dict(rendering.remarks) == {}


def test_settings_that_it_does_not_know_are_refused(tiny_engine):
    with pytest.raises(
        InputError, match="unknown field `presence_penalty`; the engine in this process knows temperature"
    ):
        LocalModel(tiny_engine, OpenAIConfig(extra_body={"presence_penalty": 0.1}), name="m")
    with pytest.raises(InputError, match="`float` >= 0"):
        LocalModel(tiny_engine, OpenAIConfig(temperature=-1), name="m")


def test_the_model_of_a_collection_is_closed(base):
    config = CollectConfig(tasks="t", model=f"local:{base}", openai=OpenAIConfig(max_tokens=2))
    model = configured_model(config, [])
    assert model.name == base.name
    close_model(model)
    close_model(model)
    with pytest.raises(ModelError):
        model.reply(ASKED)


def test_a_model_that_holds_nothing_needs_no_closing():
    close_model(HumanModel())
