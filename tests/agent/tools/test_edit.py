"""The edit tool on a real container."""

from dataclasses import replace

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from srft.agent.tools.edit import Editor, _only_occurrence
from srft.agent.tools.files import MAX_FILE_BYTES, Refused
from srft.env.docker.sandbox import DockerSandbox
from srft.env.errors import SandboxDied

pytestmark = pytest.mark.engine


@pytest.fixture
def editor(sandbox):
    return Editor(sandbox, "/tmp")


def edit(editor, command, path="a.py", **arguments):
    result = editor.run({"command": command, "path": path, **arguments})
    return result.text, result.ok


def test_create_view_replace_insert_undo(editor, sandbox):
    assert edit(editor, "create", file_text="one\ntwo\nthree") == ("Created /tmp/a.py (3 lines).", True)
    assert sandbox.read("/tmp/a.py") == b"one\ntwo\nthree\n"
    assert edit(editor, "view") == (
        "/tmp/a.py, lines 1 to 3 of 3:\n     1\tone\n     2\ttwo\n     3\tthree\n",
        True,
    )
    assert edit(editor, "replace", old_text="two", new_text="2\n2b") == (
        "Edited /tmp/a.py. Now:\n     1\tone\n     2\t2\n     3\t2b\n     4\tthree\n",
        True,
    )
    assert edit(editor, "insert", insert_line=0, new_text="zero") == (
        "Edited /tmp/a.py. Now:\n     1\tzero\n     2\tone\n     3\t2\n     4\t2b\n     5\tthree\n",
        True,
    )
    assert sandbox.read("/tmp/a.py") == b"zero\none\n2\n2b\nthree\n"
    assert edit(editor, "undo") == ("Undid the last edit of /tmp/a.py.", True)
    assert sandbox.read("/tmp/a.py") == b"one\n2\n2b\nthree\n"
    assert edit(editor, "undo") == ("Undid the last edit of /tmp/a.py.", True)
    assert sandbox.read("/tmp/a.py") == b"one\ntwo\nthree\n"
    assert edit(editor, "undo") == ("Removed /tmp/a.py, which the edit had created.", True)
    assert edit(editor, "undo") == ("There is no edit of /tmp/a.py to undo.", False)
    assert edit(editor, "view") == ("There is no file /tmp/a.py.", False)


def test_undo_does_not_lose_what_a_command_wrote(editor, sandbox):
    sandbox.write("/tmp/a.py", b"x = 1\n")
    edit(editor, "replace", old_text="1", new_text="2")
    sandbox.run("echo y >> /tmp/a.py", 10)
    text = "/tmp/a.py was changed by something else since its last edit; undo would lose that."
    assert edit(editor, "undo") == (text, False)
    assert sandbox.read("/tmp/a.py") == b"x = 2\ny\n"


@pytest.mark.parametrize(
    ("before", "arguments", "after"),
    [
        (b"a\r\nb\r\nc\r\n", {"old_text": "a\nb", "new_text": "x\ny\nz"}, b"x\r\ny\r\nz\r\nc\r\n"),
        (b"a\r\nb\r\n", {"old_text": "\nb", "new_text": "\nB"}, b"a\r\nB\r\n"),
        (b"a\nb\r\nc\n", {"old_text": "a\nb\n", "new_text": "B\n"}, b"B\nc\n"),
        (b"a\nb", {"old_text": "b", "new_text": "c"}, b"a\nc"),
        (b"\xff\xfea = 1\n\xe9", {"old_text": "a = 1", "new_text": "a = 'é'"}, b"\xff\xfea = '\xc3\xa9'\n\xe9"),
        (b"a\x0cb\xe2\x80\xa8c\n", {"old_text": "b", "new_text": "B"}, b"a\x0cB\xe2\x80\xa8c\n"),
        (b"x.*(\n", {"old_text": ".*(", "new_text": r"\1"}, b"x\\1\n"),
    ],
)
def test_replace_keeps_the_rest_to_the_byte(editor, sandbox, before, arguments, after):
    sandbox.write("/tmp/a.py", before)
    assert edit(editor, "replace", **arguments)[1]
    assert sandbox.read("/tmp/a.py") == after
    assert edit(editor, "undo")[1]
    assert sandbox.read("/tmp/a.py") == before


@pytest.mark.parametrize(
    ("before", "line", "after"),
    [
        (b"", 0, b"new\n"),
        (b"a\n", 1, b"a\nnew\n"),
        (b"a", 1, b"a\nnew"),
        (b"a", 0, b"new\na"),
        (b"a\r\nb\r\n", 1, b"a\r\nnew\r\nb\r\n"),
    ],
)
@pytest.mark.parametrize("new_text", ["new", "new\n"])
def test_insert_keeps_the_rest_to_the_byte(editor, sandbox, before, line, after, new_text):
    sandbox.write("/tmp/a.py", before)
    assert edit(editor, "insert", insert_line=line, new_text=new_text)[1]
    assert sandbox.read("/tmp/a.py") == after


def test_mode_and_links_stay(editor, sandbox):
    sandbox.run("mkdir real && printf 'x\\n' > real/run.sh && chmod 755 real/run.sh && ln -s real link", 10)
    sandbox.run("ln -s real/run.sh run", 10)
    assert edit(editor, "replace", "run", old_text="x", new_text="y")[1]
    assert edit(editor, "replace", "link/run.sh", old_text="y", new_text="z")[1]
    assert sandbox.run("stat -c '%a %F' real/run.sh; stat -c %F run; cat real/run.sh", 10).output == (
        "755 regular file\nsymbolic link\nz\n"
    )
    assert edit(editor, "undo", "run")[1]
    assert edit(editor, "undo", "/tmp/real/run.sh")[1]
    assert sandbox.read("/tmp/real/run.sh") == b"x\n"


def test_view_range_and_numbers_as_text(editor, sandbox):
    sandbox.write("/tmp/a.py", b"1\r\n2\r\n3\r\n")
    shown = "/tmp/a.py, lines 2 to 3 of 3, lines end in CRLF:\n     2\t2\n     3\t3\n"
    assert edit(editor, "view", view_range=[2, -1]) == (shown, True)
    assert edit(editor, "view", view_range="[2, 99]") == (shown, True)
    assert edit(editor, "insert", insert_line="3", new_text="4")[1]


def test_view_shows_what_utf8_cannot(editor, sandbox):
    sandbox.write("/tmp/a.py", b"\xff\n")
    assert edit(editor, "view")[0] == "/tmp/a.py, lines 1 to 1 of 1:\n     1\t\ufffd\n"


def test_view_folder(editor, sandbox):
    sandbox.run("mkdir -p 'd/s p/deep' d/.git && touch d/b 'd/s p/a' d/.git/x && ln -s nowhere d/dangling", 10)
    assert edit(editor, "view", "d") == (
        "/tmp/d, two levels, hidden files left out:\nb\ndangling\ns p/\ns p/a\ns p/deep/\n",
        True,
    )
    sandbox.run("mkdir e", 10)
    assert edit(editor, "view", "e") == ("/tmp/e, two levels, hidden files left out:\n(empty)", True)


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"command": "delete"}, "There is no edit command 'delete'; expected view, create, replace, insert, undo."),
        ({"command": []}, "There is no edit command []; expected view, create, replace, insert, undo."),
        ({}, "There is no edit command None; expected view, create, replace, insert, undo."),
        ({"command": "view", "path": 3}, "path is 3; expected a file's path."),
        ({"command": "view", "path": "a\0"}, "path is 'a\\x00'; expected a file's path."),
        ({"command": "replace", "path": "a"}, "replace needs new_text, old_text."),
        ({"command": "undo", "path": "a", "steps": 2}, "undo does not take steps; it takes path."),
        ({"command": "view", "path": "none"}, "There is no file /tmp/none."),
        ({"command": "view", "path": "a", "view_range": [3, 4]}, "view_range is [3, 4]; the file has lines 1 to 2."),
        (
            {"command": "view", "path": "a", "view_range": "1-2"},
            "view_range must be the first and the last line, like [20, 60].",
        ),
        ({"command": "view", "path": "/dev/zero"}, "/dev/zero is a device, a pipe or a socket; expected a file."),
        ({"command": "view", "path": "binary"}, "/tmp/binary is a binary file; use bash."),
        (
            {"command": "create", "path": "a", "file_text": ""},
            "/tmp/a is there already; change it with replace or insert, or remove it first.",
        ),
        (
            {"command": "create", "path": "dangling", "file_text": ""},
            "/tmp/dangling is there already; change it with replace or insert, or remove it first.",
        ),
        (
            {"command": "insert", "path": "a", "insert_line": 3, "new_text": "x"},
            "insert_line is 3; /tmp/a has lines 1 to 2 (0 is the top).",
        ),
        (
            {"command": "insert", "path": "a", "insert_line": True, "new_text": "x"},
            "insert_line is True; expected a whole number.",
        ),
        (
            {"command": "replace", "path": "a", "old_text": "aa", "new_text": "x"},
            "old_text stands 2 times in /tmp/a, at lines 1, 1; add lines around it until it is the only one.",
        ),
        (
            {"command": "replace", "path": "a", "old_text": "", "new_text": "x"},
            "old_text is empty; expected the text to be replaced.",
        ),
        (
            {"command": "replace", "path": "a", "old_text": "b", "new_text": "b"},
            "old_text and new_text are the same; nothing would change.",
        ),
        ({"command": "replace", "path": "/tmp", "old_text": "b", "new_text": ""}, "/tmp is a folder; expected a file."),
    ],
)
def test_refusals_are_text_and_change_nothing(editor, sandbox, arguments, text):
    sandbox.run("printf 'aaa\\nb\\n' > a; printf 'a\\0b' > binary; ln -s nowhere dangling", 10)
    result = editor.run(arguments)
    assert (result.text, result.ok, result.exit_code) == (text, False, 1)
    assert sandbox.read("/tmp/a") == b"aaa\nb\n"


def test_what_the_file_system_refuses_is_text(editor, sandbox):
    sandbox.run("touch a; truncate -s 5M big", 10)
    text, ok = edit(editor, "create", "a/b", file_text="x")
    assert (text.startswith("The file system refused: "), ok) == (True, False)
    assert edit(editor, "view", "big") == (
        f"/tmp/big has 5242880 bytes, more than the edit tool takes ({MAX_FILE_BYTES}); use bash.",
        False,
    )


def test_a_text_that_is_not_there_and_one_that_is_everywhere(editor, sandbox):
    sandbox.write("/tmp/a.py", b"x\n" * 20)
    text, ok = edit(editor, "replace", old_text="y", new_text="z")
    assert (text.startswith("old_text does not stand in /tmp/a.py;"), ok) == (True, False)
    text, ok = edit(editor, "replace", old_text="x", new_text="z")
    assert text == (
        "old_text stands 20 times in /tmp/a.py, at lines 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, ...; "
        "add lines around it until it is the only one."
    )


def test_a_long_search_is_quick_and_counts_so_far(editor, sandbox):
    """A pattern matcher would compare 4 MiB times 20 kB, with all other threads waiting."""
    sandbox.write("/tmp/a.py", b"x" * (4 << 20))
    text, ok = edit(editor, "replace", old_text="x" * 20_000 + "y", new_text="z")
    assert (text.startswith("old_text does not stand in /tmp/a.py;"), ok) == (True, False)
    text, ok = edit(editor, "replace", old_text="x" * 20_000, new_text="z")
    assert text.startswith("old_text stands at least 1000 times in /tmp/a.py, at lines 1, 1, 1,")


PIECES = st.lists(st.sampled_from(["a", "b", "\n", "\r\n", "\r", "é"]), max_size=8).map("".join)


@given(PIECES, PIECES)
@example("\r", "a\r\n")
@example("\r\r\n", "a\r\r\n")
@example("aa", "aaa")
def test_an_occurrence_is_what_stands_there_with_either_newline(old, text):
    """Against every slice of the text: those that are the same but for CRLF, and that split none."""
    spans = [
        (begin, end)
        for begin in range(len(text) + 1)
        for end in range(begin + 1, len(text) + 1)
        if text[begin:end].replace("\r\n", "\n") == old.replace("\r\n", "\n")
        and not any(text[at - 1 : at + 1] == "\r\n" for at in (begin, end) if at > 0)
    ]
    if len(spans) == 1:
        assert _only_occurrence(old, text, "a.py") == spans[0]
    elif old:
        with pytest.raises(Refused, match=f"stands {len(spans)} times" if spans else "does not stand"):
            _only_occurrence(old, text, "a.py")


@pytest.fixture(scope="module")
def persistent_container(container):
    with DockerSandbox(replace(container.spec, mode="persistent")) as sandbox:
        yield sandbox


@pytest.fixture
def persistent(persistent_container):
    """A container whose shell keeps its state, with a new shell and an empty /tmp."""
    persistent_container.kill_all()
    persistent_container.run("cd /tmp && find /tmp -mindepth 1 -delete", 10)
    return persistent_container


@pytest.mark.parametrize(
    "command",
    [
        "set -x",
        "set -v",
        "for f in stat readlink mkdir rm sort printf cd env bash /bin/bash exec; do "
        'eval "function $f { echo hijacked; return 3; }"; export -f $f; done',
        "shopt -s expand_aliases; alias stat='echo hijacked' printf=false",
        "set -T; trap 'echo trapped' DEBUG",
        "set -eu",
        "PATH=/nowhere; export BASH_ENV=/nowhere LD_PRELOAD=/nowhere",
        "shopt -s failglob dotglob; IFS=0123456789; set -f",
        "mkdir /tmp/gone; cd /tmp/gone; rmdir /tmp/gone",
    ],
)
def test_the_state_of_the_agents_shell_does_not_matter(persistent, command):
    editor = Editor(persistent, "/tmp")
    persistent.run(command, 10)
    assert edit(editor, "create", "d/a.py", file_text="x") == ("Created /tmp/d/a.py (1 line).", True)
    assert edit(editor, "replace", "d/a.py", old_text="x", new_text="y")[1]
    assert edit(editor, "view", "d/a.py") == ("/tmp/d/a.py, lines 1 to 1 of 1:\n     1\ty\n", True)
    assert edit(editor, "view", ".") == ("/tmp/., two levels, hidden files left out:\nd/\nd/a.py\n", True)
    assert edit(editor, "view", "none") == ("There is no file /tmp/none.", False)
    assert edit(editor, "undo", "d/a.py")[1]
    assert edit(editor, "undo", "d/a.py") == ("Removed /tmp/d/a.py, which the edit had created.", True)


@pytest.mark.parametrize(
    ("program", "says", "text"),
    [
        ("stat", "echo what is that", "/tmp/a.py cannot be looked at: stat and readlink answer 'what is that\\n"),
        ("stat", "exit 3", "The file system refused: exit code 3."),
        ("readlink", "exit 0", "/tmp/a.py cannot be looked at: stat and readlink answer '81a4 2\\n'; use bash."),
    ],
)
def test_an_answer_that_cannot_be_read_is_text(editor, sandbox, program, says, text):
    sandbox.write("/tmp/a.py", b"x\n")
    sandbox.write(f"/usr/local/bin/{program}", f"#!/bin/sh\n{says}\n".encode(), mode=0o755)
    try:
        said, ok = edit(editor, "view")
    finally:
        sandbox.run(f"rm /usr/local/bin/{program}", 10)
    assert (said.startswith(text), ok) == (True, False)


def test_a_shell_that_gives_no_answer_is_text(persistent):
    persistent.run('builtin() { if [ "$1" = exec ]; then echo no; else command builtin "$@"; fi; }', 10)
    assert edit(Editor(persistent, "/tmp"), "view") == ("The file system refused: no.", False)


def test_a_dead_sandbox_is_no_observation(sandbox):
    with DockerSandbox(sandbox.spec) as dead:
        dead.close()
        with pytest.raises(SandboxDied):
            edit(Editor(dead, "/tmp"), "view")
