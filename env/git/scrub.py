r"""What an agent may find in a repository: its past, and nothing of its future.

`scrub` runs in a sandbox before the agent does. It writes to the repository at the working directory and to those
nested in it (submodules, vendored clones). Afterwards, in each of them

- every object is reachable from HEAD, from the index or from a branch or tag that HEAD reaches;
- the git directory holds what git needs and nothing else: no reflogs, stashes, notes, worktrees, messages,
  recorded conflicts, or leftovers of an interrupted fetch;
- there are no remotes and no alternates.

    scrubbed = scrub(sandbox)
    scrubbed.commit, scrubbed.repacked       # '3f2a...', False
"""

import shlex
from typing import NamedTuple

from srft.env.errors import ImageError
from srft.env.sandbox.contract import Sandbox

SETUP_TIMEOUT_S = 600
SCRUB_TIMEOUT_S = 600

ENVIRONMENT = r"""
set -eu -o pipefail
unset "${!GIT_@}"
export LC_ALL=C GIT_NO_REPLACE_OBJECTS=1 GIT_NO_LAZY_FETCH=1 GIT_ALLOW_PROTOCOL= GIT_OPTIONAL_LOCKS=0
export GIT_CONFIG_NOSYSTEM=1 GIT_CONFIG_GLOBAL=/dev/null GIT_ATTR_NOSYSTEM=1
export GIT_CONFIG_COUNT=1 GIT_CONFIG_KEY_0=safe.directory GIT_CONFIG_VALUE_0='*'
"""
"""How every program of ours begins: no variable and no configuration of the image's or the agent's reaches git."""

# `count-objects` counts an object once in each pack that has it, so a repository with duplicates is packed anew; so is
# one with alternates, whose objects are not counted. The new pack holds what the list names, whatever there was before.
# `--missing`: a partial clone has not fetched all that its history names.
_SCRUB = r"""
keep_of_the_past() {  # GIT_DIR is set. Sets `head`, empty where there is no commit, and perhaps `repacked`.
    local entry key value remote have=0 promised=no
    head=$(git rev-parse --verify --quiet 'HEAD^{commit}') || head=
    for remote in $(git remote); do git remote remove "$remote"; done
    git for-each-ref --format='%(refname)' | sort >"$scratch/all"
    if [ -n "$head" ]; then git for-each-ref --format='%(refname)' --merged="$head" | sort; fi >"$scratch/merged"
    if ! cmp -s "$scratch/all" "$scratch/merged"; then
        comm -23 "$scratch/all" "$scratch/merged" | sed 's/^/delete /' | git update-ref --no-deref --stdin
    fi
    for entry in "$GIT_DIR"/* "$GIT_DIR"/.[!.]*; do
        case ${entry##*/} in
            HEAD | config | config.worktree | description | hooks | index | sharedindex.* | info | objects) ;;
            refs | packed-refs | shallow | modules | branches | lfs | annex) ;; # files may be links into the last two
            *) rm -rf "$entry" ;;
        esac
    done
    for entry in "$GIT_DIR"/info/* "$GIT_DIR"/objects/info/commit-graph*; do
        case $entry in */info/exclude | */info/attributes | */info/sparse-checkout) ;; *) rm -rf "$entry" ;; esac
    done
    while read -r key value; do
        case $key in count: | in-pack:) have=$((have + value)) ;; size-garbage:) [ "$value" = 0 ] || have=-1 ;; esac
    done < <(git count-objects -v)
    wanted=(rev-list --objects --missing=allow-any --all --indexed-objects)
    if [ -n "$head" ]; then wanted+=(HEAD); fi
    if [ -e "$GIT_DIR/objects/info/alternates" ] || [ "$have" != "$(git "${wanted[@]}" | wc -l)" ]; then
        pack_anew
        repacked=yes
    fi
}
pack_anew() {
    local name promised=no old
    for old in "$GIT_DIR"/objects/pack/*.promisor; do if [ -e "$old" ]; then promised=yes; fi; done
    mkdir "$GIT_DIR/objects/srft"
    name=$(git "${wanted[@]}" | git pack-objects -q --delta-base-offset "$GIT_DIR/objects/srft/pack")
    for old in "$GIT_DIR"/objects/* "$GIT_DIR"/objects/.[!.]*; do
        case ${old##*/} in srft) ;; *) rm -rf "$old" ;; esac
    done
    mkdir "$GIT_DIR/objects/info"
    mv "$GIT_DIR/objects/srft" "$GIT_DIR/objects/pack"
    if [ "$promised" = yes ]; then : >"$GIT_DIR/objects/pack/pack-$name.promisor"; fi
}
common_dir() { (cd "$1" && cd "$(git rev-parse --git-common-dir)" && pwd -P); }

scratch=${TMPDIR:-/var/tmp}/.srft-scrub
rm -rf "$scratch"
mkdir -p "$scratch"
main=$(git rev-parse --absolute-git-dir)
main=$(cd "$main" && pwd -P)
if [ "$(common_dir .)" != "$main" ]; then
    echo "it is a linked worktree of $(common_dir .), whose history an agent can read" >&2
    exit 4
fi
repacked=no
visited=$'\n'
while IFS= read -r -d '' entry; do
    nested=$(cd "${entry%/.git}" 2>/dev/null && git rev-parse --absolute-git-dir 2>/dev/null) || continue
    nested=$(cd "$nested" && pwd -P)
    if [ "$nested" = "$main" ] || [ "$(common_dir "${entry%/.git}")" != "$nested" ]; then continue; fi
    export GIT_DIR=$nested
    keep_of_the_past
    unset GIT_DIR
    visited+=$nested$'\n'
done < <(find . -mindepth 2 -name .git -prune -print0)
if [ -e "$main/modules" ]; then
    while IFS= read -r -d '' entry; do
        entry=${entry%/objects}
        case $visited in *$'\n'"$entry"$'\n'*) ;; *) rm -rf "$entry" ;; esac
    done < <(find "$main/modules" -type d -name objects -print0)
fi
export GIT_DIR=$main
keep_of_the_past
if [ -z "$head" ]; then
    echo 'the repository has no commit' >&2
    exit 4
fi
rm -rf "$scratch"
echo "scrubbed $head $repacked"
"""

class Scrubbed(NamedTuple):
    """What was found."""

    commit: str
    """HEAD."""
    repacked: bool
    """The repository held objects from outside its history, now gone, which took a while."""


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


def bash_program(program: str, *arguments: str) -> str:
    """The command that runs a bash program of ours, without what startup files and exported functions add to it."""
    return f"command bash --noprofile --norc -p -c {shlex.join([ENVIRONMENT + program, 'srft', *arguments])}"


def scrub(sandbox: Sandbox) -> Scrubbed:
    """Make the future unreadable. Lists all objects, which takes seconds in a repository of half a million.

    Raises ImageError when the working directory is not a git repository with a commit.
    """
    result = sandbox.run(bash_program(_SCRUB), SCRUB_TIMEOUT_S)
    last = result.output.strip().rpartition("\n")[2].split(" ")
    if result.exit_code != 0 or len(last) != 3 or last[0] != "scrubbed":
        raise ImageError(
            f"image {sandbox.spec.image}: {sandbox.spec.workdir} cannot be prepared; expected a git repository with a "
            f"commit and the programs git, coreutils, findutils and sed, got: {result.output.strip()[-500:] or result}"
        )
    return Scrubbed(commit=last[1], repacked=last[2] == "yes")
