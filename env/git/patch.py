r"""The patch of an episode: the difference between the files at its start and at its end.

`take_patch` compares the files at the end with the record of the start (`record.py`). The agent's `.git` is asked for
one thing only: which ignored files it has added by force.

    start = scrub(sandbox)
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
import re
import zlib
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import NamedTuple

from srft.env.errors import SrftError
from srft.env.git.program import ProgramError, ask
from srft.env.git.record import FILE_LIMIT_BYTES, FUNCTIONS, LOOK_TIMEOUT_S, Choice, Place, Seen, Start, choose, seen_in
from srft.env.sandbox.contract import Sandbox

PATCH_LIMIT_BYTES = 64 << 20
"""Where a patch would be larger, its largest files are left out."""

SHOWN = 5
"""How many names of what was left out a remark tells."""

LOST, OVERFULL = 9, 7
"""Exit codes of the programs here: the record is not what it was; the patch has more than PATCH_LIMIT_BYTES."""

REFUSED = "with a name that git refuses"
IGNORED = "ignored files of the image"
OVER = f"as the patch would have more than {PATCH_LIMIT_BYTES >> 20} MiB"


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


# $1: the record, $2: its checksum, $3: the start's tree, $4: the working directory, $5: FILE_LIMIT_BYTES,
# $6: `look` for the long way. Mostly there is nothing special, and git's own `add -A` is enough.
# It is not where, since the start, a repository came to be in here, a file that git cannot carry, ignore rules that
# hide themselves (but those of known caches), or an index that holds ignored files.
_OPEN = (
    FUNCTIONS
    + r"""
[ "$(checksum "$1")" = "$2" ] || exit 9
work "$4" "$1"
[ -d "$1.end/objects" ] || mkdir -p "$1.end/objects"
cp -p "$1/index" "$1.end/index"
enter "$1"
theirs() {
    export GIT_DIR=$PWD/.git
    unset GIT_INDEX_FILE GIT_OBJECT_DIRECTORY GIT_ALTERNATE_OBJECT_DIRECTORIES
    git ls-files -z "$@"
}
plain() {
    local path
    while IFS= read -r -d '' path; do
        case $path in
            ./.git | ?*/.pytest_cache/.gitignore | ?*/.mypy_cache/.gitignore | ?*/.ruff_cache/.gitignore) ;;
            *) return 1 ;;
        esac
    done < <(
        find . -name .git -print0 -prune -o -cnewer "$1/index" \( -name .gitignore -print0 \
            -o -type f \( ! -readable -o -size +"$2"c \) -print0 -o ! -type f ! -type d ! -type l -print0 \) 2>/dev/null
    )
    if [ -e .git ] && { [ ! -f .git/index ] || [ .git/index -nt "$1/index" ]; }; then
        (theirs -c -i --exclude-standard --with-tree=HEAD) >"$1.end/names" 2>/dev/null || return
        [ ! -s "$1.end/names" ] || return
    fi
    git add -A . 2>/dev/null
}
if [ "${6:-}" != look ] && plain "$1" "$5"; then
    printf 'plain\0'
    differences "$3"
    exit
fi
rm -rf "$1.end"
work "$4" "$1"
mkdir -p "$1.end/objects" "$1.end/rules"
cp -p "$1/index" "$1.end/index"
printf 'new\0'
git diff-files --raw -z
printf '\0'
odd "$5" | tee "$1.end/odd"
printf '\0'
if [ -e .git ]; then
    comm -z -13 --nocheck-order <(git ls-files -z) <((theirs --with-tree=HEAD || theirs) 2>/dev/null)
fi
printf '\0'
git ls-files -z -- ':(glob)**/.gitignore' | git checkout-index -z --stdin --prefix="$1.end/rules/"
new_names | verdicts "$1.end/rules"
"""
)

# $1: the record, $2: the working directory, $3: the start's tree, $4: PATCH_LIMIT_BYTES. Gives the paths that git did
# not take, and the patch.
_DIFF = (
    FUNCTIONS
    + r"""
work "$2" "$1"
enter "$1"
stage
if [ -s "$scratch/said" ]; then comm -z -23 <(sort -z -u "$scratch/added") <(git ls-files -z); fi
printf '\0'
differences "$3" >"$scratch/patch"
[ "$(stat -c %s "$scratch/patch")" -le "$4" ] || exit 7
cat "$scratch/patch"
"""
)

# What differs from the tree $2, and behind it the sizes: of the old objects, then of the new ones.
_SIZES = (
    FUNCTIONS
    + r"""
enter "$1"
git diff-index --cached --raw -z --no-renames --no-abbrev "$2" | tee "$scratch/raw"
printf '\0'
for field in 3 4; do
    sed -z -n '1~2p' "$scratch/raw" | tr '\0' '\n' | cut -d ' ' -f "$field" |
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

_CONTENTS = FUNCTIONS + 'enter "$1"\ngit cat-file --batch\n'
_EXPORT = FUNCTIONS + '[ "$(checksum "$1")" = "$2" ] || exit 9\ntar -C "$1" -cf - .\n'
_IMPORT = 'rm -rf "$1"\nmkdir -p "$1"\ntar -C "$1" -xf -\n'


def _ask(sandbox: Sandbox, program: str, *arguments: str, given: bytes = b"") -> bytes:
    """`ask`, with the exit codes of the programs here. Raises PatchError, StartLost, _TooLarge, SandboxDied."""
    try:
        return ask(sandbox, program, *arguments, given=given, timeout_s=LOOK_TIMEOUT_S)
    except ProgramError as error:
        if error.exit_code == LOST:
            raise StartLost(f"the record of the start in {arguments[0]} is gone or was changed") from None
        if error.exit_code == OVERFULL:
            raise _TooLarge from None
        raise PatchError(f"git cannot take the patch: {error}") from None


class _TooLarge(PatchError):
    """The patch has more than PATCH_LIMIT_BYTES."""


# ---- the patch ----


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
    place = Place(sandbox, start.folder, rules=f"{start.folder}.end/rules")
    try:
        answer = _opened(sandbox, start)
    except StartLost:
        if another is None:
            raise
        start = _bring_record(sandbox, start, another)
        answer = _opened(sandbox, start)
    if isinstance(answer, bytes):
        return _patch(_as_text(place, answer), {})
    seen = answer
    try:
        choice = choose(place, seen, known=start.unrecorded)
    except ProgramError as error:
        raise PatchError(f"git cannot take the patch: {error}") from None
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


def _opened(sandbox: Sandbox, start: Start) -> bytes | Seen:
    """The changes at once where there is nothing in them to look into, else what there is. Raises StartLost."""
    arguments = (start.folder, start.checksum, start.tree, sandbox.spec.workdir, str(FILE_LIMIT_BYTES))
    if not start.unrecorded:  # `add -A` would take them for new
        try:
            found, _, answer = ask(sandbox, _OPEN, *arguments, timeout_s=LOOK_TIMEOUT_S).partition(b"\0")
        except ProgramError as error:
            if error.exit_code == LOST:
                raise StartLost(f"the record of the start in {start.folder} is gone or was changed") from None
        else:
            if found != b"plain":
                return seen_in(answer)
            if not _RULES_CHANGED.search(answer) and len(answer) <= PATCH_LIMIT_BYTES:
                return answer
    return seen_in(_ask(sandbox, _OPEN, *arguments, "look").partition(b"\0")[2])


_RULES_CHANGED = re.compile(rb'^diff --git .*[/"]\.gitignore"?$', re.MULTILINE)


def _without_the_images(choice: Choice, seen: Seen, sandbox: Sandbox, another: Another) -> Choice:
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


def _differ(place: Place, start: Start, lines: bytes) -> tuple[list[bytes], bytes]:
    """Stage, and give (what git did not take, the changes as `git diff` writes them). Raises _TooLarge."""
    arguments = (place.folder, place.sandbox.spec.workdir, start.tree, str(PATCH_LIMIT_BYTES))
    answer = _ask(place.sandbox, _DIFF, *arguments, given=lines)
    if answer.startswith(b"\0"):
        return [], answer[1:]
    refused, _, changes = answer.partition(b"\0\0")
    return refused.split(b"\0"), changes


def _largest_left_out(place: Place, start: Start) -> tuple[bytes, list[bytes]]:
    """(what to stage so that the largest changes are undone and the patch fits, their paths)."""
    answer = _ask(place.sandbox, _SIZES, place.folder, start.tree)
    listed, _, sizes = answer.rpartition(b"\0\0")
    facts, paths = listed.split(b"\0")[::2], listed.split(b"\0")[1::2]
    numbers = [int(size) for size in sizes.split()]
    both = [old + new for old, new in zip(numbers[: len(facts)], numbers[len(facts) :], strict=True)]
    largest_first = sorted(zip(both, paths, facts, strict=True), reverse=True)
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
    return Patch(_SPACE_AND_SLASH.sub(rb'diff --git "a/\1" "b/\1"', changes).decode(), tuple(told))


_SPACE_AND_SLASH = re.compile(rb"^diff --git a/(.* /.*) b/\1$", re.MULTILINE)
"""Where such a header names an empty file, `git apply` does not find the name, unless it is quoted."""


_INDEX_LINE = re.compile(rb"^index ([0-9a-f]+)\.\.([0-9a-f]+)(?: [0-7]+)?\n", re.MULTILINE)


def _as_text(place: Place, changes: bytes) -> bytes:
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


def _contents(place: Place, names: list[bytes]) -> dict[bytes, bytes]:
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
    b'GIT binary patch\nliteral 1\nIc$`ZF003eDVgLXD\n\nliteral 0\nHc$@<O00001\n\n'
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
