"""The oracle's verdicts on the demonstrator's runs, and what it refuses."""

import msgspec
import pytest

from srft.agent.demonstrator.demonstrator import Demonstrator, DemonstratorConfig, ErrorRates, plan
from srft.agent.formats import FORMATS
from srft.agent.records import Step, Trajectory
from srft.critic.labels.labels import Evidence, check_complete
from srft.critic.rules.oracle import OracleCritic
from srft.env.errors import InputError
from srft.harness.stages.critics import open_critic
from tests.agent import demonstrated

TASK = demonstrated.task()
RATES = ErrorRates(wrong_edit=1.0, revert=1.0, wrong_file=1.0, unnecessary=1.0, unfinished=0.0)


def run(*, steps=None, format="backtick", seed=3, attempt=1):
    """A run of the demonstrator as a collection would keep it, the observations apart."""
    episode = Demonstrator([TASK], DemonstratorConfig(rates=RATES), format=format).for_episode(
        TASK.instance_id, attempt, seed
    )
    count = len(plan(TASK, rates=RATES, seed=seed, attempt=attempt)) if steps is None else steps
    replies = [episode.reply([]) for _ in range(count)]
    messages = [FORMATS[format].assistant_message(reply) for reply in replies]
    return Trajectory(
        id="abc",
        task_id=TASK.instance_id,
        repo=TASK.repo,
        model=episode.name,
        sampling=episode.sampling,
        scaffold=f"srft-0/{format}",
        prompt="p",
        seed=seed,
        attempt=attempt,
        messages=tuple(messages),
        steps=tuple(
            Step(index=index, content=message["content"], tool_calls=tuple(message.get("tool_calls", ())))
            for index, message in enumerate(messages)
        ),
        patch=None,
        stop_reason="submitted" if steps is None else "step_limit",
    )


def changed(trajectory, **fields):
    """The trajectory as it is read from a file, with other fields."""
    stored = msgspec.json.decode(msgspec.json.encode(trajectory), type=Trajectory)
    return msgspec.structs.replace(stored, **fields)


@pytest.mark.parametrize("format", FORMATS)
def test_the_verdicts_are_the_plans(format):
    trajectory = changed(run(format=format))
    critique = OracleCritic([TASK]).judge(trajectory, Evidence())
    check_complete(critique.labels, steps=len(trajectory.steps), where="test")
    planned = plan(TASK, rates=RATES, seed=3, attempt=1)
    assert [(label.verdict, label.reason) for label in critique.labels] == [
        (step.verdict, step.reason) for step in planned
    ]
    assert {label.verdict for label in critique.labels} == {"good", "unnecessary", "mistake", "recover"}
    assert (critique.critic, critique.source, critique.trajectory_id) == ("oracle", "oracle", "abc")


def test_a_run_that_was_cut_short():
    labels = OracleCritic([TASK]).judge(run(steps=3), Evidence()).labels
    assert [label.verdict for label in labels] == [
        step.verdict for step in plan(TASK, rates=RATES, seed=3, attempt=1)[:3]
    ]


def test_runs_that_are_refused():
    critic, whole = OracleCritic([TASK]), run()
    other = msgspec.structs.replace(whole.steps[4], content="I do something else.")
    another_fix = demonstrated.task(after=demonstrated.BROKEN.replace("100 +", "1 -"))
    refused = {
        r"run abc \(practice__prices-1 attempt 1\), step 4: ": (
            critic,
            changed(whole, steps=(*whole.steps[:4], other, *whole.steps[5:])),
        ),
        rf"step {len(whole.steps)}: is not": (
            critic,
            changed(whole, steps=(*whole.steps, Step(index=len(whole.steps), content="More."))),
        ),
        r"attempt 0\), step \d+: is not": (critic, changed(whole, attempt=0)),
        r"step \d+: is not": (OracleCritic([another_fix]), whole),
        "is not among the oracle's tasks": (OracleCritic([]), whole),
        "is of the model qwen": (critic, changed(whole, model="qwen")),
        "is of the model demonstrator": (critic, changed(whole, sampling={"temperature": 0})),
    }
    for message, (judge, trajectory) in refused.items():
        with pytest.raises(InputError, match=message):
            judge.judge(trajectory, Evidence())


def test_the_oracle_is_opened_with_tasks():
    critic = open_critic("oracle", tasks=lambda: [TASK])
    assert isinstance(critic, OracleCritic)
    assert critic.fingerprint == OracleCritic([]).fingerprint
    with pytest.raises(InputError, match="needs the tasks"):
        open_critic("oracle")
