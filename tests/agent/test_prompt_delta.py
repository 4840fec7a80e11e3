"""Prompt ids by what they add; how an episode keeps them is in test_loop.py."""

import doctest

from srft.agent import prompt_delta
from srft.agent.prompt_delta import delta_encode, prompts
from srft.agent.records import Step


def test_doctests():
    assert doctest.testmod(prompt_delta).failed == 0


def test_delta_encode():
    assert delta_encode((1, 2, 3), None) is None
    assert delta_encode((), (1,)) == (0, (1,))
    assert delta_encode((1, 2, 3), (1, 2)) == (2, ())
    assert delta_encode((1, 2), (1, 2, 3)) == (2, (3,))


def test_prompts_begins_anew_behind_a_step_without_ids():
    steps = [
        Step(index=0, content="", prompt_shared=0, prompt_token_ids=(1, 2), token_ids=(3,)),
        Step(index=1, content="", prompt_shared=3, prompt_token_ids=(4,)),
        Step(index=2, content="", token_ids=(9,)),
        Step(index=3, content="", prompt_shared=0, prompt_token_ids=(1, 5)),
    ]
    assert list(prompts(steps)) == [(1, 2), (1, 2, 3, 4), None, (1, 5)]
