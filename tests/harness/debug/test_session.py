"""The session without a terminal: steps by a model and a person, rewinding, forks, tests, critics, saving."""

from contextlib import closing
from pathlib import Path

import msgspec
import pytest

from srft.agent.ending import Ending
from srft.agent.formats import FORMATS
from srft.agent.loop import run_episode
from srft.agent.models.scripted import ScriptedModel
from srft.agent.prompts.prompt import Prompt
from srft.agent.records import Trajectory
from srft.critic.labels.labels import effective_labels
from srft.env.backends import choose_backend
from srft.env.docker.sandbox import OWNER_LABEL
from srft.env.errors import EngineError, InputError
from srft.env.sandbox.owner import owner
from srft.env.swe_env import SweEnv
from srft.env.tasks.task import load_tasks
from srft.env.workspace import WorkspaceSettings
from srft.harness.debug.facts import facts_of
from srft.harness.debug.lines import Fork
from srft.harness.debug.recorded import recorded_run
from srft.harness.run.store import JsonLines, Round, Run
from tests.harness.debug.conftest import REPLIES, TASK, bash

WRITTEN = "```bash\ncat nothing\n```"


def authors(session):
    return [(step.author, step.exit_code) for step in session.episode.steps]


def test_a_session(session, sandbox_kind, tmp_path):
    """Everything once, in each sandbox."""
    with session(sandbox_kind) as at:
        proposal = at.ask()
        assert (proposal.reply.content, proposal.action.arguments) == (REPLIES[0], {"command": "ls"})
        assert at.approve().observation == "answer.txt\nkept.txt\n[exit code 0]\n"

        step = at.edit("echo 42 >answer.txt")
        assert (step.author, step.content) == ("edited", bash("echo 42 >answer.txt"))
        assert "-41\n+42\n" in at.diff()
        assert at.tests().outcome == "resolved"
        assert [label.verdict for label in at.critique().labels] == ["good", "good"]

        at.rewind(1)
        assert (at.step, at.diff(), facts_of(at).outcome) == (1, "", None)
        step = at.write("cat nothing", thought="Let me see.")
        assert (step.author, step.exit_code, step.content) == ("human", 1, "Let me see.\n\n" + WRITTEN)
        assert [label.verdict for label in at.critique().labels] == ["good", "mistake"]
        at.label(1, "mistake", reason="no such file")
        assert at.lines.listed() == [Fork(0, 2, None, 0, None, False), Fork(1, 2, 0, 1, None, True)]
        unfinished = at.save(tmp_path / "run")
        assert (unfinished.attempt, unfinished.stop_reason, unfinished.labels) == (0, "cancelled", 1)

        at.fork(0)
        assert authors(at) == [("model", 0), ("edited", 0)]
        assert (at.labels(), "+42\n" in at.diff(), facts_of(at).outcome) == ({}, True, "resolved")
        assert at.approve().action.tool == "submit"
        assert facts_of(at).stop_reason == "submitted"
        with pytest.raises(InputError, match=r"the episode is over \(submitted\)"):
            at.ask()
        saved = at.save(tmp_path / "run")
        assert (saved.attempt, saved.is_new, saved.graded, saved.human_steps) == (1, True, "resolved", 1)
        assert not at.save(tmp_path / "run").is_new

    round_ = Round(tmp_path / "run" / "round-000")
    runs = list(round_.finished())
    assert [[step.author for step in run.steps] for run in runs] == [["model", "human"], ["model", "edited", "model"]]
    labels = effective_labels(round_.critiques.read(), critics=[])
    assert {step: label.verdict for step, label in labels.items()} == {1: "mistake"}
    (grade,) = round_.grades.read()
    assert str(round_.logs) in grade.log_path
    assert "PASSED test_answer" in Path(grade.log_path).read_text()


def same_but_for_time(run: Trajectory) -> Trajectory:
    steps = tuple(msgspec.structs.replace(step, wall_s=None) for step in run.steps)
    return msgspec.structs.replace(run, steps=steps, wall_s=None, started_at=None)


def test_what_is_approved_is_what_run_episode_would_have_left(session, local, folder, tmp_path):
    with session(local) as at:
        while at.lines.tip.finished is None:
            at.approve()
        at.save(tmp_path / "run")
    (task,) = load_tasks(str(folder / "tasks.jsonl"), only=[TASK])
    config = at.config
    settings = WorkspaceSettings(limits=config.sandbox.limits)
    with closing(SweEnv([task], backend=choose_backend("local"), settings=settings, grade_submission=False)) as env:
        run = run_episode(
            env,
            ScriptedModel.load(folder / "replies.yaml"),
            task=task,
            prompt=Prompt.load("default"),
            fmt=FORMATS["backtick"],
            seed=config.seed,
        )
    (saved,) = Round(tmp_path / "run" / "round-000").trajectories.read()
    assert same_but_for_time(saved) == same_but_for_time(run)


def test_a_reply_of_a_script_belongs_to_its_step(session, local):
    with session(local) as at:
        assert [at.ask().reply.content, at.ask().reply.content] == [REPLIES[0], REPLIES[0]]
        at.write("true")
        assert at.ask().reply.content == REPLIES[1]
        at.rewind(0)
        assert at.ask().reply.content == REPLIES[0]
        at.write("true")
        at.write("true")
        at.write("true")
        with pytest.raises(InputError, match="asked for one more"):
            at.ask()
        at.write("submit")  # a person goes on where the script does not
        assert facts_of(at).stop_reason == "submitted"


def test_a_proposal_that_no_action_can_be_read_from(session, local, folder):
    (folder / "replies.yaml").write_text("['no block', 'still none', 'none at all']")
    with session(local) as at:
        assert at.ask().action is None
        assert at.edit("ls").content == "no block\n\n```bash\nls\n```"
        at.rewind(0)
        assert at.approve().error == "format"
        at.approve()
        at.approve()
        assert facts_of(at).stop_reason == "format_errors"
        at.rewind(1)
        assert at.approve().error == "format"
        assert facts_of(at).stop_reason is None  # the count of errors in a row went back too


def test_an_edit_that_changes_nothing_stays_the_models(session, local):
    with session(local) as at:
        at.ask()
        assert at.edit("ls").author == "model"
        at.ask()
        with pytest.raises(InputError, match="cannot carry this action"):
            at.edit("cat <<X\n```\nX")
        assert at.proposal is not None  # nothing is lost


def test_the_edit_tools_history_goes_back_too(session, local, folder):
    with session(local, model="human", format="xml") as at:
        at.write('{"command": "create", "path": "new.py", "file_text": "x = 1"}', tool="edit")
        at.write('{"command": "undo", "path": "new.py"}', tool="edit")
        assert at.diff() == ""
        at.rewind(1)
        assert "+x = 1\n" in at.diff()
        step = at.write('{"command": "undo", "path": "new.py"}', tool="edit")
        assert step.observation == "Removed /testbed/new.py, which the edit had created.\n[exit code 0]\n"


def test_a_persistent_shell_stands_where_it_stood(session, local):
    with session(local, model="human", sandbox={"mode": "persistent"}) as at:
        at.write("mkdir -p 'a b'; cd 'a b'")
        at.write("cd /")
        at.rewind(1)
        assert at.write("pwd").observation == "/testbed/a b\n[exit code 0]\n"


def test_the_diff_disturbs_nothing(session, local):
    with session(local, model="human") as at:
        at.write("sleep 300 >/dev/null 2>&1 & echo $! >/tmp/pid")
        at.diff()
        assert at.write('kill -0 "$(cat /tmp/pid)"').exit_code == 0


@pytest.mark.engine
def test_a_dead_container_ends_the_episode_and_a_rewind_brings_it_back(session, tiny_image, engine):
    with session("docker", model="human") as at:
        at.write("echo 42 >answer.txt")
        engine.containers.get(at.episode.env.sandbox.container_id).kill()
        assert at.write("ls").error == "infrastructure"
        assert facts_of(at).stop_reason == "infra_error"
        at.rewind(1)
        assert at.write("cat answer.txt").observation == "42\n[exit code 0]\n"


@pytest.mark.engine
def test_nothing_is_left_behind(session, tiny_image, engine):
    def snapshots():
        """This process's: others make and remove images meanwhile."""
        return {image.id for image in engine.images.list(all=True, filters={"label": f"{OWNER_LABEL}={owner()}"})}

    before = snapshots()
    with session("docker") as at:
        at.approve()
        at.rewind(0)
        at.approve()
        container = at.episode.env.sandbox.container_id
        assert snapshots() > before
    assert snapshots() <= before
    assert container not in {container.id for container in engine.containers.list(all=True)}


def test_places_that_are_not_there(session, local):
    with session(local) as at:
        at.approve()
        with pytest.raises(InputError, match="step 2: there is no such place; this line has the places 0 to 1"):
            at.rewind(2)
        with pytest.raises(InputError, match="fork 1: there is none"):
            at.fork(1)
        with pytest.raises(InputError, match="step 1: not taken yet"):
            at.label(1, "good")
        at.label(0, "good")
        at.label(0, None)
        assert at.labels() == {}


@pytest.mark.parametrize("leave", [lambda at: at.rewind(1), lambda at: at.fork(0)])
def test_a_restore_that_fails_leaves_the_session_where_it_was(session, local, monkeypatch, leave):
    with session(local, model="human") as at:
        at.write("echo 42 >answer.txt")
        at.rewind(0)
        for number in range(3):
            at.write(f"echo {number}")
        before = at.lines.listed()
        with monkeypatch.context() as patch:
            patch.setattr(type(at.episode.env.sandbox), "restore", fails)
            with pytest.raises(EngineError):
                leave(at)
        assert at.lines.listed() == before
        assert (at.step, len(at.lines.here.points)) == (3, 4)
        at.label(2, "good")
        assert list(at.labels()) == [2]
        leave(at)
        assert len(at.lines.here.points) == at.step + 1 == 2


def test_a_patch_of_before_is_not_the_end_s(session, local, tmp_path):
    """The agent makes its patch impossible after the critic and a save have seen an earlier one."""
    with session(local, model="human") as at:
        at.write("echo 42 >answer.txt")
        at.critique()
        at.save(tmp_path / "run")
        at.write("rm -rf /var/tmp; touch /var/tmp; echo 999 >answer.txt")
        at.write("submit")
        run = at.trajectory()
        assert (run.stop_reason, run.patch) == ("submitted", None)
        assert run.detail.startswith("PatchError: ")


def test_a_patch_that_cannot_be_taken_is_no_earlier_one(session, local):
    """Of the loop's own episode."""
    with session(local, model="human") as at:
        at.write("echo 42 >answer.txt")
        assert at.episode.finished(Ending("cancelled")).patch.endswith("+42\n")
        at.write("rm -rf /var/tmp; touch /var/tmp")
        assert at.episode.finished(Ending("cancelled")).patch is None


def test_what_is_unsaved(session, local, tmp_path):
    with session(local) as at:
        assert at.unsaved() == []
        at.approve()
        assert at.unsaved() == [0]
        at.save(tmp_path / "run")
        assert at.unsaved() == []
        at.label(0, "good")
        assert at.unsaved() == [0]
        at.save(tmp_path / "run")
        at.rewind(0)
        assert at.unsaved() == []
        at.write("true")
        assert at.unsaved() == [1]
        at.fork(0)
        assert at.unsaved() == [1]
    run = recorded_run(tmp_path / "run" / "round-000" / "trajectories.jsonl", task_id=TASK, attempt=None)
    with session(local, model="human") as at:
        at.replay(run)
        assert at.unsaved() == []
        at.write("true")
        assert at.unsaved() == [0]


def fails(*_: object) -> None:
    raise EngineError("no engine answers")


def test_replay_starts_inside_a_recorded_run(session, local, tmp_path):
    with session(local) as at:
        at.approve()
        at.edit("echo 42 >answer.txt; false")
        at.save(tmp_path / "run")
    path = tmp_path / "run" / "round-000" / "trajectories.jsonl"
    run = recorded_run(path, task_id=TASK, attempt=None)
    with session(local, model="human") as at:
        assert at.replay(run, to=2) == []
        assert authors(at) == [("model", 0), ("edited", 1)]
        at.rewind(1)
        assert at.diff() == ""
        recorded = msgspec.structs.replace(run, steps=(msgspec.structs.replace(run.steps[0], exit_code=3),))
        assert at.replay(recorded) == ["step 1: exit code 0, recorded 3"]
        with pytest.raises(InputError, match="--to 3: the recorded run has 2 steps"):
            at.replay(run, to=3)
    with pytest.raises(InputError, match="no run on other__task-1; name a file that has one"):
        recorded_run(path, task_id="other__task-1", attempt=None)
    with pytest.raises(InputError, match=r"no run on .*, attempt 7; it has the attempts 0"):
        recorded_run(path, task_id=TASK, attempt=7)


def test_a_collected_run_takes_none(session, local, tmp_path):
    with Run(tmp_path / "run"), session(local) as at:
        (tmp_path / "run" / "run.yaml").write_text("collect: {}")
        at.approve()
        with pytest.raises(InputError, match="save into another run"):
            at.save(tmp_path / "run")


def test_older_records_have_an_author(tmp_path):
    """A trajectory of before the field was there is read as the model's."""
    path = tmp_path / "steps.jsonl"
    path.write_text('{"index": 0, "content": "hi"}\n')
    from srft.agent.records import Step

    (step,) = JsonLines(path, Step).read()
    assert step.author == "model"
