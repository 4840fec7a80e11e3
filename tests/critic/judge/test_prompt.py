"""The judge's prompt files."""

import pytest

from srft.critic.judge.answers import read_answer
from srft.critic.judge.prompt import JudgePrompt, elide
from srft.env.errors import InputError


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("system: a\nstep: b\nrun: c\nrepare: d\n", r"mine.yaml:4: unknown key 'repare'; did you mean repair\?"),
        ("system: a\nstep: b\nrun: c\n", "missing required field `repair`"),
        ("system: '{{ taks }}'\nstep: b\nrun: c\nrepair: d\n", "system: unknown variable taks; this template may use"),
        ("system: '{% if %}'\nstep: b\nrun: c\nrepair: d\n", "system: not a Jinja template"),
        ("system: a\nsystem: b\nstep: b\nrun: c\nrepair: d\n", "mine.yaml:2: key 'system' stands there twice"),
    ],
)
def test_a_prompt_file_is_checked_when_it_is_loaded(tmp_path, content, message):
    path = tmp_path / "mine.yaml"
    path.write_text(content)
    with pytest.raises(InputError, match=message):
        JudgePrompt.load(path)


def test_the_example_in_the_prompt_is_an_answer():
    system = JudgePrompt.load("default").render("system", information="none", reason_chars=200)
    example = system.rpartition("The answer:\n")[2]
    answer = read_answer(example, steps=range(7))
    assert (answer.problems, answer.ignored) == ([], 0)
    assert [opinion.verdict for opinion in answer.opinions.values()] == [
        "good", "unnecessary", "mistake", "recover", "good", "good", "good"
    ]  # fmt: skip
    assert all(len(opinion.reason) <= 200 for opinion in answer.opinions.values())


def test_elide_keeps_both_ends():
    assert elide("abcdefghij", 10) == "abcdefghij"
    assert elide("abcdefghij", 5) == "abc\n[... 5 characters left out ...]\nij"
    assert elide("abc", 0) == "\n[... 3 characters left out ...]\n"
