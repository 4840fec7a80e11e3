"""What an agent can find in a repository, and what is taken as its patch, on real containers."""

import base64

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from srft.env.docker.sandbox import DockerSandbox
from srft.env.errors import ImageError
from srft.env.git.patch import PatchError, scrub, take_patch
from srft.env.sandbox.contract import SandboxSpec

SECRET = "the fix is 42"

# A repository whose future is hidden in every place that git has for one.
FUTURE = rf"""
set -e
git init -q -b main . && git config user.email a@b && git config user.name a
echo one >file.txt && git add . && git commit -q -m base && git tag v1
base=$(git rev-parse HEAD)
echo '{SECRET}' >file.txt && git commit -q -a -m 'the fix' && git tag v2 && git tag -a v3 -m '{SECRET}'
git branch release && git update-ref refs/replace/$base HEAD && git update-ref refs/pull/7/head HEAD
git clone -q . /srv/remote && git remote add origin /srv/remote && git fetch -q origin
echo dirty >file.txt && git stash -q
git notes add -m '{SECRET}' $base
git worktree add -q /srv/worktree release
blob=$(echo '{SECRET} loose' | git hash-object -w --stdin) && git tag blob $blob
git gc -q && echo '{SECRET} packed' | git hash-object -w --stdin >/dev/null
git update-ref -d refs/replace/$base && git update-ref refs/replace/$base v2
GIT_NO_REPLACE_OBJECTS=1 git reset -q --hard $base
rm -rf /srv/remote /srv/worktree
"""


@pytest.fixture(scope="module")
def _container(engine, base_image):
    with DockerSandbox(SandboxSpec(base_image)) as sandbox:
        yield sandbox


@pytest.fixture
def repository(_container):
    """A sandbox whose working directory is empty."""
    _container.run("rm -rf /testbed /var/tmp/.srft* /srv/*; mkdir /testbed; cd /")
    return _container


def _make(sandbox, script):
    made = sandbox.run(f"bash -c {_quoted(script)}")
    assert made.exit_code == 0, made.output


def _quoted(script):
    return "'" + script.replace("'", "'\\''") + "'"


def _all_objects(sandbox):
    listed = sandbox.run(
        "git cat-file --batch-all-objects --batch-check='%(objectname)' | while read o; do git cat-file -p $o; done"
    )
    assert listed.exit_code == 0
    return listed.output


def test_the_future_is_in_no_object(repository):
    _make(repository, FUTURE)
    assert SECRET in _all_objects(repository)
    start = scrub(repository)
    assert start.repacked
    assert SECRET not in _all_objects(repository)
    assert "base" in repository.run("git log --all --oneline").output
    assert repository.run("git tag; git remote; git stash list; git reflog; git notes list; ls .git/logs").output == (
        "v1\nls: cannot access '.git/logs': No such file or directory\n"
    )
    assert repository.run("git log --all --oneline | wc -l").output == "1\n"
    assert not scrub(repository).repacked


def test_history_before_the_start_stays(repository):
    _make(
        repository,
        "git init -q . && git config user.email a@b && git config user.name a && "
        "for i in 1 2 3; do echo $i >f; git add f; git commit -q -m c$i; git tag t$i; done",
    )
    assert not scrub(repository).repacked
    assert repository.run("git log --oneline | wc -l; git tag").output == "3\nt1\nt2\nt3\n"


def test_no_repository_is_said(repository):
    with pytest.raises(ImageError, match="expected a git repository"):
        scrub(repository)


def _begin(sandbox):
    _make(
        sandbox,
        "git init -q . && git config user.email a@b && git config user.name a && printf 'a\\nb\\n' >kept.txt && "
        "echo x >gone.txt && printf '*.log\\n' >.gitignore && git add . && git commit -q -m base",
    )
    return scrub(sandbox)


def _applied(sandbox, start, patch):
    """The tree that the patch makes of the start, as {path: base64 of its bytes}."""
    sandbox.write("/tmp/the.patch", patch.encode())
    applied = sandbox.run(
        f"rm -rf /tmp/fresh && git clone -q --no-checkout /testbed /tmp/fresh && cd /tmp/fresh && "
        f"git checkout -q {start.commit} && "
        "{ [ ! -s /tmp/the.patch ] || git apply --whitespace=nowarn /tmp/the.patch; } && "
        'find . -path ./.git -prune -o -type f -print | while read -r f; do echo "$(base64 -w0 "$f") $f"; done'
    )
    assert applied.exit_code == 0, applied.output
    return {path: content for content, _, path in (line.partition(" ") for line in applied.output.splitlines())}


@pytest.mark.parametrize(
    ("what", "script", "expected"),
    [
        ("nothing", "true", {}),
        ("a new file", "echo new >new.txt", {"./new.txt": b"new\n"}),
        ("committed", "echo new >new.txt; git add .; git commit -qm x", {"./new.txt": b"new\n"}),
        ("committed and reset away from", "git checkout -q -b other; echo y >>kept.txt; git commit -qam y",
         {"./kept.txt": b"a\nb\ny\n"}),
        ("staged", "echo new >new.txt; git add .", {"./new.txt": b"new\n"}),
        ("trailing space, no last newline", "printf 'a  \\nb' >kept.txt", {"./kept.txt": b"a  \nb"}),
        ("CRLF", "printf 'a\\r\\nb\\r\\n' >kept.txt", {"./kept.txt": b"a\r\nb\r\n"}),
        ("a binary file", "printf '\\0\\1\\2\\377' >new.bin", {"./new.bin": b"\0\1\2\xff"}),
        ("text that is not UTF-8", "printf 'caf\\351\\n' >latin.txt", {"./latin.txt": b"caf\xe9\n"}),
        ("assume-unchanged", "git update-index --assume-unchanged kept.txt; echo z >kept.txt", {"./kept.txt": b"z\n"}),
        ("skip-worktree", "git update-index --skip-worktree kept.txt; echo z >kept.txt", {"./kept.txt": b"z\n"}),
        ("hostile configuration",
         "echo z >kept.txt; git config diff.noprefix true; git config color.ui always; git config diff.external false; "
         "git config core.hooksPath /tmp; git config core.autocrlf true; git config core.excludesFile /testbed/all; "
         "echo '*' >.git/info/exclude; echo '* -diff' >.git/info/attributes",
         {"./kept.txt": b"z\n"}),
        ("a same-size change", "printf 'c\\nb\\n' >kept.txt", {"./kept.txt": b"c\nb\n"}),
        ("a clone inside", "git clone -q . sub; echo z >kept.txt", {"./kept.txt": b"z\n"}),
        ("an empty repository inside", "git init -q sub; touch sub/a; echo z >kept.txt", {"./kept.txt": b"z\n"}),
        ("odd names", "echo 1 >'a b'; echo 2 >$'\\303\\251'; echo 3 >'q\"x'",
         {"./a b": None, "./é": b"2\n", './q"x': None}),
        ("a process that goes on writing", "(while :; do date >busy.txt; done) & echo z >kept.txt; sleep 0.2",
         {"./kept.txt": b"z\n", "./busy.txt": None}),
    ],
)  # fmt: skip
def test_the_patch_makes_the_agents_tree(repository, what, script, expected):
    start = _begin(repository)
    before = _applied(repository, start, "")
    ran = repository.run(script, 30)
    assert not ran.timed_out, what
    after = _applied(repository, start, take_patch(repository, start))
    changed = {path for path in before.keys() | after.keys() if before.get(path) != after.get(path)}
    assert changed == set(expected), what
    for path, content in expected.items():
        if content is not None:
            assert base64.b64decode(after[path]) == content, what


def test_deleted_files_and_ignored_files(repository):
    start = _begin(repository)
    repository.run("rm gone.txt; echo noise >run.log; chmod +x kept.txt")
    patch = take_patch(repository, start)
    assert "deleted file mode 100644" in patch
    assert "run.log" not in patch
    assert "new mode 100755" in patch


def test_a_destroyed_repository_is_a_patch_error(repository):
    start = _begin(repository)
    repository.run("rm -rf .git")
    with pytest.raises(PatchError, match="git cannot take the patch"):
        take_patch(repository, start)


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=st.binary(max_size=400))
def test_any_bytes_survive_the_patch(repository, content):
    repository.run("rm -rf /testbed/* /testbed/.git* /var/tmp/.srft*")
    start = _begin(repository)
    repository.write("/testbed/file", content)
    after = _applied(repository, start, take_patch(repository, start))
    assert base64.b64decode(after["./file"]) == content
