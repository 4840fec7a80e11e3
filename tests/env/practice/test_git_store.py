"""A repository written without git is one that git takes."""

import subprocess
from pathlib import Path

from srft.env.practice.git_store import File, is_plain_path, repository

FILES = {
    "ledger.py": File(b"x = 1\n"),
    "a/b/c.py": File(b"y" * 5000 + b"\n"),
    "a.txt": File(b""),
    "a/run.sh": File(b"#!/bin/sh\n", 0o755),
    "a-b/link": File(b"../a.txt", is_link=True),
    "ü.txt": File("ü\n".encode()),
}


def git(folder: Path, *arguments: str) -> str:
    return subprocess.run(
        ["git", "-c", "core.quotePath=false", *arguments], cwd=folder, capture_output=True, text=True, check=True
    ).stdout


def written(folder: Path) -> Path:
    for path, file in FILES.items():
        target = folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        if file.is_link:
            target.symlink_to(file.content.decode())
        else:
            target.write_bytes(file.content)
            target.chmod(file.mode)
    for path, content in repository(FILES, message="ledger 1", exclude=["*.pyc"]).items():
        target = folder / ".git" / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)
    return folder


def test_git_takes_it(tmp_path: Path) -> None:
    folder = written(tmp_path)
    (folder / "left.pyc").touch()
    assert git(folder, "fsck", "--full", "--strict") == ""
    assert git(folder, "status", "--porcelain") == ""
    assert sorted(git(folder, "ls-tree", "-r", "--name-only", "base").split("\n")[:-1]) == sorted(FILES)
    assert git(folder, "log", "--format=%an %ae %at %s %D") == (
        "srft srft@localhost 1577836800 ledger 1 HEAD -> main, tag: base\n"
    )
    assert [line.split()[0] for line in git(folder, "ls-files", "-s", "a", "a-b").splitlines()] == [
        "120000",
        "100644",
        "100755",
    ]


def test_git_makes_the_same_commit(tmp_path: Path) -> None:
    folder = written(tmp_path)
    assert git(folder, "write-tree") == git(folder, "rev-parse", "HEAD^{tree}")
    (folder / "ledger.py").write_text("x = 2\n")
    assert git(folder, "diff", "--stat").endswith("1 file changed, 1 insertion(+), 1 deletion(-)\n")


def test_the_same_files_give_the_same_bytes() -> None:
    backwards = dict(reversed(FILES.items()))
    assert repository(FILES, message="m") == repository(backwards, message="m")


def test_plain_paths() -> None:
    assert [is_plain_path(path) for path in ("a/b_c.py", "a b.py", "ü.py", "$x.py")] == [True, False, False, False]
