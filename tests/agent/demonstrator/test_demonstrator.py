"""The demonstrator's plans: run with the real bash, git and sed, counted over many seeds, compared across processes."""

import itertools
import json
import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from srft.agent.demonstrator.demonstrator import (
    Demonstrator,
    DemonstratorConfig,
    ErrorRates,
    plan,
    planned_replies,
    recorded_of,
)
from srft.agent.formats import FORMATS
from srft.env.errors import InputError
from tests.agent import demonstrated

NONE = dict.fromkeys(ErrorRates.__struct_fields__, 0.0)
STYLES = ("full", "short")
ODD_LINES = (
    '"""It\'s \\\\ odd."""\n\n\ndef total(a, b=\'\\t\'):\n    x = "a&b/c"\n    return x + \'\\\\n\' + f"${a}`" + b\n'
)


def rates(**given):
    return ErrorRates(**{**NONE, **given})


def verdicts(task=None, *, style="full", seed=0, **given):
    return [
        step.verdict
        for step in plan(task or demonstrated.task(), rates=rates(**given), seed=seed, attempt=0, style=style)
    ]


def commands(task=None, *, style="full", seed=0, **given):
    return [
        step.command
        for step in plan(task or demonstrated.task(), rates=rates(**given), seed=seed, attempt=0, style=style)
    ]


SCRIPT = "from prices import total\nprint(total([10], 50))"
FULL = [
    'grep -rn "def total" --include="*.py" .',
    "cat -n prices.py",
    f"python - <<'EOF'\n{SCRIPT}\nEOF",
    "sed -i '7c\\    return gross * (100 - discount) / 100' prices.py",
    f"python - <<'EOF'\n{SCRIPT}\nEOF",
    "python -m pytest -q test_prices.py",
    "submit",
]
SHORT = [
    'grep -n -A3 "def total" prices.py',
    "sed -i '7c\\    return gross * (100 - discount) / 100' prices.py",
    "submit",
]


def test_a_run_without_errors():
    assert commands() == FULL
    assert commands(style="short") == SHORT
    assert verdicts() == ["good"] * 7
    assert verdicts(style="short") == ["good"] * 3


def test_an_issue_without_example_or_function():
    plain = demonstrated.task(issue="Discounts are wrong.")
    assert commands(plain) == ["git ls-files | head -n 50", "cat -n prices.py", *FULL[3:4], *FULL[5:]]
    assert commands(plain, style="short") == ["cat -n prices.py", FULL[3], "submit"]
    assert commands(demonstrated.task(issue="Wrong.", test_patch=""))[-2] == "python -m pytest -q"


def test_of_a_long_file_the_surroundings_are_read():
    lines = [f"x{number} = {number}\n" for number in range(300)]
    long = demonstrated.task(before="".join(lines), after="".join(lines).replace("x200 = 200", "x200 = 0"))
    assert commands(long)[1] == "cat -n prices.py | sed -n '186,217p'"


def test_each_error_by_itself():
    good, unnecessary, mistake, recover = "good", "unnecessary", "mistake", "recover"
    short = {"style": "short"}
    assert verdicts(wrong_edit=1, **short) == [good, mistake, mistake]
    assert verdicts(wrong_edit=1, ignore_tests=1, **short) == [good, mistake, good, mistake]
    assert verdicts(wrong_edit=1, revert=1, **short) == [good, mistake, good, recover, good, good]
    assert verdicts(wrong_edit=1, revert=1, ignore_tests=1, **short) == verdicts(wrong_edit=1, revert=1, **short)
    assert verdicts(spoil=1, **short) == [good, good, mistake, mistake]
    assert verdicts(spoil=1, wrong_edit=1, **short) == verdicts(wrong_edit=1, **short)
    assert verdicts(unfinished=1, **short) == [good, mistake]
    assert verdicts(unfinished=1, wrong_edit=1, **short) == [good, mistake]
    assert verdicts(revert=1, ignore_tests=1, **short) == [good] * 3
    assert verdicts(unfinished=1) == [good] * 3 + [mistake]
    assert {tuple(verdicts(wrong_file=1, seed=seed, **short)) for seed in range(20)} == {
        (unnecessary, good, good, good),
        (unnecessary, mistake, recover, good, good, good),
    }
    needless = [verdicts(unnecessary=1, seed=seed, **short) for seed in range(40)]
    assert {steps.index("unnecessary") for steps in needless} == {0, 1, 2}
    assert all(sorted(steps) == [good] * 3 + ["unnecessary"] for steps in needless)


def test_a_fix_of_several_places_is_made_from_the_last_to_the_first():
    before = "".join(f"x{number} = {number}\n" for number in range(20))
    task = demonstrated.task(before=before, after=before.replace("x3 = 3", "x3 = 0").replace("x15 = 15", "x15 = 0"))
    edits = [command for command in commands(task) if command.startswith("sed")]
    assert edits == ["sed -i '16c\\x15 = 0' prices.py", "sed -i '4c\\x3 = 0' prices.py"]
    wrong = verdicts(task, wrong_edit=1, revert=1, style="short")  # one place, wrongly; then both
    assert wrong == ["good", "mistake", "good", "recover", "good", "good", "good"]


def test_without_visible_tests_the_wrong_file_is_only_looked_at():
    task = demonstrated.task(test_patch="")
    assert {tuple(verdicts(task, wrong_file=1, seed=seed, style="short")) for seed in range(20)} == {
        ("unnecessary", "good", "good", "good")
    }


@pytest.fixture(scope="module")
def repository(tmp_path_factory):
    folder = tmp_path_factory.mktemp("repository")
    subprocess.run(["git", "init", "-q"], cwd=folder, check=True)
    return folder


def played(task, before, steps, folder):
    """The source after the steps that change files; whether all else is as it was is checked on the way."""
    (folder / "prices.py").write_text(before)
    (folder / "test_prices.py").write_text("import prices\n" * 9)
    lines = ["set -e", "git add .", "git -c user.name=a -c user.email=a@b commit -q --allow-empty -m base"]
    lines += [step.command for step in steps if step.command.startswith(("sed", "git checkout"))]
    subprocess.run(["bash", "-c", "\n".join(lines)], cwd=folder, check=True, capture_output=True)
    assert (folder / "test_prices.py").read_text() == "import prices\n" * 9
    return (folder / "prices.py").read_text()


LINES = st.lists(
    st.sampled_from(["x = 1", "    y = 'it''s' + x", "return x\\n & /", "", "# c", "\t{a}", "$b`c`"]), max_size=7
)


@settings(max_examples=60, deadline=None)
@given(before=LINES, after=LINES, seed=st.integers(0, 10**6), style=st.sampled_from(STYLES))
def test_the_file_is_the_fix_when_the_last_step_is_good_and_only_then(repository, before, after, seed, style):
    before, after = (f"def total():\n{''.join(line + chr(10) for line in lines)}" for lines in (before, after))
    if before == after:
        return
    task = demonstrated.task(before=before, after=after)
    steps = plan(task, rates=ErrorRates(wrong_edit=0.7, revert=0.4, wrong_file=0.5), seed=seed, attempt=0, style=style)
    assert steps[-1].command == "submit"
    assert (played(task, before, steps, repository) == after) == (steps[-1].verdict == "good")


@pytest.mark.parametrize("style", STYLES)
def test_the_shares_of_the_errors_are_their_rates(style):
    task = demonstrated.task()
    given = ErrorRates(wrong_file=0.2, wrong_edit=0.6, revert=0.4, ignore_tests=0.7, unfinished=0.1, unnecessary=0.3)
    runs = [plan(task, rates=given, seed=seed, attempt=0, style=style) for seed in range(4000)]

    def share(of, are):
        return sum(map(are, of)) / len(of)

    def has(reason):
        return lambda steps: any(step.reason.startswith(reason) for step in steps)

    edited = [steps for steps in runs if not has("hands in without")(steps)]
    wrong = [steps for steps in edited if has("a wrong change")(steps)]
    kept = [steps for steps in wrong if not has("takes the wrong change")(steps)]
    found = {
        "wrong_file": share(runs, has("reads a file that the issue is not about")),
        "wrong_edit": len(wrong) / len(edited),
        "revert": share(wrong, has("takes the wrong change")),
        "ignore_tests": share(kept, has("hands in a wrong change, against")),
        "unfinished": 1 - len(edited) / len(runs),
        "unnecessary": share(runs, has("tells nothing")),
    }
    for name, value in found.items():
        assert abs(value - getattr(given, name)) < 0.04, name
    right = (1 - given.unfinished) * (1 - given.wrong_edit * (1 - given.revert))
    assert abs(share(runs, lambda steps: steps[-1].verdict == "good") - right) < 0.03


def test_a_higher_rate_only_adds_errors():
    low, high = (
        [verdicts(wrong_edit=rate, seed=seed, style="short")[1] == "mistake" for seed in range(200)]
        for rate in (0.3, 0.6)
    )
    assert sum(low) < sum(high)
    assert all(after or not before for before, after in zip(low, high, strict=True))


def test_seed_attempt_and_task_all_count():
    task = demonstrated.task()
    arguments = itertools.product([task, demonstrated.task(issue="Another.")], (0, 1, None), (0, 1))
    found = [plan(of, rates=rates(), seed=seed, attempt=attempt) for of, seed, attempt in arguments]
    assert len(set(found)) == len(found)  # short plans have too few wordings for that


def test_another_process_plans_the_same():
    program = (
        "import json\nfrom srft.agent.demonstrator.demonstrator import ErrorRates, plan\n"
        "from tests.agent import demonstrated\n"
        "print(json.dumps([plan(demonstrated.task(), rates=ErrorRates(), seed=seed, attempt=1) for seed in range(50)]))"
    )
    printed = [
        subprocess.run(
            [sys.executable, "-c", program], env={"PYTHONHASHSEED": hash_seed}, capture_output=True, check=True
        ).stdout
        for hash_seed in ("1", "2")
    ]
    here = [plan(demonstrated.task(), rates=ErrorRates(), seed=seed, attempt=1) for seed in range(50)]
    assert printed[0] == printed[1]
    assert json.loads(printed[0]) == json.loads(json.dumps(here))


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("style", STYLES)
def test_every_format_carries_the_commands(format, style):
    task = demonstrated.task(before=ODD_LINES.replace("a&b", "a&&b"), after=ODD_LINES)
    for seed in range(30):
        steps = plan(task, rates=ErrorRates(), seed=seed, attempt=0, style=style)
        actions = [FORMATS[format].parse(reply) for reply in planned_replies(steps, format=format, where="t")]
        assert [action.arguments.get("command", "submit") for action in actions] == [step.command for step in steps]
        assert [action.tool for action in actions[-1:]] == ["submit"]
        assert {action.tool for action in actions[:-1]} == {"bash"}


def test_a_command_that_holds_the_formats_marks_is_refused():
    before = "def f():\n    return 1\n"
    task = demonstrated.task(before=before, after=before.replace("return 1", 'return """\n```\n"""'))
    for seed in range(10):  # whatever the errors are: else the tasks left out would depend on them
        with pytest.raises(InputError, match="practice__prices-1: the format backtick cannot carry the command"):
            Demonstrator([task]).for_episode(task.instance_id, attempt=0, seed=seed)
        Demonstrator([task], format="xml").for_episode(task.instance_id, attempt=0, seed=seed)


@pytest.mark.parametrize("format", FORMATS)
def test_the_model_replies_its_plan(format):
    task = demonstrated.task()
    config = DemonstratorConfig(rates=rates(wrong_edit=1, revert=1), style="short")
    model = Demonstrator([task], config, format=format)
    episode = model.for_episode(task.instance_id, attempt=2, seed=5)
    recorded = recorded_of(json.loads(json.dumps(episode.sampling)))
    assert (recorded.rates, recorded.style, recorded.format, recorded.seed) == (config.rates, "short", format, 5)
    steps = plan(task, rates=config.rates, seed=5, attempt=2, style="short")
    assert tuple(episode.reply([]) for _ in steps) == planned_replies(steps, format=format, where="t")
    assert episode.for_episode("", 0, None).reply([]) == planned_replies(steps, format=format, where="t")[0]


def test_a_task_without_edits_is_refused():
    task = demonstrated.task(patch="--- /dev/null\n+++ b/x\n@@ -0,0 +1 @@\n+a\n")
    with pytest.raises(InputError, match="practice__prices-1: "):
        Demonstrator([task]).for_episode(task.instance_id, attempt=0, seed=0)
    with pytest.raises(InputError, match="no task other"):
        Demonstrator([task]).for_episode("other", attempt=0, seed=0)


@pytest.mark.parametrize("value", [-0.1, 1.1, float("nan")])
def test_rates_are_probabilities(value):
    with pytest.raises(InputError, match=r"demonstrator.rates.wrong_file is .*; expected 0 to 1"):
        ErrorRates(wrong_file=value)


def test_what_other_models_record_is_not_the_demonstrators():
    assert recorded_of({}) is None
    assert recorded_of({"temperature": 0.0, "seed": 1}) is None
