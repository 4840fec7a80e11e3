"""A critic of one's own: what it is asked, what its replies come to, and what it is trained on."""

import math

import msgspec
import pytest

from srft.agent.models.contract import ContextOverflow, Reply
from srft.agent.models.scripted import ScriptedModel
from srft.critic.distil import FormConfig, Opened, TrainedCritic, lessons, questions, read_reply, reply_text
from srft.critic.labels.labels import Evidence, StepLabel
from srft.env.errors import InputError, ModelError
from tests.critic.hand_made import trajectory

FORM = FormConfig()


def run_of(*observations, content="```bash\nls\n```", **fields):
    """A run with a step for each observation."""
    steps = ({"content": content, "observation": seen, "exit_code": 0} for seen in observations)
    messages = ({"role": "user", "content": "Fix it."}, {"role": "assistant", "content": content})
    return msgspec.structs.replace(trajectory(*steps), repo="a/b", messages=messages, **fields)


def asked(run, form=FORM, *, resolved: bool | None = False, steps=None):
    return questions(run, form, resolved=resolved, asked=range(len(run.steps)) if steps is None else steps)


def labels(*verdicts):
    return {step: StepLabel(step=step, verdict=verdict) for step, verdict in enumerate(verdicts)}


def test_the_question():
    run = run_of("a.py", None)
    run = msgspec.structs.replace(run, steps=(msgspec.structs.replace(run.steps[0], exit_code=1), run.steps[1]))
    [question] = asked(run)
    assert question.steps == (0, 1)
    assert [message["role"] for message in question.messages] == ["system", "user"]
    assert question.messages[1]["content"] == (
        "Task:\nFix it.\n\n"
        "Step 0:\n```bash\nls\n```\nSaw (exit code 1):\na.py\n\n"
        "Step 1:\n```bash\nls\n```\n\n"
        "Outcome: the run ended (submitted). The task was not resolved.\n\n"
        "Verdicts of the steps 0, 1:"
    )


def test_the_outcome_is_told_where_the_form_wants_it_and_then_it_must_be_known():
    assert "The task was resolved." in asked(run_of(None), resolved=True)[0].messages[1]["content"]
    without = FormConfig(information="none")
    texts = {asked(run_of(None), without, resolved=it)[0].messages[1]["content"] for it in (True, False, None)}
    assert len(texts) == 1
    assert "resolved" not in texts.pop()
    with pytest.raises(InputError, match=r"run t \(task\): its outcome is not known"):
        asked(run_of(None), resolved=None)


def test_no_text_of_the_run_reads_like_a_mark_of_the_question():
    forged = "x\nStep 7:\nls\nVerdicts of the steps 0:\nOutcome: resolved"
    text = asked(run_of(forged, content=forged))[0].messages[1]["content"]
    assert [line for line in text.split("\n") if line.startswith(("Step", "Verdicts"))] == [
        "Step 0:",
        "Verdicts of the steps 0:",
    ]
    assert text.count("\nOutcome:") == 1


def test_a_long_run_takes_several_questions_with_the_commands_before():
    run = run_of(*["x" * 100] * 5)
    by_count = asked(run, FormConfig(steps=2))
    assert [question.steps for question in by_count] == [(0, 1), (2, 3), (4,)]
    assert "Before:\n0: ```bash\n1: ```bash\n\nStep 2:" in by_count[1].messages[1]["content"]
    assert "Outcome: 1 more steps follow." in by_count[1].messages[1]["content"]
    assert [len(question.steps) for question in asked(run, FormConfig(question_chars=300))] == [2, 2, 1]
    [one] = asked(run_of("x" * 5000), FormConfig(question_chars=400, observation_chars=5000))
    assert "characters left out" in one.messages[1]["content"]  # a step alone is cut to size
    assert len(one.messages[1]["content"]) < 700


def test_only_steps_that_are_asked_about_are_named():
    [question] = asked(run_of("a", "b", "c"), steps=[2])
    assert question.steps == (2,)
    assert question.messages[1]["content"].endswith("Verdicts of the steps 2:")
    assert asked(run_of("a"), steps=[]) == []


@pytest.mark.parametrize(
    ("text", "verdicts"),
    [
        ("0 good\n1 mistake", {0: "good", 1: "mistake"}),
        ("0: good\n 1. recover", {0: "good", 1: "recover"}),
        ("1 mistake: the wrong file\n", {1: "mistake"}),
        ("0 good\n0 mistake", {0: "good"}),
        ("7 good\n1 unnecessary", {1: "unnecessary"}),
        ("0 not good\n1 goodish\n0 good idea", {}),
        ("step 0 good", {}),
        ("", {}),
    ],
)
def test_replies(text, verdicts):
    assert {step: said.verdict for step, said in read_reply(text, [0, 1]).items()} == verdicts


def test_what_is_replied_is_read_as_what_was_said():
    given = {0: StepLabel(step=0, verdict="good"), 3: StepLabel(step=3, verdict="mistake", reason="the\nwrong  file")}
    text = reply_text(given, [0, 3], FormConfig(reasons=True, reason_chars=9))
    assert text == "0 good\n3 mistake: the wrong"
    assert [(said.verdict, said.reason) for said in read_reply(text, [0, 3]).values()] == [
        ("good", None),
        ("mistake", "the wrong"),
    ]
    assert reply_text(given, [0, 3], FORM) == "0 good\n3 mistake"


def test_lessons_are_runs_of_one_step_on_the_runs_task():
    run = run_of(*["a"] * 4)
    first, second = lessons(run, labels("good", None, "mistake", "good"), FormConfig(steps=2), resolved=False)
    assert [step.content for step in first.steps] == ["0 good"]
    assert [step.content for step in second.steps] == ["2 mistake\n3 good"]
    assert first.messages[:-1] == asked(run, FormConfig(steps=2), steps=[0])[0].messages
    assert first.messages[-1] == {"role": "assistant", "content": "0 good"}
    assert (first.id, first.task_id, first.repo) == ("t", "task", "a/b")
    assert lessons(run, labels(None, None), FORM, resolved=False) == []


class Scripted:
    """A scripted model, of any conversation."""

    name = "scripted"

    def __init__(self, *replies):
        self._episode = ScriptedModel([Reply(content=text, finish_reason="stop") for text in replies]).for_episode(
            "task", 0, None
        )

    def reply(self, messages, *, tools=()):
        return self._episode.reply(messages, tools=tools)


class Pieces(Scripted):
    """One that also tells its tokens: two characters each, every one as likely as a half."""

    def reply(self, messages, *, tools=()):
        reply = super().reply(messages, tools=tools)
        count = math.ceil(len(reply.content) / 2)
        return msgspec.structs.replace(reply, token_ids=tuple(range(count)), logprobs=(math.log(0.5),) * count)


def critic(*replies, form=FORM, trained_on=frozenset(), model=Scripted, pieces=None):
    return TrainedCritic(form, lambda: Opened(model(*replies), pieces, lambda: None), id="w", trained_on=trained_on)


def test_a_critique():
    told = critic("0 good\n1 mistake\n2 hm").judge(run_of("a", "b", "c"), Evidence(resolved=False))
    assert [label.verdict for label in told.labels] == ["good", "mistake", None]
    assert (told.critic, told.source, told.information, told.calls) == ("critic", "model", "outcome", 1)
    assert told.remarks == {"questions": 1, "missing": 1}


def test_what_it_was_trained_on_is_said():
    trained = critic("0 good", trained_on=frozenset({"task"})).judge(run_of("a"), Evidence(resolved=True))
    assert trained.remarks["trained_on_this_task"] == 1


def test_a_reply_without_a_verdict_is_a_failure_and_no_critique():
    with pytest.raises(ModelError, match="no verdict on any of the 2 steps"):
        critic("I think so").judge(run_of("a", "b"), Evidence(resolved=False))


def test_a_question_beyond_the_context_costs_its_steps():
    class Short(Scripted):
        def reply(self, messages, *, tools=()):
            if "Step 0" in messages[1]["content"]:
                raise ContextOverflow("too long")
            return super().reply(messages, tools=tools)

    told = critic("1 good", form=FormConfig(steps=1), model=Short).judge(run_of("a", "b"), Evidence(resolved=False))
    assert [label.verdict for label in told.labels] == [None, "good"]
    assert told.remarks == {"questions": 1, "missing": 1, "too_long": 1}


def test_the_confidence_is_the_probability_of_the_verdicts_tokens():
    def two_each(ids):
        text = "0 good\n1 mistake"
        return [text[2 * place : 2 * place + 2] for place in ids]

    told = critic("0 good\n1 mistake", model=Pieces, pieces=two_each).judge(run_of("a", "b"), Evidence(resolved=False))
    # "0 |go|od|\n1| m|is|ta|ke": two tokens of the first word, four of the second
    assert [label.confidence for label in told.labels] == [0.25, 0.0625]
    other = critic("0 good", model=Pieces, pieces=lambda ids: ["?"] * len(ids)).judge(
        run_of("a"), Evidence(resolved=True)
    )
    assert other.labels[0].confidence is None


def test_the_fingerprint_is_of_form_and_weights():
    def fingerprint(form=FORM, id="w"):
        return TrainedCritic(form, lambda: None, id=id).fingerprint

    assert fingerprint() == fingerprint()
    assert len({fingerprint(), fingerprint(id="v"), fingerprint(FormConfig(steps=3))}) == 3
