"""Episodes with a scripted model in a real container."""

import json
import threading
from contextlib import closing

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from srft.agent.ending import worth_retrying
from srft.agent.formats import FORMATS
from srft.agent.limits import EpisodeLimits
from srft.agent.loop import Episode, run_episode
from srft.agent.models.contract import ContextOverflow, Reply
from srft.agent.models.openai import OpenAIConfig, OpenAIModel
from srft.agent.models.scripted import ScriptedModel
from srft.agent.prompt_delta import prompts
from srft.agent.prompts.prompt import Prompt
from srft.agent.records import Trajectory, Usage
from srft.env.errors import EngineError, InputError, ModelError
from srft.env.swe_env import SweEnv

pytestmark = pytest.mark.engine


def bash(command):
    return f"I think.\n\n```bash\n{command}\n```"


SUBMIT = bash("submit")


@pytest.fixture(scope="module")
def env(task):
    with closing(SweEnv([task], backend="docker", grade_submission=False)) as env:
        env.reset(options={"task": task})
        yield env


@pytest.fixture
def episode(env, task):
    def episode(model, *, fmt="backtick", prompt="default", **settings):
        model = ScriptedModel(model) if isinstance(model, list) else model
        settings.setdefault("env", env)
        trajectory = run_episode(
            settings.pop("env"),
            model,
            task=task,
            prompt=Prompt.load(prompt),
            fmt=FORMATS[fmt],
            limits=EpisodeLimits(**settings.pop("limits", {})),
            **settings,
        )
        stored = msgspec.json.encode(trajectory)
        assert msgspec.json.encode(msgspec.json.decode(stored, type=Trajectory)) == stored
        return trajectory

    return episode


def outcomes(trajectory):
    return [(step.action and step.action.tool, step.exit_code, step.error) for step in trajectory.steps]


def test_an_episode(episode, task):
    seen = []
    run = episode(
        [bash("pwd; false"), "no block", bash("printf 'x = 1 \\n' > new.py"), SUBMIT],
        attempt=2,
        seed=5,
        on_step=seen.append,
    )
    assert run.stop_reason == "submitted"
    assert outcomes(run) == [("bash", 1, None), (None, None, "format"), ("bash", 0, None), ("submit", None, None)]
    assert run.steps[0].observation == "/testbed\n[exit code 1]\n"
    assert run.steps[3].observation is None
    assert run.patch.endswith("--- /dev/null\n+++ b/new.py\n@@ -0,0 +1 @@\n+x = 1 \n")
    assert [message["role"] for message in run.messages] == ["system", "user"] + ["assistant", "user"] * 3 + [
        "assistant"
    ]
    assert [message["content"] for message in run.messages[2::2]] == [step.content for step in run.steps]
    assert [message["content"] for message in run.messages[3::2]] == [step.observation for step in run.steps[:-1]]
    assert task.problem_statement in run.messages[1]["content"]
    assert "Expected exactly one ```bash block, found 0." in run.steps[1].observation
    assert tuple(seen) == run.steps
    assert (run.task_id, run.attempt, run.seed, run.model) == ("loop__loop-0", 2, 5, "script")
    assert run.detail is None


def test_the_sentinel_of_mini_submits(episode):
    command = "echo COMPLETE_TASK_AND_SUBMIT_FINAL_OUTPUT && git add -A && git diff --cached"
    run = episode([bash("touch new.py"), bash(command)], prompt="mini")
    assert (run.stop_reason, outcomes(run)) == ("submitted", [("bash", 0, None), ("bash", 0, None)])
    assert run.patch.startswith("diff --git a/new.py b/new.py\nnew file mode 100644\n")


def test_the_edit_tool_in_xml(episode):
    create = (
        "<function=edit>\n<parameter=command>create</parameter>\n<parameter=path>new.py</parameter>\n"
        "<parameter=file_text>\nx = 1\n</parameter>\n</function>"
    )
    run = episode([create, create, "<function=submit>\n</function>"], fmt="xml")
    assert outcomes(run) == [("edit", 0, None), ("edit", 1, None), ("submit", None, None)]
    assert run.steps[0].observation == "Created /testbed/new.py (1 line).\n[exit code 0]\n"
    assert run.patch.endswith("+++ b/new.py\n@@ -0,0 +1 @@\n+x = 1\n")


def test_native_calls_are_sent_back_and_answered(episode):
    def call(name, arguments, call_id):
        return {"id": call_id, "type": "function", "function": {"name": name, "arguments": arguments}}

    replies = [
        Reply(content="", tool_calls=(call("bash", '{"command":  "echo hi"}', "a"),)),
        Reply(content="", tool_calls=(call("bash", '{"command"', "b"), call("submit", "{}", "c"))),
        Reply(content="", tool_calls=(call("bash", '{"command": "submit"}', "d"),)),
    ]
    run = episode(replies, fmt="native")
    assert (run.stop_reason, run.steps[2].action.tool) == ("submitted", "bash")
    assert run.messages[2] == {"role": "assistant", "content": "", "tool_calls": list(replies[0].tool_calls)}
    assert run.messages[3] == {"role": "tool", "tool_call_id": "a", "content": "hi\n[exit code 0]\n"}
    assert [message.get("tool_call_id") for message in run.messages[5:7]] == ["b", "c"]
    assert [len(step.tool_calls) for step in run.steps] == [1, 2, 1]


def used(text, **usage):
    return Reply(content=text, usage=Usage(**usage))


@pytest.mark.parametrize(
    ("limits", "reply", "reason", "count"),
    [
        ({"steps": 2}, bash("true"), "step_limit", 2),
        ({"format_errors": 2}, "no block", "format_errors", 2),
        ({"tokens": 10}, used(bash("true"), completion_tokens=5), "token_limit", 2),
        ({"context_tokens": 30}, used(bash("true"), prompt_tokens=20, completion_tokens=10), "context_limit", 1),
        ({"cost_usd": 0.5}, used(bash("true"), cost_usd=0.25), "cost_limit", 2),
        ({"wall_s": 0.5}, bash("sleep 60"), "wall_limit", 1),
    ],
)
def test_every_limit_has_its_ending_and_its_patch(episode, limits, reply, reason, count):
    run = episode([reply] * 5, limits=limits)
    assert (run.stop_reason, len(run.steps), run.detail) == (reason, count, None)
    assert run.patch == ""


def test_the_last_format_error_stays_without_an_answer(episode):
    run = episode(["a", bash("true"), "b", "c"], limits={"format_errors": 2})
    assert [step.observation is None for step in run.steps] == [False, False, False, True]
    assert run.messages[-1] == {"role": "assistant", "content": "c"}


def test_a_command_that_is_killed(episode):
    run = episode([bash("echo early; sleep 60"), SUBMIT], limits={"command_timeout_s": 1.0})
    step = run.steps[0]
    assert (step.timed_out, step.exit_code) == (True, None)
    assert step.observation.startswith("early\n")
    assert "still running after 1 seconds" in step.observation


def test_long_output_is_cut_and_counted(episode):
    run = episode([bash("head -c 20000 /dev/zero | tr '\\0' x"), SUBMIT])
    assert run.steps[0].elided_chars == 4000
    assert "[... 4000 characters left out here;" in run.steps[0].observation


def test_stop_finishes_the_step_under_way(episode):
    stop = threading.Event()
    run = episode([bash("touch new.py"), SUBMIT], stop=stop, on_step=lambda step: stop.set())
    assert (run.stop_reason, outcomes(run)) == ("cancelled", [("bash", 0, None)])
    assert "new.py" in run.patch


def test_a_limit_that_is_reached_wins_over_stop(episode):
    stop = threading.Event()
    run = episode([bash("true")], limits={"steps": 1}, stop=stop, on_step=lambda step: stop.set())
    assert run.stop_reason == "step_limit"


class Failing:
    """A scripted model whose last request fails."""

    name, sampling = "failing", {}

    def __init__(self, replies, error):
        self.replies, self.error = list(replies), error

    def for_episode(self, task_id, attempt, seed):
        return Failing(self.replies, self.error)

    def reply(self, messages, *, tools=()):
        if not self.replies:
            raise self.error
        return Reply(content=self.replies.pop(0))


@pytest.mark.parametrize(
    ("error", "reason", "detail"),
    [
        (ContextOverflow("too long"), "context_limit", "too long"),
        (ModelError("no server"), "infra_error", "ModelError: no server"),
    ],
)
def test_a_model_that_fails_leaves_what_was_done(episode, error, reason, detail):
    run = episode(Failing([bash("touch new.py")], error))
    assert (run.stop_reason, run.detail, len(run.steps)) == (reason, detail, 1)
    assert "new.py" in run.patch


def test_our_own_bug_costs_one_episode_and_is_told_with_its_traceback(episode):
    run = episode(Failing([bash("touch new.py")], ZeroDivisionError("bug")))
    assert run.stop_reason == "infra_error"
    assert run.detail.startswith("Traceback")
    assert run.detail.endswith("ZeroDivisionError: bug\n")
    assert "new.py" in run.patch


def test_what_no_file_could_take_is_repaired_and_told(episode):
    run = episode(Failing([bash("echo \ud83d"), SUBMIT], None))
    assert (run.stop_reason, run.failure, len(run.steps)) == ("infra_error", "bug", 2)
    assert run.detail.startswith("the record of an episode that ended as submitted: Traceback")
    assert run.messages[2]["content"] == run.steps[0].content == bash("echo \ufffd")


def call_of(command, id_="c"):
    function = {"name": "bash", "arguments": json.dumps({"command": command})}
    return {"id": id_, "type": "function", "function": function}


@pytest.fixture
def served(chat_server):
    def served(answers, **settings):
        chat_server.answers = list(answers)
        given = {"max_retries": 0, **settings}
        return OpenAIModel(OpenAIConfig(base_url=chat_server.url, name="tiny", **given))

    return served


@pytest.mark.parametrize("id_", ["", None])
def test_calls_without_an_id_get_one_and_keep_it(episode, chat_server, completion, served, id_):
    answers = [
        (200, completion(None, message={"tool_calls": [call_of(command, id_)]})) for command in ("true", "submit")
    ]
    run = episode(served(answers), fmt="native")
    assert run.stop_reason == "submitted"
    sent = chat_server.requests[1]["messages"]
    assert sent[2]["tool_calls"][0]["id"] == sent[3]["tool_call_id"] == "call00200"
    assert run.steps[0].tool_calls[0]["id"] == run.steps[0].action.call_id == "call00200"
    assert list(run.messages[:4]) == sent
    assert run.messages[4]["tool_calls"][0]["id"] == "call00400"


def test_arguments_that_are_no_json_are_the_models_to_correct(episode, completion, served):
    broken = {**call_of("x"), "function": {"name": "bash", "arguments": '{"command": NaN}'}}
    without = {"id": "c", "type": "function", "function": None}
    calls = [broken, without, call_of("submit")]
    run = episode(served([(200, completion(None, message={"tool_calls": [call]})) for call in calls]), fmt="native")
    assert (run.stop_reason, outcomes(run)) == (
        "submitted", [(None, None, "format"), (None, None, "format"), ("bash", None, None)],
    )  # fmt: skip
    assert "The arguments of bash are not JSON: NaN is no value of JSON." in run.steps[0].observation


MISSING = (400, {"error": {"message": "Missing `reasoning_content` field in the assistant message at index 2."}})


def test_thinking_goes_back_with_calls_at_once(episode, chat_server, completion, served):
    """As DeepSeek wants it: not one request is refused."""
    answers = [
        (200, completion("", message={"reasoning_content": f"Hm {c}.", "tool_calls": [call_of(c)]}))
        for c in ("true", "submit")
    ]
    run = episode(served(answers), fmt="native")
    assert run.stop_reason == "submitted"
    assert chat_server.requests[1]["messages"][2]["reasoning_content"] == "Hm true."
    assert list(run.messages[:4]) == chat_server.requests[1]["messages"]


def test_thinking_that_is_demanded_goes_back_in_all_messages(episode, chat_server, completion, served):
    said = [(200, completion(bash("true"), message={"reasoning": "Hm."})), (200, completion(bash("true")))]
    end = (200, completion(SUBMIT))
    run = episode(served([said[0], MISSING, said[1], end]))
    assert (run.stop_reason, len(run.steps)) == ("submitted", 3)
    refused, again, last = (request["messages"] for request in chat_server.requests[1:])
    assert "reasoning_content" not in refused[2]
    assert again == [*refused[:2], {**refused[2], "reasoning_content": "Hm."}, refused[3]]
    assert [message["reasoning_content"] for message in last if message["role"] == "assistant"] == ["Hm.", ""]
    assert list(run.messages[: len(last)]) == last


def test_thinking_that_is_refused_is_taken_out(episode, chat_server, completion, served):
    refused = (400, {"error": {"message": "property 'reasoning' is unsupported"}})
    answers = [
        (200, completion("", message={"reasoning": "Hm.", "tool_calls": [call_of(c)]})) for c in ("true", "submit")
    ]
    run = episode(served([answers[0], refused, answers[1]]), fmt="native")
    assert run.stop_reason == "submitted"
    assert not any("reasoning" in message for message in run.messages)
    assert [step.reasoning for step in run.steps] == ["Hm.", "Hm."]


def test_a_stop_ends_the_waiting_for_a_server(episode, served):
    stop = threading.Event()
    threading.Timer(0.5, stop.set).start()
    run = episode(served([(503, {}, {"Retry-After": "500"})], max_retries=None), stop=stop)
    assert (run.stop_reason, run.steps) == ("cancelled", ())


def test_a_blip_costs_a_request_and_no_episode(episode, chat_server, completion, served):
    failed = {"finish_reason": "error", "error": {"code": 502, "message": "upstream died"}}
    answers = [
        (200, completion(bash("true"))),
        (0, None),
        (200, completion("", choice=failed)),
        (200, completion(SUBMIT)),
    ]
    run = episode(served(answers, max_retries=None))
    assert (run.stop_reason, len(run.steps), len(chat_server.requests)) == ("submitted", 2, 4)


def test_arguments_no_file_could_take_cost_nothing(episode):
    def call(arguments):
        return Reply(content="", tool_calls=({"id": "a", "function": {"name": "edit", "arguments": arguments}},))

    nested = r"""{"command": "view", "path": "\ud83d", "view_range": ["\ud83d"], "\ud83d": 1}"""
    deep = '{"command": ' + "[" * 100_000
    run = episode([call(nested), call(deep), call('{"command": "view", "path": "\\ud83d"}')], fmt="native")
    assert run.steps[0].action.arguments["view_range"] == ["\ufffd"]
    assert outcomes(run) == [("edit", 1, None), (None, None, "format"), ("edit", 1, None)]
    assert run.failure == "input"  # the script is over


def test_a_script_that_runs_out(episode):
    run = episode([bash("true")])
    assert (run.stop_reason, run.failure) == ("infra_error", "input")
    assert not worth_retrying(run)
    assert run.detail.startswith("ScriptExhausted: script: loop__loop-0#0 has 1 replies")


def test_a_server_that_dies_mid_run(episode, chat_server, completion):
    chat_server.answers = [(200, completion(bash("touch new.py"))), (0, None), (0, None)]
    model = OpenAIModel(OpenAIConfig(base_url=chat_server.url, name="tiny", max_retries=1))
    run = episode(model, seed=3)
    assert (run.stop_reason, len(run.steps)) == ("infra_error", 1)
    assert "no server answers there" in run.detail
    assert "new.py" in run.patch
    assert run.sampling == {"seed": 3}
    assert chat_server.requests[1]["messages"] == list(run.messages)


def test_a_container_that_dies_mid_run(episode, env):
    """The step is kept, its observation is none, and the environment is good for the next episode."""

    class Killing(Failing):
        def for_episode(self, task_id, attempt, seed):
            return self

        def reply(self, messages, *, tools=()):
            threading.Timer(0.5, env.sandbox.close).start()
            return super().reply(messages)

    run = episode(Killing([bash("sleep 30")], ModelError("never asked")))
    assert (run.stop_reason, outcomes(run)) == ("infra_error", [("bash", None, "infrastructure")])
    assert run.detail.startswith("SandboxDied: ")
    assert (run.steps[0].observation, run.patch) == (None, None)
    assert episode([SUBMIT]).stop_reason == "submitted"


def test_an_environment_that_cannot_be_reset(episode, env):
    class Broken:
        def reset(self, **options):
            raise EngineError("no engine")

    run = episode([SUBMIT], env=Broken())
    assert (run.stop_reason, run.detail) == ("infra_error", "EngineError: no engine")
    assert (run.messages, run.steps, run.patch) == ((), (), None)


def test_a_patch_that_is_lost_makes_the_episode_infrastructure(episode, env):
    run = episode([SUBMIT], on_step=lambda step: env.sandbox.close())
    assert (run.stop_reason, run.patch) == ("infra_error", None)
    assert run.detail.startswith("the patch of an episode that ended as submitted: SandboxDied: ")
    assert worth_retrying(run)


def test_a_patch_that_the_agent_made_impossible_is_no_infrastructure(episode):
    run = episode([bash("printf '#!/bin/sh\\nexit 1\\n' > \"$(command -v git)\""), SUBMIT])
    assert (run.stop_reason, run.patch) == ("submitted", None)
    assert run.detail.startswith("PatchError: ")


def test_an_agent_that_removes_the_folder_has_deleted_its_files(episode):
    run = episode([bash("rm -rf /testbed"), SUBMIT])
    assert (run.stop_reason, run.detail) == ("submitted", None)
    assert run.patch.count("deleted file mode") == 2


def test_what_a_patch_leaves_out_is_told(episode):
    """Names that are not UTF-8 and a repository made anew cost nothing."""
    run = episode([bash("echo 42 >answer.txt; touch $'caf\\xe9'; mkfifo p; rm -rf .git; git init -q"), SUBMIT])
    assert (run.stop_reason, run.failure) == ("submitted", None)
    assert run.detail == "left out of the patch: 1 neither file nor link (p)"
    assert '"b/caf\\351"' in run.patch
    assert "+42" in run.patch


def test_a_prompt_for_another_format_is_refused(episode):
    with pytest.raises(InputError, match="prompt mini is for the formats backtick; got format xml"):
        episode([], prompt="mini", fmt="xml")


def test_token_ids_are_kept_once(episode):
    replies = [
        Reply(content=bash("true"), prompt_token_ids=(1, 2, 3), token_ids=(4, 5), logprobs=(-0.5, -1.0)),
        Reply(content=bash("true"), prompt_token_ids=(1, 2, 3, 4, 5, 6, 7), token_ids=(8,), vocabulary="v"),
        Reply(content=bash("true"), prompt_token_ids=(1, 2, 9), token_ids=(10,)),
        Reply(content=bash("true")),
        Reply(content=SUBMIT, prompt_token_ids=(1, 2), token_ids=(3,)),
    ]
    run = episode(replies)
    assert [(step.prompt_shared, step.prompt_token_ids) for step in run.steps] == [
        (0, (1, 2, 3)),
        (5, (6, 7)),
        (2, (9,)),
        (None, None),
        (0, (1, 2)),
    ]
    assert list(prompts(run.steps)) == [reply.prompt_token_ids for reply in replies]
    assert [step.token_ids for step in run.steps] == [reply.token_ids for reply in replies]
    assert run.vocabulary == "v"
    assert run.steps[0].logprobs == (-0.5, -1.0)


IDS = st.one_of(st.none(), st.lists(st.integers(0, 2), max_size=4).map(tuple))


@given(st.lists(st.tuples(IDS, IDS), max_size=6))
def test_prompts_gives_back_what_was_sent(sent):
    """Whatever a server leaves out, in the words of the loop itself."""
    recorder = Episode(
        env=None, model=None, task=None, prompt=None, fmt=None, limits=EpisodeLimits(), attempt=0, seed=None,
        stop=None, on_step=None,
    )  # fmt: skip
    recorder.messages = [{"role": "assistant", "content": ""}]
    replies = [Reply(content="", prompt_token_ids=prompt, token_ids=ids) for prompt, ids in sent]
    assert list(prompts([recorder.begun(reply) for reply in replies])) == [prompt for prompt, _ in sent]


def test_two_runs_of_a_script_are_one_trajectory(episode):
    script = [bash("echo hi"), SUBMIT]
    assert episode(script).id == episode(script).id
    assert episode(script).id != episode(script, attempt=1).id
