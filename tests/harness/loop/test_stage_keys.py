"""Stage keys: what changes them, and what does not."""

import doctest

from srft.agent.limits import EpisodeLimits
from srft.harness.config.config import EpisodesConfig
from srft.harness.loop import stage_keys
from srft.harness.loop.stage_keys import essence, trained_by
from srft.train.fit.recipe import Assumptions, Recipe


def test_doctests():
    assert doctest.testmod(stage_keys).failed == 0


def test_how_many_work_at_a_time_is_in_no_key():
    assert essence(EpisodesConfig(workers=16, warm=False)) == {}


def test_what_decides_an_episode_is_in_the_key():
    changed = EpisodesConfig(attempts=3, seed=1, episode=EpisodeLimits(steps=6))
    assert essence(changed) == {"attempts": 3, "seed": 1, "episode": {"steps": 6}}


def test_what_a_recipe_says_about_itself_is_in_no_key():
    recipe = Recipe(model="m")
    told = Recipe(model="m", about="A recipe.", plan=Assumptions(rows=5))
    assert trained_by(told) == trained_by(recipe)
    assert trained_by(Recipe(model="m", seed=1)) != trained_by(recipe)
