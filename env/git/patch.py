r"""What an episode changed: the difference between the files at its start and at its end.

`record_start` runs before the agent does. It reads the working directory and writes a git directory of its own beside
it, `<TMPDIR or /var/tmp>/.srft-git`: an index of what lies there, the objects of these files, the image's ignore rules.
A checksum of them stays on the host, in the `Start`. `take_patch` compares the files at the end with that record; the
agent's `.git` is asked for one thing only, which ignored files it has added by force.

    start = record_start(sandbox)
    sandbox.run("echo fixed >answer.txt; rm -rf .git", 60)
    patch = take_patch(sandbox, start)
    patch.text, patch.left_out       # 'diff --git a/answer.txt b/answer.txt...', ()

What belongs to a tree: all regular files and symbolic links but those named `.git`, also in nested repositories. Not
those that the rules of the start ignore, unless the start has them or the agent has added them to its index or HEAD;
nor what lies in a new folder that ignores itself (pytest's cache, a virtual environment). What git cannot carry is left
out and counted: files over FILE_LIMIT_BYTES, devices and sockets, files that cannot be read, names that git refuses.

Files are compared byte by byte (`-text`): `git apply` restores line ends as the patch has them. The exceptions are
`ident` and `working-tree-encoding`, which `git apply` undoes and redoes: where the start's attributes name one of them,
they hold at both ends.
"""

import base64
import os
import re
import zlib
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from typing import NamedTuple

from srft.env.errors import ImageError, SrftError
from srft.env.git.scrub import bash_program
from srft.env.sandbox.contract import Sandbox

RECORD_TIMEOUT_S = 600
PATCH_TIMEOUT_S = 300

FILE_LIMIT_BYTES = 16 << 20
"""A larger file is in no patch."""

PATCH_LIMIT_BYTES = 64 << 20
"""Where a patch would be larger, its largest files are left out."""

SHOWN = 5
"""How many names of what was left out a remark tells."""


class PatchError(SrftError):
    """The patch cannot be taken, because of what the agent did to the sandbox."""


class StartLost(PatchError):
    """The record of the start is gone, or is not what it was."""


class LeftOut(NamedTuple):
    """A path that a patch does not carry."""

    path: str
    """Relative to the working directory; bytes that are not UTF-8 as `\\xNN`."""
    reason: str
    """Say `larger than 16 MiB`."""


class Patch(NamedTuple):
    """What an episode changed."""

    text: str
    """To be applied with `git apply` to the state in which the episode began; "" where nothing changed."""
    left_out: tuple[LeftOut, ...] = ()
    """What changed too, and is not in the text."""

    @property
    def remark(self) -> str | None:
        """What was left out in words, `None` where that is nothing."""
        by_reason: dict[str, list[str]] = {}
        for path, reason in self.left_out:
            by_reason.setdefault(reason, []).append(path)
        told = [
            f"{len(paths)} {reason} ({', '.join(paths[:SHOWN])}{', ...' if len(paths) > SHOWN else ''})"
            for reason, paths in by_reason.items()
        ]
        return f"left out of the patch: {'; '.join(told)}" if told else None


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
    """Of the record's files."""
    unrecorded: frozenset[bytes] = frozenset()
    """Paths that were there and are not in the tree: what git cannot carry."""
    in_volume: bool = False
    """The working directory lies in a mount of its own, which no snapshot of the sandbox holds."""



class _Change(NamedTuple):
    """A path that differs from the index."""

    path: bytes
    is_there: bool
    """As a file or link; otherwise it is gone, or another thing has its name."""


class _Seen(NamedTuple):
    """What lies in the working directory, as far as it differs from an index."""

    changed: list[_Change]
    """Of the index's paths."""
    odd: dict[bytes, str]
    """Path to reason: all that git cannot carry, ignored or not."""
    forced: list[bytes]
    """Paths that the agent has added to its index or HEAD, and that the start does not have."""
    names: list[bytes]
    """New paths that are not ignored; of a new folder its name alone, with a slash at its end."""


# ---- the programs: bash, which run in the sandbox; their arguments are $1, $2... ----

_FUNCTIONS = r"""
enter() {  # Work with the git directory $1, for the files here.
    export GIT_DIR=$1 GIT_WORK_TREE=$PWD GIT_INDEX_FILE=$1/index
}
repository() {  # Make the git directory $1, which borrows the objects at $2; $3: how objects are named.
    rm -rf "$1"
    mkdir -p "$1/objects/info" "$1/objects/pack" "$1/refs" "$1/info"
    printf '%s\n' "$2" >"$1/objects/info/alternates"
    echo 'ref: refs/heads/none' >"$1/HEAD"
    printf '[core]\nrepositoryFormatVersion = 1\nattributesFile = /dev/null\nexcludesFile = /dev/null\n' >"$1/config"
    printf 'looseCompression = 1\nsafecrlf = false\n[extensions]\nobjectFormat = %s\n' "$3" >>"$1/config"
    enter "$1"
}
checksum() { cat "$1/index" "$1"/objects/pack/* "$1"/info/* 2>/dev/null | sha256sum | cut -c 1-64; }
odd() {  # Type and path of what git cannot carry; `r`: it cannot be read, `f`: it has more than $1 bytes.
    find . -name .git -prune -o -type f ! -readable -printf 'r%P\0' -o -type f -size +"$1"c -printf 'f%P\0' \
        -o ! -type f ! -type d ! -type l -printf '%y%P\0' 2>/dev/null || true
}
verdicts() {  # What the ignore rules below $1 say of the paths on stdin.
    (cd "$1" && GIT_WORK_TREE=$PWD GIT_INDEX_FILE=$GIT_DIR/none git check-ignore -z -v -n --no-index --stdin) ||
        [ $? = 1 ]
}
rules() {  # Write the ignore rules of the index into the folder $1.
    mkdir -p "$1"
    git ls-files -z -- ':(glob)**/.gitignore' | git checkout-index -z --stdin --prefix="$1/"
}
new_names() { # And those of odd files; of new folders their names alone.
    git ls-files -z --others --directory --no-empty-directory
    sed -z 's/^.//' "$GIT_DIR/odd"
}
stage() {  # On stdin lines for `update-index --index-info`, an empty one, and paths to add; each ends in NUL.
    cat >"$GIT_DIR/staged"
    sed -z '/^$/,$d' "$GIT_DIR/staged" | git update-index -z --index-info
    sed -z '0,/^$/d' "$GIT_DIR/staged" >"$GIT_DIR/added"
    git update-index -z --add --replace --stdin <"$GIT_DIR/added" 2>"$GIT_DIR/said" && return
    while IFS= read -r -d '' path; do  # one of them stopped it
        printf '%s\0' "$path" | git update-index -z --add --replace --stdin 2>>"$GIT_DIR/said" || true
    done <"$GIT_DIR/added"
}
"""

# The index starts as the image's, without what it believes of the files: all are read, once. A submodule's files are
# files like all others.
_BEGIN = (
    _FUNCTIONS
    + r"""
folder=${TMPDIR:-/var/tmp}/.srft-git
{ read -r image; read -r format; read -r commit; } < <(
    git rev-parse --absolute-git-dir --show-object-format HEAD
)
tracked() { GIT_DIR=$image GIT_WORK_TREE=$PWD git ls-files -s -z; }
tracked >/dev/null  # an index that git cannot read is an error here, and not an empty one
repository "$folder" "$image/objects" "$format"
if [ -f "$image/info/exclude" ]; then cp "$image/info/exclude" "$folder/info"; fi
(unset GIT_INDEX_FILE; tracked) | sed -z -E '/^160000 /d; s/ [123]\t/ 0\t/' | git update-index -z --index-info
echo '* -text !diff !filter' >"$folder/info/attributes"
if ! git grep -q --cached -E 'ident|working-tree-encoding' -- ':(glob)**/.gitattributes'; then
    echo '* !ident !working-tree-encoding' >>"$folder/info/attributes"
fi
git add -u --ignore-errors . 2>/dev/null || true
printf '%s\0' "$folder" "$commit"
git diff-files --raw -z
printf '\0'
odd "$1" | tee "$folder/odd"
printf '\0\0'
new_names | verdicts .
"""
)

# The pack takes stored deltas as they are and looks for none. `in_volume`: a mount at, above or below the directory.
_SEAL = (
    _FUNCTIONS
    + r"""
enter "$1"
stage
tree=$(git write-tree)
git rev-list --objects "$tree" | git pack-objects -q --window=0 --delta-base-offset "$1/objects/pack/pack" >/dev/null
rm -rf "$1"/objects/info/alternates "$1"/objects/?? "$1"/odd "$1"/staged "$1"/added "$1"/said
in_volume=no
while read -r _ _ _ _ point _; do
    point=$(printf '%b' "${point//\\/\\0}")
    case $PWD/ in "$point"/*) [ "$point" = / ] || in_volume=yes ;; esac
    case $point/ in "$PWD"/*) in_volume=yes ;; esac
done </proc/self/mountinfo
printf '%s\0' "$tree" "$(checksum "$1")" "$in_volume"
"""
)

# $1: the record, $2: its checksum, $3: the start's tree, $4: the working directory, $5: FILE_LIMIT_BYTES.
_OPEN = (
    _FUNCTIONS
    + r"""
[ "$(checksum "$1")" = "$2" ] || exit 9
end=$1.end
rm -rf "$end"
cd -- "$4" 2>/dev/null || { mkdir -p "$end.empty"; cd "$end.empty"; }
repository "$end" "$1/objects" "$([ ${#3} = 40 ] && echo sha1 || echo sha256)"
cp -p "$1/index" "$end"
cp "$1"/info/* "$end/info"
theirs() {
    export GIT_DIR=$PWD/.git
    unset GIT_INDEX_FILE
    git ls-files -z --with-tree=HEAD 2>/dev/null || git ls-files -z 2>/dev/null || true
}
git diff-files --raw -z
printf '\0'
odd "$5" | tee "$end/odd"
printf '\0'
if [ -e .git ]; then comm -z -13 --nocheck-order <(git ls-files -z) <(theirs); fi
printf '\0'
new_names >"$end/names"
if [ -s "$end/names" ]; then
    rules "$end/rules"
    verdicts "$end/rules" <"$end/names"
fi
"""
)

# From paths on stdin: what lies at and below them (type and path), which of these are rules of a folder that ignores
# itself, and what the start's rules say of each. $1: the git directory, $2: the rules.
_EXPAND = (
    _FUNCTIONS
    + r"""
cd -- "$3" 2>/dev/null || cd "$1.empty"
enter "$1"
sed -z 's,^,./,' | xargs -0 -r bash -c 'find "$@" -name .git -prune -o ! -type d -printf "%y%p\0"' srft 2>/dev/null \
    >"$1/below" || true
cat "$1/below"
printf '\0'
{ grep -z '/\.gitignore$' "$1/below" || true; } | while IFS= read -r -d '' path; do
    path=${path:3}
    if grep -qxF '*' "$path" && ! grep -qvxE '#.*|\*|[[:space:]]*' "$path"; then printf '%s\0' "$path"; fi
done
printf '\0'
sed -z 's,^...,,' "$1/below" | verdicts "$2"
"""
)

# $1: the git directory, $2: the working directory, $3: the start's tree, $4: PATCH_LIMIT_BYTES. Gives the paths that git
# did not take, and the patch.
_DIFF = (
    _FUNCTIONS
    + r"""
cd -- "$2" 2>/dev/null || cd "$1.empty"
enter "$1"
stage
if [ -s "$1/said" ]; then comm -z -23 <(sort -z -u "$1/added") <(git ls-files -z); fi
printf '\0'
git diff --cached --binary --full-index --no-color --no-ext-diff --no-textconv --no-renames --src-prefix=a/ \
    --dst-prefix=b/ -U3 "$3" >"$1/patch"
size=$(wc -c <"$1/patch")
[ "$size" -le "$4" ] || exit 7
cat "$1/patch"
"""
)

# What differs from the tree $2, and behind it the sizes: of the old objects, then of the new ones.
_SIZES = (
    _FUNCTIONS
    + r"""
enter "$1"
git diff-index --cached --raw -z --no-renames --no-abbrev "$2" | tee "$1/raw"
printf '\0'
for field in 3 4; do
    sed -z -n '1~2p' "$1/raw" | tr '\0' '\n' | cut -d ' ' -f "$field" |
        git cat-file --batch-check='%(objectsize)' | sed 's/^.* missing$/0/'
done
"""
)

# The paths on stdin that are there, each behind the hash of its content.
_HASHES = r"""
cd -- "$1"
while IFS= read -r -d '' path; do
    if [ -L "$path" ]; then
        printf '%s%s\0' "$(readlink -n -- "$path" | sha256sum | cut -c 1-64)" "$path"
    elif [ -f "$path" ]; then
        printf '%s%s\0' "$(sha256sum <"$path" | cut -c 1-64)" "$path"
    fi
done
"""

_CONTENTS = _FUNCTIONS + 'enter "$1"\ngit cat-file --batch\n'
_EXPORT = _FUNCTIONS + '[ "$(checksum "$1")" = "$2" ] || exit 9\ntar -C "$1" -cf - .\n'
_IMPORT = 'rm -rf "$1"\nmkdir -p "$1"\ntar -C "$1" -xf -\n'


def _ask(
    sandbox: Sandbox, program: str, *arguments: str, given: bytes = b"", timeout_s: float = PATCH_TIMEOUT_S
) -> bytes:
    """What a program prints, byte for byte. given: its stdin. Raises PatchError, StartLost, _TooLarge."""
    errors = f"${{TMPDIR:-/var/tmp}}/.srft-errors.{os.getpid()}"
    program = bash_program(program, *arguments)
    command = (
        f"(set -o pipefail; builtin printf %s {base64.b64encode(given).decode()} | command base64 -d | "
        f"{program} 2>{errors} | command base64 -w 0; "
        f"code=$?; [ $code = 0 ] || {{ echo; command tail -c 500 {errors}; }}; command rm -f {errors}; exit $code)"
    )
    result = sandbox.run(command, timeout_s, output_limit_bytes=4 * PATCH_LIMIT_BYTES)
    if result.exit_code == 9:
        raise StartLost(f"the record of the start in {arguments[0]} is gone or was changed")
    if result.exit_code == 7:
        raise _TooLarge
    if result.exit_code != 0 or result.elided_bytes:
        raise PatchError(f"git cannot take the patch: {result.output.strip()[-500:] or result}")
    try:
        return base64.b64decode(result.output, validate=True)
    except ValueError:
        raise PatchError(f"git cannot take the patch: {result.output.strip()[-500:]}") from None


class _TooLarge(PatchError):
    """The patch has more than PATCH_LIMIT_BYTES."""


# ---- what lies there ----


class _Choice(NamedTuple):
    """What of it goes into the index."""

    removed: list[bytes]
    added: list[bytes]
    left_out: dict[bytes, str]
    """Path to reason."""

    def lines(self, zero: bytes) -> bytes:
        """As `stage` reads it. zero: the object name of nothing."""
        entries = [b"0 " + zero + b"\t" + path for path in self.removed]
        return b"".join(item + b"\0" for item in [*entries, b"", *self.added])


def _seen(listed: bytes) -> _Seen:
    """What `_BEGIN` and `_OPEN` list."""
    items = iter(listed.split(b"\0"))
    changed = []
    for facts in iter(lambda: next(items), b""):
        _, mode, _, _, status = facts.split(b" ")
        changed.append(_Change(next(items), is_there=status != b"D" and mode != b"160000"))
    odd = {item[1:]: _REASONS.get(item[:1], SPECIAL) for item in iter(lambda: next(items), b"")}
    forced = list(iter(lambda: next(items), b""))
    return _Seen(changed, odd, forced, _not_ignored(items))


TOO_LARGE = f"larger than {FILE_LIMIT_BYTES >> 20} MiB"
UNREADABLE = "unreadable"
SPECIAL = "neither file nor link"
REFUSED = "with a name that git refuses"
NOT_RECORDED = "that the record of the start does not hold"
IGNORED = "ignored files of the image"
OVER = f"as the patch would have more than {PATCH_LIMIT_BYTES >> 20} MiB"
_REASONS = {b"f": TOO_LARGE, b"r": UNREADABLE}


def _not_ignored(items: Iterable[bytes]) -> list[bytes]:
    """The paths among the verdicts of `check-ignore` that no rule hides."""
    fields = list(items)
    patterns, paths = fields[2::4], fields[3::4]
    return [path for pattern, path in zip(patterns, paths, strict=True) if not pattern or pattern.startswith(b"!")]


class _Place(NamedTuple):
    """Where `_choose` looks closer."""

    sandbox: Sandbox
    folder: str
    """The git directory whose index is compared."""
    rules: str
    """Where the ignore rules of the start are."""


def _choose(place: _Place, seen: _Seen, *, known: frozenset[bytes] = frozenset()) -> _Choice:
    """What to stage. known: what was there at the start and is not in its tree."""
    choice = _Choice([], [], {})
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


def _below(place: _Place, seen: _Seen) -> list[bytes]:
    """The files in new folders, in folders with a name that a file had, and those that were added by force."""
    files = {name for name in seen.names if not name.endswith(b"/")} | {c.path for c in seen.changed if c.is_there}
    folders = [name for name in seen.names if name.endswith(b"/")]
    folders += [c.path + b"/" for c in seen.changed if not c.is_there and not _is_behind(c.path, files)]
    forced = {path for path in seen.forced if not _is_behind(path, files)}
    if not folders and not forced:
        return []
    given = b"".join(path + b"\0" for path in [*folders, *forced])
    workdir = place.sandbox.spec.workdir
    items = iter(_ask(place.sandbox, _EXPAND, place.folder, place.rules, workdir, given=given).split(b"\0"))
    found = [item[3:] for item in iter(lambda: next(items), b"")]
    ignoring = tuple(path.removesuffix(b".gitignore") for path in iter(lambda: next(items), b""))
    hidden = set(found) - set(_not_ignored(items))
    return [
        path
        for path in found
        if path in forced
        or (path not in hidden and not path.startswith(ignoring) and path.startswith(tuple(folders)))
    ]


def _is_behind(path: bytes, files: set[bytes]) -> bool:
    """Whether a path leads through a file, which can only be a link."""
    parts = path.split(b"/")
    return any(b"/".join(parts[:depth]) in files for depth in range(1, len(parts)))


# ---- the start ----


def record_start(sandbox: Sandbox) -> Start:
    """Record the files as they lie in the working directory, a repository with a commit. Raises ImageError."""
    try:
        begun = _ask(sandbox, _BEGIN, str(FILE_LIMIT_BYTES), timeout_s=RECORD_TIMEOUT_S)
        folder, commit, listed = begun.split(b"\0", 2)
        where = os.fsdecode(folder)
        choice = _choose(_Place(sandbox, where, rules=sandbox.spec.workdir), _seen(listed))
        lines = choice.lines(b"0" * len(commit))
        sealed = _ask(sandbox, _SEAL, where, given=lines, timeout_s=RECORD_TIMEOUT_S)
    except PatchError as error:
        raise ImageError(
            f"image {sandbox.spec.image}: the files in {sandbox.spec.workdir} cannot be recorded; expected a git "
            f"repository with a commit and the programs git, coreutils, findutils, grep and sed, got: {error}"
        ) from None
    tree, checksum, in_volume, _ = sealed.decode().split("\0")
    return Start(
        commit=commit.decode(),
        folder=where,
        tree=tree,
        checksum=checksum,
        unrecorded=frozenset(choice.left_out),
        in_volume=in_volume == "yes",
    )


Another = Callable[[], AbstractContextManager[tuple[Sandbox, Start]]]
"""Opens another sandbox in the state of the start, where a record is that nobody has touched."""


def _bring_record(sandbox: Sandbox, start: Start, another: Another) -> Start:
    """Replace a record that is gone or was changed. Raises PatchError."""
    with another() as (untouched, its_start):
        if its_start.tree != start.tree:
            raise PatchError("the record of the start is gone, and the image does not give the same files again")
        archive = _ask(untouched, _EXPORT, its_start.folder, its_start.checksum)
    _ask(sandbox, _IMPORT, start.folder, given=archive)
    return replace(start, checksum=its_start.checksum)


# ---- the patch ----


def take_patch(sandbox: Sandbox, start: Start, *, kill: bool = True, another: Another | None = None) -> Patch:
    """The difference between `start` and the working directory as it is.

    kill: everything that still runs in the sandbox is killed first, and a fresh shell is used; without it, whoever
    looks in between disturbs nothing. another: asked where the record in the sandbox is gone, and where the agent added
    ignored files by force: the image may have had them. Text that is not UTF-8 comes as binary hunks, so that the patch
    is text and yet exact. Raises PatchError, SandboxDied.
    """
    if kill:
        sandbox.kill_all()
    try:
        seen = _opened(sandbox, start)
    except StartLost:
        if another is None:
            raise
        start = _bring_record(sandbox, start, another)
        seen = _opened(sandbox, start)
    place = _Place(sandbox, f"{start.folder}.end", rules=f"{start.folder}.end/rules")
    choice = _choose(place, seen, known=start.unrecorded)
    if another is not None and seen.forced:
        choice = _without_the_images(choice, seen, sandbox, another)
    if not choice.removed and not choice.added:
        return _patch(b"", choice.left_out)
    lines = choice.lines(b"0" * len(start.tree))
    try:
        staged = _differ(place, start, lines)
    except _TooLarge:
        lines, largest = _largest_left_out(place, start)
        choice.left_out.update(dict.fromkeys(largest, OVER))
        staged = _differ(place, start, lines)
    refused, changes = staged
    choice.left_out.update(dict.fromkeys(refused, REFUSED))
    return _patch(_as_text(place, changes), choice.left_out)


def _opened(sandbox: Sandbox, start: Start) -> _Seen:
    arguments = (start.folder, start.checksum, start.tree, sandbox.spec.workdir, str(FILE_LIMIT_BYTES))
    return _seen(_ask(sandbox, _OPEN, *arguments))


def _without_the_images(choice: _Choice, seen: _Seen, sandbox: Sandbox, another: Another) -> _Choice:
    """The choice without files that the image had and its rules ignore: a patch cannot make them anew."""
    forced = b"".join(path + b"\0" for path in choice.added if path in set(seen.forced))
    with another() as (untouched, _):
        theirs = _ask(untouched, _HASHES, untouched.spec.workdir, given=forced).split(b"\0")[:-1]
    had = {item[64:] for item in theirs}
    if not had:
        return choice
    ours = _ask(sandbox, _HASHES, sandbox.spec.workdir, given=forced).split(b"\0")[:-1]
    for item in set(ours) - set(theirs):
        if item[64:] in had:
            choice.left_out[item[64:]] = IGNORED
    return choice._replace(added=[path for path in choice.added if path not in had])


def _differ(place: _Place, start: Start, lines: bytes) -> tuple[list[bytes], bytes]:
    """Stage, and give (what git did not take, the changes as `git diff` writes them). Raises _TooLarge."""
    arguments = (place.folder, place.sandbox.spec.workdir, start.tree, str(PATCH_LIMIT_BYTES))
    answer = _ask(place.sandbox, _DIFF, *arguments, given=lines)
    if answer.startswith(b"\0"):
        return [], answer[1:]
    refused, _, changes = answer.partition(b"\0\0")
    return refused.split(b"\0"), changes


def _largest_left_out(place: _Place, start: Start) -> tuple[bytes, list[bytes]]:
    """(what to stage so that the largest changes are undone and the patch fits, their paths)."""
    answer = _ask(place.sandbox, _SIZES, place.folder, start.tree)
    listed, _, sizes = answer.rpartition(b"\0\0")
    facts, paths = listed.split(b"\0")[::2], listed.split(b"\0")[1::2]
    numbers = [int(size) for size in sizes.split()]
    largest_first = sorted(zip(map(sum, zip(numbers[: len(facts)], numbers[len(facts) :])), paths, facts), reverse=True)
    # Bytes that nothing makes smaller take five characters for four, and line ends.
    room, undone, entries = PATCH_LIMIT_BYTES, [], []
    needed = sum(size * 4 // 3 + 1000 for size, _, _ in largest_first)
    for size, path, fact in largest_first:
        if needed <= room:
            break
        needed -= size * 4 // 3 + 1000
        mode, _, name = fact.removeprefix(b":").split(b" ")[:3]
        undone.append(path)
        entries.append((b"0" if mode == b"000000" else mode) + b" " + name + b"\t" + path + b"\0")
    return b"".join(entries) + b"\0", undone


def _patch(changes: bytes, left_out: dict[bytes, str]) -> Patch:
    told = (LeftOut(path.decode(errors="backslashreplace"), reason) for path, reason in sorted(left_out.items()))
    return Patch(changes.decode(), tuple(told))


_INDEX_LINE = re.compile(rb"^index ([0-9a-f]+)\.\.([0-9a-f]+)(?: [0-7]+)?\n", re.MULTILINE)


def _as_text(place: _Place, changes: bytes) -> bytes:
    """The changes with binary hunks for what is no text."""
    files = re.split(rb"^(?=diff --git )", changes, flags=re.MULTILINE)
    indices = {number: _INDEX_LINE.search(file) for number, file in enumerate(files) if not _is_text(file)}
    if not indices:
        return changes
    names = [name for index in indices.values() if index for name in index.groups()]
    contents = _contents(place, [name for name in dict.fromkeys(names) if name.strip(b"0")])
    for number, index in indices.items():
        assert index is not None, "a change without an object is a change of mode, and ASCII"
        old, new = (contents.get(name, b"") for name in index.groups())
        files[number] = files[number][: index.end()] + binary_hunks(old, new)
    return b"".join(files)


def _is_text(change: bytes) -> bool:
    try:
        change.decode()
    except UnicodeDecodeError:
        return False
    return b"\0" not in change


def _contents(place: _Place, names: list[bytes]) -> dict[bytes, bytes]:
    """Object name to content."""
    answer = _ask(place.sandbox, _CONTENTS, place.folder, given=b"".join(name + b"\n" for name in names))
    contents = {}
    for name in names:
        header, _, answer = answer.partition(b"\n")
        size = int(header.split()[2])
        contents[name], answer = answer[:size], answer[size + 1 :]
    return contents


def binary_hunks(old: bytes, new: bytes) -> bytes:
    r"""Both contents whole, as `git diff --binary` writes them: deflated, in base 85, 52 bytes a line.

    >>> binary_hunks(b"", b"a")
    b'GIT binary patch\nliteral 1\nIcmYdH0Du4h0RR91\n\nliteral 0\nHcmV?d00001\n\n'
    """
    hunks = b"GIT binary patch\n"
    for content in (new, old):
        hunks += b"literal %d\n" % len(content)
        deflated = zlib.compress(content)
        for at in range(0, len(deflated), 52):
            line = deflated[at : at + 52]
            length = len(line) + (ord("A") - 1 if len(line) <= 26 else ord("a") - 27)
            hunks += bytes([length]) + base64.b85encode(line, pad=True) + b"\n"
        hunks += b"\n"
    return hunks
