"""What a judge may write, and what is made of it."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from srft.critic.judge.answers import Answer, Opinion, read_answer

GOOD, BAD = Opinion("good", 0.9, "Reads."), Opinion("mistake", 0.6, "Breaks it.")
ENTRIES = [
    {"step": 0, "reason": "Reads.", "verdict": "good", "confidence": 0.9},
    {"step": 1, "reason": "Breaks it.", "verdict": "mistake", "confidence": 0.6},
]
CLEAN = json.dumps({"steps": ENTRIES})


@pytest.mark.parametrize(
    "text",
    [
        CLEAN,
        json.dumps(ENTRIES),
        f"Here you are:\n```json\n{CLEAN}\n```\nI hope that {{helps}}.",
        "\n".join(json.dumps(entry) for entry in ENTRIES),
        f"<think>step 0 {json.dumps(ENTRIES[1] | {'step': 0})} hm</think>{CLEAN}",
        str({"steps": ENTRIES}),
        CLEAN.replace("}", ",}").replace("]", ",]"),
        CLEAN[:-2] + ', {"step": 2, "rea',
        json.dumps({"steps": {"0": ENTRIES[0], "step 1": {k: v for k, v in ENTRIES[1].items() if k != "step"}}}),
        json.dumps({"id": "a", "verdict": "done", "steps": ENTRIES}),
        json.dumps(
            {"steps": [{**ENTRIES[0], "confidence": "90%", "step": "Step 0"}, {**ENTRIES[1], "confidence": 60}]}
        ),
        json.dumps({"steps": [{**ENTRIES[0], "verdict": " GOOD."}, {**ENTRIES[1], "verdict": "**Harmful**"}]}),
        json.dumps({"steps": [{**ENTRIES[0], "evidence": ["a"]}, ENTRIES[1]]}),
        CLEAN.replace("Reads.", "Reads.\n"),
        json.dumps(CLEAN),
        json.dumps(json.dumps(CLEAN)),
        json.dumps({"answer": CLEAN}),
        json.dumps({"steps": [json.dumps(entry) for entry in ENTRIES]}),
        json.dumps({"Steps": [{key.title(): value for key, value in entry.items()} for entry in ENTRIES]}),
        json.dumps({"STEPS": [{key.upper(): value for key, value in entry.items()} for entry in ENTRIES]}),
        "Here:\n\n| Step | Verdict | Confidence | Reason |\n|---|:--|---|---|\n| 0 | good | 90% | Reads. |\n"
        "| Step 1 | **mistake** | 0.6 | Breaks it. |\n\nThat is all.",
        f"Let me think. {json.dumps(ENTRIES[1] | {'step': 0})} Hmm no.</think>\n{CLEAN}",
        f"[THINK]{json.dumps(ENTRIES[1] | {'step': 0})}[/THINK]{CLEAN}",
        f"<|channel|>analysis<|message|>{json.dumps(ENTRIES[1] | {'step': 0})}<|end|>"
        f"<|start|>assistant<|channel|>final<|message|>{CLEAN}<|return|>",
    ],
)
def test_the_same_answer_in_many_forms(text):
    assert read_answer(text, steps=range(2)) == Answer({0: GOOD, 1: BAD}, [], 0)


def test_a_map_of_verdicts_alone():
    answer = read_answer('{"0": "good", "1": "recovery"}', steps=range(2))
    assert answer == Answer({0: Opinion("good"), 1: Opinion("recover")}, [], 0)


def test_braces_and_quotes_in_reasons():
    reason = 'Sets {"step": 1, "verdict": "mistake"} in the dict, it\'s fine.'
    text = json.dumps({"steps": [{"step": 0, "reason": reason, "verdict": "good"}]})
    assert read_answer(text, steps=[0]).opinions == {0: Opinion("good", None, reason)}
    cut_off = text[:-2] + ', {"step": 1, "rea'
    assert read_answer(cut_off, steps=[0, 1]) == Answer({0: Opinion("good", None, reason)}, ["no entry for step 1"], 0)


def test_the_end_of_thinking_quoted_in_a_reason_takes_nothing_back():
    reason = "Strips </think> from the text."
    text = json.dumps({"steps": [ENTRIES[0], {**ENTRIES[1], "reason": reason}]})
    assert read_answer(text, steps=range(2)) == Answer({0: GOOD, 1: BAD._replace(reason=reason)}, [], 0)
    broken = text.replace("}]}", ",}]}")
    assert read_answer(broken, steps=range(2)).opinions == {0: GOOD, 1: BAD._replace(reason=reason)}


def test_drafts_without_an_answer_behind_them_are_none():
    assert read_answer(f"{CLEAN}</think>I cannot say.", steps=range(2)).opinions == {}


@pytest.mark.parametrize(
    "said",
    [
        "no mistake", "not a mistake", "non-harmful", "mistake-free", "error-free", "isn't wrong", "never harmful",
        "without error", "good, not a mistake", "mistake or unnecessary", "partially correct", "mistake: none",
        "!mistake", "无mistake", "less harmful", "hardly a mistake", "5", "",
    ],
)  # fmt: skip
def test_a_verdict_is_its_whole_text(said):
    answer = read_answer(json.dumps({"step": 0, "verdict": said}), steps=[0])
    assert answer.opinions == {}
    assert answer.problems == [f"step 0: the verdict {said!r} is none of good, recover, unnecessary, mistake, abstain"]


@pytest.mark.parametrize(
    ("said", "verdict"),
    [
        ("Mistake", "mistake"), ("a mistake", "mistake"), ("clearly harmful", "mistake"), ("`good`.", "good"),
        ("This step is unnecessary", "unnecessary"), ("(recover)", "recover"), ("mistake!", "mistake"),
    ],
)  # fmt: skip
def test_verdicts_in_other_words(said, verdict):
    assert read_answer(json.dumps({"step": 0, "verdict": said}), steps=[0]).opinions == {0: Opinion(verdict)}


@pytest.mark.parametrize(
    ("numbers", "steps", "trusted"),
    [
        (range(4), range(4), True),
        (range(3), range(4), True),  # cut off
        (range(1, 5), range(4), False),
        (range(1, 4), range(6), False),  # counted from 1, cut off
        (range(9, 13), range(8, 20), False),
        (range(1, 13), range(8, 20), False),  # counted from 1 within the window
        (range(12), range(8, 20), False),  # from 0 within the window
        (range(5), range(2, 7), False),
        (range(7, 19), range(8, 20), False),
        (range(20), range(8, 20), True),  # the whole run
        (range(8, 14), range(8, 20), True),
        ([1, 4], range(6), True),
        ([1], range(3), True),
        ([3, 9], [3, 9], True),
        ([4, 5], [3, 9], False),
    ],
)
def test_numbers_are_checked_and_never_shifted(numbers, steps, trusted):
    text = json.dumps([{"step": number, "verdict": "good"} for number in numbers])
    answer = read_answer(text, steps=steps)
    assert list(answer.opinions) == ([step for step in steps if step in numbers] if trusted else [])
    assert answer.problems or list(answer.opinions) == list(steps)


def test_half_a_surrogate_pair_in_a_reason_can_be_stored():
    answer = read_answer('{"step": 0, "reason": "a\\ud83d", "verdict": "good"}', steps=[0])
    assert answer.opinions == {0: Opinion("good", None, "a\ufffd")}


@pytest.mark.parametrize(
    ("text", "problems"),
    [
        ("I cannot do that.", ["no entry for the steps 0, 1"]),
        ("", ["no entry for the steps 0, 1"]),
        ('{"step": 1, "verdict": "good"}', ["no entry for step 0"]),
        (
            '[{"step": 0, "verdict": "fine-ish"}, {"step": 1, "verdict": "good, not a mistake"}]',
            [
                "step 0: the verdict 'fine-ish' is none of good, recover, unnecessary, mistake, abstain",
                "step 1: the verdict 'good, not a mistake' is none of good, recover, unnecessary, mistake, abstain",
            ],
        ),
        (
            '[{"step": 0}, {"step": 1, "verdict": "good"}]',
            ["step 0: the verdict 'None' is none of good, recover, unnecessary, mistake, abstain"],
        ),
        (
            '[{"step": 1, "verdict": "good"}, {"step": 2, "verdict": "mistake"}]',
            ["the entries are numbered 1 to 2; the steps are 0 to 1"],
        ),
    ],
)
def test_problems_in_words_for_the_judge(text, problems):
    assert read_answer(text, steps=range(2)).problems == problems


def test_steps_counted_from_1_are_not_taken_for_the_next_ones():
    shifted = json.dumps([{"step": step, "verdict": "good"} for step in range(1, 5)])
    assert read_answer(shifted, steps=range(4)) == Answer(
        {},
        ["the entries are numbered 1 to 4; the steps are 0 to 3"],
        4,
    )


def test_other_steps_are_ignored_and_the_last_of_several_entries_counts():
    text = json.dumps([{"step": s, "verdict": v} for s, v in ((7, "good"), (8, "good"), (8, "mistake"), (9, "good"))])
    assert read_answer(text, steps=[8]) == Answer({8: Opinion("mistake")}, [], 3)


def test_an_abstention_is_no_problem():
    answer = read_answer('{"step": 0, "verdict": "unsure", "reason": "Too short."}', steps=[0])
    assert answer == Answer({0: Opinion(None, None, "Too short.")}, [], 0)


@settings(max_examples=200, deadline=None)
@given(st.text(alphabet='{}[]",:step verdict"good\'\\01\n(', max_size=200))
def test_any_text_is_read_without_an_error(text):
    answer = read_answer(text, steps=range(3))
    assert set(answer.opinions) <= {0, 1, 2}
    assert bool(answer.problems) == (set(answer.opinions) != {0, 1, 2})


@settings(max_examples=100, deadline=None)
@given(st.text(max_size=60), st.integers(min_value=0, max_value=400))
def test_a_cut_keeps_whole_entries_and_invents_none(reason, cut):
    whole = [
        json.dumps({"step": step, "reason": f"{reason} {step}", "verdict": "recover", "confidence": 1.0})
        for step in range(4)
    ]
    text = '{"steps": [' + ", ".join(whole) + "]}"
    ends = [text.index(entry) + len(entry) for entry in whole]
    found = read_answer(text[:cut], steps=range(4)).opinions
    assert list(found) == [step for step, end in enumerate(ends) if end <= cut]
    assert {opinion.verdict for opinion in found.values()} <= {"recover"}


def test_deep_nesting_is_no_crash():
    assert read_answer('{"a":' * 5000, steps=[0]).problems == ["no entry for step 0"]
    assert read_answer("{" + "(" * 3000 + "}", steps=[0]).problems == ["no entry for step 0"]


WRITTEN = {step: f"sed -n '{step},{step + 9}p' module_{step}.py\nI read on." for step in range(9)}


def proved(numbers, *, commands=None):
    """Entries under these numbers, each with the command of the step that it is about."""
    about = commands or numbers
    return json.dumps(
        [
            {"step": number, "command": WRITTEN[step][:40], "verdict": "good"}
            for number, step in zip(numbers, about, strict=True)
        ]
    )


def test_a_repeated_command_proves_that_an_entry_is_about_its_step():
    steps = range(2, 7)
    assert read_answer(proved(steps), steps=steps, written=WRITTEN)[:4] == (
        dict.fromkeys(steps, Opinion("good")), [], 0, 0
    )  # fmt: skip
    # Without their commands these numbers would be in doubt: the first step is missing, and the others follow.
    assert list(read_answer(proved([3, 4, 5]), steps=steps, written=WRITTEN).opinions) == [3, 4, 5]
    assert read_answer(proved([3, 4, 5]), steps=steps).opinions == {}


@pytest.mark.parametrize(("numbers", "commands"), [([0, 1, 2], [1, 2, 3]), ([3, 4, 5, 6], [2, 3, 4, 5])])
def test_commands_of_other_steps_put_all_numbers_in_doubt(numbers, commands):
    answer = read_answer(proved(numbers, commands=commands), steps=range(7), written=WRITTEN)
    assert (answer.opinions, answer.ignored) == ({}, len(numbers))
    assert answer.problems[0].startswith(
        f"{len(numbers)} of the {len(numbers)} entries repeat the command of another step than the one that they name "
        f"(step {numbers[0]} first)"
    )


def test_a_single_wrong_command_costs_its_entry():
    answer = read_answer(proved(range(4), commands=[0, 1, 7, 3]), steps=range(4), written=WRITTEN)
    assert list(answer.opinions) == [0, 1, 3]
    assert answer.problems == ["step 2: the command \"sed -n '7,16p' module_7.py\\nI read on.\" is not that step's"]


@pytest.mark.parametrize(
    ("said", "proof"),
    [
        ("sed -n '0,9p' mod", True),
        ('SED -n "0,9p"   mod', True),  # quotes, case, white space
        ("sed -n '0,9p' module_0.py | and what it made of it", True),  # a beginning is enough
        ("I read on.", True),  # of its text
        ("...", None), ("", None), (None, None),
    ],
)  # fmt: skip
def test_what_proves(said, proof):
    entry = {"step": 0, "verdict": "good", "command": said}
    answer = read_answer(json.dumps(entry), steps=[0], written=WRITTEN)
    assert (list(answer.opinions), answer.unproven) == ([0], int(proof is None))


def test_a_short_command_is_proved_by_its_beginning_alone():
    entry = json.dumps({"step": 0, "verdict": "good", "command": "ls"})
    assert read_answer(entry, steps=[0], written={0: "ls\nI look."}).unproven == 0
    assert read_answer(entry, steps=[0], written={0: "cat false.py\nls"}).unproven == 1


@pytest.mark.parametrize(
    ("text", "analysis"),
    [
        ('{"analysis": "It \\"works\\".\\n", "steps": []}', 'It "works".'),
        ('<think>{"analysis": "draft"}</think>{"analysis": "whole"}', "whole"),
        ('{"analysis": 5}', ""), ('{"analysis": "cut o', ""), ("no", ""), ('{"Analysis": "a\\ud800"}', "a\ufffd"),
    ],
)  # fmt: skip
def test_the_analysis_is_read(text, analysis):
    assert read_answer(text, steps=[0]).analysis == analysis
