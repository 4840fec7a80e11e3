"""Prompt files: strict when loaded, exact when rendered."""

import pytest

from srft.agent.formats import FORMATS
from srft.agent.prompts.prompt import PROMPTS, Prompt
from srft.env.errors import InputError
from srft.env.sandbox.contract import CommandResult
from srft.env.tasks.task import TaskView

VIEW = TaskView(instance_id="a__b-1", repo="a/b", problem_statement="It {{ breaks }}\r\n")

MINIMAL = """\
system: "S {{ repo }}"
instance: "I {{ problem_statement }}"
observation: "{{ head }}|{{ tail }}|{{ elided_chars }}"
timeout: "T {{ timeout_s }} {{ output }}"
format_error: "{{ error }}"
output_limit_chars: 10
head_chars: 3
tail_chars: 2
"""


@pytest.fixture
def load(tmp_path):
    def load(text):
        path = tmp_path / "p.yaml"
        path.write_text(text)
        return Prompt.load(path)

    return load


@pytest.mark.parametrize("name", sorted(path.stem for path in PROMPTS.glob("*.yaml")))
def test_ours_render_everything_they_may_use(name):
    prompt = Prompt.load(name)
    for fmt in prompt.text.formats:
        opening = {"workdir": "/testbed", "mode": "stateless", "instructions": FORMATS[fmt].instructions}
        assert name == "short" or "/testbed" in prompt.instance(VIEW, **opening)  # short: commands begin there anyway
        assert "It {{ breaks }}\r\n" in prompt.instance(VIEW, **opening)
        assert prompt.system(VIEW, **opening)
        assert "no block" in prompt.format_error("no block", finish_reason="length", instructions="")
    for result in (
        CommandResult("x", 0, 0.1),
        CommandResult("x" * 99_999, 1, 0.1, shell_restarted=True),
        CommandResult("x" * 99_999, None, 0.1, timed_out=True),
    ):
        assert "x" in prompt.observation(result, command="ls", timeout_s=60).text


def test_mini_observations_have_the_recorded_shape():
    prompt = Prompt.load("mini")
    small = prompt.observation(CommandResult("a\n", 0, 0.1), command="", timeout_s=60)
    assert small == ("<returncode>0</returncode>\n<output>\na\n</output>", 0)
    nothing = prompt.observation(CommandResult("", 1, 0.1), command="", timeout_s=60)
    assert nothing == ("<returncode>1</returncode>\n<output>\n</output>", 0)
    large = prompt.observation(CommandResult("a" * 5000 + "b" * 7 + "c" * 5000, 0, 0.1), command="", timeout_s=60)
    assert large.elided_chars == 7
    assert large.text.startswith("<returncode>0</returncode>\n<warning>\n")
    assert large.text.endswith(
        f"<output_head>\n{'a' * 5000}\n</output_head>\n<elided_chars>\n7 characters elided\n</elided_chars>\n"
        f"<output_tail>\n{'c' * 5000}\n</output_tail>"
    )


@pytest.mark.parametrize(
    ("result", "text", "elided_chars"),
    [
        (CommandResult("0123456789", 0, 0.1), "0123456789||0", 0),
        (CommandResult("0123456789a", 0, 0.1), "012|9a|6", 6),
        (CommandResult("01234567", 0, 0.1, elided_bytes=100, elided_at=6), "012345|67|100", 100),
        (CommandResult("0123456789a", 0, 0.1, elided_bytes=100, elided_at=6), "012|9a|106", 106),
        (CommandResult("0123456789a", 0, 0.1, elided_bytes=100, elided_at=2), "01|9a|107", 107),
        (CommandResult("0123456789a", 0, 0.1, elided_bytes=100, elided_at=10), "012|a|107", 107),
    ],
)
def test_what_is_left_out_is_counted(load, result, text, elided_chars):
    assert load(MINIMAL).observation(result, command="", timeout_s=1) == (text, elided_chars)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("system:", "sistem:", "p.yaml:1: unknown key 'sistem'; did you mean system?"),
        ('timeout: "T {{ timeout_s }} {{ output }}"\n', "", "p.yaml: Object missing required field `timeout`"),
        ("head_chars: 3", "head_chars: three", "p.yaml: Expected `int`, got `str` - at `$.head_chars`"),
        ("head_chars: 3", "head_chars: 9", "must be 0 or more and together at most output_limit_chars 10"),
        ("head_chars: 3", "head_chars: 3\nhead_chars: 4", "p.yaml:8: key 'head_chars' is there twice; keep one"),
        ("{{ repo }}", "{{ patch }}", "p.yaml: system: unknown variable patch; this template may use"),
        ("{{ repo }}", "{{ repo", "p.yaml: system: not a Jinja template"),
        ("system:", "system", "p.yaml: "),
    ],
)
def test_a_wrong_file_is_named_with_its_key(load, old, new, message):
    with pytest.raises(InputError) as error:
        load(MINIMAL.replace(old, new))
    assert message in str(error.value)


def test_no_such_prompt():
    with pytest.raises(InputError, match=r"expected a \.yaml file, or one of default, mini"):
        Prompt.load("none")


def test_the_fingerprint_is_of_what_the_model_sees(load):
    prompt = load(MINIMAL)
    assert load("# a comment\nabout: Text.\n" + MINIMAL).fingerprint == prompt.fingerprint
    assert load(MINIMAL.replace("head_chars: 3", "head_chars: 4")).fingerprint != prompt.fingerprint
