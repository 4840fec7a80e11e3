"""Commands that try to wedge the shell, forge its protocol or grow the host's memory, on both sandboxes.

After each the next command works: `echo alive` prints exactly that, with code 0. Where that is not so, the test says
what is promised instead: `NOISY` (a process that the command left prints into the next commands' output; `kill_all`
ends that) or an end that is typed (`SandboxDied`, within a bounded time).
"""

import contextlib
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from srft.env.errors import SandboxDied
from srft.env.sandbox import shell
from srft.env.sandbox.contract import CommandResult, Limits, Mode, Sandbox

MODES: tuple[Mode, ...] = ("stateless", "persistent")
EXACT, NOISY = "exact", "noisy"
MiB = 1 << 20
HOST_GROWTH_BYTES = 50 * MiB

Opener = Callable[..., Sandbox]


@pytest.fixture(scope="module")
def opened(opener: Opener) -> Iterator[dict[Mode, Sandbox]]:
    """One sandbox of each mode for all tests that leave it usable."""
    with contextlib.ExitStack() as stack:
        yield {mode: stack.enter_context(opener(mode)) for mode in MODES}


@pytest.fixture(params=MODES)
def sandbox(opened: dict[Mode, Sandbox], request: pytest.FixtureRequest) -> Iterator[Sandbox]:
    sandbox = opened[request.param]
    yield sandbox
    if sandbox.spec.mode == "persistent":
        sandbox.kill_all()
        sandbox.run("cd /testbed", timeout_s=30)


def run(sandbox: Sandbox, command: str, timeout_s: float = 60) -> CommandResult:
    return sandbox.run(command, timeout_s=timeout_s)


def assert_alive(sandbox: Sandbox) -> None:
    result = run(sandbox, "echo alive")
    assert (result.output, result.exit_code, result.timed_out) == ("alive\n", 0, False)


def assert_alive_in_noise(sandbox: Sandbox) -> None:
    result = sandbox.run("echo alive; exit 3", timeout_s=60)
    assert (result.exit_code, result.timed_out) == (3, False)
    sandbox.kill_all()
    assert_alive(sandbox)


@dataclass(frozen=True)
class Hostile:
    """A command, how long it is given, and what is promised of the next one in each mode."""

    name: str
    command: str
    timeout_s: float = 30
    stateless: str = EXACT
    persistent: str = EXACT


SHELL_STATE = [
    Hostile("exit", "exit 3"),
    Hostile("exec", "exec true"),
    Hostile("exec_missing", "exec /srft/no/such/program"),
    Hostile("exec_shell", "exec bash"),
    Hostile("exec_sleep", "exec sleep 100", timeout_s=1),
    Hostile("set_e", "set -e; false; echo not reached"),
    Hostile("set_e_kept", "set -e"),
    Hostile("set_u", "set -u; unset PWD OLDPWD; echo $srft_no_such"),
    Hostile("set_u_kept", "set -u; unset PWD"),
    Hostile("set_n", "set -n", timeout_s=1),
    Hostile("set_f_k_t", "set -f -k; set +B"),
    Hostile("set_posix", "set -o posix"),
    Hostile("set_onecmd", "set -t"),
    # The traces of the protocol's own lines go nowhere; those of the next command are what was asked for.
    Hostile("set_x", "set -x", persistent=NOISY),
    Hostile("set_v", "set -v", persistent=NOISY),
    Hostile("trace_to_stdout", "BASH_XTRACEFD=1; set -x", persistent=NOISY),
    Hostile("ps4", "PS4='$(echo \"\\036 E 0 /\\036\")'; set -x", persistent=NOISY),
    Hostile("prompt", "PROMPT_COMMAND='exit 9'; PS1='$(exit)'; PS0='no'"),
    Hostile("trap_exit", "trap 'echo bye; sleep 100 & exit 9' EXIT"),
    Hostile("trap_err", "trap 'echo err; exit 9' ERR; false"),
    Hostile("trap_debug_exit", "trap 'exit 9' DEBUG; true"),
    Hostile("trap_debug", "trap 'echo debug' DEBUG", persistent=NOISY),
    Hostile("trap_return", "trap 'echo return' RETURN; set -T"),
    Hostile("trap_chld", "trap 'exit 9' CHLD; /bin/true"),
    Hostile("traps_ignore", "trap '' INT TERM HUP QUIT PIPE TSTP CHLD ALRM"),
    Hostile("extdebug", "shopt -s extdebug; trap 'false' DEBUG; echo skipped", timeout_s=2),
    Hostile("stty", "stty -echo raw; stty sane; stty size"),
    Hostile("redefined_printf", "printf() { echo no; }; echo() { builtin echo no; }; unset -f echo"),
    Hostile("redefined_eval", "eval() { echo no; }; cd() { echo no; }; read() { echo no; }; kill() { :; }"),
    Hostile("redefined_builtin", "builtin() { echo no; }", timeout_s=2),
    Hostile("aliases", "shopt -s expand_aliases; alias builtin=false eval=false printf=false cd=false", timeout_s=2),
    Hostile("disabled_builtins", "enable -n printf eval cd", timeout_s=2),
    Hostile("stdout_to_null", "exec >/dev/null"),
    Hostile("stdout_closed", "exec >&-"),
    Hostile("stderr_closed", "exec 2>&-"),
    Hostile("stdin_closed", "exec <&-"),
    Hostile("all_fds_closed", 'for fd in {0..255}; do eval "exec $fd>&-"; done', timeout_s=5),
    Hostile("stdin_from_zero", "exec </dev/zero"),
    Hostile("path_empty", "PATH=''; hash -r"),
    Hostile("unset_all", "for name in $(compgen -v); do unset $name; done 2>/dev/null; unset PATH HOME PWD IFS"),
    Hostile("environment_junk", "export IFS=x PATH=/none BASH_ENV=/dev/zero ENV=/dev/zero LC_ALL=C POSIXLY_CORRECT=1"),
    Hostile("readonly", "readonly PATH IFS PWD OLDPWD LC_ALL BASH_ENV; PATH=1; cd /"),
    Hostile("ulimit_files", "ulimit -n 3", timeout_s=2),
    Hostile("ulimit_processes", "ulimit -u 1"),
    Hostile("ulimit_file_size", "ulimit -f 0; echo x >big; ulimit -c 0"),
    Hostile("ulimit_stack", "ulimit -s 64; f() { f; }; f", timeout_s=20),
    Hostile("ulimit_memory", "ulimit -v 4000; x=$(yes | head -c 100000000)", timeout_s=20),
    Hostile("ulimit_cpu", "ulimit -t 1; while :; do :; done", timeout_s=20),
    Hostile("endless_loop", "while :; do :; done", timeout_s=1),
    Hostile("recursion", "f() { f; }; f", timeout_s=2),
    Hostile("umask", "umask 777"),
    Hostile("history", "set -o history; HISTFILE=/dev/full; history -a"),
    Hostile("long_directory", "d=$(printf 'd%.0s' {1..250}); for i in {1..90}; do mkdir $d && cd $d || break; done"),
    Hostile("odd_directory", "mkdir $'a\\036b\\n\\377 c' && cd $'a\\036b\\n\\377 c'"),
    Hostile("removed_directory", "mkdir gone && cd gone && rmdir ../gone"),
]

PROCESSES = [
    Hostile("cat_stdin", "cat"),
    Hostile("read_stdin", 'read -r line; echo "got:$line"; mapfile lines'),
    Hostile("input", "python3 -c 'input()' || perl -e '$x = <STDIN>'"),
    Hostile("background", "sleep 300 &"),
    Hostile("background_wait", "sleep 300 & wait", timeout_s=1),
    Hostile("disowned", "nohup sleep 300 & disown -a"),
    Hostile("setsid", "setsid sleep 300 & (setsid setsid sleep 300 &) &"),
    Hostile("double_fork", "( ( sleep 300 & ) & ) ; (trap '' HUP; sleep 300) & disown"),
    Hostile("double_fork_exit", "( ( sleep 300 & ) & ); exit 4"),
    Hostile("coprocess", "coproc sleep 300; coproc cat"),
    Hostile("spam", "yes &", stateless=NOISY, persistent=NOISY),
    Hostile("spam_setsid", "setsid yes & setsid yes >&2 & exit 4", stateless=NOISY, persistent=NOISY),
    Hostile("spam_binary", "cat /dev/urandom &", stateless=NOISY, persistent=NOISY),
    Hostile("kill_all", "kill -9 -1"),
    Hostile("term_all", "kill -TERM -1; kill -HUP -1; kill -INT -1; kill -QUIT -1"),
    Hostile("kill_shell", "kill -9 $$; echo after"),
    Hostile("kill_shell_later", "(sleep 0.3; kill -9 $$) & true"),
    Hostile("kill_own_group", "kill -9 0"),
    Hostile("stop_shell", "kill -STOP $$", timeout_s=1),
    Hostile("stop_itself", "kill -STOP $BASHPID", timeout_s=1),
    Hostile("stop_all", "kill -STOP -1", timeout_s=1),
    Hostile("kill_init", "for s in HUP INT QUIT TERM USR1 PIPE STOP KILL; do kill -$s 1; done"),
    Hostile("abort", "kill -SEGV $BASHPID"),
    Hostile("ignores_term", "trap '' TERM INT HUP; (trap '' TERM INT; sleep 300) & sleep 300", timeout_s=1),
    Hostile("respawns", "f() { trap '' TERM; while :; do sleep 0.01; done; }; f & f & wait", timeout_s=1),
    Hostile("endless_output", "yes", timeout_s=1),
    Hostile("endless_stderr", "yes >&2", timeout_s=1),
    Hostile("endless_random", "cat /dev/urandom", timeout_s=1),
    Hostile("dev_full", "echo x >/dev/full; cat >/dev/full <<<y"),
]

SYNTAX = [
    Hostile("open_heredoc", "cat <<END\nline"),
    Hostile("open_heredoc_in_substitution", "x=$(cat <<END\nline"),
    Hostile("open_single_quote", "echo 'open"),
    Hostile("open_double_quote", 'echo "open'),
    Hostile("open_dollar_quote", "echo $'open"),
    Hostile("open_backtick", "echo `open"),
    Hostile("open_substitution", "echo $(open"),
    Hostile("open_arithmetic", "echo $((1 +"),
    Hostile("open_expansion", "echo ${open"),
    Hostile("open_process_substitution", "cat <(open"),
    Hostile("open_test", "[[ a"),
    Hostile("open_array", "a=(1 2"),
    Hostile("open_subscript", "a[1=2"),
    Hostile("open_group", "{ echo a"),
    Hostile("open_subshell", "( echo a"),
    Hostile("open_function", "f() {"),
    Hostile("closes_the_frame", "true; } ) fi done esac }; echo out"),
    Hostile("trailing_backslash", "echo a \\"),
    Hostile("nested_open_quote", 'eval "echo \'open"'),
    Hostile("only_quotes", "'\"'\"'"),
]

OUTPUT = [
    Hostile("ansi", r"printf '\033[2J\033]0;title\007\033[?1049h\033c'"),
    Hostile("invalid_utf8", r"printf '\377\376\300\200\355\240\200\370\210'"),
    Hostile("nul", "head -c 100000 /dev/zero"),
    Hostile("record_separators", r"head -c 300000 /dev/zero | tr '\0' '\036'"),
    Hostile("guessed_markers", r"for i in {1..2000}; do printf '\036%016x E 0 /\036\036%016x B 1 \036' $i $i; done"),
    Hostile("open_marker", r"printf '\0360123456789abcdef E 0 '; head -c 200000 /dev/zero | tr '\0' x"),
    Hostile("lone_surrogates", "echo '\ud83d' \udcff \udfff"),
    Hostile("nul_in_command", "echo a\0b"),
    Hostile("control_characters", "".join(map(chr, range(1, 32)))),
]

PROTOCOL = [
    Hostile("shell_script_of_the_shell", "timeout 1 cat /proc/$$/fd/0", timeout_s=3),
    Hostile("into_the_shells_stdin", "echo 'exit 7' >/proc/$$/fd/0; sleep 0.1"),
    Hostile("into_the_shells_stdin_open", 'echo "echo \'" >/proc/$$/fd/0; sleep 0.1', timeout_s=3),
    Hostile("into_the_shells_stdout", r"printf '\036junk E 0 /\036' >/proc/$$/fd/1; echo junk >/proc/$$/fd/61"),
    Hostile("into_the_controls_stdout", r"for i in {1..500}; do printf '\036junk E 0 /\036'; done >/proc/1/fd/1"),
    Hostile("flood_of_the_controls_stdout", "timeout 1 yes >/proc/1/fd/1"),
    Hostile("bash_command", 'echo "$BASH_COMMAND" "$BASH_EXECUTION_STRING" "$_"; caller; fc -l; cat /proc/$$/cmdline'),
]

ALL = [*SHELL_STATE, *PROCESSES, *SYNTAX, *OUTPUT, *PROTOCOL]


@pytest.mark.parametrize("hostile", ALL, ids=lambda hostile: hostile.name)
def test_the_next_command_works(sandbox: Sandbox, hostile: Hostile) -> None:
    run(sandbox, hostile.command, hostile.timeout_s)
    if getattr(hostile, sandbox.spec.mode) == EXACT:
        assert_alive(sandbox)
    else:
        assert_alive_in_noise(sandbox)


# What such commands themselves give


def test_a_character_split_across_reads(sandbox: Sandbox) -> None:
    result = run(sandbox, r"printf '\360\237'; sleep 0.3; printf '\230'; sleep 0.3; printf '\200\n'")
    assert result.output == "😀\n"


def test_guessed_markers_are_output(sandbox: Sandbox) -> None:
    result = run(sandbox, r"printf '\0360123456789abcdef E 0 /\036'; exit 5")
    assert (result.output, result.exit_code) == ("\x1e0123456789abcdef E 0 /\x1e", 5)


def test_stdin_readers_see_its_end(sandbox: Sandbox) -> None:
    result = run(sandbox, "cat; read x; echo $?; python3 -c 'input()' 2>&1 | tail -1")
    assert result.output == "1\nEOFError: EOF when reading a line\n"


def test_a_command_of_3_MB(sandbox: Sandbox) -> None:
    text = "é\n" * 1_000_000
    assert run(sandbox, f"printf %s '{text}' | wc -c; exit 6").output == "3000000\n"
    result = run(sandbox, f"cat <<'END' | wc -c\n{text}END\nexit 6")
    assert (result.output, result.exit_code) == ("3000000\n", 6)
    assert_alive(sandbox)
    assert run(sandbox, "echo ${srft_command-unset}").output == "unset\n"


def test_the_working_directory_is_deleted(sandbox: Sandbox) -> None:
    """Promised: the next command runs, in /, after bash's own message; once made again, all is as before."""
    run(sandbox, "rm -rf /testbed")
    result = run(sandbox, "pwd -P 2>/dev/null; echo alive")
    assert result.exit_code == 0
    assert result.output.endswith("alive\n")
    sandbox.kill_all()
    assert run(sandbox, "mkdir /testbed && cd /testbed").exit_code == 0
    assert run(sandbox, "echo alive; pwd").output == "alive\n/testbed\n"
    sandbox.write("file", b"1")
    assert sandbox.read("file") == b"1"


def test_files_in_a_deleted_working_directory(sandbox: Sandbox) -> None:
    run(sandbox, "rm -rf /testbed; PATH=''")
    with pytest.raises(FileNotFoundError):
        sandbox.read("file")
    sandbox.write("sub/file", b"1")
    assert sandbox.read("/testbed/sub/file") == b"1"


def test_a_full_disk(sandbox: Sandbox) -> None:
    """Heredocs and redirections fail with an error and nothing else does. /dev/shm is a small file system in both."""
    size_kb = int(run(sandbox, "df --output=size -k /dev/shm | tail -1").output)
    if size_kb > 200_000:
        pytest.skip(f"/dev/shm has {size_kb} KB here: too much to fill on a shared machine")
    full = run(sandbox, "head -c 1G /dev/zero >/dev/shm/filler; echo $?")
    assert full.output.endswith("1\n")
    assert "No space left on device" in full.output
    heredoc = run(sandbox, "TMPDIR=/dev/shm; cat <<END | wc -c\n" + "x" * 200_000 + "\nEND\n")
    assert "No space left on device" in heredoc.output or heredoc.output == "200001\n"
    assert run(sandbox, "echo x >/dev/shm/more 2>/dev/null || echo refused").output == "refused\n"
    assert_alive(sandbox)
    run(sandbox, "rm /dev/shm/filler")


def test_a_fork_bomb(opener: Opener) -> None:
    """Promised: the next command works. In a group of its own the bomb ends at its timeout, else with `kill_all`."""
    for mode in MODES:
        with opener(mode, limits=Limits(pids=64)) as sandbox:
            assert run(sandbox, ":(){ :|:& };:; sleep 60", timeout_s=2).timed_out
            assert_alive(sandbox)
            run(sandbox, 'f() { setsid bash -c "$(declare -f f); f & f" & f; }; f', timeout_s=2)
            assert_alive_in_noise(sandbox)


# Forgery by a command that knows the nonce: it may lie about itself, never about the next command


LEARN_IN_PERSISTENT = r"trap '[[ $BASH_COMMAND =~ [0-9a-f]{16} ]] && nonce=$BASH_REMATCH' DEBUG"
FORGE = (
    r"for end in 'E x /' 'E' 'E -1 /' 'B 1 ' 'E 99999999999999999999 /' 'E {} /tmp'; do printf '\036%s %s\036' $nonce "
)
FORGE += r'"$end"; done'


def test_an_end_forged_with_the_right_nonce_in_persistent_mode(opened: dict[Mode, Sandbox]) -> None:
    sandbox = opened["persistent"]
    run(sandbox, LEARN_IN_PERSISTENT)
    forged = run(sandbox, FORGE.format(42) + "; sleep 0.5; echo late; false")
    assert forged.exit_code in {1, 42}  # 1 where it did not get to know it
    result = run(sandbox, "echo alive; (exit 3)")
    assert "late" not in result.output
    assert (result.output.count("alive\n"), result.exit_code) == (1, 3)
    sandbox.kill_all()
    assert_alive(sandbox)


def test_an_end_forged_from_the_script_of_the_shell(opened: dict[Mode, Sandbox]) -> None:
    sandbox = opened["stateless"]
    learn = "script=$(timeout 0.5 head -c 60 /proc/$$/fd/0); [[ $script =~ [0-9a-f]{16} ]] && nonce=$BASH_REMATCH; "
    forged = run(sandbox, learn + FORGE.format(42) + "; sleep 0.5; echo late", timeout_s=5)
    # It did not get to know the nonce, or lied (an end of its own, a second beginning), or ate the script and waits.
    said = (forged.exit_code, "late" in forged.output)
    assert said in {(0, True), (1, False), (42, False)} or forged.timed_out, forged
    assert_alive(sandbox)
    result = run(sandbox, "(exit 3)")
    assert (result.output, result.exit_code) == ("", 3)
    sandbox.kill_all()


# The control bash: whoever is root in the sandbox can end it, and then the end is typed


@pytest.mark.parametrize(
    "command", ["cat /proc/1/fd/0", "echo exit >/proc/1/fd/0; sleep 5", "while :; do echo 'x(' >/proc/1/fd/0; done"]
)
def test_attacks_on_the_control_bash_end_typed(opener: Opener, command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Promised: the next command works, or SandboxDied."""
    monkeypatch.setattr(shell.Control.ask, "__defaults__", (3.0,))
    with opener("stateless") as sandbox, contextlib.suppress(SandboxDied):
        run(sandbox, command, timeout_s=3)
        assert_alive(sandbox)


# Host memory


def peak_growth_bytes(work: Callable[[], object]) -> int:
    """How far this process's resident memory rises above where it stood, at its highest."""
    Path("/proc/self/clear_refs").write_text("5")  # resets the peak
    before = _status_bytes("VmRSS")
    work()
    return _status_bytes("VmHWM") - before


def _status_bytes(field: str) -> int:
    match = re.search(rf"^{field}:\s+(\d+) kB", Path("/proc/self/status").read_text(), re.MULTILINE)
    assert match is not None
    return int(match[1]) * 1024


def test_endless_output_does_not_grow_the_host(sandbox: Sandbox) -> None:
    results = []
    growth = peak_growth_bytes(lambda: results.append(sandbox.run("yes 'a longer line of text'", timeout_s=2)))
    assert growth < HOST_GROWTH_BYTES
    assert results[0].timed_out
    assert len(results[0].output) == 1 << 20
    assert results[0].elided_bytes > 20 * MiB
    assert_alive(sandbox)


@pytest.mark.slow
def test_a_line_of_1_GB_does_not_grow_the_host(opened: dict[Mode, Sandbox]) -> None:
    sandbox = opened["stateless"]
    results = []
    command = r"head -c 1000000000 /dev/zero | tr '\0' x; echo end; exit 3"
    growth = peak_growth_bytes(lambda: results.append(sandbox.run(command, timeout_s=300)))
    assert growth < HOST_GROWTH_BYTES
    (result,) = results
    assert (result.exit_code, result.elided_bytes) == (3, 1_000_000_004 - MiB)
    assert result.output == "x" * (MiB - 4) + "end\n"
    assert_alive(sandbox)


def test_spam_between_commands_does_not_grow_the_host(sandbox: Sandbox) -> None:
    def work() -> None:
        run(sandbox, "yes & yes & yes >/proc/1/fd/1 &")
        for _ in range(5):
            run(sandbox, "sleep 0.2; echo alive")

    assert peak_growth_bytes(work) < HOST_GROWTH_BYTES
    assert_alive_in_noise(sandbox)


# Environment variables that bash runs


def test_a_bash_env_that_ends_every_bash(opener: Opener) -> None:
    """Promised: SandboxDied, since the spec asks that every bash runs it and the agent makes it `exit`."""
    with opener("stateless", env={"BASH_ENV": "/testbed/env.sh"}) as sandbox:
        sandbox.write("env.sh", b"echo from env\n")
        sandbox.kill_all()
        assert_alive(sandbox)
        sandbox.write("env.sh", b"exit 9\n")
        assert_alive(sandbox)
        sandbox.kill_all()
        with pytest.raises(SandboxDied):
            run(sandbox, "echo alive")


def test_a_spec_that_exports_functions(opener: Opener) -> None:
    with opener("stateless", env={"BASH_FUNC_printf%%": "() { echo no; }", "BASH_FUNC_eval%%": "() { :; }"}) as sandbox:
        assert_alive(sandbox)
