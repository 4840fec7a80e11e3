"""The Sandbox contract's promises of commands, their output, their processes, and the end.

Reads and writes nothing outside the sandboxes that it opens. `files.py` has the others, `suite.py` all of them.

    class TestCommands(CommandPromises):
        def open_sandbox(self, mode):
            return MySandbox(SandboxSpec(image="debian:12", mode=mode))
"""

import threading
from collections.abc import Callable
from functools import partial

from srft.env.errors import SandboxDied
from srft.env.sandbox.conformance.check import (
    BOTH_MODES,
    TIMEOUT_S,
    Promises,
    expect,
    expect_raises,
    expect_run,
    expect_sleepers,
    in_modes,
    sleeper,
)
from srft.env.sandbox.contract import Limits, Sandbox


class CommandPromises(Promises):
    """Promises of commands, their output, their processes and their end."""

    # Commands

    @in_modes()
    def test_exit_codes(self, sandbox: Sandbox) -> None:
        """A command's exit code is bash's."""
        for command, code in (("true", 0), ("false", 1), ("(exit 255)", 255), ("", 0)):
            expect_run(sandbox, command, "", code)
        for command, code in (("srft-no-such", 127), ("/", 126), ("bash -c 'kill -9 $$'", 137)):
            expect(f"exit code of {command!r}", sandbox.run(command, timeout_s=TIMEOUT_S).exit_code, code)

    @in_modes()
    def test_syntax_errors(self, sandbox: Sandbox) -> None:
        """A syntax error is a non-zero exit code and a message."""
        for command in ("if", "echo (", "fi", "echo 'open", 'echo "open', "echo `open", "echo $(open", "cat <("):
            result = sandbox.run(command, timeout_s=TIMEOUT_S)
            expect(f"{command!r} fails", result.exit_code in {1, 2}, True)
            expect(f"{command!r} says why", result.output != "", True)
            expect(f"shell_restarted of {command!r}", result.shell_restarted, False)
            expect_run(sandbox, "echo alive", "alive\n")

    @in_modes()
    def test_output_order(self, sandbox: Sandbox) -> None:
        """What goes to stdout and stderr comes in the order in which they were written."""
        expect_run(
            sandbox, "echo 1; echo 2 >&2; echo 3; echo 4 >&2; ls /srft-none 2>/dev/null; echo 5", "1\n2\n3\n4\n5\n"
        )

    @in_modes()
    def test_output_is_exact(self, sandbox: Sandbox) -> None:
        """Output keeps its white space, line ends and a missing last newline."""
        expect_run(sandbox, r"printf '\n  a \t\r\n\n b \n\n'", "\n  a \t\r\n\n b \n\n")
        expect_run(sandbox, "printf x", "x")
        expect_run(sandbox, r"printf '\033[31mred\033[0m\r\b'", "\x1b[31mred\x1b[0m\r\b")

    @in_modes()
    def test_unicode(self, sandbox: Sandbox) -> None:
        """Unicode goes through, in the command and in its output."""
        text = "é e\u0301 € 😀 \u2028 \u0085 \ufeff 漢字 עברית"
        expect_run(sandbox, f"echo '{text}'", text + "\n")
        expect_run(sandbox, f"printf %s '{text}' >'{text}' && cat '{text}' && rm '{text}'", text)

    @in_modes()
    def test_binary_output(self, sandbox: Sandbox) -> None:
        """Output that is not UTF-8 comes with U+FFFD in its place, NUL as it is."""
        expect_run(sandbox, r"printf 'a\0b\377c\303\n'", "a\0b\ufffdc\ufffd\n")
        result = sandbox.run("head -c 100000 /dev/urandom", timeout_s=TIMEOUT_S)
        expect("exit code of random bytes", result.exit_code, 0)

    @in_modes()
    def test_several_lines(self, sandbox: Sandbox) -> None:
        """Several lines, heredocs, comments and line continuations run as in a script."""
        expect_run(sandbox, "x=1\ncat <<'END'\n$x 'quoted'\nEND\necho $x # comment", "$x 'quoted'\n1\n")
        expect_run(sandbox, "for i in 1 2\ndo\n  echo $i \\\n    more\ndone\n\n", "1 more\n2 more\n")
        expect_run(sandbox, "false\n# only a comment", "", 1)

    @in_modes()
    def test_open_heredoc(self, sandbox: Sandbox) -> None:
        """An open heredoc or quote ends with its command."""
        result = sandbox.run("cat <<END 2>/dev/null\nline", timeout_s=TIMEOUT_S)
        expect("the heredoc's text is in the output", "line" in result.output, True)
        sandbox.run("echo 'open", timeout_s=TIMEOUT_S)
        expect_run(sandbox, "echo alive", "alive\n")

    @in_modes()
    def test_empty_stdin(self, sandbox: Sandbox) -> None:
        """The input is empty."""
        expect_run(sandbox, "cat", "")
        expect_run(sandbox, "read line", "", 1)
        expect_run(sandbox, "bash", "")

    @in_modes()
    def test_nul_in_command(self, sandbox: Sandbox) -> None:
        """A command with a NUL is refused with code 126, and the next one runs."""
        expect("exit code", sandbox.run("echo a\0b", timeout_s=TIMEOUT_S).exit_code, 126)
        expect_run(sandbox, "echo alive", "alive\n")

    @in_modes()
    def test_lone_surrogates(self, sandbox: Sandbox) -> None:
        """A lone surrogate in a command reaches bash as its three bytes."""
        expect_run(sandbox, "printf %s '\ud83d|\udc80' | od -An -tx1", " ed a0 bd 7c ed b2 80\n")

    @in_modes()
    def test_long_command(self, sandbox: Sandbox) -> None:
        """A command longer than one argument may be runs."""
        expect_run(sandbox, f"text='{'x' * 300_000}'; echo ${{#text}}", "300000\n")

    # State

    @in_modes("stateless")
    def test_stateless_commands(self, sandbox: Sandbox) -> None:
        """Stateless: each command starts in the working directory, with nothing left of the last one."""
        home = sandbox.spec.workdir
        expect_run(sandbox, "cd /; a=1; export b=2; f() { echo 3; }; umask 000; set -e; shopt -s extglob", "")
        expect_run(
            sandbox, "pwd; echo ${a-unset} ${b-unset}; type f >/dev/null 2>&1; umask", f"{home}\nunset unset\n0022\n"
        )
        result = expect_run(sandbox, "exit 7", "", 7)
        expect("shell_restarted of `exit` in a subshell", result.shell_restarted, False)

    @in_modes("persistent")
    def test_persistent_commands(self, sandbox: Sandbox) -> None:
        """Persistent: directory, variables, functions and options stay."""
        expect_run(sandbox, "cd /usr; a=1; export b=2; f() { echo 3; }; shopt -s extglob", "")
        expect_run(sandbox, "pwd; echo $a; bash -c 'echo $b'; f; shopt -q extglob", "/usr\n1\n2\n3\n")
        expect_run(sandbox, "cd bin && (exit 9)", "", 9)
        expect("exit code of an open quote", sandbox.run("echo 'open", timeout_s=TIMEOUT_S).exit_code, 2)
        expect_run(sandbox, "pwd; echo $a; f", "/usr/bin\n1\n3\n")

    @in_modes("persistent")
    def test_ended_shell(self, sandbox: Sandbox) -> None:
        """Persistent: a command that ends the shell gives its code; the directory stays, variables go."""
        for command, code in (("exit 5", 5), ("exec true", 0), ("set -e; false", 1), ("kill -9 $$", 137)):
            sandbox.run("cd /usr/bin; a=1", timeout_s=TIMEOUT_S)
            result = expect_run(sandbox, command, "", code)
            expect(f"shell_restarted of {command!r}", result.shell_restarted, True)
            result = expect_run(sandbox, "pwd; echo ${a-unset}", "/usr/bin\nunset\n")
            expect("shell_restarted of the next command", result.shell_restarted, False)

    @in_modes()
    def test_files_stay(self, sandbox: Sandbox) -> None:
        """Files that one command writes are there for the next."""
        expect_run(sandbox, "echo x >stays", "")
        expect_run(sandbox, "cat stays", "x\n")

    @in_modes(init="export SRFT_A='a b'\ngreet() { echo \"hi $1\"; }\necho noise; echo noise >&2; cat; false")
    def test_init_script(self, sandbox: Sandbox) -> None:
        """`init` runs in every new shell, and its output goes nowhere."""
        for _ in range(2):
            expect_run(sandbox, "echo $SRFT_A; greet you", "a b\nhi you\n")
            sandbox.kill_all()

    @in_modes(env={"SRFT_A": " x=y 'z' $HOME ", "SRFT_B": "é\n2"}, init='SRFT_C="$SRFT_B"')
    def test_environment(self, sandbox: Sandbox) -> None:
        """The environment of the spec reaches every command."""
        expect_run(
            sandbox, 'bash -c \'printf "%s|" "$SRFT_A" "$SRFT_B"\'; printf "$SRFT_C"', " x=y 'z' $HOME |é\n2|é\n2"
        )

    # Processes and time

    @in_modes()
    def test_timeout(self, sandbox: Sandbox) -> None:
        """A timeout keeps what was printed, has no exit code, and leaves no process of the command."""
        sandbox.run("cd /", timeout_s=TIMEOUT_S)
        command = f"echo before; trap '' TERM INT HUP; {sleeper(11)} & (trap '' TERM; {sleeper(11)}) & {sleeper(11)}"
        result = sandbox.run(command, timeout_s=1.0)
        got = (result.output, result.exit_code, result.timed_out, result.shell_restarted)
        expect(
            "output, code, timed_out, shell_restarted", got, ("before\n", None, True, sandbox.spec.mode == "persistent")
        )
        expect_sleepers(sandbox, 11, 0)
        expect_run(sandbox, "pwd", ("/" if sandbox.spec.mode == "persistent" else sandbox.spec.workdir) + "\n")

    @in_modes()
    def test_timeout_of_what_hides(self, sandbox: Sandbox) -> None:
        """A timeout reaches what went into groups and sessions of its own, or was left open, and nothing older.

        Start times are in hundredths of a second: what began just before the command cannot be told from its own.
        """
        sandbox.run(f"setsid {sleeper(17)} >/dev/null 2>&1 & sleep 0.2", timeout_s=TIMEOUT_S)
        expect_sleepers(sandbox, 17, 1)
        own_groups = (
            f"timeout 600 {sleeper(18)} & setsid {sleeper(18)} & (setsid bash -c '{sleeper(18)} & {sleeper(18)} &' &)"
        )
        for command in (f"{own_groups}; set -m; {sleeper(18)}", f"timeout 600 {sleeper(18)}\necho 'open"):
            result = sandbox.run(command, timeout_s=0.5)
            expect(f"timed_out, exit code of {command!r}", (result.timed_out, result.exit_code), (True, None))
            expect_sleepers(sandbox, 18, 0)
        expect_sleepers(sandbox, 17, 1)

    @in_modes("persistent")
    def test_timeout_of_an_open_quote(self, sandbox: Sandbox) -> None:
        """A timeout of a command with an open quote leaves the variables."""
        sandbox.run("a=1; cd /usr", timeout_s=TIMEOUT_S)
        result = sandbox.run(f"{sleeper(19)}\necho 'open", timeout_s=0.7)
        expect("timed_out, shell_restarted", (result.timed_out, result.shell_restarted), (True, False))
        expect("seconds until it was killed", result.wall_s < 4, True)
        expect_run(sandbox, "echo $a; pwd", "1\n/usr\n")

    @in_modes()
    def test_background_process(self, sandbox: Sandbox) -> None:
        """A background process neither holds up its command nor ends with it."""
        expect_run(sandbox, f"{sleeper(12)} & echo started", "started\n")
        expect_run(sandbox, f"setsid {sleeper(12)} >/dev/null 2>&1 & echo started", "started\n")
        expect_sleepers(sandbox, 12, 2)
        expect_run(sandbox, "echo alive", "alive\n")

    @in_modes()
    def test_killing_all(self, sandbox: Sandbox) -> None:
        """`kill_all` leaves no process; the next command gets a fresh shell in the same directory."""
        sandbox.run(f"cd /usr; a=1; {sleeper(13)} & setsid nohup {sleeper(13)} >/dev/null 2>&1 &", timeout_s=TIMEOUT_S)
        sandbox.kill_all()
        expect_sleepers(sandbox, 13, 0)
        directory = "/usr" if sandbox.spec.mode == "persistent" else sandbox.spec.workdir
        expect_run(sandbox, "pwd; echo ${a-unset}", f"{directory}\nunset\n")
        sandbox.kill_all()
        sandbox.kill_all()
        expect_run(sandbox, "echo alive", "alive\n")

    @in_modes("stateless", limits=Limits(pids=32))
    def test_pids_limit(self, sandbox: Sandbox) -> None:
        """No more processes than the limit."""
        # bash waits between attempts to fork, hence the timeout.
        result = sandbox.run(f"for i in {{1..200}}; do {sleeper(14)} & echo $i; done 2>/dev/null", timeout_s=3.0)
        expect("processes started under a limit of 32", len(result.output.split()) <= 32, True)
        expect_run(sandbox, "echo alive", "alive\n")

    # Output that is too long

    @in_modes()
    def test_elision(self, sandbox: Sandbox) -> None:
        """Of long output head and tail are kept, and what is missing is counted."""
        everything = "".join(f"{number}\n" for number in range(1, 5001))
        for limit, missing in ((1000, len(everything) - 1000), (len(everything), 0), (len(everything) - 2, 2)):
            result = sandbox.run("seq 5000", timeout_s=TIMEOUT_S, output_limit_bytes=limit)
            half = limit // 2
            expected = everything if not missing else everything[:half] + everything[half - limit :]
            expect(f"output under a limit of {limit} bytes", result.output, expected)
            expect("elided_bytes, exit code", (result.elided_bytes, result.exit_code), (missing, 0))
            if missing:
                expect("elided_at", result.elided_at, half)

    @in_modes("stateless")
    def test_elision_between_characters(self, sandbox: Sandbox) -> None:
        """The elision cuts no character in two, and counts the bytes of those it drops."""
        everything = "aé€😀" * 500
        sandbox.write("characters", everything.encode())
        for limit in range(90, 114):
            result = sandbox.run("cat characters", timeout_s=TIMEOUT_S, output_limit_bytes=limit)
            head, tail = result.output[: result.elided_at], result.output[result.elided_at :]
            expect("the output's head and tail", (everything.startswith(head), everything.endswith(tail)), (True, True))
            whole = len(result.output.encode()) + result.elided_bytes
            expect("bytes of output and elision together", whole, len(everything.encode()))
            expect("characters dropped at the cut", limit - len(result.output.encode()) <= 6, True)

    @in_modes("stateless")
    def test_endless_output(self, sandbox: Sandbox) -> None:
        """Endless output is cut at the timeout, with head and tail kept."""
        result = sandbox.run("yes", timeout_s=1.0, output_limit_bytes=1000)
        expect("head", result.output[: result.elided_at], "y\n" * 250)
        expect("length, timed_out", (len(result.output), result.timed_out), (1000, True))
        expect("something is missing", result.elided_bytes > 0, True)

    # The end

    def test_closing(self) -> None:
        """`close` may be called twice, before start, and after it nothing works but close."""
        self.open_sandbox("stateless").close()
        with self.open_sandbox("stateless") as sandbox:
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

    def test_closing_from_another_thread(self) -> None:
        """`close` from another thread ends a running command with SandboxDied."""
        for mode in BOTH_MODES:
            with self.open_sandbox(mode) as sandbox:
                timer = threading.Timer(0.5, sandbox.close)
                timer.start()
                try:
                    expect_raises(SandboxDied, "the running command", partial(sandbox.run, "sleep 30", timeout_s=20))
                finally:
                    timer.join()

    @in_modes("stateless")
    def test_no_network(self, sandbox: Sandbox) -> None:
        """No network but the sandbox's own."""
        expect_run(sandbox, "tail -n +3 /proc/net/dev | cut -d: -f1 | tr -d ' '", "lo\n")
        # 192.0.2.0/24 is reserved for documentation: there is never an answer, only a route or none.
        result = sandbox.run("exec 3<>/dev/tcp/192.0.2.1/80", timeout_s=10)
        expect(
            "a connection out of the sandbox fails at once", (result.timed_out, result.exit_code == 0), (False, False)
        )

    def test_separate_sandboxes(self) -> None:
        """One sandbox neither sees nor hurts another."""
        with self.open_sandbox("stateless") as one, self.open_sandbox("stateless") as other:
            expect_run(one, f"echo 1 >mine; {sleeper(16)} &", "")
            expect_run(other, "test -e mine", "", 1)
            expect_sleepers(other, 16, 0)
            other.run("kill -9 -1", timeout_s=TIMEOUT_S)
            other.kill_all()
            expect_sleepers(one, 16, 1)
            expect_run(one, "cat mine", "1\n")
