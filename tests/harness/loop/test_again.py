"""A loop that is given again: interrupted, moved, labelled, extended. It ends where a fresh one ends, and does again
what has changed and nothing else."""

import os
import random
import shutil
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from srft.harness.loop.choice import portion
from srft.harness.run.stages import Stages
from srft.harness.run.store import Round
from srft.train.rows.rows import RowTable
from tests.harness.loop.small_loop import TASKS, Loops, came_of, done, label, make_folder, run_ids, write_tasks

CELLS = ("srft", "all")


@pytest.fixture(scope="module")
def loops() -> Iterator[Loops]:
    with Loops() as loops:
        yield loops


@pytest.fixture(scope="module")
def finished(tmp_path_factory, loops) -> Path:
    """A folder with a finished loop of two rounds, `fresh`; the second round asks the student."""
    folder = make_folder(tmp_path_factory.mktemp("again"))
    assert loops(folder, folder / "fresh", log="fresh.log") == {"code": 0, "error": ""}
    return folder


@pytest.fixture
def folder(finished, tmp_path) -> Path:
    """A copy of it, its loop under the name `run`."""
    copy = tmp_path / "copy"
    shutil.copytree(finished, copy, symlinks=True)
    text = (copy / "loop.yaml").read_text().replace(str(finished), str(copy))
    (copy / "loop.yaml").write_text(text)
    (copy / "fresh").rename(copy / "run")
    return copy


def came(run: Path, *, rounds: int = 2, cells: tuple[str, ...] = CELLS) -> dict[str, Any]:
    return came_of(run, rounds=rounds, cells=cells)


def did(folder: Path) -> Counter[str]:
    """How often each kind of work was done: "round-002 collect: episode" -> 2."""
    counts: Counter[str] = Counter()
    for line, times in done(folder).items():
        stage, _, what = line.partition(": ")
        counts[f"{' '.join(stage.split()[:2])}: {what.split()[0]}"] += times
    return counts


def test_a_fresh_loop_teaches_the_student_and_asks_it(finished):
    assert did_in(finished, "fresh.log") == {
        "round-000 evaluate.base": 2,
        "round-001 collect": 2,
        "round-001 critique": 2,
        "round-001 train.srft": 1,
        "round-001 evaluate.srft": 2,
        "round-001 train.all": 1,
        "round-001 evaluate.all": 2,
        "round-002 collect": 2,
        "round-002 critique": 2,
        "round-002 train.srft": 1,
        "round-002 evaluate.srft": 2,
        "round-002 train.all": 1,
        "round-002 evaluate.all": 2,
    }
    models = [run.model for run in Round(finished / "fresh" / "round-002").finished()]
    assert models == ["round-002.student"] * 2


def did_in(folder: Path, log: str) -> dict[str, int]:
    counts: Counter[str] = Counter()
    for line, times in done(folder, log).items():
        counts[" ".join(line.partition(": ")[0].split()[:2])] += times
    return dict(counts)


def test_another_folder_comes_to_the_same(finished, loops, tmp_path):
    other = make_folder(tmp_path / "other")
    assert loops(other, other / "run")["code"] == 0
    assert came(other / "run") == came(finished / "fresh")


def test_moved_and_spelled_otherwise_nothing_is_done_again(folder, loops):
    before = came(folder / "run")
    (folder / "run").rename(folder / "moved")
    shutil.copytree(folder / "base", folder / "same weights")
    (folder / "x").mkdir()
    again = loops(folder, folder / "x" / ".." / "moved", f"model={folder / 'same weights'}")
    assert again == {"code": 0, "error": ""}
    assert (came(folder / "moved"), done(folder)) == (before, Counter())


MAY_CHANGE = (
    "collect.openai.timeout_s=5",
    "collect.infra_retries=7",
    "collect.images.disk_budget_gib=500",
    "evaluate.grading.timeout_s=3600",
    "evaluate.workers=8",
    "serve.vllm_args=[--gpu-memory-utilization, '0.8']",
    "serve.start_timeout_s=1200",
    "judge.model=http://localhost:8011/v1",
    "budget.tokens=1000000",
    "may_fail=0.5",
    "processes=3",
    "training={logger: none, save_every: 7}",
)


def test_how_and_where_it_is_done_may_change(folder, loops):
    assert loops(folder, folder / "run", *MAY_CHANGE) == {"code": 0, "error": ""}
    assert done(folder) == Counter()


ONE_AT_A_TIME = [text for text in MAY_CHANGE if "workers" not in text]


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ("collect.episode.steps=3", "collect.episode.steps (was the default, now 3)"),
        ("collect.openai.temperature=0.5", "collect.openai.temperature (was 0.0, now 0.5)"),
        ("training={learning_rate: 0.1}", "recipe.learning_rate (was 0.05, now 0.1)"),
        ("critic=edits", "critic (was tool_error, now edits)"),
        ("mask.mistake=0.5", "mask.mistake (was the default, now 0.5)"),
        ("serve.dtype=bfloat16", "serve.dtype (was float32, now bfloat16)"),
        ("start=base", "start (was promoted, now the default)"),
        ("teachers=[student, student]", "teachers"),
    ],
)
def test_what_decides_is_refused_by_its_name(folder, loops, changed, said):
    before = came(folder / "run")
    refused = loops(folder, folder / "run", changed)
    assert refused["code"] == 2
    assert "loop.yaml: this loop was begun with another" in refused["error"]
    assert said in refused["error"]
    assert refused["error"].endswith("give what it was begun with, or another --run")
    assert loops(folder, folder / "run")["code"] == 0
    assert (came(folder / "run"), done(folder)) == (before, Counter())


@pytest.mark.parametrize(
    ("name", "setting"),
    [
        ("prompt.yaml", "collect.prompt"),
        ("recipe.yaml", "recipe.learning_rate"),
        ("script.yaml", "teachers"),
        ("tasks.jsonl", "tasks"),
        ("base/generation_config.json", "model"),
    ],
)
def test_a_file_counts_by_its_content(folder, loops, name, setting):
    file, was = folder / name, (folder / name).read_text()
    replaced = {"recipe.yaml": ("0.05", "0.06"), "tasks.jsonl": ("must say", "should say")}
    replaced |= {"prompt.yaml": ("Nothing was run", "Nothing ran")}
    replaced |= {"base/generation_config.json": ("{", '{"top_k": 3,'), "script.yaml": ("wrong", "not right")}
    edited = was.replace(*replaced[name])
    assert edited != was
    file.write_text(edited)
    refused = loops(folder, folder / "run")
    assert (refused["code"], f"{setting} (was" in refused["error"]) == (2, True), refused["error"]
    file.write_text(was)
    assert loops(folder, folder / "run")["code"] == 0
    assert done(folder) == Counter()


def test_a_label_between_the_rounds_has_the_new_student_asked(folder, loops):
    run, first = folder / "run", run_ids(folder / "run")[0]
    before = came(run)
    label(run, first, {0: "mistake", 1: "mistake"})
    assert loops(folder, run)["code"] == 0
    changed = dict(did(folder))
    assert changed == {
        "round-001 train.srft: training": 1,
        "round-001 evaluate.srft: episode": 2,
        "round-002 collect: episode": 2,
        "round-002 critique: judging": changed["round-002 critique: judging"],
        "round-002 train.srft: training": 1,
        "round-002 evaluate.srft: episode": 2,
        "round-002 train.all: training": 1,
        "round-002 evaluate.all: episode": 2,
    }
    after = came(run)
    assert after["1 weights of all"] == before["1 weights of all"]
    assert after["1 weights of srft"] != before["1 weights of srft"]
    fresh = labelled(folder, loops, {first: {0: "mistake", 1: "mistake"}})
    assert after == came(fresh)
    label(run, first, {})
    (folder / "done.log").unlink()
    assert loops(folder, run)["code"] == 0
    assert came(run) == before
    assert done(folder) == Counter()  # all of it was there before


def labelled(folder: Path, loops: Loops, labels: dict[str, Any], *sets: str) -> Path:
    """A fresh loop whose runs were labelled before anything was made of them."""
    fresh = folder / f"fresh-{len(list(folder.glob('fresh-*')))}"
    assert loops(folder, fresh, "rounds=1", only=["collect", "critique"], log="fresh.log")["code"] == 0
    for run_id, verdicts in labels.items():
        label(fresh, run_id, verdicts)
    assert loops(folder, fresh, *sets, log="fresh.log")["code"] == 0
    return fresh


def test_a_critic_that_nobody_uses_changes_nothing(folder, loops):
    run = folder / "run"
    before = came(run)
    label(run, run_ids(run)[0], {}, by="bert")
    assert loops(folder, run)["code"] == 0
    assert (came(run), done(folder)) == (before, Counter())


def test_arms_in_another_order_promote_another_model(folder, loops):
    run = folder / "run"
    before = came(run)
    assert before["1 weights of all"] != before["1 weights of srft"]
    assert loops(folder, run, "arms=[all, srft]")["code"] == 0
    assert did(folder)["round-002 collect: episode"] == 2
    assert not any(name.startswith("round-001") for name in did(folder))
    assert loops(folder, folder / "other", "arms=[all, srft]", log="fresh.log")["code"] == 0
    assert came(run) == came(folder / "other")
    (folder / "done.log").unlink()
    assert loops(folder, run)["code"] == 0
    assert (came(run), done(folder)) == (before, Counter())


@pytest.mark.slow
def test_more_attempts_and_tasks_are_added(folder, loops):
    run = folder / "run"
    more = ("rounds=1", "collect.attempts=2", "evaluate.attempts=2")
    write_tasks(folder / "tasks.jsonl", (*TASKS, "small__t-3"))
    assert loops(folder, run, *more)["code"] == 0
    counts = did(folder)
    assert counts["round-000 evaluate.base: episode"] == 2
    assert counts["round-001 collect: episode"] == 4
    assert counts["round-001 critique: judging"] == 4
    assert loops(folder, folder / "other", *more, log="fresh.log")["code"] == 0
    assert came(run, rounds=1) == came(folder / "other", rounds=1)
    refused = loops(folder, run, "rounds=1", "collect.attempts=1", "evaluate.attempts=2")
    assert (refused["code"], "collect.attempts (was 2, now the default)" in refused["error"]) == (2, True)
    write_tasks(folder / "tasks.jsonl", TASKS)
    refused = loops(folder, run, *more)
    assert (refused["code"], "are gone or others: small__t-3" in refused["error"]) == (2, True)


@pytest.mark.slow
@pytest.mark.parametrize("more", [("carry=1",), ("start=base", "carry=2")])
def test_one_round_more_and_again_one_more(folder, loops, more):
    for rounds in (1, 2, 3):
        assert loops(folder, folder / "grown", f"rounds={rounds}", *more)["code"] == 0
        assert {name.partition(" ")[0] for name in did(folder)} >= {f"round-{rounds:03d}"}
    assert set(done(folder).values()) == {1}
    assert loops(folder, folder / "other", "rounds=3", *more, log="fresh.log")["code"] == 0
    assert came(folder / "grown", rounds=3) == came(folder / "other", rounds=3)


def test_stages_of_several_rounds(folder, loops):
    two = ("rounds=2", f"teachers=['script:{folder / 'script.yaml'}']", "start=base")
    assert loops(folder, folder / "two", *two, only=["collect", "critique"]) == {"code": 0, "error": ""}
    for number in (1, 2):
        names = [name for name, _ in Stages.read(folder / "two" / f"round-{number:03d}").items()]
        assert names == ["collect", "critique"]
    refused = loops(folder, folder / "three", only=["collect", "critique"])
    assert refused["code"] == 2
    assert "collect builds on the model that round 1 promotes" in refused["error"]
    assert "(train, evaluate, promote) to --stages" in refused["error"]


@pytest.mark.slow
def test_what_the_old_student_did_is_not_the_new_ones(folder, loops):
    """Killed while the round is collected anew, it does not take what is there for the new student's."""
    run = folder / "run"
    old = run_ids(run, 2)
    label(run, run_ids(run)[0], {0: "mistake", 1: "mistake"})
    for kill_after in (1, 5, 9, 14):
        loops(folder, run, kill_after=kill_after)
    assert loops(folder, run)["code"] == 0
    assert came(run) == came(labelled(folder, loops, {run_ids(run)[0]: {0: "mistake", 1: "mistake"}}))
    (aside,) = (run / "round-002").glob(".trajectories.jsonl.*")
    assert [one for one in old if one in aside.read_text()] == old


def goes_on(folder: Path, loops: Loops, *, seed: int, steps: int) -> None:
    """A loop that is treated at random comes to what a fresh one comes to, and does nothing twice but what was under
    way when it was killed."""
    draw, run = random.Random(seed), folder / "run"
    shutil.rmtree(run)
    rounds, arms, kills, labels = 1, list(CELLS), 0, {}
    history = []

    def go(*, kill_after: int | None = None) -> int:
        sets = [f"rounds={rounds}", f"arms=[{', '.join(arms)}]", draw.choice(ONE_AT_A_TIME)]
        code = loops(folder, run, *sets, kill_after=kill_after)
        history.append(("go", sets, kill_after, code))
        assert code["code"] in (0, -9), history
        return int(code["code"])

    for _ in range(steps):
        step = draw.choice(("kill", "kill", "again", "label", "label", "arms", "round", "move", "edit"))
        history.append(step)
        if step == "kill":
            kills += go(kill_after=draw.randrange(1, 150)) == -9
        elif step == "again":
            go()
        elif step == "label" and (run / "round-001" / "labels.jsonl").exists() and run_ids(run):
            chosen = draw.choice(run_ids(run))
            labels[chosen] = draw.choice(({}, {0: "mistake"}, {0: "good", 1: "good"}, {2: "mistake"}))
            label(run, chosen, labels[chosen])
        elif step == "arms":
            arms.reverse()
        elif step == "round":
            rounds = 2
        elif step == "move" and run.exists():
            run = run.rename(folder / f"run-{len(history)}")
        elif step == "edit" and (run / "identity.json").exists():
            was = (folder / "recipe.yaml").read_text()
            (folder / "recipe.yaml").write_text(was.replace("0.05", "0.07"))
            assert loops(folder, run)["code"] == 2
            (folder / "recipe.yaml").write_text(was)
    assert go() == 0
    fresh = labelled(folder, loops, labels, f"rounds={rounds}", f"arms=[{', '.join(arms)}]")
    assert came(run, rounds=rounds) == came(fresh, rounds=rounds), history
    twice = sum(times - 1 for times in done(folder).values())
    assert twice <= kills, (history, done(folder))
    assert go() == 0
    assert sum(times - 1 for times in done(folder).values()) == twice, history


def test_whatever_is_done_to_it_a_loop_ends_as_a_fresh_one(folder, loops):
    goes_on(folder, loops, seed=1, steps=6)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(100, 100 + int(os.environ.get("SRFT_LOOP_SEEDS", "2"))))
def test_whatever_is_done_to_it_for_long_a_loop_ends_as_a_fresh_one(folder, loops, seed):
    goes_on(folder, loops, seed=seed, steps=14)


def test_what_could_not_be_graded_is_graded_by_the_same_command(loops, tmp_path):
    folder = make_folder(tmp_path / "ungraded")
    failed = loops(folder, folder / "run", "rounds=1", grader_fails=True)
    assert failed["code"] == 3
    assert "of 2 episodes 0 were ended by infrastructure and 2 could not be graded" in failed["error"]
    before = done(folder)
    assert loops(folder, folder / "run", "rounds=1")["code"] == 0
    episodes = {line: times for line, times in done(folder).items() if ": episode" in line and "evaluate.base" in line}
    assert episodes == before  # the base model's are not collected again


CHOSEN = ("rounds=4", "arms=[srft]", "choose={portions: 2, new: 2, unsolved: 3}", "rows.per_task=1")
MANY = tuple(f"small__t-{number}" for number in range(1, 9))


def _tried(run: Path, number: int) -> dict[str, list[bool]]:
    return Round(run / f"round-{number:03d}").index().attempts_by_task()


@pytest.mark.slow
def test_later_rounds_try_again_what_the_student_has_not_solved(loops, tmp_path):
    folder = make_folder(tmp_path / "chosen")
    write_tasks(folder / "tasks.jsonl", MANY)
    script = {task: [f"I look at {task}.", "I am wrong.", f"I mend {task}."] for task in MANY}
    (folder / "script.yaml").write_text(yaml.safe_dump(script))
    assert loops(folder, folder / "run", *CHOSEN) == {"code": 0, "error": ""}
    own = [{task for task in MANY if portion(task, 2) == number} for number in (0, 1)]
    first, second, third, fourth = (_tried(folder / "run", number) for number in (1, 2, 3, 4))
    assert (set(first), set(second)) == (own[0], set(MANY))
    assert {len(verdicts) for verdicts in second.values()} == {2}
    unsolved = {task for task, verdicts in second.items() if not all(verdicts)}
    assert {task: len(verdicts) for task, verdicts in third.items()} == dict.fromkeys(unsolved, 3)
    assert set(fourth) == {task for task, verdicts in third.items() if not all(verdicts)}
    assert 0 < len(fourth) < len(MANY)
    rows = RowTable.open(folder / "run" / "round-003" / "rows" / "srft")
    assert rows.manifest.left_out["per_task"] > 0
    asked = done(folder)
    assert loops(folder, folder / "run", *CHOSEN) == {"code": 0, "error": ""}
    assert done(folder) == asked
    killed = make_folder(tmp_path / "killed")
    for name in ("tasks.jsonl", "script.yaml"):
        shutil.copy(folder / name, killed / name)
    assert loops(killed, killed / "run", *CHOSEN, kill_after=150)["code"] == -9
    assert loops(killed, killed / "run", *CHOSEN)["code"] == 0
    assert came_of(killed / "run", rounds=4, cells=("srft",)) == came_of(folder / "run", rounds=4, cells=("srft",))
