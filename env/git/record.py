r"""Records a working directory at the start of an episode and compares it at the end.

The record is a git directory beside the repository, `<TMPDIR or /var/tmp>/.srft-git`: an index of the files, their
objects in a pack, the image's ignore rules. It needs nothing of the repository's own git directory afterwards. A
checksum of it stays on the host, in the `Start`. What a look at the files writes lies in `.srft-git.end`.

    start = scrub(sandbox)               # which ends with `record_start`
    start.tree, start.unrecorded         # '4b82...', frozenset()

What belongs to a tree: all regular files and symbolic links but those named `.git`, also in nested repositories. Not
those that the image's rules ignore, unless its index has them. What git cannot carry is left out and told: files over
FILE_LIMIT_BYTES, devices and sockets, files that cannot be read.

Files are taken byte by byte (`-text`): `git apply` restores line ends as a patch has them. The exceptions are `ident`
and `working-tree-encoding`, which `git apply` undoes and redoes: where the start's attributes name one, they hold.
"""

import os
from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

from srft.env.errors import ImageError
from srft.env.git.program import ProgramError, ask
from srft.env.sandbox.contract import Sandbox

RECORD_TIMEOUT_S = 600
LOOK_TIMEOUT_S = 300

FILE_LIMIT_BYTES = 16 << 20
"""A larger file is in no patch."""

TOO_LARGE = f"larger than {FILE_LIMIT_BYTES >> 20} MiB"
UNREADABLE = "unreadable"
SPECIAL = "neither file nor link"
NOT_RECORDED = "that the record of the start does not hold"
_REASONS = {b"f": TOO_LARGE, b"r": UNREADABLE}


@dataclass(frozen=True)
class Start:
    """Where an episode began: the host's part of the record."""

    commit: str
    """HEAD."""
    folder: str
    """The git directory in the sandbox that holds the record."""
    tree: str
    """The tree object of the files."""
    checksum: str
    """Of the record's files, a line each."""
    unrecorded: frozenset[bytes] = frozenset()
    """Paths that were there and are not in the tree: what git cannot carry."""
    repacked: bool = False
    """The repository held objects from outside its history, now gone, which took a while."""
    in_volume: bool = False
    """The working directory lies in a mount of its own, which no snapshot of the sandbox holds."""


class Change(NamedTuple):
    """A path that differs from the index."""

    path: bytes
    is_there: bool
    """As a file or link; otherwise it is gone, or another thing has its name."""


class Seen(NamedTuple):
    """What lies in the working directory, as far as it differs from an index."""

    changed: list[Change]
    """Of the index's paths."""
    odd: dict[bytes, str]
    """Path to reason: all that git cannot carry, ignored or not."""
    forced: list[bytes]
    """Paths that the agent has added to its index or HEAD, and that the start does not have."""
    names: list[bytes]
    """New paths that are not ignored; of a new folder its name alone, with a slash at its end."""


FUNCTIONS = r"""
enter() {  # $1: the record, whose objects are read; the index and the objects of this look at the files are beside it.
    export GIT_DIR=$1 GIT_WORK_TREE=$PWD GIT_INDEX_FILE=$1.end/index GIT_OBJECT_DIRECTORY=$1.end/objects
    export GIT_ALTERNATE_OBJECT_DIRECTORIES=$1/objects
    scratch=$1.end
}
work() { cd -- "$1" 2>/dev/null || { mkdir -p "$2.end/empty" && cd "$2.end/empty"; }; }
checksum() { b2sum "$1/config" "$1/HEAD" "$1/index" "$1"/info/* "$1"/objects/pack/* 2>/dev/null; }
odd() {  # Type and path of what git cannot carry; `r`: it cannot be read, `f`: it has more than $1 bytes.
    find . -name .git -prune -o -type f ! -readable -printf 'r%P\0' -o -type f -size +"$1"c -printf 'f%P\0' \
        -o ! -type f ! -type d ! -type l -printf '%y%P\0' 2>/dev/null || true
}
verdicts() {  # What the ignore rules below $1 say of paths on stdin. Git would take `:(top)x` for a pattern: so `./`.
    (
        cd -- "$1" || exit 3
        export GIT_WORK_TREE=$PWD GIT_INDEX_FILE=$scratch/none
        sed -z 's,^,./,' | git check-ignore -z -v -n --no-index --stdin || [ $? = 1 ] # 1: none is ignored
    )
}
new_names() {  # And those of odd files that are new; of new folders their names alone.
    git ls-files -z --others --directory --no-empty-directory
    sed -z 's/^.//' "$scratch/odd" | sort -z | comm -z -23 - <(git ls-files -z)
}
stage() {  # On stdin lines for `update-index --index-info`, an empty one, and paths to add; each ends in NUL.
    cat >"$scratch/staged"
    sed -z '/^$/,$d' "$scratch/staged" | git update-index -z --index-info
    sed -z '0,/^$/d' "$scratch/staged" >"$scratch/added"
    git update-index -z --add --replace --stdin <"$scratch/added" 2>"$scratch/said" && return
    while IFS= read -r -d '' path; do  # one of them stopped it
        printf '%s\0' "$path" | git update-index -z --add --replace --stdin 2>>"$scratch/said" || true
    done <"$scratch/added"
}
differences() {
    git diff --cached --binary --full-index --no-color --no-ext-diff --no-textconv --no-renames --src-prefix=a/ \
        --dst-prefix=b/ -U3 "$1"
}
"""

# The record is finished at once where there is nothing but the tracked files; else they are, and what is new is listed.
# `main`, `commit`, `format`, `repacked`, `nested` and `attributes` are scrub's. $1: FILE_LIMIT_BYTES. The names are the
# image's index's; all files are read, once. A submodule's files are files like all others.
_SEALING = r"""
seal() {  # $1: the record. The pack takes stored deltas as they are and looks for none.
    local tree point in_volume=no
    tree=$(git write-tree)
    git pack-objects --revs -q --threads=1 --window=0 --delta-base-offset "$1/objects/pack/pack" <<<"$tree" >/dev/null
    while read -r _ _ _ _ point _; do  # a mount at, above or below this directory
        printf -v point '%b' "${point//\\/\\0}"
        case $PWD/ in "$point"/*) [ "$point" = / ] || in_volume=yes ;; esac
        case $point/ in "$PWD"/*) in_volume=yes ;; esac
    done </proc/self/mountinfo
    printf '%s\0' "$tree" "$in_volume" "$(checksum "$1")"
}
"""

_RECORD = (
    FUNCTIONS
    + _SEALING
    + r"""
record=${TMPDIR:-/var/tmp}/.srft-git
for path in "$record" "$record.end"; do [ ! -e "$path" ] || rm -rf "$path"; done
mkdir -p "$record"/{objects/pack,refs,info} "$record.end/objects"
echo 'ref: refs/heads/none' >"$record/HEAD"
printf '[core]\nrepositoryFormatVersion = 1\nattributesFile = /dev/null\nexcludesFile = /dev/null\n' >"$record/config"
printf 'looseCompression = 1\nsafecrlf = false\n[extensions]\nobjectFormat = %s\n' "$format" >>"$record/config"
if [ -f "$main/info/exclude" ]; then printf '%s\n' "$(<"$main/info/exclude")" >"$record/info/exclude"; fi
echo '* -text !diff !filter' >"$record/info/attributes"
converted=no
for path in "${attributes[@]}"; do
    case $(<"$path") in *ident* | *working-tree-encoding*) converted=yes ;; esac
done
if [ "$converted" = no ]; then echo '* !ident !working-tree-encoding' >>"$record/info/attributes"; fi
tracked() {
    export GIT_DIR=$main GIT_WORK_TREE=$PWD
    git ls-files -z "$@"
}
(tracked) >"$record.end/names"
enter "$record"
GIT_INDEX_FILE=$record/index
GIT_ALTERNATE_OBJECT_DIRECTORIES=$main/objects
if [ "$nested" = yes ] || ! git update-index -z --add --remove --stdin <"$record.end/names" 2>/dev/null; then
    # Submodules, folders where the index has files, what cannot be read.
    rm -f "$GIT_INDEX_FILE"
    (unset GIT_INDEX_FILE GIT_OBJECT_DIRECTORY GIT_ALTERNATE_OBJECT_DIRECTORIES && tracked -s) |
        sed -z -E '/^160000 /d; s/ [123]\t/ 0\t/' | git update-index -z --index-info
    git add -u --ignore-errors . 2>/dev/null || true
fi
git ls-files -z --others --exclude-standard >"$record.end/names"
printf '%s\0' "$record" "$commit" "$repacked" "$main/objects"
if [ ! -s "$record.end/names" ]; then
    printf 'sealed\0'
    seal "$record"
else
    printf 'new\0\0'
    odd "$1" | tee "$record.end/odd"
    printf '\0\0'
    new_names | verdicts .
fi
"""
)

_SEAL = (
    FUNCTIONS
    + _SEALING
    + r"""
enter "$1"
GIT_INDEX_FILE=$1/index
GIT_ALTERNATE_OBJECT_DIRECTORIES=$2
stage
seal "$1"
"""
)

# From paths on stdin: what lies at and below them (type and path), which of these are rules of a folder that ignores
# itself, and what the start's rules say of each. $1: the record, $2: the rules, $3: the working directory.
_EXPAND = (
    FUNCTIONS
    + r"""
work "$3" "$1"
enter "$1"
sed -z 's,^,./,' | xargs -0 -r bash -c 'find "$@" -name .git -prune -o ! -type d -printf "%y%p\0"' srft 2>/dev/null \
    >"$scratch/below" || true
cat "$scratch/below"
printf '\0'
{ grep -z '/\.gitignore$' "$scratch/below" || true; } | while IFS= read -r -d '' path; do
    path=${path:3}
    if grep -qxF '*' "$path" && ! grep -qvxE '#.*|\*|[[:space:]]*' "$path"; then printf '%s\0' "$path"; fi
done
printf '\0'
sed -z 's,^...,,' "$scratch/below" | verdicts "$2"
"""
)


class Choice(NamedTuple):
    """What of it goes into the index."""

    removed: list[bytes]
    added: list[bytes]
    left_out: dict[bytes, str]
    """Path to reason."""

    def lines(self, zero: bytes) -> bytes:
        """As `stage` reads it. zero: the object name of nothing."""
        entries = [b"0 " + zero + b"\t" + path for path in self.removed]
        return b"".join(item + b"\0" for item in [*entries, b"", *self.added])


class Place(NamedTuple):
    """Where `choose` looks closer."""

    sandbox: Sandbox
    folder: str
    """The git directory whose index is compared."""
    rules: str
    """Where the ignore rules of the start are."""


def record_start(sandbox: Sandbox, scrubbing: str) -> Start:
    """Record the files as they lie in the working directory, a repository with a commit. Raises ImageError.

    scrubbing: the program of `scrub.py`, which runs first: each program that starts costs a millisecond.
    """
    try:
        begun = ask(sandbox, scrubbing + _RECORD, str(FILE_LIMIT_BYTES), timeout_s=RECORD_TIMEOUT_S)
        record, commit, repacked, objects, state, sealed = begun.split(b"\0", 5)
        folder, choice = os.fsdecode(record), Choice([], [], {})
        if state != b"sealed":
            choice = choose(Place(sandbox, folder, rules=sandbox.spec.workdir), seen_in(sealed))
            lines = choice.lines(b"0" * len(commit))
            sealed = ask(sandbox, _SEAL, folder, os.fsdecode(objects), given=lines, timeout_s=RECORD_TIMEOUT_S)
    except ProgramError as error:
        raise ImageError(
            f"image {sandbox.spec.image}: {sandbox.spec.workdir} cannot be prepared; expected a git repository with a "
            f"commit and the programs git, coreutils, findutils, grep and sed, got: {error}"
        ) from None
    tree, in_volume, checksum, _ = sealed.decode().split("\0")
    return Start(
        commit=commit.decode(),
        folder=folder,
        tree=tree,
        checksum=checksum,
        unrecorded=frozenset(choice.left_out),
        repacked=repacked == b"yes",
        in_volume=in_volume == "yes",
    )


def seen_in(listed: bytes) -> Seen:
    """What `_RECORD` and `_OPEN` list."""
    items = iter(listed.split(b"\0"))
    changed = []
    for facts in iter(lambda: next(items), b""):
        _, mode, _, _, status = facts.split(b" ")
        changed.append(Change(next(items), is_there=status != b"D" and mode != b"160000"))
    odd = {item[1:]: _REASONS.get(item[:1], SPECIAL) for item in iter(lambda: next(items), b"")}
    forced = list(iter(lambda: next(items), b""))
    return Seen(changed, odd, forced, _not_ignored(items))


def _not_ignored(items: Iterable[bytes]) -> list[bytes]:
    """The paths among the verdicts of `check-ignore` that no rule hides."""
    fields = list(items)
    patterns, paths = fields[2::4], [path.removeprefix(b"./") for path in fields[3::4]]
    return [path for pattern, path in zip(patterns, paths, strict=True) if not pattern or pattern.startswith(b"!")]


def choose(place: Place, seen: Seen, *, known: frozenset[bytes] = frozenset()) -> Choice:
    """What to stage. known: what was there at the start and is not in its tree."""
    choice = Choice([], [], {})
    for change in seen.changed:
        if change.path in seen.odd:
            choice.left_out[change.path] = seen.odd[change.path]
        if not change.is_there or seen.odd.get(change.path) == SPECIAL:
            choice.removed.append(change.path)
        elif change.path not in seen.odd:
            choice.added.append(change.path)
    for path in dict.fromkeys([*(name for name in seen.names if not name.endswith(b"/")), *_below(place, seen)]):
        if path in seen.odd:
            if path not in known:
                choice.left_out[path] = seen.odd[path]
        elif path in known:
            choice.left_out[path] = NOT_RECORDED
        else:
            choice.added.append(path)
    return choice


def _below(place: Place, seen: Seen) -> list[bytes]:
    """The files in new folders, in folders with a name that a file had, and those that were added by force."""
    files = {name for name in seen.names if not name.endswith(b"/")} | {c.path for c in seen.changed if c.is_there}
    folders = [name for name in seen.names if name.endswith(b"/")]
    folders += [c.path + b"/" for c in seen.changed if not c.is_there and not _is_behind(c.path, files)]
    forced = {path for path in seen.forced if not _is_behind(path, files)}
    if not folders and not forced:
        return []
    given = b"".join(path + b"\0" for path in [*folders, *forced])
    workdir = place.sandbox.spec.workdir
    answer = ask(place.sandbox, _EXPAND, place.folder, place.rules, workdir, given=given, timeout_s=LOOK_TIMEOUT_S)
    items = iter(answer.split(b"\0"))
    found = [item[3:] for item in iter(lambda: next(items), b"")]
    ignoring = tuple(path.removesuffix(b".gitignore") for path in iter(lambda: next(items), b""))
    hidden = set(found) - set(_not_ignored(items))
    return [
        path
        for path in found
        if path in forced or (path not in hidden and not path.startswith(ignoring) and path.startswith(tuple(folders)))
    ]


def _is_behind(path: bytes, files: set[bytes]) -> bool:
    """Whether a path leads through a file, which can only be a link."""
    parts = path.split(b"/")
    return any(b"/".join(parts[:depth]) in files for depth in range(1, len(parts)))
