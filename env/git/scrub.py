r"""Scrubs a repository, so that an agent finds its past and nothing of its future.

`scrub` runs in a sandbox before the agent does. It writes to the repository at the working directory and to those
nested in it (submodules, vendored clones). Afterwards, in each of them

- every object is reachable from HEAD, from the index or from a branch or tag that HEAD reaches;
- the git directory holds what git needs and nothing else: no reflogs, stashes, notes, worktrees, messages,
  recorded conflicts, or leftovers of an interrupted fetch;
- there are no remotes and no alternates.

    start = scrub(sandbox)
    start.commit, start.repacked       # '3f2a...', False
"""

from srft.env.errors import ImageError
from srft.env.git.record import Start, record_start
from srft.env.sandbox.contract import Sandbox

SETUP_TIMEOUT_S = 600

# `count-objects` counts an object once in each pack that has it, so a repository with duplicates is packed anew; so is
# one with alternates, whose objects are not counted. The new pack holds what the list names, whatever there was before.
# `--missing`: a partial clone has not fetched all that its history names. What need not run is not started.
_SCRUB = r"""
keep_of_the_past() {  # $1: the git directory, $2: its HEAD, empty where it has no commit. Perhaps sets `repacked`.
    local entry key value merged unwanted=() have=0
    export GIT_DIR=$1
    if [[ $(<"$1/config") == *'['[Rr]* ]]; then
        for entry in $(git remote); do git remote remove "$entry"; done
    fi
    merged=yes
    while read -r key entry; do [ "$key" = "$2" ] || merged=no; done < <(
        git for-each-ref --format='%(objectname) %(refname)'
    )
    if [ "$merged" = no ]; then
        comm -23 <(git for-each-ref --format='%(refname)' | sort) <(
            [ -z "$2" ] || git for-each-ref --format='%(refname)' --merged="$2" | sort
        ) | sed 's/^/delete /' | git update-ref --no-deref --stdin
    fi
    for entry in "$1"/* "$1"/.[!.]* "$1"/info/* "$1"/objects/info/commit-graph*; do
        case ${entry#"$1"/} in
            HEAD | config | config.worktree | description | hooks | index | sharedindex.* | info | objects) ;;
            refs | packed-refs | shallow | modules | branches | lfs | annex) ;; # files may be links into the last two
            info/exclude | info/attributes | info/sparse-checkout) ;;
            *) if [ -e "$entry" ] || [ -L "$entry" ]; then unwanted+=("$entry"); fi ;;
        esac
    done
    if ((${#unwanted[@]})); then rm -rf "${unwanted[@]}"; fi
    while read -r key value; do
        case $key in count: | in-pack:) have=$((have + value)) ;; size-garbage:) [ "$value" = 0 ] || have=-1 ;; esac
    done < <(git count-objects -v)
    wanted=(rev-list --objects --missing=allow-any --all --indexed-objects)
    if [ -n "$2" ]; then wanted+=("$2"); fi
    if [ -e "$1/objects/info/alternates" ] || [ "$have" != "$(git "${wanted[@]}" | wc -l)" ]; then
        pack_anew
        repacked=yes
    fi
    unset GIT_DIR
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
facts() {  # Of the repository at $1: sets `git_dir`, `shared` (itself, or another's), `kind` of names, `head` or none.
    { read -r git_dir && read -r shared && read -r kind && read -r head; } < <(
        cd -- "$1" 2>/dev/null &&
            git rev-parse --absolute-git-dir --git-common-dir --show-object-format 'HEAD^{commit}' 2>/dev/null
    ) || [ -n "${git_dir:-}" ] || return
    [[ ${head:-} =~ ^[0-9a-f]+$ ]] || head=
    shared=$(cd -- "$1" && cd -- "$shared" && pwd -P)
    git_dir=$(cd -- "$git_dir" && pwd -P)
}

facts . || true
main=${git_dir:-}
commit=${head:-}
format=${kind:-}
if [ -z "$commit" ]; then
    echo 'there is no commit' >&2
    exit 4
elif [ "$main" != "$shared" ]; then
    echo "it is a linked worktree of $shared, whose history an agent can read" >&2
    exit 4
fi
repacked=no
nested=no
visited=$'\n'
attributes=()
while IFS= read -r -d '' entry; do
    case $entry in *.gitattributes) attributes+=("$entry") && continue ;; esac
    nested=yes
    git_dir=
    facts "${entry%/.git}" || continue
    if [ "$git_dir" = "$main" ] || [ "$git_dir" != "$shared" ]; then continue; fi
    keep_of_the_past "$git_dir" "$head"
    visited+=$git_dir$'\n'
done < <(find . -mindepth 1 -name .git \( -path ./.git -o -print0 \) -prune -o -name .gitattributes -type f -print0)
if [ -e "$main/modules" ]; then
    while IFS= read -r -d '' entry; do
        entry=${entry%/objects}
        case $visited in *$'\n'"$entry"$'\n'*) ;; *) rm -rf "$entry" ;; esac
    done < <(find "$main/modules" -type d -name objects -print0)
fi
keep_of_the_past "$main" "$commit"
"""


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
    """Make the future unreadable, and record where the episode begins.

    Lists all objects, which takes seconds in a repository of half a million. Raises ImageError when the working
    directory is not a git repository with a commit.
    """
    return record_start(sandbox, _SCRUB)
