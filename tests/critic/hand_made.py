"""Hand-made steps and the run of them, for the rule critics' tests."""

from srft.agent.records import Action, Step, Trajectory
from srft.critic.labels.labels import Evidence, check_complete

TASK = "Fix it. It broke in 1234abcd5678."


def bash(command, *, exit_code: int | None = 0, observation: str | None = "out", **fields):
    action = Action(tool="bash", arguments={"command": command}, format="backtick")
    return {"action": action, "exit_code": exit_code, "observation": observation, **fields}


def edit(exit_code: int | None = 0, **arguments):
    return {"action": Action(tool="edit", arguments=arguments, format="xml"), "exit_code": exit_code}


def trajectory(*steps):
    return Trajectory(
        id="t",
        task_id="task",
        repo="",
        model="m",
        sampling={},
        scaffold="s",
        prompt="p",
        seed=None,
        attempt=0,
        messages=({"role": "user", "content": TASK}, {"role": "assistant", "content": ""}),
        steps=tuple(Step(**{"index": index, "content": "", **fields}) for index, fields in enumerate(steps)),
        patch=None,
        stop_reason="submitted",
    )


def verdicts(critic, *steps):
    critique = critic.judge(trajectory(*steps), Evidence())
    check_complete(critique.labels, steps=len(steps), where="test")
    return [label.verdict for label in critique.labels]
