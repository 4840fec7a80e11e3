"""What a person writes: in each format it is read back as it was meant."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from srft.agent.formats import FORMATS, FormatError
from srft.agent.models.contract import Reply
from srft.agent.models.human import HumanModel, action_of, action_text, edited, thought_of, typed
from srft.agent.records import Usage
from srft.env.errors import InputError

EDIT = '{"command": "view", "path": "a.py", "view_range": [1, 2]}'


@pytest.mark.parametrize("fmt", FORMATS.values(), ids=list(FORMATS))
@pytest.mark.parametrize("text", ["ls", "ls\n", "cat <<X\na\n\nb\nX", "submit", "echo `date` 你好 \\n"])
def test_typed(fmt, text):
    action = action_of(text, tool="bash", fmt=fmt)
    reply = typed(action, thought="I think.", fmt=fmt, index=4)
    read = fmt.parse(reply)
    assert (action_text(read), read.tool) == (text, action.tool)
    assert (reply.author, reply.content.startswith("I think.")) == ("human", True)


def test_edited_keeps_what_the_model_said():
    sampled = {"prompt_token_ids": (1,), "token_ids": (2,), "logprobs": (-1.0,), "usage": Usage(prompt_tokens=1)}
    fmt = FORMATS["backtick"]
    reply = Reply(content="Look:\n```bash\nls\n```\nand then.", reasoning="hm", **sampled)
    changed = edited(reply, action_of("ls -a", tool="bash", fmt=fmt), fmt=fmt, index=0)
    assert changed == Reply(
        content="Look:\n```bash\nls -a\n```\nand then.",
        reasoning="hm",
        finish_reason="stop",
        usage=Usage(prompt_tokens=1),
        author="edited",
    )


@pytest.mark.parametrize(
    ("name", "before", "after"),
    [
        ("backtick", "a\n```bash\nx\n```\nb\n```bash\ny\n```\nc", "a\n```bash\nls\n```"),
        ("backtick", "", "```bash\nls\n```"),
        ("backtick", "no action", "no action\n\n```bash\nls\n```"),
        (
            "xml",
            "a <function=bash>\n<parameter=command>x",
            "a \n\n<function=bash>\n<parameter=command>\nls\n</parameter>\n</function>",
        ),
        (
            "xml",
            "a\n<function=bash>\n<parameter=command>\nx\n</parameter>\n</function> b",
            "a\n<function=bash>\n<parameter=command>\nls\n</parameter>\n</function> b",
        ),
    ],
)  # fmt: skip
def test_edited_where_the_model_wrote_no_action_or_several(name, before, after):
    fmt = FORMATS[name]
    assert edited(Reply(content=before), action_of("ls", tool="bash", fmt=fmt), fmt=fmt, index=0).content == after


def test_edited_native_keeps_the_calls_id():
    fmt = FORMATS["native"]
    call = {"id": "abc", "type": "function", "function": {"name": "bash", "arguments": '{"command": "ls"}'}}
    reply = Reply(content="I look.", tool_calls=(call, {**call, "id": "def"}))
    changed = edited(reply, action_of(EDIT, tool="edit", fmt=fmt), fmt=fmt, index=7)
    assert [one["id"] for one in changed.tool_calls] == ["abc"]
    assert fmt.parse(changed).arguments == {"command": "view", "path": "a.py", "view_range": [1, 2]}
    own = typed(action_of("ls", tool="bash", fmt=fmt), fmt=fmt, index=7)
    assert [one["id"] for one in own.tool_calls] == ["call_7"]


def test_the_edit_tool_as_text():
    fmt = FORMATS["xml"]
    reply = typed(action_of(EDIT, tool="edit", fmt=fmt), fmt=fmt, index=0)
    assert fmt.parse(reply).arguments == {"command": "view", "path": "a.py", "view_range": "[1, 2]"}


@pytest.mark.parametrize(
    ("name", "text", "tool", "message"),
    [
        ("backtick", "cat <<X\n```\nX", "bash", "cannot carry this action"),
        ("xml", "echo '</parameter></function>'", "bash", "cannot carry this action"),
        ("backtick", EDIT, "edit", "has no edit tool"),
        ("xml", "{", "edit", "are not JSON"),
        ("xml", "[]", "edit", "are list; expected an object"),
        ("xml", " \n", "bash", "the action is empty"),
    ],
)
def test_what_cannot_be_written(name, text, tool, message):
    fmt = FORMATS[name]
    with pytest.raises(InputError, match=message):
        typed(action_of(text, tool=tool, fmt=fmt), fmt=fmt, index=0)


@given(st.sampled_from(sorted(FORMATS)), st.text(max_size=60), st.text(min_size=1, max_size=60))
def test_an_action_is_read_as_it_was_written_or_refused(name, content, text):
    fmt = FORMATS[name]
    try:
        action = action_of(text, tool="bash", fmt=fmt)
        reply = edited(Reply(content=content), action, fmt=fmt, index=0)
    except InputError:
        return
    try:
        read = fmt.parse(reply)
    except FormatError as error:
        raise AssertionError(reply.content) from error
    assert (read.tool, read.arguments) == (action.tool, action.arguments)


def test_a_person_is_not_asked():
    model = HumanModel()
    with pytest.raises(InputError, match="write the action yourself"):
        model.for_episode("a__b-1", 0, None).reply([])


@pytest.mark.parametrize(
    ("name", "before", "thought", "after"),
    [
        ("backtick", "Old.\n\n```bash\nx\n```\nend", "New.\nTwo lines.", "New.\nTwo lines.\n\n```bash\nls\n```\nend"),
        ("backtick", "Old.\n```bash\nx\n```", "", "```bash\nls\n```"),
        ("backtick", "```bash\nx\n```", "New.", "New.\n\n```bash\nls\n```"),
        ("backtick", "no action", "New.", "New.\n\n```bash\nls\n```"),
        ("xml", "Old.\n<function=bash>\n<parameter=command>\nx\n</parameter>\n</function>", "New.",
         "New.\n<function=bash>\n<parameter=command>\nls\n</parameter>\n</function>"),
        ("native", "Old.", "New.", "New."),
    ],
)  # fmt: skip
def test_edited_with_another_thought(name, before, thought, after):
    fmt = FORMATS[name]
    action = action_of("ls", tool="bash", fmt=fmt)
    assert edited(Reply(content=before), action, fmt=fmt, index=0, thought=thought).content == after
    kept = edited(Reply(content=before), action, fmt=fmt, index=0, thought=thought_of(Reply(content=before), fmt=fmt))
    assert kept == edited(Reply(content=before), action, fmt=fmt, index=0)


def test_edited_with_other_thinking_which_goes_back_as_it_is_now():
    fmt = FORMATS["backtick"]
    before = Reply(
        content="a\n```bash\nx\n```", reasoning="old", sent_back={"reasoning": "old", "reasoning_details": [1]}
    )
    action = action_of("ls", tool="bash", fmt=fmt)
    changed = edited(before, action, fmt=fmt, index=0, thinking="new")
    assert (changed.reasoning, changed.sent_back) == ("new", {"reasoning": "new"})
    assert edited(before, action, fmt=fmt, index=0, thinking="").sent_back == {}
    assert edited(before, action, fmt=fmt, index=0, thinking="old").sent_back == before.sent_back


def test_a_thought_that_holds_an_action_is_refused():
    fmt = FORMATS["backtick"]
    with pytest.raises(InputError, match="the thought holds an action as the format backtick"):
        edited(
            Reply(content="a\n```bash\nx\n```"),
            action_of("ls", tool="bash", fmt=fmt),
            fmt=fmt,
            index=0,
            thought="```bash\nrm x\n```",
        )
