"""Records and configurations: each field says what it is."""

import ast
import inspect

import pytest

from srft.agent.ending import Ending
from srft.agent.importing.columns import Columns, Dataset
from srft.agent.importing.readers import RawRun, Reader, Tally
from srft.agent.importing.readers.conversation import Line, Recorded
from srft.agent.importing.readers.source import Source
from srft.agent.limits import EpisodeLimits
from srft.agent.loop import Episode
from srft.agent.models.contract import Reply
from srft.agent.models.openai import OpenAIConfig
from srft.agent.records import Action, Step, Trajectory, Usage, trajectory_id

DOCUMENTED = (Usage, Action, Step, Trajectory, Reply, OpenAIConfig, EpisodeLimits, Episode, Ending)
IMPORTING = (Columns, Dataset, RawRun, Reader, Tally, Line, Recorded, Source)


@pytest.mark.parametrize("record", [*DOCUMENTED, *IMPORTING])
def test_every_field_has_a_docstring_below_it(record):
    (definition,) = ast.parse(inspect.getsource(record)).body
    below = zip(definition.body, [*definition.body[1:], ast.Pass()], strict=True)
    bare = [
        node.target.id
        for node, after in below
        if isinstance(node, ast.AnnAssign)
        and not (isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant) and after.value.value)
    ]
    assert bare == []


def test_the_id_of_a_trajectory_is_its_content():
    content = {"task_id": "a__b-1", "model": "m", "attempt": 0, "messages": [{"role": "user", "content": "T"}]}
    assert trajectory_id(**content) == trajectory_id(**content | {"messages": ({"content": "T", "role": "user"},)})
    others = ({"task_id": "a__b-2"}, {"model": "n"}, {"attempt": 1}, {"messages": []})
    assert len({trajectory_id(**content | other) for other in ({}, *others)}) == 5
    assert len(trajectory_id(**content)) == 16
