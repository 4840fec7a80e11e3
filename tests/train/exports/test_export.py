"""Other trainers' forms: each line written out by hand, and what a form cannot say refused or left out."""

from pathlib import Path

import msgspec
import numpy
import pytest
from datasets import load_dataset, load_from_disk

from srft.critic.labels.labels import StepLabel
from srft.env.errors import InputError
from srft.train.exports.conversation import Conversation, conversation
from srft.train.exports.formats import FORMATS, format_of
from srft.train.exports.tokens import write_dataset, write_trl
from srft.train.rows.mask import MaskPolicy, RunFacts
from srft.train.rows.render import Renderer
from srft.train.rows.rows import RowSettings, RowTable, RunToRender, write_rows
from tests.train.conftest import CHATML, make_run

ACT = "I look.\n```bash\nls\n```"
CALL = {"id": "1", "type": "function", "function": {"name": "bash", "arguments": '{"command": "ls"}'}}
TOOLS = ({"type": "function", "function": {"name": "bash", "parameters": {"type": "object"}}},)


def facts(run, verdicts, **changes):
    labels = {n: StepLabel(step=n, verdict=verdict) for n, verdict in enumerate(verdicts) if verdict}
    return RunFacts(run.id, len(run.steps), False, labels)._replace(**changes)


def talk(run, verdicts, *, binary=False, **policy):
    return conversation(run, facts(run, verdicts), MaskPolicy(arm="srft", **policy), binary=binary)


@pytest.fixture
def plain():
    return talk(make_run([ACT, "Wrong.", "Done."], id="r"), ["good", "mistake", "good"])


@pytest.fixture
def native():
    """A run by native calls, with thinking kept apart."""
    run = make_run(["", "Done."], id="n", tools=TOOLS)
    messages = list(run.messages)
    messages[2] = {"role": "assistant", "content": None, "tool_calls": [CALL]}
    messages[3] = {"role": "tool", "content": "a.py", "tool_call_id": "1"}
    steps = [msgspec.structs.replace(run.steps[0], reasoning="Hm.", tool_calls=(CALL,)), run.steps[1]]
    return talk(msgspec.structs.replace(run, messages=tuple(messages), steps=tuple(steps)), ["mistake", "good"])


def test_a_run_as_messages(plain):
    assert plain.weights == [None, None, 1.0, None, 0.0, None, 1.0]
    assert [message["role"] for message in plain.messages] == ["system", "user"] + ["assistant", "user"] * 2 + [
        "assistant"
    ]
    assert (plain.trained, plain.masked, plain.cut, plain.rounded) == (2, 1, 0, 0)


def test_it_ends_with_its_last_trained_reply():
    made = talk(make_run([ACT, ACT, "Over."], id="r"), ["good", "mistake", "mistake"])
    assert (made.weights, made.cut) == ([None, None, 1.0], 4)
    assert talk(make_run([ACT]), ["mistake"]) == "nothing_trained"


def test_nothing_of_a_shown_example_is_trained():
    run = make_run(["Done."])
    shown = ({"role": "user", "content": "For example."}, {"role": "assistant", "content": "So."})
    made = talk(
        msgspec.structs.replace(run, messages=(run.messages[0], *shown, *run.messages[1:]), demo_messages=3), ["good"]
    )
    assert made.weights == [None, None, None, None, 1.0]
    for name, key, masked in (
        ("axolotl", "train", False),
        ("ms-swift", "loss", False),
        ("slime", "step_loss_mask", 0),
        ("llama-factory", "loss_weight", 0.0),
        ("swe-lego", "turn_mask", True),
    ):
        line = FORMATS[name].line(made)
        assert [message[key] for message in line["messages"] if message["role"] == "assistant"] == [
            masked,
            type(masked)(not masked),
        ]


def test_why_a_run_is_left_out():
    run = make_run([ACT])
    policy = MaskPolicy(arm="srft")
    assert conversation(run, facts(run, []), policy) == "unlabelled"
    assert conversation(run, facts(run, ["good"], resolved=None), policy) == "outcome_unknown"
    torn = msgspec.structs.replace(run, steps=())
    assert conversation(torn, facts(run, ["good"]), policy) == (
        f"not readable: {run.id}: 1 assistant messages and 0 steps; expected one a step"
    )
    parts = msgspec.structs.replace(run, messages=({"role": "user", "content": [{"type": "text"}]}, run.messages[2]))
    assert conversation(parts, facts(run, ["good"]), policy) == "content_is_not_text"


def test_weights_as_they_were_given_or_rounded():
    run = make_run([ACT, ACT, "Done."])
    verdicts = ["recover", "unnecessary", "good"]
    assert talk(run, verdicts, recover=0.3, unnecessary=0.5).weights[2::2] == [0.3, 0.5, 1.0]
    rounded = talk(run, verdicts, recover=0.3, unnecessary=0.5, binary=True)
    assert (rounded.weights[2::2], rounded.rounded) == ([0.0, 1.0, 1.0], 2)


def test_trained_replies_that_met_their_length_limit_are_counted():
    run = make_run([ACT, "Done"])
    cut = msgspec.structs.replace(run.steps[1], finish_reason="length")
    assert talk(msgspec.structs.replace(run, steps=(run.steps[0], cut)), ["good", "good"]).cut_off == 1


SYSTEM, ASKED = {"role": "system", "content": "You mend code."}, {"role": "user", "content": "The total is wrong."}
SEEN = [{"role": "user", "content": f"<returncode>0</returncode>\n{number}"} for number in range(2)]
REPLIES = [{"role": "assistant", "content": content} for content in (ACT, "Wrong.", "Done.")]


def dialogue(key, values):
    replies = [{**reply, key: value} for reply, value in zip(REPLIES, values, strict=True)]
    return [SYSTEM, ASKED, replies[0], SEEN[0], replies[1], SEEN[1], replies[2]]


def test_plain_lines(plain):
    origin = {"run_id": "r", "task_id": "a__b-1"}
    train = [{"train": False, **message} for message in dialogue("train", [True, False, True])]
    assert FORMATS["axolotl"].line(plain) == {"messages": train, **origin}
    assert FORMATS["ms-swift"].line(plain) == {"messages": dialogue("loss", [True, False, True]), **origin}
    assert FORMATS["slime"].line(plain) == {"messages": dialogue("step_loss_mask", [1, 0, 1]), "metadata": origin}
    # Of a turn_mask true means that the turn is not trained.
    assert FORMATS["swe-lego"].line(plain) == {"messages": dialogue("turn_mask", [False, True, False]), **origin}
    assert FORMATS["llama-factory"].line(plain) == {
        "messages": [
            {
                "role": message["role"],
                "content": [{"type": "text", "value": message["content"]}],
                "loss_weight": message.get("loss_weight", 0.0),
            }
            for message in dialogue("loss_weight", [1.0, 0.0, 1.0])
        ],
        "extra_info": '{"run_id": "r", "task_id": "a__b-1"}',
    }


def test_native_calls_and_thinking(native):
    call = {"id": "1", "type": "function", "function": {"name": "bash", "arguments": {"command": "ls"}}}
    as_text = {**call, "function": {"name": "bash", "arguments": '{"command": "ls"}'}}
    tools = '[{"type": "function", "function": {"name": "bash", "parameters": {"type": "object"}}}]'

    axolotl = FORMATS["axolotl"].line(native)
    assert axolotl["messages"][2] == {
        "role": "assistant", "content": "", "reasoning_content": "Hm.", "tool_calls": [as_text], "train": False
    }  # fmt: skip
    assert axolotl["messages"][3] == {"role": "tool", "content": "a.py", "tool_call_id": "1", "train": False}
    assert axolotl["tools"] == tools

    slime = FORMATS["slime"].line(native)
    assert slime["messages"][2]["tool_calls"] == [call]
    assert slime["tools"] == TOOLS

    factory = FORMATS["llama-factory"].line(native)
    assert factory["messages"][2]["content"] == [
        {"type": "reasoning", "value": "Hm."},
        {"type": "tool_call", "value": '{"name": "bash", "arguments": {"command": "ls"}}'},
    ]
    assert factory["tools"] == tools

    assert FORMATS["ms-swift"].line(native) == "thinking_kept_apart"
    unthinking = native._replace(
        messages=[{k: v for k, v in message.items() if k != "reasoning_content"} for message in native.messages]
    )
    swift = FORMATS["ms-swift"].line(unthinking)
    assert swift["messages"][2:4] == [
        {"role": "tool_call", "content": '{"name": "bash", "arguments": {"command": "ls"}}', "loss": False},
        {"role": "tool_response", "content": "a.py"},
    ]
    assert FORMATS["swe-lego"].line(native) == "native_tool_calls"


def test_swift_weights_between():
    line = FORMATS["ms-swift"].line(talk(make_run([ACT, "Done."]), ["recover", "good"], recover=0.5))
    assert line["messages"][2] == {"role": "assistant", "content": ACT, "loss": True, "loss_scale": 0.5}
    assert "loss_scale" not in line["messages"][4]
    assert "--is_binary_loss_scale false" in FORMATS["ms-swift"].settings(Path("a.jsonl"), True)
    assert "--is_binary_loss_scale" not in FORMATS["ms-swift"].settings(Path("a.jsonl"), False)


def test_swe_lego_wants_turns_that_alternate(plain):
    twice = plain._replace(messages=[*plain.messages[:2], *plain.messages[1:]], weights=[None, *plain.weights])
    assert FORMATS["swe-lego"].line(twice) == "turns_do_not_alternate"
    assert FORMATS["swe-lego"].line(Conversation("r", "t", [ASKED, SYSTEM, REPLIES[0]], [None, None, 1.0], ())) == (
        "turns_do_not_alternate"
    )


def test_datasets_reads_the_lines_back_with_their_arguments(tmp_path, native, plain):
    """Calls with arguments of different names: as objects some versions give each the other's names as nulls."""
    other = msgspec.json.decode(msgspec.json.encode(native.messages))
    other[2]["tool_calls"][0]["function"]["arguments"] = {"path": "a"}
    lines = [FORMATS["axolotl"].line(talk) for talk in (plain, native, native._replace(messages=other))]
    path = tmp_path / "a.jsonl"
    path.write_bytes(b"".join(msgspec.json.encode(line) + b"\n" for line in lines))
    rows = load_dataset("json", data_files=str(path), split="train", cache_dir=str(tmp_path / "cache"))
    calls = [row["messages"][2].get("tool_calls") for row in rows]
    assert [call and call[0]["function"]["arguments"] for call in calls] == [
        None,
        '{"command": "ls"}',
        '{"path": "a"}',
    ]
    assert [[message["train"] for message in row["messages"]] for row in rows] == [
        [False, False, True, False, False, False, True],
        [False, False, False, False, True],
        [False, False, False, False, True],
    ]


# ---- trainers that mask no single reply ----


def said(name, conversation):
    form = format_of(name)
    prepared = form.prepare(conversation)
    return prepared if isinstance(prepared, str) else form.line(prepared)


def test_nemo_has_a_row_for_each_trained_reply(plain, native):
    rows = said("nemo", plain)
    assert [len(row["messages"]) for row in rows] == [3, 7]
    assert [row["messages"][-1]["content"] for row in rows] == [ACT, "Done."]
    assert all(set(message) == {"role", "content"} for row in rows for message in row["messages"])
    (row,) = said("nemo", native)  # its first reply is masked
    assert row["messages"][2]["tool_calls"] == [
        {"id": "1", "type": "function", "function": {"name": "bash", "arguments": {"command": "ls"}}}
    ]
    assert (row["messages"][2]["reasoning_content"], row["messages"][3]["tool_call_id"]) == ("Hm.", "1")
    assert (row["tools"], row["run_id"]) == (list(TOOLS), "n")


def test_prime_rl_ends_before_the_first_masked_reply(plain):
    run = make_run([ACT, ACT, "Wrong.", "Right.", "Done."], id="r")
    prepared = FORMATS["prime-rl"].prepare(talk(run, ["good", "good", "mistake", "recover", "good"]))
    assert (prepared.weights, prepared.cut, prepared.lost) == ([None, None, 1.0, None, 1.0], 6, 2)
    assert said("prime-rl", plain)["messages"] == [SYSTEM, ASKED, {"role": "assistant", "content": ACT}]
    assert said("prime-rl", talk(run, ["mistake", "good", "good", "good", "good"])) == "its_first_reply_is_masked"
    assert len(said("prime-rl", talk(run, ["good"] * 5))["messages"]) == 11


def test_prime_rl_gets_arguments_and_tools_as_text(native):
    trained = native._replace(weights=[None, None, 1.0, None, 1.0])
    line = said("prime-rl", trained)
    assert line["messages"][2]["tool_calls"][0]["function"]["arguments"] == '{"command": "ls"}'
    assert msgspec.json.decode(line["tools"]) == list(TOOLS)


# ---- what Arrow and templates do to a record ----


def with_calls(*calls, tools=TOOLS, ids=("1",)):
    """A run whose first reply calls."""
    run = make_run(["", "Done."], id="n", tools=tools)
    answers = [{"role": "tool", "content": "a.py", "tool_call_id": it, "name": None} for it in ids]
    reply = {"role": "assistant", "content": None, "tool_calls": list(calls), "function_call": None}
    messages = (*run.messages[:2], reply, *answers, *run.messages[4:])
    return talk(msgspec.structs.replace(run, messages=messages), ["good", "good"])


def call(arguments, **more):
    return {"id": "1", "type": "function", "function": {"name": "bash", "arguments": arguments}, **more}


def test_nulls_that_arrow_made_are_in_no_form_and_are_counted():
    nulls = {"command": "ls", "path": None, "view": {"from": 1, "to": None}}
    tool = {
        "type": "function",
        "function": {
            "name": "bash",
            "strict": None,
            "parameters": {"properties": {"command": {"type": "string"}, "path": None}},
        },
    }
    made = with_calls(call(nulls, index=None), tools=(tool,))
    assert made.nulls == 5
    for name in FORMATS:
        line = said(name, made)
        if isinstance(line, str):
            assert (name, line) == ("swe-lego", "native_tool_calls")
            continue
        assert b"null" not in msgspec.json.encode(line), name
        assert b"None" not in msgspec.json.encode(line), name


def test_a_null_that_a_model_wrote_stays():
    made = with_calls(call('{"command": "ls", "path": null}'))
    assert made.nulls == 0
    arguments = {"command": "ls", "path": None}
    assert said("slime", made)["messages"][2]["tool_calls"][0]["function"]["arguments"] == arguments
    assert said("atif", made)["steps"][2]["tool_calls"][0]["arguments"] == arguments


@pytest.mark.parametrize("identity", ["1", "toolu_01", "functions.bash:0", "call_a-b_c"])
def test_ids_are_those_of_the_record(identity):
    made = with_calls({**call("{}"), "id": identity}, ids=(identity,))
    for name in ("axolotl", "slime", "verl", "prime-rl", "nemo"):
        lines = said(name, made)
        assert not isinstance(lines, str), (name, lines)
        for line in lines if isinstance(lines, list) else [lines]:
            calls = [it for message in line["messages"] for it in message.get("tool_calls", ())]
            answers = [message["tool_call_id"] for message in line["messages"] if message["role"] == "tool"]
            assert [it["id"] for it in calls] in ([identity], [])
            assert answers in ([identity], [])
    step = said("atif", made)["steps"][2]
    assert step["tool_calls"][0]["tool_call_id"] == identity
    assert step["observation"]["results"][0]["source_call_id"] == identity


@pytest.mark.parametrize("broken", [{"id": "1"}, {"id": "1", "function": {"arguments": "{}"}}, call("{oops")])
def test_calls_that_nobody_could_read_leave_the_run_out(broken):
    assert with_calls(broken).startswith("not readable: ")


MASKED = {
    "axolotl": lambda message: message["train"],
    "ms-swift": lambda message: message["loss"],
    "slime": lambda message: message["step_loss_mask"],
    "llama-factory": lambda message: message["loss_weight"],
    "swe-lego": lambda message: not message["turn_mask"],
    "verl": lambda message: message["loss_mask"],
}


@pytest.mark.parametrize("verdicts", [["good"] * 4, ["mistake", "good", "mistake", "good"], ["good", *["mistake"] * 3]])
def test_each_form_has_the_weights_of_the_steps(verdicts):
    made = talk(make_run([ACT, ACT, "Wrong.", "Done."], id="r"), verdicts)
    weights = [weight for weight in made.weights if weight is not None]
    for name, mask in MASKED.items():
        replies = [message for message in said(name, made)["messages"] if message["role"] == "assistant"]
        assert [float(mask(message)) for message in replies] == weights, name
    trained = [message["content"] for message, weight in zip(made.messages, made.weights, strict=True) if weight]
    assert [row["messages"][-1]["content"] for row in said("nemo", made)] == trained
    of_agent = [step["extra"]["loss_weight"] for step in said("atif", made)["steps"] if step["source"] == "agent"]
    assert of_agent == [*weights, *[0.0] * (4 - len(weights))]


# ---- token rows ----


@pytest.fixture
def table(tmp_path, tokenizer_with):
    def table(*verdicts, **policy):
        run = make_run([ACT, "Wrong.", "Done."], id="r")
        write_rows(
            tmp_path / "rows",
            [RunToRender(run, {"srft": facts(run, verdicts)})],
            Renderer(tokenizer_with(CHATML)),
            {"srft": MaskPolicy(arm="srft", **policy)},
            RowSettings(),
            fingerprints={"srft": "f"},
        )
        return RowTable.open(tmp_path / "rows" / "srft")

    return table


@pytest.mark.parametrize(("ending", "kind"), [("parquet", "parquet"), ("jsonl", "json")])
def test_trl_rows(tmp_path, table, ending, kind):
    table = table("good", "mistake", "mistake")
    path = tmp_path / f"trl.{ending}"
    counts = write_trl(table, path, binary=False)
    (made,) = load_dataset(kind, data_files=str(path), split="train", cache_dir=str(tmp_path / "cache"))
    (row,) = table
    end = row.used_tokens
    assert made["input_ids"] == row.input_ids[:end].tolist()
    assert made["completion_mask"] == (row.weights[:end] > 0).astype(int).tolist()
    assert made["labels"] == numpy.where(row.weights[:end] > 0, row.input_ids[:end], -100).tolist()
    assert (counts.rows, counts.tokens, counts.trained, counts.masked) == (1, end, row.trained_tokens, 0)
    assert counts.cut == len(row.input_ids) - end


def test_trl_knows_no_weights_between(tmp_path, table):
    rows = table("good", "recover", "unnecessary", recover=0.25, unnecessary=0.75)
    with pytest.raises(InputError, match=r"run r: a token has the weight 0\.25, and TRL knows trained or not"):
        write_trl(rows, tmp_path / "t.jsonl", binary=False)
    counts = write_trl(rows, tmp_path / "t.jsonl", binary=True)
    (row,) = rows
    assert counts.trained == int((row.weights >= 0.5).sum())
    assert counts.rounded == int(((row.weights > 0) & (row.weights < 1)).sum())


def test_rows_that_rounding_leaves_without_loss_are_counted(tmp_path, table):
    counts = write_trl(table("recover", "recover", "recover", recover=0.25), tmp_path / "t.parquet", binary=True)
    assert (counts.rows, counts.untrained_rows) == (0, 1)


def test_a_saved_dataset_with_its_card(tmp_path, table):
    table = table("good", "recover", "mistake", recover=0.5)
    counts = write_dataset(table, tmp_path / "out")
    (made,), (row,) = load_from_disk(str(tmp_path / "out")), table
    assert made["input_ids"] == row.input_ids.tolist()
    assert made["weights"] == row.weights.tolist()
    assert (counts.trained, counts.masked) == (row.trained_tokens, 6)  # "Done.", a token a letter, and the end of turn
    card = (tmp_path / "out" / "README.md").read_text()
    assert "| `weights` |" in card
    assert f"| trained tokens | {row.trained_tokens:,} |" in card
    assert "| recover | 0.5 |" in card
