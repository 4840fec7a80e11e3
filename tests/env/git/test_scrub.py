"""What an agent can find in a repository, on every sandbox."""

import pytest

from srft.env.errors import ImageError
from srft.env.git.scrub import run_setup, scrub
from tests.env.git.trees import begun, made

SECRET = "the fix is 42"

# A repository whose future is hidden in every place that git has for one.
FUTURE = rf"""
git init -q -b main .
echo one >file.txt && git add . && git commit -q -m base && git tag v1
base=$(git rev-parse HEAD)
echo '{SECRET}' >file.txt && git commit -q -a -m '{SECRET}' && git tag v2 && git tag -a v3 -m '{SECRET}'
git branch release && git update-ref refs/replace/$base HEAD && git update-ref refs/pull/7/head HEAD
git clone -q . /srv/remote && git remote add origin /srv/remote && git fetch -q origin
echo dirty >file.txt && git stash -q
git notes add -m '{SECRET}' $base
git worktree add -q /srv/worktree release
blob=$(echo '{SECRET} loose' | git hash-object -w --stdin) && git tag blob $blob
git pack-refs --all && git gc -q && echo '{SECRET} packed' | git hash-object -w --stdin >/dev/null
git update-ref -d refs/replace/$base && git update-ref refs/replace/$base v2
GIT_NO_REPLACE_OBJECTS=1 git reset -q --hard $base
for name in FETCH_HEAD MERGE_MSG SQUASH_MSG NOTES_EDITMSG gitk.cache rr-cache/1/postimage lost-found/other/1 \
        objects/pack/tmp_pack_x objects/00/tmp_obj_x objects/incoming-x/pack/p info/refs svn/log .hidden; do
    mkdir -p $(dirname .git/$name) && echo '{SECRET}' >.git/$name
done
git commit-graph write --reachable
rm -rf /srv/remote /srv/worktree
"""

SECRETS = f"grep -rlaF '{SECRET}' . /var/tmp; " + (
    "find . -name .git -prune | while read -r g; do (cd ${g%.git}; git cat-file --batch-all-objects "
    "--batch-check='%(objectname)' | while read o; do git cat-file -p $o; done | "
    f"grep -aF '{SECRET}'); done 2>/dev/null; true"
)


def test_the_future_is_in_no_object_and_no_file(sandbox):
    made(sandbox, "rm -rf /testbed /srv /var/tmp/.srft*; mkdir /testbed /srv", folder="/")
    made(sandbox, FUTURE)
    assert sandbox.run(SECRETS).output.count("\n") > 15
    start = scrub(sandbox)
    assert start.repacked
    assert sandbox.run(SECRETS).output == ""
    assert start.commit == sandbox.run("git rev-parse HEAD").output.strip()
    assert (
        sandbox.run("git tag; git remote; git stash list; git reflog; git notes list; git status --short").output
        == "v1\n"
    )
    assert sandbox.run("git log --all --oneline | wc -l; git fsck --full").output == "1\n"
    assert sandbox.run("ls -A .git .git/info").output.split() == (
        [
            ".git:",
            "HEAD",
            "branches",
            "config",
            "description",
            "hooks",
            "index",
            "info",
            "objects",
            "packed-refs",
            "refs",
            ".git/info:",
            "exclude",
        ]
    )
    assert not scrub(sandbox).repacked


def test_history_before_the_start_stays(sandbox):
    start = begun(
        sandbox,
        "git init -q -b main . && for i in 1 2 3; do echo $i >f; git add f; git commit -q -m c$i; git tag t$i; done; "
        "git branch old t1; git gc -q; git tag -a noted -m noted t2",
    )
    assert not start.repacked
    assert sandbox.run("git log --oneline | wc -l; git tag; git branch; git show t1:f").output == (
        "3\nnoted\nt1\nt2\nt3\n* main\n  old\n1\n"
    )


def test_objects_of_others_become_the_repositorys_own(sandbox):
    start = begun(
        sandbox,
        f"git init -q /srv/o && cd /srv/o && echo 1 >f && git add f && git commit -qm b && echo '{SECRET}' >f && "
        "git commit -qam fix && cd / && rm -rf /testbed && git clone -qs /srv/o /testbed && cd /testbed && "
        "git reset -q --hard HEAD~1",
    )
    assert start.repacked
    assert sandbox.run(f"rm -rf /srv/o; git fsck --full; git log --oneline | wc -l; {SECRETS}").output == "1\n"


NESTED = rf"""
git init -q -b main /srv/up && cd /srv/up && echo one >a && git add a && git commit -qm base
echo '{SECRET}' >a && git commit -qam '{SECRET}' && git tag v2
cd /testbed && git init -q . && git -c protocol.file.allow=always submodule --quiet add /srv/up sub
git -C sub checkout -q HEAD~1 && git clone -q /srv/up gone-once && git clone -q /srv/up vendored
git -C vendored reset -q --hard HEAD~1
git -c protocol.file.allow=always submodule --quiet add /srv/up dropped && git -C dropped checkout -q HEAD~1
git rm -rqf --cached dropped && rm -rf dropped gone-once
git init -q empty && git -C empty hash-object -w --stdin <<<'{SECRET}'
mkdir junk && echo nonsense >junk/.git
git add sub .gitmodules && git commit -qm base && rm -rf /srv/up
"""


def test_repositories_within_are_scrubbed_too(sandbox):
    start = begun(sandbox, NESTED)
    assert start.repacked
    assert sandbox.run(SECRETS).output == ""
    assert sandbox.run(
        "ls .git/modules; git -C sub log --all --format=%s; git -C vendored log --all --format=%s"
    ).output == ("sub\nbase\nbase\n")
    assert sandbox.run("git -C sub status --short; git submodule status | cut -c 1; cat sub/a").output == " \none\n"


@pytest.mark.parametrize(
    ("script", "message"),
    [
        ("true", "there is no commit"),
        ("git init -q .", "there is no commit"),
        (
            "git init -q /srv/m && git -C /srv/m commit -q --allow-empty -m m && rm -rf /testbed && "
            "git -C /srv/m worktree add -q --detach /testbed",
            "it is a linked worktree of /srv/m/.git, whose history an agent can read",
        ),
    ],
)
def test_what_cannot_be_scrubbed_is_refused(sandbox, script, message):
    with pytest.raises(ImageError, match=f"expected a git repository with a commit.*{message}"):
        begun(sandbox, script)


def test_the_images_environment_does_not_reach_git(opener):
    env = {"GIT_DIR": "/nowhere", "GIT_INDEX_FILE": "/nowhere", "GIT_OBJECT_DIRECTORY": "/nowhere", "BASH_ENV": "/env"}
    with opener("stateless", env=env) as sandbox:
        sandbox.write("/env", b"git() { false; }; export -f git; echo noise\n")
        sandbox.run(
            "unset ${!GIT_@}; rm -rf /testbed; mkdir /testbed; cd /testbed; command git init -q .; echo 1 >f; "
            "command git add f; command git -c user.name=a -c user.email=a commit -qm b"
        )
        assert len(scrub(sandbox).commit) == 40


def test_a_mount_over_the_folder_is_noticed(sandbox):
    assert not begun(sandbox, "git init -q .; git commit -q --allow-empty -m b").in_volume


def test_a_setup_that_fails_is_the_images_fault(sandbox):
    begun(sandbox, "git init -q .; git commit -q --allow-empty -m b")
    run_setup(sandbox, "")
    run_setup(sandbox, "cat >made <<'X'\n'quoted'\nX\n")
    assert sandbox.run("cat made").output == "'quoted'\n"
    with pytest.raises(ImageError, match=r"brought to the task's state; .*got: not so"):
        run_setup(sandbox, "echo not so; exit 3")
