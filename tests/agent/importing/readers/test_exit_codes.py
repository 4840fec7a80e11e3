"""Exit codes and timeouts in the words of many scaffolds."""

import pytest

from srft.agent.importing.readers.exit_codes import code_of, exit_code_in, timed_out_in


@pytest.mark.parametrize(
    "text",
    [
        "<returncode>1</returncode>\n<output>\nx\n</output>",  # mini-swe-agent
        "<exception>boom</exception>\n<returncode>1</returncode>\n<output></output>",
        '{"returncode": 1, "output": "x"}',
        '{"output": "x", "metadata": {"exit_code": 1, "duration_seconds": 0.1}}',  # Codex
        "x\n[Command finished with exit code 1]",  # OpenHands
        "OBSERVATION:\nx[Python Interpreter: /bin/python]\nroot@h:/w # \n[Command finished with exit code 1]",
        "x\n[Command -1 finished with exit code 1]",
        "EXECUTION RESULT of [execute_bash]:\nx\n[Command finished with exit code 1]",
        "x\n[The command completed with exit code 1.]\n[Current working directory: /w]\n[Python interpreter: /p]",
        "x\n[The command completed with exit code 1. CTRL+C was sent.]",
        "x\nThe command completed with exit code 1.",
        "x\n(exit code: 1)",
        "x\n[exit code: 1]\n",
        "x\n[Exit Code 1]",
        "x\n<exit_code>1</exit_code>",
        "Exit code: 1\nExecution output of [execute_bash]:\nx",  # R2E-Gym
        "Exit code: Error: Exit code 1\nExecution output of [execute_bash]:\nx",
        "Exit code: 1\nWall time: 0.1 seconds\nOutput:\nx",  # Codex
        "Chunk ID: a\nWall time: 0.1 seconds\nProcess exited with code 1\nOutput:\nx",
        "Command executed in terminal within working directory '/w'. Exit code: 1\nOutput:\nx",  # Roo
        "Command: ls\nDirectory: /w\nOutput: x\nError: (none)\nExit Code: 1\nSignal: (none)\nBackground PIDs: (none)",
        "Exit code 1\nbash: no such file",  # Claude Code
        "x\nexit code: 1",
        "Process finished with exit code 1",
        "Command exited with code 1",
        "x\nreturn code: 1",
        "<Exception>two\nlines</Exception>\n<RETURNCODE> 1 </RETURNCODE>\n<output></output>",
        '{"exitCode": 1, "stdout": "x"}',
        '{"return_code": 1, "output": "x"}',
        '{"exit_code": 1, "output": "x"}',
        "Chunk ID: a\nProcess exited with code 1\n\nOutput:\nx",
        "x\n[exit code: 1]" + "\n[note]" * 7,
        "x\nExit Code: 1\nSignal: (none)\nBackground PIDs: (none)\nProcess Group PGID: 3\nWall time: 1\n</output>\n",
        "\n  exit code: 1",
        "(exit code: 1)\na\nb",
        "x\n[exit code: 1]" + "\n" * 9,
    ],
)
def test_exit_codes_of_every_style(text):
    assert exit_code_in(text) == 1


@pytest.mark.parametrize(
    "text",
    [
        "",
        "x",
        "tests passed",
        "log: error: command 'gcc' failed with exit code 1",
        "     7\t[Command finished with exit code 1]",
        "x\n[Command finished with exit code -1]",  # still runs
        '{"returncode": true, "output": ""}',
        '{"returncode": 1, "name": "what a command printed"}',
        '{"returncode": ',
        "exit code: " + "9" * 40,
        "exit code: " + "9" * 5000,
        "<returncode>" + "9" * 5000 + "</returncode>",
        '{"returncode": ' + "9" * 40 + ', "output": ""}',
        '{"returncode": ' + "[" * 10_000,
        '{"metadata": {"exit_code": 1}}',
        "x\nexit code: 1\ny",
        "a\n[exit code: 1]\ny",
        "x\n[exit code: 1]" + "\n[note]" * 8,
        "Chunk ID: a\nb\nc\nd\nProcess exited with code 1\nOutput:\nx",
        "x <returncode>1</returncode>",
        "the exit code of a program is 1 if it fails",
    ],
)
def test_what_is_no_exit_code(text):
    assert exit_code_in(text) is None


def test_the_last_word_counts():
    assert exit_code_in("[Command finished with exit code 1]\nx\n[Command finished with exit code 0]") == 0
    assert exit_code_in("<returncode>-1</returncode>\n<output>\n[Command finished with exit code 1]\n</output>") == -1


@pytest.mark.parametrize(
    ("digits", "code"),
    [
        ("0", 0),
        ("-2", -2),
        ("-1", None),
        ("2147483648", 2**31),
        ("2147483649", None),
        ("-2147483648", -(2**31)),
        ("-2147483649", None),
    ],
)
def test_an_exit_code_is_what_a_program_can_exit_with(digits, code):
    assert code_of(digits) == code_of(int(digits)) == code
    assert exit_code_in(f"[exit code: {digits}]") == code


@pytest.mark.parametrize("word", ["$?", "PIPESTATUS", "Exit-code", "return code", "exit_status", "%errorlevel%"])
def test_a_reply_that_speaks_of_exit_codes(word):
    assert exit_code_in("x\nexit code: 1", asked=f"echo {word} 1") is None


def test_a_bare_code_is_the_commands_own_where_the_reply_asked_for_it():
    assert exit_code_in("x\nexit code: 1", asked='{"command": "make; echo exit code: $?"}') is None
    assert exit_code_in("x\n[exit code: 1]", asked="echo $?") == 1
    assert exit_code_in("Exit code: 1\nExecution output of [bash]:\nx", asked="echo $?") == 1


@pytest.mark.parametrize(
    "text",
    [
        "The last command <command>sleep 9\n</command> timed out and has been killed.\nThe output was:",
        "The command 'sleep 9' was cancelled because it took more than 30 seconds.",
        "EXECUTION TIMED OUT BECAUSE no output",
        "Command timed out after 2m 0.0s",
        "x\n[The command timed out after 120 seconds. You may wait longer.]\n[Command finished with exit code -1]",
    ],
)
def test_timeouts(text):
    assert timed_out_in(text)


@pytest.mark.parametrize("text", ["", "the test timed out", "x\ntimeout: 3"])
def test_what_is_no_timeout(text):
    assert not timed_out_in(text)
