"""The patch of an episode, applied to a copy of its start, gives the agent's files: on every sandbox."""

import contextlib
import doctest
import functools

import pytest

from srft.env.git import patch as patch_module
from srft.env.git import record
from srft.env.git.patch import LeftOut, Patch, PatchError, StartLost, binary_hunks, take_patch
from srft.env.git.scrub import scrub
from tests.env.git.trees import BASE, again, applied, begun, changed, made, trees_of


@pytest.fixture(scope="module")
def base(one_sandbox):
    """The start of the cases that share one."""
    return begun(one_sandbox)


@pytest.mark.parametrize(
    ("what", "script", "expected"),
    [
        ("nothing", "true", []),
        ("touched", "touch kept.txt", []),
        ("new, changed, gone", "echo new >new.txt; echo z >kept.txt; rm gone.txt", ["new.txt", "kept.txt", "gone.txt"]),
        ("committed", "echo new >new.txt; git add .; git commit -qm x", ["new.txt"]),
        ("committed on a branch", "git checkout -q -b other; echo y >>kept.txt; git commit -qam y", ["kept.txt"]),
        ("reset away", "echo y >>kept.txt; git commit -qam y; git reset -q --hard HEAD~1", []),
        ("staged", "echo new >new.txt; git add .", ["new.txt"]),
        ("trailing space, no last newline", "printf 'a  \\nb' >kept.txt", ["kept.txt"]),
        ("CRLF", "printf 'a\\r\\nb\\r\\n' >kept.txt; printf 'c\\r\\n' >new.txt", ["kept.txt", "new.txt"]),
        ("a binary file", "printf '\\0\\1\\2\\377' >new.bin", ["new.bin"]),
        ("a NUL far in", "{ head -c 9000 /dev/zero | tr '\\0' a; printf '\\0'; } >kept.txt", ["kept.txt"]),
        (
            "text that is not UTF-8",
            "printf 'caf\\351\\n' >new.txt; printf '\\351\\nb\\n' >kept.txt",
            ["new.txt", "kept.txt"],
        ),
        ("assume-unchanged", "git update-index --assume-unchanged kept.txt; echo z >kept.txt", ["kept.txt"]),
        ("skip-worktree", "git update-index --skip-worktree kept.txt; echo z >kept.txt", ["kept.txt"]),
        ("same size, same second", "printf 'c\\nb\\n' >new; touch -r kept.txt new; mv new kept.txt", ["kept.txt"]),
        ("swapped", "printf 'c\\nb\\n' >a; touch -r kept.txt a; cp -p kept.txt b; mv a kept.txt", ["kept.txt", "b"]),
        ("modes", "chmod -x run.sh; chmod 755 kept.txt; chmod 600 gone.txt", ["run.sh", "kept.txt"]),
        ("no permissions", "chmod 000 kept.txt; echo z >n; chmod 000 n", ["n"]),
        (
            "links",
            "ln -sf /nowhere link; ln -s pkg new; ln -s $'caf\\351' bytes; ln -s $'a\\nb' lines",
            ["link", "new", "bytes", "lines"],
        ),
        ("a link made a file, a file a link", "rm link run.sh; echo f >link; ln -s link run.sh", ["link", "run.sh"]),
        (
            "a folder made a link",
            "mv pkg /elsewhere; ln -s /elsewhere pkg; echo F >pkg/a.py",
            ["pkg", "pkg/a.py", "pkg/sub/b.py"],
        ),
        ("a link made a folder", "rm link; mkdir link; echo f >link/f", ["link", "link/f"]),
        ("a file made a folder", "rm pkg/a.py; mkdir pkg/a.py; echo x >pkg/a.py/x", ["pkg/a.py", "pkg/a.py/x"]),
        (
            "a file made a repository",
            "rm gone.txt; git init -q gone.txt; echo i >gone.txt/i; git -C gone.txt add i;git -C gone.txt commit -qm i",
            ["gone.txt", "gone.txt/i"],
        ),
        ("a folder made a file", "rm -r pkg; echo f >pkg", ["pkg", "pkg/a.py", "pkg/sub/b.py"]),
        (
            "renamed",
            "mv pkg other; git mv kept.txt 'k t'",
            ["pkg/a.py", "pkg/sub/b.py", "other/a.py", "other/sub/b.py", "kept.txt", "k t"],
        ),
        (
            "names",
            "echo 1 >'a b'; echo 2 >$'\\303\\251'; echo 3 >'q\"x'; echo 4 >$'caf\\351'; echo 5 >$'a\\nb'; "
            "echo 6 >-n; echo 7 >'*'; echo 8 >':(top)x'; echo 9 >'b\\'; echo 10 >$'t\\t '; echo 11 >' '; mkdir "
            "$'d\\351'; "
            "echo 12 >$'d\\351/x'",
            ["a b", "é", 'q"x', b"caf\xe9", "a\nb", "-n", "*", ":(top)x", "b\\", "t\t ", " ", b"d\xe9/x"],
        ),
        (
            "names that git takes for words of its own",
            "for name in ':(top)' ':(glob)' ':!x' ':^' ':'; do mkdir -p \"$name/$name\"; echo 1 >\"$name/a\"; "
            "echo 2 >\"$name/$name/b\"; done; echo 3 >':!y'; echo 4 >':(exclude)z'; echo 5 >'?'",
            [
                *(f"{name}/{rest}" for name in (":(top)", ":(glob)", ":!x", ":^", ":") for rest in ("a", f"{name}/b")),
                *(":!y", ":(exclude)z", "?"),
            ],
        ),
        (
            "an empty file in a folder whose name ends in a space",
            "mkdir -p 's / t ' && : >'s /a' && : >'s / t /b' && chmod +x kept.txt",
            ["s /a", "s / t /b", "kept.txt"],
        ),
        (
            "words of our own",
            "printf 'caf\\351\\n' >QUICKSTART.txt; printf '\\351' >WORKDIR; echo p >PRIVATE",
            ["QUICKSTART.txt", "WORKDIR", "PRIVATE"],
        ),
        (
            "configuration",
            "echo z >kept.txt; git config diff.noprefix true; git config color.ui always; git config "
            "diff.external false; "
            "git config core.hooksPath /tmp; git config core.autocrlf true; git config core.excludesFile "
            "/testbed/kept.txt; "
            "echo '*' >.git/info/exclude; echo '* -diff' >.git/info/attributes; git config core.fsmonitor false; "
            "git config core.bare true; git config core.worktree /; git config diff.x.textconv false; "
            "echo '[user' >>.git/config; echo n >n",
            ["kept.txt", "n"],
        ),
        (
            "the user's configuration",
            "mkdir -p ~/.config/git; echo '*' >~/.config/git/ignore; echo '* -diff' >~/.config/git/attributes; "
            "git config --global core.quotePath false; git config --global diff.mnemonicPrefix true; echo n >n",
            ["n"],
        ),
        (
            "attributes",
            "printf '* text=auto\\n*.py working-tree-encoding=UTF-16\\n*.txt ident filter=x\\n' "
            ">.gitattributes; echo F >pkg/a.py; printf 'x\\r\\n$Id: 1$\\n' >new.txt",
            [".gitattributes", "pkg/a.py", "new.txt"],
        ),
        (
            "a repository in a source folder",
            "cd pkg; git init -q .; echo F >a.py; echo n >c.py",
            ["pkg/a.py", "pkg/c.py"],
        ),
        (
            "a repository with a commit there",
            "cd pkg; echo F >a.py; git init -q .; git add -A; git commit -qm wip",
            ["pkg/a.py"],
        ),
        ("a file .git there", "touch pkg/.git; echo F >pkg/a.py", ["pkg/a.py"]),
        ("a repository with a pattern for a name", "git init -q 'p*'; echo F >pkg/a.py", ["pkg/a.py"]),
        (
            "new repositories",
            "git clone -q . clone; rm clone/link; git init -q none; echo n >none/n; echo z >kept.txt",
            [
                "clone/.gitignore",
                "clone/kept.txt",
                "clone/gone.txt",
                "clone/pkg/a.py",
                "clone/pkg/sub/b.py",
                "clone/run.sh",
                "none/n",
                "kept.txt",
            ],
        ),
        (
            "a worktree",
            "git worktree add -q w HEAD; cd w; rm -r pkg kept.txt gone.txt link run.sh; echo n >n",
            ["w/.gitignore", "w/n"],
        ),
        (
            "the repository made anew",
            "echo z >kept.txt; rm -rf .git; git init -q; git add -A; git commit -qm x",
            ["kept.txt"],
        ),
        (
            "no history left",
            "echo z >kept.txt; git checkout -q --orphan n; git add -A; git commit -qm n; "
            "git branch -qD main; git reflog expire --expire=now --all; git gc -q --prune=now",
            ["kept.txt"],
        ),
        ("no repository left", "echo z >kept.txt; rm -rf .git", ["kept.txt"]),
        (
            "a wrecked repository",
            "echo z >kept.txt; echo x >.git/index; echo y >.git/HEAD; rm -r .git/objects",
            ["kept.txt"],
        ),
        ("a repository that is a file", "rm -rf .git; echo nonsense >.git; echo z >kept.txt", ["kept.txt"]),
        ("ignored", "echo n >a.log; mkdir build; echo n >build/n; mkdir pkg/build; echo n >pkg/build/n", []),
        ("ignored, added by force", "mkdir build; echo n >build/n; git add -f build/n; echo n >build/m", ["build/n"]),
        (
            "ignored, committed, not in the index",
            "echo n >a.log; git add -f a.log; git commit -qm x; rm .git/index",
            ["a.log"],
        ),
        (
            "ignored, added by force and gone",
            "echo n >a.log; git add -f a.log; rm a.log; mkdir build; ln -s pkg build/l; git add -f build/l",
            ["build/l"],
        ),
        ("hidden by new rules", "echo '*' >.gitignore; echo n >n; mkdir d; echo n >d/n", [".gitignore", "n", "d/n"]),
        (
            "hidden by rules that hide themselves",
            "printf '*\\n' >pkg/.gitignore; echo n >pkg/n",
            ["pkg/.gitignore", "pkg/n"],
        ),
        ("a hidden folder", "mkdir d; printf 'n\\n.gitignore\\n' >d/.gitignore; echo n >d/n", ["d/.gitignore", "d/n"]),
        ("caches", "for c in .pytest_cache v; do mkdir $c; printf '# c\\n*\\n' >$c/.gitignore; echo n >$c/n; done", []),
        ("rules taken away", "rm .gitignore; echo n >a.log", [".gitignore"]),
        (
            "the folder gone",
            "rm -rf /testbed",
            [".gitignore", "kept.txt", "gone.txt", "link", "pkg/a.py", "pkg/sub/b.py", "run.sh"],
        ),
        (
            "the folder another",
            "mv /testbed /elsewhere; ln -s /elsewhere /testbed; echo z >/testbed/kept.txt",
            ["kept.txt"],
        ),
        (
            "the folder a file",
            "rm -rf /testbed; echo f >/testbed; exit",
            [".gitignore", "kept.txt", "gone.txt", "link", "pkg/a.py", "pkg/sub/b.py", "run.sh"],
        ),
        (
            "a startup file",
            "echo 'export GIT_DIR=/; git() { false; }; export -f git' >~/.bashrc; echo z >kept.txt",
            ["kept.txt"],
        ),
    ],
)
def test_the_patch_makes_the_agents_tree(one_sandbox, base, what, script, expected):
    again(one_sandbox)
    patch, differ = changed(one_sandbox, base, script)
    assert differ == {path if isinstance(path, bytes) else path.encode() for path in expected}, what
    assert patch.left_out == (), what
    assert patch.remark is None
    one_sandbox.run("rm -rf ~/.config/git ~/.gitconfig ~/.bashrc")


def test_a_process_that_goes_on_writing(sandbox):
    _, differ = changed(sandbox, begun(sandbox), "(while :; do date >busy.txt; done) & echo z >kept.txt; sleep 0.2")
    assert differ == {b"kept.txt", b"busy.txt"}


LEFTOVERS = f"""
{BASE}
echo left >leftover.txt && echo '# the image' >>kept.txt && rm gone.txt && mkdir build && echo k >build/lib
git init -q nested && echo n >nested/n && mkfifo pipe && head -c 1001 /dev/zero >big && mkdir empty
"""


@pytest.fixture
def _small_files(monkeypatch):
    for module in (record, patch_module):
        monkeypatch.setattr(module, "FILE_LIMIT_BYTES", 1000)


@pytest.mark.usefixtures("_small_files")
def test_what_the_image_left_is_not_the_agents(sandbox):
    start = begun(sandbox, LEFTOVERS)
    assert start.unrecorded == {b"pipe", b"big"}
    assert take_patch(sandbox, start) == Patch("")
    patch, differ = changed(
        sandbox, start, "echo z >>kept.txt; rm leftover.txt; echo m >>nested/n; echo x >gone.txt; rm big; echo s >big"
    )
    assert differ == {b"kept.txt", b"leftover.txt", b"nested/n", b"gone.txt"}
    assert patch.left_out == (LeftOut("big", "that the record of the start does not hold"),)


@pytest.mark.parametrize(
    ("what", "script", "agent", "expected"),
    [
        (
            "split index",
            "git init -q . && git config core.splitIndex true && echo one >a && git add -A && "
            "git commit -qm base && git update-index --split-index",
            "echo z >a",
            [b"a"],
        ),
        (
            "sparse checkout",
            "git init -q . && mkdir x y && echo 1 >x/1 && echo 2 >y/2 && git add -A && git commit -qm b "
            "&& git sparse-checkout set x",
            "mkdir -p y; echo z >y/3; echo n >y/2; echo k >x/1",
            [b"x/1", b"y/2", b"y/3"],
        ),
        (
            "a filter without its program",
            "git init -q . && git config filter.lfs.clean 'none clean -- %f' && git config "
            "filter.lfs.required true && echo '*.bin filter=lfs' >.gitattributes && echo a >a && git add -A && "
            "git commit -qm base && git config --remove-section filter.lfs",
            "echo z >a; echo b >b.bin",
            [b"a", b"b.bin"],
        ),
        (
            "another git directory",
            "git init -q --separate-git-dir=/srv/git . && echo one >a && git add -A && git commit -qm base",
            "echo z >a",
            [b"a"],
        ),
        (
            "in the middle of a merge",
            "git init -q -b main . && echo one >a && git add -A && git commit -qm b && "
            "git checkout -q -b o && echo two >a && git commit -qam o && git checkout -q main && echo three >a && "
            "git commit -qam m && ! git merge -q o",
            "echo z >a",
            [b"a"],
        ),
        (
            "tracked, ignored",
            "git init -q . && echo '*.log' >.gitignore && echo 1 >a.log && git add -f . && git commit -qm b",
            "echo z >a.log; echo n >b.log; git add a.log",
            [b"a.log"],
        ),
        (
            "committed line ends",
            "git init -q . && printf '* text=auto\\n*.bat eol=crlf\\n' >.gitattributes && "
            "printf 'a\\r\\nb\\r\\n' >x.bat && printf 'a\\nb\\n' >y && git add -A && git commit -qm b",
            "printf 'a\\r\\nc\\r\\n' >x.bat; printf 'a\\r\\nb\\r\\n' >y; printf 'n\\r\\n' >n",
            [b"x.bat", b"y", b"n"],
        ),
        (
            "UTF-16",
            "git init -q . && echo '*.u working-tree-encoding=UTF-16LE' >.gitattributes && "
            "printf 'a\\n' | iconv -t UTF-16LE >a.u && git add -A && git commit -qm b",
            "printf 'b\\n' | iconv -t UTF-16LE >a.u",
            [b"a.u"],
        ),
        (
            "a submodule",
            "git init -q /srv/up && cd /srv/up && echo one >a && git add -A && git commit -qm b && "
            "cd /testbed && git init -q . && git -c protocol.file.allow=always submodule --quiet add /srv/up sub && "
            "git commit -qm base",
            "echo z >sub/a; echo n >sub/n; git -C sub add -A; git -C sub commit -qm n; git add -A; git commit -qm s",
            [b"sub/a", b"sub/n"],
        ),
        (
            "a submodule that is not there",
            "git init -q /srv/up && cd /srv/up && echo one >a && git add -A && "
            "git commit -qm b && cd /testbed && git init -q . && git -c protocol.file.allow=always submodule "
            "--quiet add "
            "/srv/up sub && echo k >k && git add k && git commit -qm base && git submodule --quiet deinit sub",
            "echo z >k; mkdir -p sub; echo n >sub/n",
            [b"k", b"sub/n"],
        ),
        (
            "SHA-256",
            "git init -q --object-format=sha256 . && echo one >a && git add -A && git commit -qm base && echo l >l",
            "echo z >a; git init -q n; printf '\\351' >n/n; rm l",
            [b"a", b"n/n", b"l"],
        ),
        ("an empty commit", "git init -q . && git commit -q --allow-empty -m base", "echo n >n", [b"n"]),
    ],
)
def test_odd_repositories(one_sandbox, what, script, agent, expected):
    patch, differ = changed(one_sandbox, begun(one_sandbox, script), agent)
    assert differ == set(expected), what
    assert patch.left_out == (), what


def test_expanded_identifiers(sandbox):
    script = """
    git init -q . && echo '*.py ident' >.gitattributes && printf '# $Id$\\n1\\n' >a.py && git add -A && git commit -qm b
    rm a.py && git checkout -q -- a.py
    """
    start = begun(sandbox, script)
    sandbox.run("sed -i s/1/2/ a.py")
    patch = take_patch(sandbox, start)
    assert patch.text.splitlines()[-4:] == ["@@ -1,2 +1,2 @@", " # $Id$", "-1", "+2"]
    applied(sandbox, patch)
    assert sandbox.run("git add -A && diff -I Id a.py /fresh/a.py && git write-tree").output == (
        sandbox.run("cd /fresh && git add -A && git write-tree").output
    )


def test_a_partial_clone(sandbox):
    start = begun(
        sandbox,
        "git init -q -b main /srv/up && cd /srv/up && git config uploadpack.allowFilter true && echo one >a "
        "&& git add . "
        "&& git commit -qm base && echo 'the fix' >a && git commit -qam fix && cd / && rm -rf /testbed && "
        "git clone -q --filter=blob:none file:///srv/up /testbed && cd /testbed && git reset -q --hard HEAD~1 && "
        "rm -rf /srv/up",
    )
    assert start.repacked
    assert sandbox.run("git log --all --format=%s; git status --short").output == "base\n"
    assert sandbox.run("cat .git/objects/pack/*.pack | grep -c fix").output == "0\n"
    assert changed(sandbox, start, "echo z >a")[1] == {b"a"}


@pytest.mark.usefixtures("_small_files")
def test_what_git_cannot_carry_is_told(sandbox):
    script = """
    mkfifo p; rm run.sh; mkfifo run.sh; head -c 1001 /dev/zero >kept.txt; mkdir d; cp kept.txt d/l
    head -c 1000 /dev/zero >s
    mkdir .GIT; echo x >.GIT/x; echo q >git~1; echo z >pkg/a.py; mkfifo a.log; cp kept.txt b.log
    """
    start = begun(sandbox, f"{BASE}\nhead -c 2000 /dev/zero >same; git add same; git commit -qm large")
    patch, differ = changed(sandbox, start, script)
    assert differ == {b"run.sh", b"s", b"pkg/a.py"}
    assert patch.remark == (
        "left out of the patch: 2 with a name that git refuses (.GIT/x, git~1); 2 larger than 16 MiB (d/l, kept.txt); "
        "2 neither file nor link (p, run.sh)"
    )


def test_the_largest_changes_give_way(sandbox, monkeypatch):
    monkeypatch.setattr(patch_module, "PATCH_LIMIT_BYTES", 30_000)
    start = begun(sandbox, f"{BASE}\nhead -c 9000 /dev/urandom >big; git add big; git commit -qm big")
    script = "for f in 1 2 big; do head -c 9000 /dev/urandom >$f; done; head -c 5000 /dev/urandom >3; echo z >kept.txt"
    patch, differ = changed(sandbox, start, script)
    assert differ == {b"3", b"kept.txt", b"1"}
    assert patch.left_out == tuple(LeftOut(path, "as the patch would have more than 64 MiB") for path in ("2", "big"))


def test_a_remark_names_five_of_each():
    left_out = tuple(LeftOut(f"f{number}", "unreadable") for number in range(6))
    assert Patch("", left_out).remark == "left out of the patch: 6 unreadable (f0, f1, f2, f3, f4, ...)"
    assert Patch("", left_out[:5]).remark == "left out of the patch: 5 unreadable (f0, f1, f2, f3, f4)"


def test_a_patch_can_be_taken_again_and_looks_without_disturbing(sandbox):
    start = begun(sandbox)
    sandbox.run("echo z >kept.txt; git init -q n; echo n >n/n; (sleep 100) & echo $! >/tmp/pid")
    first = take_patch(sandbox, start, kill=False)
    assert sandbox.run("kill -0 $(cat /tmp/pid)").exit_code == 0
    sandbox.run("rm -rf n; echo y >>kept.txt")
    second = take_patch(sandbox, start)
    assert ("n/n" in first.text, "n/n" in second.text, "+y" in second.text) == (True, False, True)
    assert sandbox.run("kill -0 $(cat /tmp/pid)").exit_code != 0
    assert sandbox.run("git status --short").output == " M kept.txt\n"


@contextlib.contextmanager
def _another(opener, script):
    with opener("stateless") as untouched:
        made(untouched, "rm -rf /testbed; mkdir -p /testbed /srv", folder="/")
        made(untouched, script)
        yield untouched, scrub(untouched)


@pytest.mark.parametrize(
    "wreck",
    ["rm -rf /var/tmp/.srft-git", "find / -name '*.pack' -delete 2>/dev/null", "echo >>/var/tmp/.srft-git/index"],
)
def test_a_record_that_is_lost_comes_from_the_image_again(sandbox, opener, wreck):
    start = begun(sandbox, LEFTOVERS)
    sandbox.run(f"echo z >kept.txt; rm -rf .git; {wreck}")
    with pytest.raises(StartLost, match="gone or was changed"):
        take_patch(sandbox, start)
    patch = take_patch(sandbox, start, another=functools.partial(_another, opener, LEFTOVERS))
    applied(sandbox, patch)
    assert trees_of(sandbox, "/fresh")[0][b"kept.txt"].content == b"z\n"
    sandbox.run("rm -rf /var/tmp/.srft-git")
    with pytest.raises(PatchError, match="does not give the same files again"):
        take_patch(sandbox, start, another=functools.partial(_another, opener, BASE))


def test_ignored_files_of_the_image_are_no_new_ones(sandbox, opener):
    script = f"{BASE}\nmkdir build; echo 1 >build/same; echo 1 >build/other; ln -s x build/link"
    start = begun(sandbox, script)
    sandbox.run("echo 2 >build/other; echo n >build/new; git add -f build")
    patch = take_patch(sandbox, start, another=functools.partial(_another, opener, script))
    assert patch.text.count("diff --git") == 1
    assert "b/build/new" in patch.text
    assert patch.left_out == (LeftOut("build/other", "ignored files of the image"),)


def test_a_git_that_does_not_work_is_a_patch_error(sandbox):
    start = begun(sandbox)
    if sandbox.run("mv $(command -v git) /tmp/git.kept").exit_code != 0:
        pytest.skip("the local sandbox's programs are the machine's, and read-only")
    with pytest.raises(PatchError, match=r"^git cannot take the patch: srft: line \d+: git: command not found$"):
        take_patch(sandbox, start)
    sandbox.run("mv /tmp/git.kept /usr/bin/git")


@pytest.mark.parametrize("size", [0, 1, 26, 27, 52, 53, 1000])
def test_binary_hunks_are_gits_own(sandbox, size):
    made(sandbox, "rm -rf /srv/b; mkdir -p /srv/b; cd /srv/b; git init -q .", folder="/")
    content = bytes(number * number % 251 for number in range(size))
    name = sandbox.run("cd /srv/b; printf old >f; git hash-object f").output.strip()
    sandbox.write("/srv/b/want", content)
    new = sandbox.run("cd /srv/b; git hash-object want").output.strip()
    head = f"diff --git a/f b/f\nindex {name}..{new} 100644\n"
    sandbox.write("/srv/b/p", head.encode() + binary_hunks(b"old", content))
    assert sandbox.run("cd /srv/b; git apply p && cmp f want && git apply -R p && cat f").output == "old"


def test_the_example_of_binary_hunks():
    assert doctest.testmod(patch_module).failed == 0
