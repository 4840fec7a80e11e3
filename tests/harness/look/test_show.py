"""`srft show`: the right run, every verdict, the arm's weights; what an agent printed does nothing to a terminal."""

import json

import msgspec
import pytest
import typer
from typer.testing import CliRunner

from srft.agent.records import Step
from srft.critic.labels.labels import Critique, StepLabel
from srft.env.errors import InputError
from srft.harness.commands.show import show
from srft.harness.look.show import find_run
from srft.harness.run.store import Run
from srft.harness.stages.rows import RowsConfig, make_rows
from srft.train.rows.mask import MaskPolicy
from srft.train.rows.rows import RowSettings, RowTable
from tests.train.byte_tokenizer import byte_tokenizer
from tests.train.conftest import CHATML, make_run

ACT = "I look.\n```bash\nls\n```"
HOSTILE = "\x1b]0;owned\x07[red]not[/red] \u202eevil"


@pytest.fixture
def command():
    app = typer.Typer()
    app.command()(show)

    def invoke(*arguments, **environment):
        result = CliRunner(env=environment).invoke(app, [str(argument) for argument in arguments])
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        assert result.exit_code == 0, result.output
        return result.stdout

    return invoke


def critique(run, critic, verdicts, source="model", **changes):
    labels = tuple(StepLabel(step=number, verdict=verdict, **changes) for number, verdict in enumerate(verdicts))
    return Critique(
        trajectory_id=run.id, task_id=run.task_id, critic=critic, fingerprint=critic, source=source, labels=labels
    )


def shaped(run, **steps):
    """The run with changed steps: s0=dict(exit_code=1)."""
    changed = [msgspec.structs.replace(step, **steps.get(f"s{step.index}", {})) for step in run.steps]
    return msgspec.structs.replace(run, steps=tuple(changed))


@pytest.fixture
def path(tmp_path):
    """Three runs: abc1 and abc2 on a__b-1 (attempts 0 and 1), ffff on c__d-2."""
    first = shaped(make_run([ACT, "Wrong.", "Done."], id="abc1", recorded_resolved=False), s0={"exit_code": 1})
    second = make_run([ACT], id="abc2", attempt=1, recorded_resolved=True)
    third = make_run(["Hm."], [HOSTILE], id="ffff", task_id="c__d-2", stop_reason="step_limit")
    with Run(tmp_path / "run") as run:
        for trajectory in (first, second, third):
            run.round(0).trajectories.append(trajectory)
        run.round(0).critiques.append(critique(first, "judge", ["good", "mistake", None], confidence=0.5))
        run.round(0).critiques.append(critique(first, "judge", ["good", "mistake", "recover"], reason="So."))
        run.round(0).critiques.append(critique(first, "anna", [None, "unnecessary", None], source="human"))
    return tmp_path / "run"


def with_rows(path, tokenizer, **policy):
    folder = path.parent / "tokenizer"
    tokenizer.save_pretrained(folder)
    with Run(path) as run:
        make_rows(RowsConfig(tokenizer=str(folder), policy=MaskPolicy(**policy)), run.round(0))


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("abc1", "abc1"),
        ("f", "ffff"),
        ("a__b-1", "abc1"),
        ("a__b-1#1", "abc2"),
        ("c__d-2", "ffff"),
    ],
)
def test_names(path, name, found):
    assert find_run(path, name).trajectory.id == found


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("abc", r"2 runs begin like that: abc1 \(a__b-1#0\), abc2 \(a__b-1#1\)"),
        ("a__b-1#7", "attempts of a__b-1: 0, 1"),
        ("a__b_1", "did you mean a__b-1"),
        ("zzzzzzzzzzz", "some of its tasks: a__b-1, c__d-2"),
        ("", "some of its tasks"),
    ],
)
def test_a_miss_names_what_is_near(path, name, message):
    with pytest.raises(InputError, match=message):
        find_run(path, name)


def test_an_episode_done_again_is_the_last_one(path):
    with Run(path) as run:
        run.round(0).trajectories.append(make_run(["Again."], id="abc9"))
    assert find_run(path, "a__b-1").trajectory.id == "abc9"
    with pytest.raises(InputError, match="no such run"):
        find_run(path, "abc1")


def test_newer_rounds_come_first(path):
    with Run(path) as run:
        run.round(1).trajectories.append(make_run(["Later."], id="later"))
    assert find_run(path, "a__b-1").trajectory.id == "later"
    assert find_run(path, "a__b-1", round_number=0).trajectory.id == "abc1"
    with pytest.raises(InputError, match="no round 5; check --round: there are rounds 0, 1"):
        find_run(path, "a__b-1", round_number=5)


def test_a_run_with_its_verdicts(path, command):
    printed = command("abc1", "--run", path, "--arm", "srft")
    lines = printed.split("\n")
    assert lines[0] == "a__b-1#0  abc1  m  round-000"
    assert "── step 0  would be trained  exit 1" in lines
    assert "── step 1  would be trained" in lines  # a person called the judge's mistake unnecessary
    assert "   mistake  judge  So." in lines
    assert "   unnecessary  anna (by a person)" in lines
    assert "   recover  judge  So." in lines
    assert "abstained" not in printed  # of the steps that she did not label, a person has said nothing
    assert lines[-4:-1] == [
        "not resolved; stopped: submitted; steps: 3",
        f"not in rows yet: this is what the arm would do. Make the rows: "
        f"srft rows --run {path} --tokenizer D --arm srft",
        "arm srft: if rows were made now: 0 of 3 steps masked",
    ]


def test_without_an_arm_and_of_a_run_that_it_leaves_out(path, command):
    assert command("abc2", "--run", path).split("\n")[-2] == "no arm: --arm shows what one trains"
    printed = command("ffff", "--run", path, "--arm", "srft")
    assert printed.split("\n")[-2] == "arm srft: if rows were made now: leaves this run out: its outcome is not known"


def test_long_texts_are_folded_unless_asked_for(tmp_path, command):
    long = "\n".join(f"line {number}" for number in range(100))
    with Run(tmp_path / "run") as run:
        run.round(0).trajectories.append(make_run([long, "Done."], [long], id="long"))
    folded = command("long", "--run", tmp_path / "run")
    assert "    … 82 lines …" in folded
    assert "  │     … 94 lines …" in folded
    assert "line 50" not in folded
    assert command("long", "--run", tmp_path / "run", "--step", "0").count("line 50\n") == 2
    assert "step 0" not in command("long", "--run", tmp_path / "run", "--step", "1-1")
    for wrong in ("2", "1-0", "x"):
        with pytest.raises(InputError, match="--step"):
            command("long", "--run", tmp_path / "run", "--step", wrong)


@pytest.mark.parametrize("environment", [{}, {"FORCE_COLOR": "1", "TERM": "xterm-256color"}])
def test_what_an_agent_saw_is_inert(path, command, environment):
    printed = command("ffff", "--run", path, **environment)
    assert "␛]0;owned␇[red]not[/red] ⟨U+202E⟩evil" in printed
    assert "\x1b]" not in printed
    assert "\u202e" not in printed


def test_tokens_in_marks(path, command):
    with_rows(path, byte_tokenizer(CHATML), unnecessary=0.0, recover=0.5)
    printed = command("abc1", "--run", path, "--tokens")
    head, _, text = printed.partition("\n")
    shown = find_run(path, "abc1")
    (row,) = shown.rows
    assert head == (
        f"row 0: steps 0 to 2; {len(row.input_ids)} tokens, {row.trained_tokens} trained, 7 masked; rendered"
    )
    assert text == (
        "<|im_start|>system\nYou mend code.<|im_end|>\n<|im_start|>user\nThe total is wrong.<|im_end|>\n"
        f"<|im_start|>assistant\n{{+{ACT}⏹<|im_end|>+}}\n<|im_start|>user\n<returncode>0</returncode>\n0<|im_end|>\n"
        "<|im_start|>assistant\n[-Wrong.⏹<|im_end|>-]\n<|im_start|>user\n<returncode>0</returncode>\n1<|im_end|>\n"
        "<|im_start|>assistant\n{0.5:Done.⏹<|im_end|>}\n"
    )
    assert command("abc1", "--run", path).split("\n")[-2] == (
        f"arm srft: 1 of 3 steps masked; trained tokens: {row.trained_tokens}, rows: 1"
    )
    assert command("abc1", "--run", path, "--tokens", "--step", "1").split("\n")[1] == "[-Wrong.⏹<|im_end|>-]"


def test_tokens_in_colour(path, command):
    with_rows(path, byte_tokenizer(CHATML), unnecessary=0.0)
    printed = command("abc1", "--run", path, "--tokens", FORCE_COLOR="1", TERM="xterm-256color")
    assert "\x1b[9;37;48;5;160m" in printed  # struck through, on red
    assert "{+" not in printed


def test_rows_that_are_older_than_the_labels(path, command):
    """What the rows hold is shown; what they would hold is said beside it, with the command."""
    with_rows(path, byte_tokenizer(CHATML))
    assert "made again" not in command("abc1", "--run", path)
    with Run(path) as run:
        trajectory = find_run(path, "abc1").trajectory
        run.round(0).critiques.append(critique(trajectory, "judge", ["mistake", "good", "good"]))
    for arguments in ([], ["--step", "0"]):
        lines = command("abc1", "--run", path, *arguments).split("\n")
        assert "── step 0  trained  masked once the rows are made again  exit 1" in lines
        assert lines[-3] == (
            "the rows are older than the labels or the outcome; made again they would mask 1 of 3 steps: "
            f"srft rows --run {path} --tokenizer {path.parent / 'tokenizer'} --arm srft --critic judge"
        )
        assert lines[-2].startswith("arm srft: 0 of 3 steps masked; trained tokens:")
    with_rows(path, byte_tokenizer(CHATML))
    assert "── step 0  masked  exit 1" in command("abc1", "--run", path, "--step", "0").split("\n")


def test_steps_behind_the_cut_and_thinking_that_is_in_no_row(path, command):
    with Run(path) as run:
        long = make_run([ACT, "More.", "Done."], id="long", task_id="e__f-3", recorded_resolved=True)
        run.round(0).trajectories.append(shaped(long, s0={"reasoning": "Hm."}))
        tokenizer = byte_tokenizer(CHATML)
        tokenizer.save_pretrained(path.parent / "tokenizer")
        config = RowsConfig(tokenizer=str(path.parent / "tokenizer"))
        lengths = [len(row.input_ids) for row in RowTable.open(make_rows(config, run.round(0))["srft"].folder)]
        settings = RowSettings(max_tokens=max(lengths) - 5)
        make_rows(msgspec.structs.replace(config, rows=settings), run.round(0))
    for arguments in ([], ["--step", "0-2"]):
        lines = command("long", "--run", path, *arguments).split("\n")
        assert "── step 1  trained" in lines
        assert "thinking (in no row, so not trained): Hm." in lines
        assert "── step 2  cut (in no row: the row had reached its greatest length before this step)" in lines
        assert lines[-2].startswith("arm srft: 0 of 3 steps masked, 1 cut; trained tokens:")
    shown = json.loads(command("long", "--run", path, "--json"))
    assert [step["mask"] for step in shown["steps"]] == ["trained", "trained", "cut"]
    assert (shown["in_rows"], shown["steps_by_mask"], shown["thinking"]) == (True, {"trained": 2, "cut": 1}, "left_out")


def test_a_run_that_is_newer_than_rows_of_nothing(path, command):
    with Run(path) as run:
        later = run.path / "later"
    with Run(later) as run:
        run.round(0).trajectories.append(make_run(["Hm."], id="one", stop_reason="cancelled"))
        tokenizer = byte_tokenizer(CHATML)
        tokenizer.save_pretrained(path.parent / "tokenizer")
        config = RowsConfig(tokenizer=str(path.parent / "tokenizer"), arms=("all",))
        make_rows(config, run.round(0))
        run.round(0).trajectories.append(make_run(["Hm."], id="two", attempt=1))
    assert "── step 0  would be trained" in command("two", "--run", later, "--arm", "all")


def test_labels_of_another_critic_than_the_rows(path, command):
    with_rows(path, byte_tokenizer(CHATML))
    with Run(path) as run:
        run.round(0).critiques.append(critique(find_run(path, "abc1").trajectory, "other", ["mistake"] * 3))
    printed = command("abc1", "--run", path, "--critic", "other", "--arm", "srft")
    assert "── step 0  would be masked" in printed
    assert "the rows on file use the labels of judge; this is what others would do" in printed


def test_json(path, command):
    with_rows(path, byte_tokenizer(CHATML), unnecessary=0.0)
    shown = json.loads(command("abc1", "--run", path, "--tokens", "--json"))
    assert (shown["resolved"], shown["steps_masked"], shown["rows_stale"]) == (False, 1, False)
    assert [step["weight"] for step in shown["steps"]] == [1.0, 0.0, 1.0]
    assert [verdict["critic"] for verdict in shown["steps"][1]["verdicts"]] == ["judge", "anna"]
    (row,) = shown["rows"]
    assert "".join(piece["text"] for piece in row["pieces"] if piece["kind"] == "masked") == "Wrong.<|im_end|>"


def test_missing_rows_and_another_tokenizer(path, command):
    with pytest.raises(InputError, match=r"make them: srft rows --run .*/run --tokenizer D --arm srft$"):
        command("abc1", "--run", path, "--tokens")
    with_rows(path, byte_tokenizer(CHATML))
    other = byte_tokenizer(CHATML)
    other.add_tokens(["<other>"])
    other.save_pretrained(path.parent / "other")
    with pytest.raises(InputError, match="not that of the rows"):
        command("abc1", "--run", path, "--tokens", "--tokenizer", path.parent / "other")
    assert "no rows in" in command("ffff", "--run", path, "--tokens")


def test_native_calls_and_a_step_without_text(tmp_path, command):
    call = {"id": "1", "type": "function", "function": {"name": "bash", "arguments": '{"command": "ls"}'}}
    run = msgspec.structs.replace(
        make_run(["x"], id="native"), steps=(Step(index=0, content="", tool_calls=(call,), reasoning="Hm."),)
    )
    with Run(tmp_path / "run") as opened:
        opened.round(0).trajectories.append(run)
    printed = command("native", "--run", tmp_path / "run")
    assert 'thinking: Hm.\nbash({"command": "ls"})\n' in printed
