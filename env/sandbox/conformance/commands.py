"""The Sandbox contract, promise by promise.

Reads and writes nothing outside the sandboxes that it opens.

    exit_codes.verify(open_sandbox)     # one of them; raises what was not kept
    for check in CHECKS: ...            # all of them, those of files and snapshots (`files.py`) last
"""

import threading
from collections.abc import Callable
from functools import partial

from srft.env.errors import SandboxDied
from srft.env.sandbox.conformance.check import (
    BOTH_MODES,
    TIMEOUT_S,
    Check,
    Opener,
    check,
    check_started,
    expect,
    expect_raises,
    expect_run,
    expect_sleepers,
    sleeper,
)
from srft.env.sandbox.conformance.files import FILE_CHECKS
from srft.env.sandbox.contract import Limits, Sandbox

# Commands


@check_started("a command's exit code is bash's")
def exit_codes(sandbox: Sandbox) -> None:
    for command, code in (("true", 0), ("false", 1), ("(exit 255)", 255), ("", 0)):
        expect_run(sandbox, command, "", code)
    for command, code in (("srft-no-such", 127), ("/", 126), ("bash -c 'kill -9 $$'", 137)):
        expect(f"exit code of {command!r}", sandbox.run(command, timeout_s=TIMEOUT_S).exit_code, code)


@check_started("a syntax error is a non-zero exit code and a message")
def syntax_errors(sandbox: Sandbox) -> None:
    for command in ("if", "echo (", "fi", "echo 'open", 'echo "open', "echo `open", "echo $(open", "cat <("):
        result = sandbox.run(command, timeout_s=TIMEOUT_S)
        expect(f"{command!r} fails", result.exit_code in {1, 2}, True)
        expect(f"{command!r} says why", result.output != "", True)
        expect(f"shell_restarted of {command!r}", result.shell_restarted, False)
        expect_run(sandbox, "echo alive", "alive\n")


@check_started("stdout and stderr come in the order in which they were written")
def output_order(sandbox: Sandbox) -> None:
    expect_run(sandbox, "echo 1; echo 2 >&2; echo 3; echo 4 >&2; ls /srft-none 2>/dev/null; echo 5", "1\n2\n3\n4\n5\n")


@check_started("output keeps its white space, line ends and a missing last newline")
def output_is_exact(sandbox: Sandbox) -> None:
    expect_run(sandbox, r"printf '\n  a \t\r\n\n b \n\n'", "\n  a \t\r\n\n b \n\n")
    expect_run(sandbox, "printf x", "x")
    expect_run(sandbox, r"printf '\033[31mred\033[0m\r\b'", "\x1b[31mred\x1b[0m\r\b")


@check_started("Unicode goes through, in the command and in its output")
def unicode(sandbox: Sandbox) -> None:
    text = "é e\u0301 € 😀 \u2028 \u0085 \ufeff 漢字 עברית"
    expect_run(sandbox, f"echo '{text}'", text + "\n")
    expect_run(sandbox, f"printf %s '{text}' >'{text}' && cat '{text}' && rm '{text}'", text)


@check_started("output that is not UTF-8 comes with U+FFFD in its place, NUL as it is")
def binary_output(sandbox: Sandbox) -> None:
    expect_run(sandbox, r"printf 'a\0b\377c\303\n'", "a\0b\ufffdc\ufffd\n")
    result = sandbox.run("head -c 100000 /dev/urandom", timeout_s=TIMEOUT_S)
    expect("exit code of random bytes", result.exit_code, 0)


@check_started("several lines, heredocs, comments and line continuations run as in a script")
def several_lines(sandbox: Sandbox) -> None:
    expect_run(sandbox, "x=1\ncat <<'END'\n$x 'quoted'\nEND\necho $x # comment", "$x 'quoted'\n1\n")
    expect_run(sandbox, "for i in 1 2\ndo\n  echo $i \\\n    more\ndone\n\n", "1 more\n2 more\n")
    expect_run(sandbox, "false\n# only a comment", "", 1)


@check_started("an open heredoc or quote ends with its command")
def open_heredoc(sandbox: Sandbox) -> None:
    result = sandbox.run("cat <<END 2>/dev/null\nline", timeout_s=TIMEOUT_S)
    expect("the heredoc's text is in the output", "line" in result.output, True)
    sandbox.run("echo 'open", timeout_s=TIMEOUT_S)
    expect_run(sandbox, "echo alive", "alive\n")


@check_started("stdin is empty")
def empty_stdin(sandbox: Sandbox) -> None:
    expect_run(sandbox, "cat", "")
    expect_run(sandbox, "read line", "", 1)
    expect_run(sandbox, "bash", "")


@check_started("a command with a NUL is refused with code 126, and the next one runs")
def nul_in_command(sandbox: Sandbox) -> None:
    expect("exit code", sandbox.run("echo a\0b", timeout_s=TIMEOUT_S).exit_code, 126)
    expect_run(sandbox, "echo alive", "alive\n")


@check_started("a lone surrogate in a command reaches bash as its three bytes")
def lone_surrogates(sandbox: Sandbox) -> None:
    expect_run(sandbox, "printf %s '\ud83d|\udc80' | od -An -tx1", " ed a0 bd 7c ed b2 80\n")


@check_started("a command longer than one argument may be runs")
def long_command(sandbox: Sandbox) -> None:
    expect_run(sandbox, f"text='{'x' * 300_000}'; echo ${{#text}}", "300000\n")


# State


@check_started(
    "stateless: each command starts in the working directory, with nothing left of the last one", "stateless"
)
def stateless_commands(sandbox: Sandbox) -> None:
    home = sandbox.spec.workdir
    expect_run(sandbox, "cd /; a=1; export b=2; f() { echo 3; }; umask 000; set -e; shopt -s extglob", "")
    expect_run(
        sandbox, "pwd; echo ${a-unset} ${b-unset}; type f >/dev/null 2>&1; umask", f"{home}\nunset unset\n0022\n"
    )
    result = expect_run(sandbox, "exit 7", "", 7)
    expect("shell_restarted of `exit` in a subshell", result.shell_restarted, False)


@check_started("persistent: directory, variables, functions and options stay", "persistent")
def persistent_commands(sandbox: Sandbox) -> None:
    expect_run(sandbox, "cd /usr; a=1; export b=2; f() { echo 3; }; shopt -s extglob", "")
    expect_run(sandbox, "pwd; echo $a; bash -c 'echo $b'; f; shopt -q extglob", "/usr\n1\n2\n3\n")
    expect_run(sandbox, "cd bin && (exit 9)", "", 9)
    expect("exit code of an open quote", sandbox.run("echo 'open", timeout_s=TIMEOUT_S).exit_code, 2)
    expect_run(sandbox, "pwd; echo $a; f", "/usr/bin\n1\n3\n")


@check_started(
    "persistent: a command that ends the shell gives its code; the directory stays, variables go", "persistent"
)
def ended_shell(sandbox: Sandbox) -> None:
    for command, code in (("exit 5", 5), ("exec true", 0), ("set -e; false", 1), ("kill -9 $$", 137)):
        sandbox.run("cd /usr/bin; a=1", timeout_s=TIMEOUT_S)
        result = expect_run(sandbox, command, "", code)
        expect(f"shell_restarted of {command!r}", result.shell_restarted, True)
        result = expect_run(sandbox, "pwd; echo ${a-unset}", "/usr/bin\nunset\n")
        expect("shell_restarted of the next command", result.shell_restarted, False)


@check_started("files that one command writes are there for the next")
def files_stay(sandbox: Sandbox) -> None:
    expect_run(sandbox, "echo x >stays", "")
    expect_run(sandbox, "cat stays", "x\n")


@check_started(
    "init runs in every new shell, and its output goes nowhere",
    init="export SRFT_A='a b'\ngreet() { echo \"hi $1\"; }\necho noise; echo noise >&2; cat; false",
)
def init_script(sandbox: Sandbox) -> None:
    for _ in range(2):
        expect_run(sandbox, "echo $SRFT_A; greet you", "a b\nhi you\n")
        sandbox.kill_all()


@check_started(
    "the environment of the spec reaches every command",
    env={"SRFT_A": " x=y 'z' $HOME ", "SRFT_B": "é\n2"},
    init='SRFT_C="$SRFT_B"',
)
def environment(sandbox: Sandbox) -> None:
    expect_run(sandbox, 'bash -c \'printf "%s|" "$SRFT_A" "$SRFT_B"\'; printf "$SRFT_C"', " x=y 'z' $HOME |é\n2|é\n2")


# Processes and time


@check_started("a timeout keeps what was printed, has no exit code, and leaves no process of the command")
def timeout(sandbox: Sandbox) -> None:
    sandbox.run("cd /", timeout_s=TIMEOUT_S)
    command = f"echo before; trap '' TERM INT HUP; {sleeper(11)} & (trap '' TERM; {sleeper(11)}) & {sleeper(11)}"
    result = sandbox.run(command, timeout_s=1.0)
    got = (result.output, result.exit_code, result.timed_out, result.shell_restarted)
    expect("output, code, timed_out, shell_restarted", got, ("before\n", None, True, sandbox.spec.mode == "persistent"))
    expect_sleepers(sandbox, 11, 0)
    expect_run(sandbox, "pwd", ("/" if sandbox.spec.mode == "persistent" else sandbox.spec.workdir) + "\n")


@check_started("a timeout reaches what went into groups and sessions of its own, or was left open, and nothing else")
def timeout_of_what_hides(sandbox: Sandbox) -> None:
    sandbox.run(f"setsid {sleeper(17)} >/dev/null 2>&1 &", timeout_s=TIMEOUT_S)
    expect_sleepers(sandbox, 17, 1)
    own_groups = (
        f"timeout 600 {sleeper(18)} & setsid {sleeper(18)} & (setsid bash -c '{sleeper(18)} & {sleeper(18)} &' &)"
    )
    for command in (f"{own_groups}; set -m; {sleeper(18)}", f"timeout 600 {sleeper(18)}\necho 'open"):
        result = sandbox.run(command, timeout_s=0.5)
        expect(f"timed_out, exit code of {command!r}", (result.timed_out, result.exit_code), (True, None))
        expect_sleepers(sandbox, 18, 0)
    expect_sleepers(sandbox, 17, 1)


@check_started("persistent: a timeout of a command with an open quote leaves the variables", "persistent")
def timeout_of_an_open_quote(sandbox: Sandbox) -> None:
    sandbox.run("a=1; cd /usr", timeout_s=TIMEOUT_S)
    result = sandbox.run(f"{sleeper(19)}\necho 'open", timeout_s=0.7)
    expect("timed_out, shell_restarted", (result.timed_out, result.shell_restarted), (True, False))
    expect("seconds until it was killed", result.wall_s < 4, True)
    expect_run(sandbox, "echo $a; pwd", "1\n/usr\n")


@check_started("a background process neither holds up its command nor ends with it")
def background_process(sandbox: Sandbox) -> None:
    expect_run(sandbox, f"{sleeper(12)} & echo started", "started\n")
    expect_run(sandbox, f"setsid {sleeper(12)} >/dev/null 2>&1 & echo started", "started\n")
    expect_sleepers(sandbox, 12, 2)
    expect_run(sandbox, "echo alive", "alive\n")


@check_started("kill_all leaves no process; the next command gets a fresh shell in the same directory")
def killing_all(sandbox: Sandbox) -> None:
    sandbox.run(f"cd /usr; a=1; {sleeper(13)} & setsid nohup {sleeper(13)} >/dev/null 2>&1 &", timeout_s=TIMEOUT_S)
    sandbox.kill_all()
    expect_sleepers(sandbox, 13, 0)
    directory = "/usr" if sandbox.spec.mode == "persistent" else sandbox.spec.workdir
    expect_run(sandbox, "pwd; echo ${a-unset}", f"{directory}\nunset\n")
    sandbox.kill_all()
    sandbox.kill_all()
    expect_run(sandbox, "echo alive", "alive\n")


@check_started("no more processes than the limit", "stateless", limits=Limits(pids=32))
def pids_limit(sandbox: Sandbox) -> None:
    # bash waits between attempts to fork, hence the timeout.
    result = sandbox.run(f"for i in {{1..200}}; do {sleeper(14)} & echo $i; done 2>/dev/null", timeout_s=3.0)
    expect("processes started under a limit of 32", len(result.output.split()) <= 32, True)
    expect_run(sandbox, "echo alive", "alive\n")


# Output that is too long


@check_started("of long output head and tail are kept, and what is missing is counted")
def elision(sandbox: Sandbox) -> None:
    everything = "".join(f"{number}\n" for number in range(1, 5001))
    for limit, missing in ((1000, len(everything) - 1000), (len(everything), 0), (len(everything) - 2, 2)):
        result = sandbox.run("seq 5000", timeout_s=TIMEOUT_S, output_limit_bytes=limit)
        half = limit // 2
        expected = everything if not missing else everything[:half] + everything[half - limit :]
        expect(f"output under a limit of {limit} bytes", result.output, expected)
        expect("elided_bytes, exit code", (result.elided_bytes, result.exit_code), (missing, 0))
        if missing:
            expect("elided_at", result.elided_at, half)


@check_started("the elision cuts no character in two, and counts the bytes of those it drops", "stateless")
def elision_between_characters(sandbox: Sandbox) -> None:
    everything = "aé€😀" * 500
    sandbox.write("characters", everything.encode())
    for limit in range(90, 114):
        result = sandbox.run("cat characters", timeout_s=TIMEOUT_S, output_limit_bytes=limit)
        head, tail = result.output[: result.elided_at], result.output[result.elided_at :]
        expect("the output's head and tail", (everything.startswith(head), everything.endswith(tail)), (True, True))
        whole = len(result.output.encode()) + result.elided_bytes
        expect("bytes of output and elision together", whole, len(everything.encode()))
        expect("characters dropped at the cut", limit - len(result.output.encode()) <= 6, True)


@check_started("endless output is cut at the timeout, with head and tail kept", "stateless")
def endless_output(sandbox: Sandbox) -> None:
    result = sandbox.run("yes", timeout_s=1.0, output_limit_bytes=1000)
    expect("head", result.output[: result.elided_at], "y\n" * 250)
    expect("length, timed_out", (len(result.output), result.timed_out), (1000, True))
    expect("something is missing", result.elided_bytes > 0, True)


# The end


@check("close may be called twice, before start, and after it nothing works but close")
def closing(open_sandbox: Opener) -> None:
    open_sandbox("stateless").close()
    with open_sandbox("stateless") as sandbox:
        expect_run(sandbox, "echo alive", "alive\n")
        sandbox.close()
        calls: dict[str, Callable[[], object]] = {
            "run": lambda: sandbox.run("true", timeout_s=TIMEOUT_S),
            "read": lambda: sandbox.read("/etc/passwd"),
            "write": lambda: sandbox.write("file", b"1"),
            "snapshot": sandbox.snapshot,
            "kill_all": sandbox.kill_all,
        }
        for name, call in calls.items():
            expect_raises(SandboxDied, f"{name} after close", call)
        sandbox.close()


@check("close from another thread ends a running command with SandboxDied")
def closing_from_another_thread(open_sandbox: Opener) -> None:
    for mode in BOTH_MODES:
        with open_sandbox(mode) as sandbox:
            timer = threading.Timer(0.5, sandbox.close)
            timer.start()
            try:
                expect_raises(SandboxDied, "the running command", partial(sandbox.run, "sleep 30", timeout_s=20))
            finally:
                timer.join()


@check_started("no network but the sandbox's own", "stateless")
def no_network(sandbox: Sandbox) -> None:
    expect_run(sandbox, "tail -n +3 /proc/net/dev | cut -d: -f1 | tr -d ' '", "lo\n")
    # 192.0.2.0/24 is reserved for documentation: there is never an answer, only a route or none.
    result = sandbox.run("exec 3<>/dev/tcp/192.0.2.1/80", timeout_s=10)
    expect("a connection out of the sandbox fails at once", (result.timed_out, result.exit_code == 0), (False, False))


@check("one sandbox neither sees nor hurts another")
def separate_sandboxes(open_sandbox: Opener) -> None:
    with open_sandbox("stateless") as one, open_sandbox("stateless") as other:
        expect_run(one, f"echo 1 >mine; {sleeper(16)} &", "")
        expect_run(other, "test -e mine", "", 1)
        expect_sleepers(other, 16, 0)
        other.run("kill -9 -1", timeout_s=TIMEOUT_S)
        other.kill_all()
        expect_sleepers(one, 16, 1)
        expect_run(one, "cat mine", "1\n")


CHECKS: tuple[Check, ...] = (
    *(made for made in list(globals().values()) if isinstance(made, Check)),
    *FILE_CHECKS,
)
