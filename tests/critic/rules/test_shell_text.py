"""Shell text, taken apart."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from srft.critic.rules.shell_text import commands


def words(text):
    return [command.words for command in commands(text)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", []),
        ("\n\n ls -la \n", [("ls", "-la")]),
        ("cd a && ls | head -3; pwd || true &", [("cd", "a"), ("ls",), ("head", "-3"), ("pwd",), ("true",)]),
        ("echo 'a; b' \"c && d\" e\\ f # rm x\nls", [("echo", "a; b", "c && d", "e f"), ("ls",)]),
        ("echo a#b '#c'", [("echo", "a#b", "#c")]),
        ("echo \"a 'b' \\\" c\" $'d\\'e'", [("echo", "a 'b' \" c", "d'e")]),
        ("A=1 B='x y' python -c 'import os\nos.x'", [("python", "-c", "import os\nos.x")]),
        ("sed -i \\\n  s/a/b/ \\\n  c.py", [("sed", "-i", "s/a/b/", "c.py")]),
        ("if grep -q a b; then rm c; else rm d; fi", [("grep", "-q", "a", "b"), ("rm", "c"), ("rm", "d")]),
        ("for f in a b; do cat $f; done", [("cat", "$f")]),
        ("(cd x; { ls; })", [("cd", "x"), ("ls",)]),
        ("! grep a b", [("grep", "a", "b")]),
        ("x=$(ls)", [("ls",)]),
        ('echo "$(git log $(cat a))"', [("cat", "a"), ("git", "log", "$(cat a)"), ("echo", "$(git log $(cat a))")]),
        ("echo `a \\`b\\``", [("b",), ("a", "`b`"), ("echo", "`a \\`b\\``")]),
        ("diff <(a 1) b", [("a", "1"), ("diff", "<(a 1)", "b")]),
        ("echo $((1 + 2)) ${x:-y z}", [("echo", "$((1 + 2))", "${x:-y z}")]),
        ("sudo -u me env -i A=1 timeout -s KILL 9 nice -n 5 rm x", [("rm", "x")]),
        ("xargs -n 1 -0 rm -f", [("rm", "-f")]),
        ("bash -c 'rm a; ls'", [("bash", "-c", "rm a; ls"), ("rm", "a"), ("ls",)]),
        ("bash -lc \"sh -c 'rm a'\"", [("bash", "-lc", "sh -c 'rm a'"), ("sh", "-c", "rm a"), ("rm", "a")]),
        ("bash script.sh", [("bash", "script.sh")]),
        ("eval rm a", [("eval", "rm", "a"), ("rm", "a")]),
        ("find . -name x -exec rm {} +", [("find", ".", "-name", "x", "-exec", "rm", "{}", "+"), ("rm", "{}", "+")]),
        ("echo 'open", [("echo", "open")]),
        ("echo $(open", [("open",), ("echo", "$(open")]),
    ],
)
def test_words(text, expected):
    assert words(text) == expected


@pytest.mark.parametrize(
    ("text", "writes"),
    [
        ("a > b 2>&1", ("b",)),
        ("a >> 'b c' 2>/dev/null", ("b c", "/dev/null")),
        ("a &> b", ("b",)),
        ("a >| b < c", ("b",)),
        ("a >& b", ("b",)),
        ("a >&2 2>&-", ()),
        ("> b", ("b",)),
        ("echo 'x > y'", ()),
    ],
)
def test_redirections(text, writes):
    assert [command.writes for command in commands(text)] == [writes]


def test_a_heredoc_is_text_and_what_follows_its_line_is_not():
    [cat, python, ls] = commands("cat <<'EOF' > a.py && python a.py\nrm b $(rm c)\nEOF\nls")
    assert (cat.words, cat.writes, cat.stdin) == (("cat",), ("a.py",), "rm b $(rm c)\n")
    assert (python.words, python.joined, ls.words, ls.joined) == (("python", "a.py"), "&&", ("ls",), ";")


def test_an_unquoted_heredoc_runs_its_substitutions():
    assert words("cat <<EOF\n'$(rm c)' \"`ls`\nEOF") == [("cat",), ("rm", "c"), ("ls",)]


def test_two_heredocs_on_a_line_and_one_with_tabs():
    text = "cat <<A <<-B\n1\nA\n\t2\n\tB\nls"
    assert [(command.words, command.stdin) for command in commands(text)] == [(("cat",), "2\n"), (("ls",), None)]


def test_a_heredoc_into_a_shell_is_commands():
    assert words("bash <<'EOF'\nrm a\nEOF") == [("bash",), ("rm", "a")]
    assert words("bash -s <<< 'rm a'") == [("bash", "-s"), ("rm", "a")]


def test_a_heredoc_without_an_end_takes_the_rest():
    [cat] = commands("cat <<EOF\na\nrm b")
    assert cat.stdin == "a\nrm b\n"


def test_operators_and_source_text():
    found = commands("a 1 | b && c || d; e")
    assert [(command.joined, command.text) for command in found] == [
        ("", "a 1"),
        ("|", "b"),
        ("&&", "c"),
        ("||", "d"),
        (";", "e"),
    ]


@given(st.text(alphabet="ab \n\t\\'\"$`(){}<>|&;#=!-EOF0", max_size=60))
def test_every_text_has_an_answer(text):
    for command in commands(text):
        assert command.words or command.writes


@pytest.mark.parametrize("part", ["$(", "`", "<(", "(", '"$(', "bash -c '", "sudo ", "{ ", "eval ", "<<A "])
def test_depth_is_bounded(part):
    commands(part * 3000)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (
            "[[ -f a && $x > tests/b.py ]] && rm c",
            [("[[", "-f", "a", "&&", "$x", ">", "tests/b.py", "]]"), ("rm", "c")],
        ),
        ("[[ ( a == b ) || c < d ]]; ls", [("[[", "(", "a", "==", "b", ")", "||", "c", "<", "d", "]]"), ("ls",)]),
        ("(( n > tests )); ls", [("ls",)]),
        ("if ((a>b)); then ls; fi", [("ls",)]),
        ("for ((i=0;i<3;i++)); do rm q; done", [("rm", "q")]),
        ("((ls) ; (rm x))", [("ls",), ("rm", "x")]),  # two subshells
        ("( (ls) ); rm x", [("ls",), ("rm", "x")]),
        ("files=(a.py 'b c' $(git log)) ; ls", [("git", "log"), ("ls",)]),
        ("files+=( x\n y )\nls", [("ls",)]),
        ("x=(", []),
        ("((", []),
        ("[[ a", [("[[", "a")]),
    ],
)
def test_tests_arithmetic_and_arrays_hold_no_commands(text, found):
    commands_ = commands(text)
    assert [command.words for command in commands_] == found
    assert all(command.writes == () for command in commands_)
