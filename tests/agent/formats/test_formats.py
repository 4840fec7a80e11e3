"""The action formats: what they read, what they refuse, and that they keep a command to the character."""

import json
import re

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from srft.agent.formats import FORMATS, FormatError
from srft.agent.importing.importers import read_runs
from srft.agent.models.contract import Reply
from srft.agent.records import Action

COMMANDS = st.text(alphabet=st.characters(exclude_categories=["Cs"]), min_size=1).filter(
    lambda text: text.strip() not in {"", "submit"}
)


def call(name, arguments, call_id="call_1"):
    return {"id": call_id, "type": "function", "function": {"name": name, "arguments": arguments}}


def refusal(fmt, reply):
    with pytest.raises(FormatError) as error:
        FORMATS[fmt].parse(reply)
    return str(error.value)


@given(COMMANDS.filter(lambda text: "```" not in text))
@example("  ls \\\n  -la  ")
@example("\n\nls\n\n")
@example("ls\r\n\u2028\x0c``")
def test_backtick_keeps_the_command(command):
    action = FORMATS["backtick"].parse(Reply(content=f"I look.\n\n```bash\n{command}\n```\nDone."))
    assert (action.tool, action.arguments) == ("bash", {"command": command})


@given(COMMANDS.filter(lambda text: not re.search(r"</parameter>\s*(<parameter=|</function>)", text)))
@example("cat > a <<'E'\n<parameter=x>\n</parameter>\nE")
@example("grep '<function=bash>' </function>")
@example("\n\nls\n\n")
def test_xml_keeps_the_command(command):
    content = f"I look.\n<function=bash>\n<parameter=command>\n{command}\n</parameter>\n</function>"
    action = FORMATS["xml"].parse(Reply(content=content))
    assert (action.tool, action.arguments) == ("bash", {"command": command})


@given(COMMANDS)
@example("echo '</tool_call>' && cat > a <<'E'\n<tool_call>{}</tool_call>\nE")
def test_json_keeps_the_command(command):
    action = Action(tool="bash", arguments={"command": command}, format="json")
    content = f"I look.\n{FORMATS['json'].written(action)}\nSo be it."
    assert FORMATS["json"].parse(Reply(content=content)) == action
    begin, end = FORMATS["json"].span(content)
    assert (content[:begin], content[end:]) == ("I look.\n", "\nSo be it.")


@given(COMMANDS, st.booleans())
def test_native_keeps_the_command(command, as_object):
    arguments = {"command": command}
    reply = Reply(content="", tool_calls=(call("bash", arguments if as_object else json.dumps(arguments)),))
    action = FORMATS["native"].parse(reply)
    assert (action.tool, action.arguments, action.call_id) == ("bash", arguments, "call_1")


@pytest.mark.parametrize(
    ("fmt", "reply"),
    [
        ("backtick", Reply(content="Done.\n```bash\nsubmit\n```")),
        ("xml", Reply(content="Done.\n<function=submit>\n</function>")),
        ("xml", Reply(content="<function=submit></function>")),
        ("json", Reply(content='Done.\n<tool_call>\n{"name": "submit", "arguments": {}}\n</tool_call>')),
        ("json", Reply(content='<tool_call>{"name": "submit"}</tool_call>')),
        ("native", Reply(content="", tool_calls=(call("submit", "{}"),))),
        ("native", Reply(content="", tool_calls=(call("submit", ""),))),
    ],
)
def test_submit(fmt, reply):
    assert FORMATS[fmt].parse(reply).tool == "submit"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("I think.", "Expected exactly one ```bash block, found 0."),
        ("```bash\nls\n```\n```bash\npwd\n```", "Expected exactly one ```bash block, found 2."),
        ("```bash\nls", "Expected exactly one ```bash block, found 0."),
        ("```python\nls\n```", "Expected exactly one ```bash block, found 0."),
        ("```bash\n \n```", "The ```bash block is empty; expected a command in it."),
        ("```bash\n```", "The ```bash block is empty; expected a command in it."),
    ],
)
def test_backtick_refuses(content, message):
    assert refusal("backtick", Reply(content=content)) == message


README = "cat >README.md <<'EOF'\n# Use\n{fence}\nimport x\n```\nEOF"


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (f"```bash\n{README.format(fence='```python')}\n```", "In the ```bash block stands '```python', so it is"),
        (f"```bash\n{README.format(fence='```')}\n```", "Behind the ```bash block stands '```', so it is"),
        ("```bash\nls\n```bash\npwd\n```", "In the ```bash block stands '```bash', so it is"),
        ("```bash\nls\n``` and so on", "In the ```bash block stands '``` and so on', so it is"),
        ("```bash\nls\n```\nIt prints\n```\na.py\n```", "Behind the ```bash block stands '```', so it is"),
        ("````bash\necho '\n````\n```\n````", "Behind the ```bash block stands '```', so it is"),
    ],
)
def test_backtick_never_cuts_a_command_at_a_fence_of_its_own(content, said):
    assert refusal("backtick", Reply(content=content)).startswith(said)


@pytest.mark.parametrize(
    ("content", "command"),
    [
        (f"````bash\n{README.format(fence='```')}\n````", README.format(fence="```")),
        ("`````bash\n````\n```\n`````  \n", "````\n```"),
        ("```bash\ncat <<'E'\n  ```python\n  ```\nE\n```", "cat <<'E'\n  ```python\n  ```\nE"),
        ("```python\nx\n```\nNow:\n```bash\nls\n```", "ls"),
        ("```bash\r\nls -la\r\ncd x\r\n```\r\n", "ls -la\ncd x"),
        ("```bash\nprintf 'a\r\nb'\n```", "printf 'a\r\nb'"),
    ],
)
def test_backtick_reads_what_has_one_end(content, command):
    action = FORMATS["backtick"].parse(Reply(content=content))
    assert (action.tool, action.arguments) == ("bash", {"command": command})


@given(st.lists(st.sampled_from(["ls", "```", "```bash", "````bash", "````", "```python", "cat <<'E'", "E", "", "\r"])))
@example(["```bash", "cat <<'E'", "```", "E", "```"])
def test_backtick_reads_all_up_to_the_last_fence_or_nothing(lines):
    """Whatever is read ends where no other fence follows, and holds none that could have ended it."""
    text = "\n".join(lines)
    try:
        command = FORMATS["backtick"].parse(Reply(content=text)).arguments.get("command", "submit")
    except FormatError:
        return
    behind = text.rpartition(command)[2] if command != "submit" else ""
    assert len(re.findall(r"(?m)^```", behind)) <= 1
    assert "```bash" not in command.split("\n") or "````bash" in lines


def test_replies_that_never_end_are_refused_quickly():
    assert refusal("backtick", Reply(content="```bash\nx" * 100_000)).endswith("found 0.")
    assert refusal("backtick", Reply(content="```bash\nx\n```\n" * 50_000)).endswith("found 50000.")


@pytest.mark.parametrize(
    ("inner", "cut"),
    [
        ("<function=x>\n<parameter=y>\nz\n</parameter>\n</function>", "\nE\n</parameter>\n</function>"),
        ("<function=x>\n<parameter=y>\nz\n</parameter>\n</function>", "\nE"),
        ("</parameter></function>", "\nE\n</parameter>\n</function>"),
        ("<function=x>\n<parameter=y>\nz\n</parameter>\n</function>", "\nE</parameter> </function> Done."),
    ],
)
def test_xml_never_cuts_a_value_at_a_call_of_its_own(inner, cut):
    content = f"<function=bash>\n<parameter=command>\ncat >t <<'E'\n{inner}{cut}"
    assert re.match(r"Behind the call of bash stands (</parameter>|more), so", refusal("xml", Reply(content=content)))


@pytest.mark.parametrize(
    ("content", "command"),
    [
        ("<function=bash>\r\n<parameter=command>\r\nls\r\ncd x\r\n</parameter>\r\n</function>\r\n", "ls\ncd x"),
        ("<function=bash>\n<parameter=command>\nprintf 'a\r\nb'\n</parameter>\n</function>", "printf 'a\r\nb'"),
        ("<function=bash><parameter=command>grep '<parameter=x>' a</parameter></function>\n", "grep '<parameter=x>' a"),
        ("<function=bash><parameter=command>ls</parameter></function> Then I look.", "ls"),
    ],
)
def test_xml_reads_what_has_one_end(content, command):
    action = FORMATS["xml"].parse(Reply(content=content))
    assert (action.tool, action.arguments) == ("bash", {"command": command})


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("I think.", "Expected exactly one <function=...> call, found 0."),
        (
            "<function=submit></function> <function=submit></function>",
            "Expected exactly one <function=...> call, found 2.",
        ),
        (
            "<function=bash><parameter=command>ls",
            "<parameter=command> of <function=bash> does not end; expected </parameter> and </function>.",
        ),
        ("<function=bash>ls</function>", "<function=bash> does not end; expected </function> after its parameters."),
        (
            "<function=bash><parameter=command>a</parameter><parameter=command>b</parameter></function>",
            "<function=bash> has the parameter command twice.",
        ),
        ("<function=python></function>", "There is no tool 'python'; expected bash, edit or submit."),
        ("<function=bash></function>", "bash takes one text, command; got nothing."),
        (
            "<function=bash><parameter=command> </parameter></function>",
            "The command is empty; expected a bash command.",
        ),
    ],
)
def test_xml_refuses(content, message):
    assert refusal("xml", Reply(content=content)) == message


def test_xml_text_that_never_ends_is_refused_quickly():
    refusal("xml", Reply(content="<function=edit>" + "<parameter=a>b</parameter>" * 5000))
    refusal("xml", Reply(content="<function=bash><parameter=command>" + "</parameter> " * 20000))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("I think.", "Expected exactly one <tool_call>, found 0."),
        ('<tool_call>{"name": "submit"}</tool_call>' * 2, "Expected exactly one <tool_call>, found 2."),
        ("<tool_call>ls</tool_call>",
         "What follows <tool_call> is not JSON: Expecting value: line 1 column 12 (char 11)."),
        ('<tool_call>{"name": "submit"}', "A <tool_call> does not end; expected </tool_call> after its JSON object."),
        ('<tool_call>["ls"]</tool_call>',
         'Between <tool_call> and </tool_call>: expected {"name": ..., "arguments": {...}}.'),
        ('<tool_call>{"name": "bash", "command": "ls"}</tool_call>',
         'Between <tool_call> and </tool_call>: expected {"name": ..., "arguments": {...}}.'),
        ('<tool_call>{"name": "bash"}</tool_call>', "bash takes one text, command; got nothing."),
        ('<tool_call>{"name": "bash", "arguments": ["ls"]}</tool_call>',
         "The arguments of bash are list; expected an object."),
        ('<tool_call>{"name": "python", "arguments": {}}</tool_call>',
         "There is no tool 'python'; expected bash, edit or submit."),
        ('<tool_call>{"name": "edit", "arguments": {"insert_line": NaN}}</tool_call>',
         "What follows <tool_call> is not JSON: NaN is no value of JSON."),
    ],
)  # fmt: skip
def test_json_refuses(content, message):
    assert refusal("json", Reply(content=content)) == message


def test_json_too_deep_or_half_a_surrogate_pair():
    deep = refusal("json", Reply(content='<tool_call>{"name": ' + "[" * 100_000))
    assert deep.startswith("What follows <tool_call> is not JSON: maximum recursion depth exceeded")
    half = '<tool_call>{"name": "bash", "arguments": {"command": "echo \\ud83d"}}</tool_call>'
    assert FORMATS["json"].parse(Reply(content=half)).arguments == {"command": "echo \ufffd"}


def test_json_edit_in_the_place_of_a_call_and_of_what_cannot_be_read():
    action = Action(tool="edit", arguments={"command": "undo", "path": "é.py"}, format="json")
    written = '<tool_call>\n{"name": "edit", "arguments": {"command": "undo", "path": "é.py"}}\n</tool_call>'
    for before, after in (
        ('I look.\n<tool_call>{"name": "submit"}</tool_call> Then.', f"I look.\n{written} Then."),
        ('I look. <tool_call>{"name" </tool_call> Then.', f"I look. \n\n{written}"),
        ('<tool_call>{"name": "submit"}</tool_call>' * 2, written),
        ("I look.", f"I look.\n\n{written}"),
    ):
        assert FORMATS["json"].with_action(Reply(content=before), action).content == after


def test_xml_edit():
    content = (
        "<function=edit>\n<parameter=command>replace</parameter>\n<parameter=path>a.py</parameter>\n"
        "<parameter=old_text>\n    x = 1\n\n</parameter>\n<parameter=new_text>\n</parameter>\n</function>"
    )
    action = FORMATS["xml"].parse(Reply(content=content))
    assert action.tool == "edit"
    assert action.arguments == {"command": "replace", "path": "a.py", "old_text": "    x = 1\n", "new_text": ""}


@pytest.mark.parametrize(
    ("calls", "message"),
    [
        ((), "Expected exactly one tool call, found 0."),
        ((call("bash", "{}"), call("bash", "{}")), "Expected exactly one tool call, found 2."),
        (
            (call("bash", json.dumps(json.dumps({"command": "ls"}))),),
            "The arguments of bash are str; expected an object.",
        ),
        (
            (call("bash", '{"command": "ls'),),
            "The arguments of bash are not JSON: Unterminated string starting at: line 1 column 13 (char 12).",
        ),
        ((call("bash", '{"command": "ls", "timeout": 5}'),), "bash takes one text, command; got command, timeout."),
        ((call("bash", '{"command": ["ls"]}'),), "bash takes one text, command; got command."),
    ],
)
def test_native_refuses(calls, message):
    assert refusal("native", Reply(content="", tool_calls=calls)) == message


def test_native_arguments_go_back_as_the_string_they_came_in():
    arguments = '{"command":  "echo \\"\\u00e9\\""}'
    message = FORMATS["native"].assistant_message(Reply(content="x", tool_calls=(call("bash", arguments),)))
    assert message == {"role": "assistant", "content": "x", "tool_calls": [call("bash", arguments)]}


@pytest.mark.parametrize(
    ("arguments", "sent"),
    [
        ({"command": "é"}, '{"command": "é"}'),
        ('{"command": "ls', '{"unreadable": "{\\"command\\": \\"ls"}'),
        ("", "{}"),
    ],
)
def test_native_arguments_are_sent_back_as_the_string_of_an_object(arguments, sent):
    message = FORMATS["native"].assistant_message(Reply(content="", tool_calls=(call("bash", arguments),)))
    assert message["tool_calls"] == [call("bash", sent)]


def test_native_half_a_surrogate_pair_is_replaced():
    reply = Reply(content="", tool_calls=(call("bash", '{"command": "echo \\ud83d"}'),))
    assert FORMATS["native"].parse(reply).arguments == {"command": "echo \ufffd"}


def test_native_arguments_too_deep_to_be_looked_through_are_refused():
    arguments = '{"path": ' + "[" * 900 + "]" * 900 + "}"
    reply = Reply(content="", tool_calls=(call("edit", arguments),))
    assert refusal("native", reply).startswith("The arguments of edit are not JSON: maximum recursion depth exceeded")
    sent = FORMATS["native"].assistant_message(reply)["tool_calls"][0]["function"]["arguments"]
    assert json.loads(sent) == {"unreadable": arguments}


def test_native_integers_of_any_size_are_stored_as_they_are():
    arguments = {"view_range": [1, 10**4000, -(2**80)]}
    action = FORMATS["native"].parse(Reply(content="", tool_calls=(call("edit", json.dumps(arguments)),)))
    assert msgspec.json.decode(msgspec.json.encode(action), type=Action).arguments == arguments


def test_every_native_call_is_answered():
    reply = Reply(content="", tool_calls=(call("bash", "{}", "a"), call("bash", "{}", "b")))
    assert FORMATS["native"].render_format_error(reply, "no") == [
        {"role": "tool", "tool_call_id": "a", "content": "no"},
        {"role": "tool", "tool_call_id": "b", "content": "no"},
    ]


def test_recorded_replies_parse_as_they_did(recorded_runs):
    """246 real runs: the same commands and the same refusals as mini-swe-agent's, to the character."""
    block = re.compile(r"```bash\s*\n(.*?)\n```", re.DOTALL)
    recorded_refusal = re.compile(r"Please always provide EXACTLY ONE action in triple backticks, found (\d+) actions")
    parsed = refused = 0
    for step in (step for run in read_runs(recorded_runs) for step in run.steps):
        said = recorded_refusal.match(step.observation or "")
        reply = Reply(content=step.content)
        if said is not None:
            assert refusal("backtick", reply) == f"Expected exactly one ```bash block, found {said[1]}."
            refused += 1
        else:
            command = FORMATS["backtick"].parse(reply).arguments["command"]
            assert [command] == block.findall(step.content)
            parsed += 1
    assert (parsed, refused) == (9866, 356)
