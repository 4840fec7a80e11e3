"""The Sandbox contract's promises of files and snapshots.

Reads and writes nothing outside the sandboxes that it opens. `commands.py` has the others, `suite.py` all of them.

    class TestFiles(FilePromises):
        def open_sandbox(self, mode):
            return MySandbox(SandboxSpec(image="debian:12", mode=mode))
"""

from functools import partial

from srft.env.sandbox.conformance.check import (
    TIMEOUT_S,
    Promises,
    expect,
    expect_raises,
    expect_run,
    expect_sleepers,
    in_modes,
    sleeper,
)
from srft.env.sandbox.contract import Sandbox


class FilePromises(Promises):
    """Promises of files and snapshots.

    odd_names: of files, relative to a folder.
    """

    odd_names: tuple[str, ...] = (
        *("a b", "it's", 'quo"te', "$HOME", "$(x)/`y`", "new\nline", "é漢", "-n", "*", "[id]?", "back\\slash"),
    )

    # Files

    @in_modes()
    def test_file_bytes(self, sandbox: Sandbox) -> None:
        """Files hold exactly the bytes that were written, whatever they are."""
        for content in (b"", bytes(range(256)), b"no newline", b"\r\n\n", bytes(range(250)) * 80_000):
            sandbox.write("content", content)
            expect("read after write", sandbox.read("content"), content)
            expect_run(sandbox, "wc -c <content", f"{len(content)}\n")
        sandbox.write("content", b"shorter")
        expect("read after a shorter write", sandbox.read("content"), b"shorter")
        expect_run(sandbox, r"printf '\377\0\n' >made", "")
        expect("read of what a command wrote", sandbox.read("made"), b"\xff\0\n")

    @in_modes("stateless")
    def test_file_modes(self, sandbox: Sandbox) -> None:
        """A new file has mode 0644, one that is there keeps its mode, an explicit mode wins."""
        sandbox.write("plain", b"1")
        sandbox.write("script", b"#!/bin/sh\necho ran\n", mode=0o755)
        sandbox.write("script", b"#!/bin/sh\necho ran again\n")
        sandbox.write("private", b"1")
        sandbox.write("private", b"2", mode=0o600)
        expect_run(sandbox, "stat -c %a plain script private; ./script", "644\n755\n600\nran again\n")

    @in_modes()
    def test_file_paths(self, sandbox: Sandbox) -> None:
        """A relative path starts at the working directory, wherever the shell is."""
        expect_run(sandbox, "cd /", "")
        sandbox.write("here", b"1")
        expect("absolute read of a relative write", sandbox.read(f"{sandbox.spec.workdir}/here"), b"1")
        sandbox.write("sub/../sub/./deep/er/file", b"2")
        expect("read below directories that were made", sandbox.read("sub/deep/er/file"), b"2")
        for name in self.odd_names:
            sandbox.write(f"odd/{name}", name.encode())
            expect(f"read of {name!r}", sandbox.read(f"odd/{name}"), name.encode())
        expect_run(sandbox, f"cd {sandbox.spec.workdir}/odd && cat \"it's\" './-n' 'a b' '$HOME'", "it's-na b$HOME")

    @in_modes("stateless")
    def test_symlinks(self, sandbox: Sandbox) -> None:
        """Symlinks are followed, and are still there after a write."""
        made = 'mkdir -p to from; echo 1 >to/file; ln -s ../to/file from/a; ln -s "$PWD/to/file" from/b; ln -s a from/c'
        expect_run(sandbox, f"{made}; ln -s ../to from/directory; ln -s nothing from/dangling; ln -s loop loop", "")
        for number, name in enumerate(("a", "b", "c", "directory/file")):
            sandbox.write(f"from/{name}", str(number).encode())
            expect(f"to/file after a write through from/{name}", sandbox.read("to/file"), str(number).encode())
            expect(f"read through from/{name}", sandbox.read(f"from/{name}"), str(number).encode())
        sandbox.write("from/dangling", b"x")
        expect_run(sandbox, "test -L from/a && test -L from/c && test -L from/dangling && cat from/nothing", "x")
        expect_raises(OSError, "read of a symlink to itself", lambda: sandbox.read("loop"))

    @in_modes("stateless")
    def test_file_errors(self, sandbox: Sandbox) -> None:
        """What cannot be read or written is an OSError of the fitting kind."""
        expect_run(sandbox, "mkdir directory; echo 1 >file; mkfifo fifo; ln -s directory link", "")
        expect_raises(FileNotFoundError, "read of nothing", lambda: sandbox.read("nothing"))
        expect_raises(FileNotFoundError, "read below nothing", lambda: sandbox.read("nothing/at/all"))
        expect_raises(OSError, "read below a file", lambda: sandbox.read("file/below"))
        expect_raises(OSError, "read of a fifo", lambda: sandbox.read("fifo"))
        for name in ("directory", "link", ".", "/"):
            expect_raises(IsADirectoryError, f"read of {name!r}", partial(sandbox.read, name))
            expect_raises(IsADirectoryError, f"write of {name!r}", partial(sandbox.write, name, b"1"))
        expect_raises(OSError, "write below a file", lambda: sandbox.write("file/below", b"1"))
        expect_raises(OSError, "write below a file's child", lambda: sandbox.write("file/be/low", b"1"))
        expect_run(sandbox, "cat file", "1\n")

    # Snapshots

    @in_modes()
    def test_snapshots(self, sandbox: Sandbox) -> None:
        """`restore` brings back files and modes as they were, and leaves neither processes nor variables."""
        sandbox.run(
            "mkdir -p d; echo 1 >changed; echo 1 >deleted; chmod 755 changed; echo 1 >/srft-outside", timeout_s=60
        )
        first = sandbox.snapshot()
        sandbox.run(
            f"a=1; echo 2 >changed; chmod 600 changed; rm -r d deleted; echo 2 >added; {sleeper(15)} &", timeout_s=60
        )
        second = sandbox.snapshot()
        for _ in range(2):
            sandbox.restore(first)
            home = f"cd {sandbox.spec.workdir}"
            expect_run(
                sandbox, f"{home}; cat changed deleted /srft-outside; stat -c %a changed; ls -d d", "1\n1\n1\n755\nd\n"
            )
            expect_run(sandbox, f"{home}; test -e added; echo $? ${{a-unset}}", "1 unset\n")
            expect_sleepers(sandbox, 15, 0)
            sandbox.restore(second)
            expect_run(sandbox, f"{home}; cat changed added; test -e d; echo $?", "2\n2\n1\n")

    @in_modes("persistent")
    def test_restored_directory(self, sandbox: Sandbox) -> None:
        """After a restore the shell is in the directory where it was."""
        sandbox.run("mkdir 'a b'; cd 'a b'", timeout_s=TIMEOUT_S)
        sandbox.restore(sandbox.snapshot())
        expect_run(sandbox, "pwd", f"{sandbox.spec.workdir}/a b\n")
