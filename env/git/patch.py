r"""What an agent may find in a repository, and what it is taken to have done to it.

`scrub` makes the repository's future unreadable before the agent starts: afterwards every object in it is reachable
from HEAD. `take_patch` gives the difference between that HEAD and the files as they lie there: committed or not, new
files and binary ones too. It does not trust the agent's `.git`: index, configuration, hooks, and the attribute and
ignore files there come from a private git directory that `scrub` made and that borrows the repository's objects.
"""

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass

from srft.env.errors import ImageError, SrftError
from srft.env.sandbox.contract import Sandbox

SETUP_TIMEOUT_S = 600
SCRUB_TIMEOUT_S = 600
PATCH_TIMEOUT_S = 300
PATCH_LIMIT_BYTES = 64 << 20

PATCH_FILE = "the.patch"
"""In the private git directory."""

_SCRUB = r"""
set -eu -o pipefail
private=${TMPDIR:-/var/tmp}/.srft-git
export LC_ALL=C GIT_NO_REPLACE_OBJECTS=1 GIT_CONFIG_COUNT=1 GIT_CONFIG_KEY_0=safe.directory GIT_CONFIG_VALUE_0='*'
head=$(git rev-parse --verify --quiet 'HEAD^{commit}')
git_dir=$(git rev-parse --absolute-git-dir)
for remote in $(git remote); do git remote remove "$remote"; done
refs() { git for-each-ref --format='%(refname)' "$@" | sort; }
comm -13 <(refs --merged="$head") <(refs) | sed 's/^/delete /' | git update-ref --no-deref --stdin
cd "$git_dir"
rm -rf logs worktrees refs/replace refs/stash info/grafts *_HEAD BISECT_* sequencer rebase-apply rebase-merge
objects() { git cat-file --batch-all-objects --unordered --batch-check=x | wc -l; }
reachable() { git rev-list --objects --no-object-names --all --indexed-objects HEAD | wc -l; }
if [ "$(objects)" != "$(reachable)" ] || [ -e objects/info/alternates ]; then
    git repack -q -a -d && rm -f objects/info/alternates objects/pack/*.keep && git repack -q -a -d
    git prune --expire=now
    [ "$(objects)" = "$(reachable)" ] || { echo 'objects that HEAD does not reach cannot be removed' >&2; exit 4; }
    repacked=yes
fi
mkdir -p "$private"/{objects/info,refs,info}
echo "$git_dir/objects" >"$private/objects/info/alternates"
echo "$head" >"$private/HEAD"
cp config index "$private"
if [ -e info/exclude ]; then cp info/exclude "$private/info"; fi
if [ -e shallow ]; then cp shallow "$private"; fi
echo "start $head ${repacked:-no} $private"
"""

# The index is the image's, copied before the agent came: the agent's own may carry assume-unchanged flags that hide
# its work. `checkStat=minimal`: inode and ctime changed when the image became layers, and every file would be hashed.
_PATCH_PROLOGUE = r"""
set -eu
cd WORKDIR
export LC_ALL=C GIT_DIR=PRIVATE GIT_WORK_TREE=WORKDIR GIT_INDEX_FILE=PRIVATE/index
export GIT_CONFIG_NOSYSTEM=1 GIT_CONFIG_GLOBAL=/dev/null GIT_ATTR_NOSYSTEM=1
unset GIT_EXTERNAL_DIFF GIT_DIFF_OPTS
git() { command git -c core.hooksPath=/dev/null -c core.fsmonitor=false -c core.autocrlf=false -c core.safecrlf=false \
    -c core.checkStat=minimal -c core.trustctime=false -c safe.directory='*' -c advice.addEmbeddedRepo=false \
    -c core.quotePath=false -c core.excludesFile=/dev/null -c core.attributesFile=/dev/null "$@"; }
"""

# A repository inside the repository (a clone, a submodule) is no part of a patch, and git refuses one without commits.
_ADD_ALL = r"""
nested=()
while IFS= read -r -d '' path; do
    nested+=(":(exclude)${path%/.git}")
done < <(find . -mindepth 2 -name .git -prune -print0)
git add -A . "${nested[@]}"
"""

_DIFF = rf"""
git diff --cached --binary --full-index --no-color --no-ext-diff --no-textconv --no-renames --ignore-submodules=all \
    --src-prefix=a/ --dst-prefix=b/ START >PRIVATE/{PATCH_FILE}
size=$(wc -c <PRIVATE/{PATCH_FILE})
[ "$size" -le {PATCH_LIMIT_BYTES} ] || {{ echo "it has $size bytes, and {PATCH_LIMIT_BYTES} are kept"; exit 5; }}
"""


@dataclass(frozen=True)
class Start:
    """Where an episode began.

    commit: HEAD at that time. private_git: the git directory that patches are taken with. repacked: the repository held
    objects from outside its history, now gone, which took a while.
    """

    commit: str
    private_git: str
    repacked: bool


class PatchError(SrftError):
    """The patch cannot be taken, because of what the agent did to the repository."""


def run_setup(sandbox: Sandbox, script: str) -> None:
    """Bring an image to a task's state (`Task.agent_setup`, `Task.grading_setup`); an empty script is none.

    Raises ImageError when the script fails: the image is not the one that the task was made for.
    """
    if not script:
        return
    result = sandbox.run(f"bash --noprofile --norc -s <<'SRFT_SETUP'\n{script}\nSRFT_SETUP", SETUP_TIMEOUT_S)
    if result.exit_code != 0:
        raise ImageError(
            f"image {sandbox.spec.image}: it cannot be brought to the task's state; expected the image that the row "
            f"was made for, got: {result.output.strip()[-500:] or result}"
        )


def scrub(sandbox: Sandbox) -> Start:
    """Make the future unreadable. Counts all objects, which takes seconds in a repository of half a million.

    Raises ImageError when the working directory is not a git repository with a commit.
    """
    result = sandbox.run(f"bash --noprofile --norc -c {shlex.quote(_SCRUB)}", SCRUB_TIMEOUT_S)
    last = result.output.strip().rpartition("\n")[2].split(" ", 3)
    if result.exit_code != 0 or len(last) != 4 or last[0] != "start":
        raise ImageError(
            f"image {sandbox.spec.image}: {sandbox.spec.workdir} cannot be prepared; expected a git repository with a "
            f"commit and the programs git and coreutils, got: {result.output.strip()[-500:] or result}"
        )
    return Start(commit=last[1], private_git=last[3], repacked=last[2] == "yes")


def take_patch(sandbox: Sandbox, start: Start, *, kill: bool = True) -> str:
    """The difference between `start` and the working directory as it is, to be applied with `git apply`.

    kill: everything that still runs in the sandbox is killed first, and a fresh shell is used; without it, whoever
    looks in between disturbs nothing. Files that are not UTF-8 come
    as binary hunks, so that the patch is text and yet exact. Raises PatchError, SandboxDied.
    """
    if kill:
        sandbox.kill_all()
    patch = _diff(sandbox, start, _ADD_ALL)
    if not_utf8 := [path for path, change in _changes(patch) if not _is_utf8(change)]:
        lines = "".join(f"{_attribute_pattern(path)} -diff\n" for path in not_utf8)
        patch = _diff(sandbox, start, f"printf %s {shlex.quote(lines)} >PRIVATE/info/attributes")
    return patch.decode()


def _diff(sandbox: Sandbox, start: Start, preparation: str) -> bytes:
    script = _PATCH_PROLOGUE + preparation + _DIFF
    script = script.replace("START", start.commit).replace("PRIVATE", shlex.quote(start.private_git))
    script = script.replace("WORKDIR", shlex.quote(sandbox.spec.workdir))
    result = sandbox.run(f"bash --noprofile --norc -c {shlex.quote(script)}", PATCH_TIMEOUT_S)
    if result.exit_code != 0:
        raise PatchError(f"git cannot take the patch: {result.output.strip()[-500:] or result}")
    try:
        return sandbox.read(f"{start.private_git}/{PATCH_FILE}")
    except OSError as error:
        raise PatchError(f"the patch cannot be read back: {error}") from None


def _changes(patch: bytes) -> Iterator[tuple[bytes, bytes]]:
    """(path, change) for every file of a patch."""
    for change in re.split(rb"^(?=diff --git )", patch, flags=re.MULTILINE)[1:]:
        header = change.partition(b"\n")[0]
        # "a/PATH b/PATH" with the same PATH twice, since renames are off.
        paths = header.removeprefix(b"diff --git ")
        yield paths[2 : (len(paths) - 1) // 2], change


def _is_utf8(text: bytes) -> bool:
    try:
        text.decode()
    except UnicodeDecodeError:
        return False
    return True


def _attribute_pattern(path: bytes) -> str:
    """A .gitattributes pattern for one path; every file where git had to quote the path itself."""
    text = path.decode(errors="replace")
    return f'"/{text}"' if re.fullmatch(r'[^"\\*?\[\x00-\x1f\ufffd]+', text) and not path.startswith(b'"') else "*"
