"""The pages of docs/ and README do what they say: blocks run, command lines parse, links lead somewhere.

A fenced block `console` is run, page after page in the order of PAGES, all in one folder: `$ ` begins a command, `> `
goes on with it, and each line of output that is shown must come, in that order, as a part of a line. `console (not run:
why)` is only parsed. A block `python` is run, as a doctest where it has prompts.
"""

import doctest
import os
import re
import shlex
import shutil
import subprocess
import sys
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import pytest
import typer
import typer.main

from srft.env.errors import InputError
from srft.harness.cli import app
from srft.harness.commands.config import records
from srft.harness.config.config import read_config
from srft.harness.loop.loop_config import presets
from tests.conftest import ROOT
from tests.forked import Forked

PAGES = (  # later ones go on in the folder of the earlier
    "first-run",
    "debug",
    "share",
    "container",
    "your-own-tasks",
    "your-own-model",
    "what-is-masked",
    "loop-from-runs",
    "rounds",
    "export",
    "watch-runs",
    "read-a-report",
    "compare-models",
    "scale-out",
    "write-a-sandbox",
    "public-runs",
)
DOCS = ROOT / "docs"
PROSE = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted(DOCS.glob("*.md"))]
CONFIGS = records()
"""What `--set` of a command reads."""

COMMANDS: dict[str, Any] = typer.main.get_command(app).commands  # type: ignore[attr-defined]
UsageError: Any = typer.BadParameter.__base__  # click's, which typer may have a copy of
COMMAND_TIMEOUT_S = 300


class Block(NamedTuple):
    """A fenced block: what stands behind the fence, its first line's number, its lines."""

    kind: str
    line: int
    lines: list[str]


class Shown(NamedTuple):
    """A command of a block and the output that the page shows of it."""

    command: str
    output: list[str]


def blocks(text: str) -> list[Block]:
    found: list[Block] = []
    inside = False
    for number, line in enumerate(text.splitlines(), 1):
        if line.startswith("```"):
            inside = not inside
            if inside:
                found.append(Block(line[3:].strip(), number + 1, []))
        elif inside:
            found[-1].lines.append(line)
    assert not inside, "a fence is left open"
    return found


def shown(block: Block) -> list[Shown]:
    commands: list[Shown] = []
    for line in block.lines:
        if line.startswith("$ "):
            commands.append(Shown(line[2:], []))
        elif line == ">" or line.startswith("> "):
            commands[-1] = Shown(f"{commands[-1].command}\n{line[2:]}", [])
        elif line.strip():
            commands[-1].output.append(line)
    return commands


def first_not_printed(wanted: list[str], printed: str) -> str | None:
    """The first line that does not come, in this order, as a part of a printed line; runs of blanks are one."""
    lines = iter([" ".join(line.split()) for line in printed.splitlines()])
    return next((want for want in wanted if not any(" ".join(want.split()) in line for line in lines)), None)


def test_first_not_printed() -> None:
    assert first_not_printed(["a  b", "c"], "x\nthe a b\nb\nc\n") is None
    assert first_not_printed(["c", "a"], "a\nc\n") == "a"


def test_shown() -> None:
    (block,) = blocks("text\n```console\n$ cat <<'E'\n>\n> x\n> E\n\nx\n$ true\n```\n")
    assert shown(block) == [Shown("cat <<'E'\n\nx\nE", ["x"]), Shown("true", [])]


# ---- pages that run ----


@pytest.fixture(scope="module")
def folder(tmp_path_factory, smollm2) -> Path:
    """Where the pages' commands run: an empty folder with a model in it."""
    if shutil.which("bwrap") is None:
        pytest.skip("no bwrap on this machine (Debian: apt-get install bubblewrap)")
    made = tmp_path_factory.mktemp("docs")
    (made / "models").mkdir()
    (made / "models" / "base").symlink_to(smollm2)
    return made


@pytest.fixture(scope="module")
def prompt(folder) -> Iterator[Any]:
    """Runs one command of a page in bash, in the directory that the one before it ended in."""
    scripts = folder / ".bin"
    scripts.mkdir()
    (scripts / "python").write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    environment = os.environ | {"PATH": f"{scripts}:{os.environ['PATH']}", "COLUMNS": "120", "HF_HUB_OFFLINE": "1"}
    forked = Forked(environment)
    forked.write_script(scripts / "srft")
    for script in scripts.iterdir():
        script.chmod(0o755)
    ended_in = folder / ".pwd"
    ended_in.write_text(str(folder))

    def run(command: str) -> subprocess.CompletedProcess[str]:
        script = f"set -e\n{command}\npwd >{shlex.quote(str(ended_in))}\n"
        return subprocess.run(
            ["bash", "-c", script],
            cwd=ended_in.read_text().strip(),
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=COMMAND_TIMEOUT_S,
        )

    yield run
    forked.close()


@pytest.fixture(scope="module")
def done() -> dict[str, bool]:
    return {}


@pytest.mark.parametrize("page", PAGES)
def test_page_runs(page: str, folder, prompt, done, monkeypatch) -> None:
    if broken := [name for name, passed in done.items() if not passed]:
        pytest.skip(f"goes on from {broken[0]}, which failed")
    done[page] = False
    monkeypatch.chdir(folder)
    path = DOCS / f"{page}.md"
    names: dict[str, Any] = {}
    for block in blocks(path.read_text()):
        if block.kind == "console":
            for command, output in shown(block):
                ran = prompt(command)
                assert ran.returncode == 0, f"{path}:{block.line}: {command}\n{ran.stdout}"
                missing = first_not_printed(output, ran.stdout)
                assert missing is None, f"{path}:{block.line}: {command}\nexpected {missing!r} in\n{ran.stdout}"
        elif block.kind == "python":
            run_python(block, names, where=f"{path}:{block.line}")
    done[page] = True


def run_python(block: Block, names: dict[str, Any], *, where: str) -> None:
    """A doctest where the block has prompts, else a piece of a program; `names` are the page's."""
    text = "\n".join(block.lines) + "\n"
    if not block.lines[0].startswith(">>> "):
        exec(compile(text, where, "exec"), names)
        return
    test = doctest.DocTestParser().get_doctest(text, {}, where, where, block.line)
    test.globs = names
    said: list[str] = []
    failed, _ = doctest.DocTestRunner(optionflags=doctest.REPORT_NDIFF).run(test, out=said.append, clear_globs=False)
    assert failed == 0, "".join(said)


def test_every_page_is_run() -> None:
    assert sorted(path.stem for path in DOCS.glob("*.md")) == sorted(PAGES)


def test_every_block_is_of_a_known_kind() -> None:
    kinds = [block.kind for page in DOCS.glob("*.md") for block in blocks(page.read_text())]
    assert [kind for kind in kinds if not re.fullmatch(r"console( \(not run: .+\))?|python", kind)] == []


# ---- command lines ----


def command_lines(path: Path) -> Iterator[tuple[str, str, bool]]:
    """(where, command line, whole): whole are those of blocks; in running text, arguments may be left out."""
    text = path.read_text()
    for block in blocks(text):
        if block.kind.startswith("console"):
            yield from ((f"{path.name}:{block.line}", one.command, True) for one in shown(block))
    for number, line in enumerate(text.splitlines(), 1):
        if line.startswith("    srft "):
            yield f"{path.name}:{number}", line.strip(), True
    outside = re.sub(r"```.*?```", lambda found: "\n" * found[0].count("\n"), text, flags=re.DOTALL)
    for found in re.finditer(r"`((?:\.venv/bin/)?srft [a-z][^`]*)`", outside):
        yield f"{path.name}:{text.count(chr(10), 0, found.start()) + 1}", " ".join(found[1].split()), False


def srft_arguments(line: str) -> list[str] | None:
    """What follows `srft` in a command line, `None` where it is another program's."""
    words = shlex.split(line.split("\n")[0], comments=True)
    at = next((place for place, word in enumerate(words) if word.rpartition("/")[2] == "srft"), None)
    if at is None or words[0] not in {words[at], "torchrun"}:
        return None
    arguments = words[at + 1 :]
    stops = [place for place, word in enumerate(arguments) if word in {"||", "&&", "|", ">"}]
    return arguments[: stops[0]] if stops else arguments


def problem(arguments: list[str], *, whole: bool) -> str | None:
    """What the command line says against these arguments, without running anything."""
    if (command := COMMANDS.get(arguments[0])) is None:
        return f"no command {arguments[0]}"
    values = [word.replace("...", "") for word in arguments[1:]]
    try:
        context = command.make_context(arguments[0], values)
    except UsageError as error:
        is_missing = type(error).__name__ == "MissingParameter"
        return None if is_missing and not whole else error.format_message()
    preset = context.params.get("preset")
    if preset is not None and preset not in presets():
        return f"no preset {preset}"
    for text in context.params.get("sets") or ():
        try:
            read_config(CONFIGS[arguments[0]], sets=[text])
        except InputError as error:  # others are of keys that the command line gives in other ways
            if "unknown key" in str(error) or "expected key=value" in str(error):
                return str(error)
    return None


@pytest.mark.parametrize("path", PROSE, ids=lambda path: path.name)
def test_command_lines_parse(path: Path) -> None:
    problems = []
    for where, line, whole in command_lines(path):
        arguments = srft_arguments(line)
        if arguments and (said := problem(arguments, whole=whole)):
            problems.append(f"{where}: {line}: {said}")
    assert problems == []


def test_command_lines_are_found_and_wrong_ones_refused() -> None:
    found = [line for path in PROSE for _, line, _ in command_lines(path) if srft_arguments(line)]
    assert len(found) > 40
    assert problem(["collect", "--no-such", "x"], whole=True) == "No such option: --no-such"
    assert problem(["show", "--run", "r"], whole=True) == "Missing argument 'ID'."
    assert problem(["show", "--run", "r"], whole=False) is None
    assert problem(["colect"], whole=True) == "no command colect"
    assert problem(["loop", "--preset", "dmeo"], whole=True) == "no preset dmeo"
    said = problem(["collect", "--set", "sandbox.memory_gb=2"], whole=True)
    assert said == "--set sandbox.memory_gb=2: unknown key sandbox.memory_gb; did you mean sandbox.memory_gib?"


def test_keys_in_running_text_exist() -> None:
    groups = {field.name for kind in CONFIGS.values() for field in msgspec.structs.fields(kind)}
    unknown = []
    for path in PROSE:
        for key in re.findall(r"`([a-z_]+\.[a-z_.]+)(?:=[^`]*)?`", path.read_text()):
            if key.split(".")[0] in groups and not any(has_key(kind, key) for kind in CONFIGS.values()):
                unknown.append(f"{path.name}: {key}")
    assert unknown == []


def has_key(kind: type[msgspec.Struct], key: str) -> bool:
    try:
        read_config(kind, sets=[f"{key}=0"])
    except InputError as error:
        return "unknown key" not in str(error)
    return True


# ---- help ----


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_help_teaches_by_an_example_that_parses(name: str) -> None:
    help_text = " ".join((COMMANDS[name].help or "").split())
    examples = [found for found in re.findall(r"`([^`]+)`", help_text.partition("Example")[2]) if "srft " in found]
    assert any((srft_arguments(example) or [""])[0] == name for example in examples), help_text
    problems = [(example, problem(srft_arguments(example) or [], whole=True)) for example in examples]
    assert [pair for pair in problems if pair[1]] == []


@pytest.mark.parametrize("info", app.registered_commands, ids=lambda info: info.name or info.callback.__name__)
def test_options_say_what_they_take(info: Any) -> None:
    """Each has a help text, and those that take text say which text."""
    silent = []
    for name, hint in typing.get_type_hints(info.callback, include_extras=True).items():
        if name == "return":
            continue
        kind, parameter = typing.get_args(hint)
        takes_text = kind is str or str in typing.get_args(kind) or list[str] in (kind, *typing.get_args(kind))
        if not parameter.help or (takes_text and not parameter.metavar):
            silent.append(name)
    assert silent == []


# ---- links ----


def anchors(path: Path) -> set[str]:
    """The anchors that a page's headings get on GitHub."""
    headings = re.findall(r"^#+ (.+)$", path.read_text(), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def dead_links(path: Path) -> list[str]:
    dead = []
    for target in re.findall(r"\[[^\]]*\]\(([^)\s]+)\)", path.read_text()):
        if re.match(r"[a-z]+:", target):
            continue
        name, _, anchor = target.partition("#")
        place = path.parent / name if name else path
        if not place.exists() or (anchor and anchor not in anchors(place)):
            dead.append(f"{path.name}: {target}")
    return dead


@pytest.mark.parametrize("path", PROSE, ids=lambda path: path.name)
def test_no_dead_link(path: Path) -> None:
    assert dead_links(path) == []


def test_dead_links_are_found(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        "# A title, here\n[a](page.md) [b](#a-title-here) [c](gone.md) [d](page.md#gone) [e](https://x.y)\n"
    )
    assert dead_links(page) == ["page.md: gone.md", "page.md: page.md#gone"]
