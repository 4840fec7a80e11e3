"""Whatever an agent does to its files and its repository: the patch, applied elsewhere, gives its files.

Hypothesis draws what is done: files, links, folders and repositories under odd names, moved, removed, committed,
reset. Of what the image's rules ignore nothing is promised (unless it was added by force: test_patch.py).
More examples: SRFT_HOSTILE_EXAMPLES=1000, or the slow test.
"""

import json
import os
import shlex

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from srft.env.git.patch import take_patch
from srft.env.sandbox.contract import Sandbox
from tests.env.git.trees import BASE, Entry, again, applied, begun, made, trees_of

EXAMPLES = int(os.environ.get("SRFT_HOSTILE_EXAMPLES", "6"))

IMAGE = (
    BASE
    + r"""
printf 'caf\351\n' >latin && printf 'a\r\nb\r\n' >crlf && head -c 300 /dev/urandom >bytes && echo q >"$(printf 'd\351')"
git add -A && git commit -qm more && echo left >leftover && git init -q nested && echo n >nested/n && echo z >>kept.txt
mkdir keep keep/build && echo i >keep/build/i && echo k >keep/k
"""
)

_AGENT = """
import json, os, shutil, subprocess, sys
def do(what, *given):
    given = [bytes.fromhex(word) if isinstance(word, str) else word for word in given]
    if what == 'git':
        return subprocess.run([b'git', *given], stdin=subprocess.DEVNULL, capture_output=True, timeout=30)
    path = given[0]
    os.makedirs(os.path.dirname(path) or b'.', exist_ok=True)
    if what == 'write':
        with open(path, 'wb') as file:
            file.write(given[1])
        os.chmod(path, given[2])
    elif what == 'append':
        with open(path, 'ab') as file:
            file.write(given[1])
    elif what == 'link':
        os.symlink(given[1], path)
    elif what == 'move':
        os.makedirs(os.path.dirname(given[1]) or b'.', exist_ok=True)
        os.rename(path, given[1])
    elif what == 'remove':
        shutil.rmtree(path) if os.path.isdir(path) and not os.path.islink(path) else os.remove(path)
    elif what == 'repository':
        subprocess.run([b'git', b'init', b'-q', b'--', path], capture_output=True, timeout=30)
for step in json.loads(sys.argv[1]):
    try:
        do(*step)
    except (OSError, ValueError, shutil.Error):
        pass
"""

_NAMES = [
    b"a",
    b"b",
    b"pkg",
    b"sub",
    b"a.py",
    b"caf\xe9",
    "é".encode(),
    b"n\nl",
    b'"q"',
    b" s ",
    b"-d",
    b"b\\",
    b"*",
    b"[x]",
    b":(top)",
    b"t\t",
    b"\x01",
    b"\x7f",
    b"..x",
    b"a.log",
    b"build",
    b"kept.txt",
    b"link",
    b"d\xe9",
    b"crlf",
    b"nested",
    b".gitignore",
    b".gitattributes",
    b"HEAD",
    b"objects",
    b"$(x)",
    b"'",
]
_NAME = st.one_of(
    st.sampled_from(_NAMES),
    st.binary(min_size=1, max_size=6)
    .map(lambda name: name.replace(b"/", b"_").replace(b"\0", b"_"))
    # Git refuses names that some file system takes for `.git`.
    .filter(lambda name: name not in (b".", b"..") and not name.lower().startswith((b".git", b"git~"))),
)
_PATH = st.lists(_NAME, min_size=1, max_size=3).map(b"/".join)
_THERE = st.sampled_from(
    [
        b"kept.txt",
        b"gone.txt",
        b"pkg/a.py",
        b"pkg/sub/b.py",
        b"pkg",
        b"pkg/sub",
        b"link",
        b"run.sh",
        b"latin",
        b"crlf",
        b"bytes",
        b"d\xe9",
        b"leftover",
        b"nested",
        b"nested/n",
        b"keep/k",
        b".gitignore",
    ]
)
_ANY_PATH = st.one_of(_PATH, _THERE)
_CONTENT = st.one_of(
    st.sampled_from(
        [
            b"",
            b"x\n",
            b"x",
            b"a\nb\n",
            b"a\r\nb\n",
            b"\xe9\n",
            b"\0\1",
            b"* text=auto\n",
            b"*\n",
            b"!*.log\n",
            b"* -diff\n",
            b"diff --git a/x b/x\n",
            b"-- \n",
            b"a" * 9000 + b"\0",
        ]
    ),
    st.binary(max_size=40),
)
_MODE = st.sampled_from([0o644, 0o755, 0o600, 0o000, 0o4711])
_GIT = st.sampled_from(
    [
        ["add", "-A"],
        ["commit", "-q", "-m", "x"],
        ["commit", "-qam", "x"],
        ["reset", "-q", "--hard"],
        ["stash", "-u"],
        ["reset", "-q", "--hard", "HEAD~1"],
        ["checkout", "-qb", "o"],
        ["checkout", "-q", "main"],
        ["clean", "-fdq"],
        ["rm", "-rq", "--cached", "."],
        ["gc", "-q", "--prune=now"],
        ["init", "-q"],
        ["mv", "pkg", "moved"],
        ["worktree", "add", "-q", "w"],
        ["clone", "-q", ".", "c"],
        ["config", "core.autocrlf", "true"],
        ["config", "core.bare", "true"],
        ["update-index", "--split-index"],
        ["update-index", "--assume-unchanged", "kept.txt"],
    ]
)


def _step(what, *parts):
    return st.tuples(st.just(what), *parts).map(
        lambda step: [step[0], *(part.hex() if isinstance(part, bytes) else part for part in step[1:])]
    )


_STEP = st.one_of(
    _step("write", _ANY_PATH, _CONTENT, _MODE),
    _step("append", _THERE, _CONTENT),
    _step("link", _ANY_PATH, st.one_of(_ANY_PATH, st.sampled_from([b"..", b"/", b"/nowhere", b"."]))),
    _step("move", _ANY_PATH, _ANY_PATH),
    _step("remove", st.one_of(_ANY_PATH, st.sampled_from([b".git", b".git/index", b".git/HEAD", b"pkg/.git"]))),
    _step("repository", _ANY_PATH),
    _GIT.map(lambda words: ["git", *(word.encode().hex() for word in words)]),
)
_STEPS = st.lists(_STEP, min_size=1, max_size=8)


def _ignored(path: bytes) -> bool:
    *folders, name = path.split(b"/")
    return b"build" in folders or any(part.endswith(b".log") for part in (*folders, name))


def _hidden(tree: dict[bytes, Entry], start: dict[bytes, Entry]) -> tuple[bytes, ...]:
    """The new folders that ignore themselves."""
    folders = [
        path.removesuffix(b".gitignore")
        for path, entry in tree.items()
        if path.endswith(b"/.gitignore") and entry == Entry("file", entry.executable, b"*\n")
    ]
    return tuple(folder for folder in folders if not any(path.startswith(folder) for path in start))


@pytest.fixture(scope="module")
def start(sandbox: Sandbox):
    return begun(sandbox, IMAGE)


def _check(sandbox, start, steps):
    again(sandbox)
    made(sandbox, f"python3 -I -S -c {shlex.quote(_AGENT)} {shlex.quote(json.dumps(steps))}")
    patch = take_patch(sandbox, start)
    assert patch.left_out == ()
    applied(sandbox, patch)
    before, fresh, ours = trees_of(sandbox, "/start", "/fresh", "/testbed/.")
    hidden = _hidden(ours, before) or (b"\0",)

    def told(tree):
        return {path: entry for path, entry in tree.items() if not _ignored(path) and not path.startswith(hidden)}

    assert told(fresh) == told(ours)


@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))
@given(steps=_STEPS)
def test_the_patch_gives_the_agents_files(sandbox, start, steps):
    _check(sandbox, start, steps)


@pytest.mark.slow
@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(steps=_STEPS)
def test_many_more(sandbox, start, steps):
    _check(sandbox, start, steps)
