"""The space of texts, and how texts travel between the processes of an asynchronous vector environment."""

import json
from copy import deepcopy
from typing import Any

import gymnasium
import pytest
from gymnasium.vector import AsyncVectorEnv

from srft.env.text_space import UnicodeText

ODD = "aé漢😀 \u2028\n\x00\ud83d"


class Echo(gymnasium.Env[str, str]):
    """Observes the last action."""

    def __init__(self) -> None:
        self.action_space = UnicodeText(100, examples=("a", "b"))
        self.observation_space = UnicodeText(10, examples=("",))

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[str, dict[str, Any]]:
        super().reset(seed=seed)
        return "begun", {}

    def step(self, action: str) -> tuple[str, float, bool, bool, dict[str, Any]]:
        return action, 0.0, False, False, {}


def test_the_space() -> None:
    space = UnicodeText(3, examples=("pwd", "ls"), seed=1)
    assert [space.contains(x) for x in ("", "abc", "é😀", "abcd", 3, None)] == [True, True, True, False, False, False]
    assert {space.sample() for _ in range(50)} == {"pwd", "ls"}
    assert space == UnicodeText(3, examples=()) != UnicodeText(4, examples=("pwd", "ls"))
    assert space.from_jsonable(json.loads(json.dumps(space.to_jsonable(["a", "é"])))) == ["a", "é"]
    with pytest.raises(ValueError, match="neither a mask"):
        space.sample(mask=1)


@pytest.mark.parametrize("copy", [True, False])
def test_texts_arrive_from_other_processes(copy: bool) -> None:
    vector = AsyncVectorEnv([Echo, Echo], copy=copy)
    first, _ = vector.reset()
    assert tuple(first) == ("begun", "begun")
    second, *_ = vector.step((ODD, "x" * 10))
    assert tuple(second) == (ODD, "x" * 10)
    third, *_ = vector.step(("", "é"))
    assert tuple(third) == ("", "é")
    assert tuple(first) == (("begun", "begun") if copy else ("", "é"))
    assert (third[-1], tuple(third[:1]), len(third), deepcopy(third)) == ("é", ("",), 2, ("", "é"))
    vector.close()


def test_a_text_that_has_no_room_is_an_error() -> None:
    vector = AsyncVectorEnv([Echo])
    vector.reset()
    with pytest.raises(ValueError, match=r"a text of 11 characters; UnicodeText\(10\) has room for 10"):
        vector.step(("x" * 11,))
    vector.close(terminate=True)
