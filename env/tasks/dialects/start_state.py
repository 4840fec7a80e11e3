"""Bash that brings an image's repository to the state in which an agent begins.

Images that were built for a dataset's own harness may leave what an installation wrote lying about: changed files that
no commit holds, new ones that no ignore rule knows. An agent's patch would carry them, and not apply to the same image
in the grader. So they are committed first, with a fixed date: the same image gives the same commit.
"""

_IDENTITY = """\
set -eu
cd /testbed
export GIT_AUTHOR_NAME=srft GIT_AUTHOR_EMAIL=srft@localhost GIT_AUTHOR_DATE=2020-01-01T00:00:00Z
export GIT_COMMITTER_NAME=srft GIT_COMMITTER_EMAIL=srft@localhost GIT_COMMITTER_DATE=2020-01-01T00:00:00Z
git() { command git -c safe.directory='*' -c core.hooksPath=/dev/null -c advice.addEmbeddedRepo=false "$@"; }
"""

PROLOGUE = _IDENTITY
"""An identity for commits, and a git that runs no hooks."""

COMMIT_LEFTOVERS = (
    PROLOGUE
    + """\
git add -A
git diff --cached --quiet || git commit -q --no-verify --no-gpg-sign -m 'What the image left'
"""
)
"""One commit more where the image's tree is not clean; nothing where it is."""

FORGET_HISTORY = """\
git add -A
tree=$(git write-tree)
git update-ref --no-deref HEAD "$(git commit-tree -m 'Initial commit' "$tree")"
"""
"""The tree as it lies, as the only commit: for repositories whose history holds the answer. After PROLOGUE."""
