"""Prompts: YAML files of strict Jinja templates.

Reads `prompts/<name>.yaml` or a file of the user's. Every template is checked when it is loaded: an unknown key, a
missing key, a variable that will not be there are errors that name file, line and key.

    prompt = Prompt.load("default")
    prompt.instance(view, workdir="/testbed", mode="stateless", instructions=FORMATS["xml"].instructions)

Keys: system, instance, observation, timeout, format_error (templates), output_limit_chars, head_chars, tail_chars, and
optionally formats (the action formats the words are meant for) and about.
"""

from __future__ import annotations

import difflib
import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import jinja2
import jinja2.meta
import msgspec
import yaml

from srft.env.errors import InputError
from srft.env.sandbox import CommandResult
from srft.env.task import TaskView

PROMPTS = Path(__file__).parent / "prompts"

# What each template may use. The loop gives exactly these.
_OPENING = frozenset({"instance_id", "repo", "problem_statement", "workdir", "mode", "instructions"})
_OUTPUT = frozenset({"output", "head", "tail", "elided_chars", "exit_code", "wall_s", "shell_restarted"})
VARIABLES: dict[str, frozenset[str]] = {
    "system": _OPENING,
    "instance": _OPENING,
    "observation": _OUTPUT,
    "timeout": _OUTPUT | {"command", "timeout_s"},
    "format_error": frozenset({"error", "finish_reason", "instructions"}),
}

_ENVIRONMENT = jinja2.Environment(
    undefined=jinja2.StrictUndefined, keep_trailing_newline=True, trim_blocks=True, lstrip_blocks=True, autoescape=False
)


class PromptText(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What stands in a prompt file. An output above `output_limit_chars` keeps its head and its tail."""

    system: str
    instance: str
    observation: str
    timeout: str
    format_error: str
    output_limit_chars: int
    head_chars: int
    tail_chars: int
    formats: tuple[str, ...] = ("backtick", "xml", "native")
    about: str = ""


class Observation(NamedTuple):
    """What the model sees of an action, and how many characters of the output it does not see.

    What the sandbox had to drop is known in bytes only; each of them is counted as a character.
    """

    text: str
    elided_chars: int


@dataclass(frozen=True)
class Prompt:
    """A loaded prompt file.

    fingerprint: a hash of everything the model may see of it; comments in the file do not count.
    """

    name: str
    text: PromptText
    templates: dict[str, jinja2.Template]

    @classmethod
    def load(cls, name: str | Path) -> Prompt:
        """A prompt of ours by name, or a file by its path. Raises InputError."""
        path = Path(name)
        if path.suffix not in {".yaml", ".yml"}:
            path = PROMPTS / f"{name}.yaml"
        try:
            source = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            known = ", ".join(sorted(file.stem for file in PROMPTS.glob("*.yaml")))
            raise InputError(
                f"prompt {name}: cannot be read ({error}); expected a .yaml file, or one of {known}"
            ) from None
        text = _parse(source, path)
        return cls(path.stem, text, {key: _compile(getattr(text, key), key, path) for key in VARIABLES})

    @property
    def fingerprint(self) -> str:
        seen = msgspec.structs.replace(self.text, about="", formats=())
        return hashlib.sha256(msgspec.json.encode(seen)).hexdigest()[:12]

    def system(self, view: TaskView, *, workdir: str, mode: str, instructions: str) -> str:
        return self._opening("system", view, workdir=workdir, mode=mode, instructions=instructions)

    def instance(self, view: TaskView, *, workdir: str, mode: str, instructions: str) -> str:
        return self._opening("instance", view, workdir=workdir, mode=mode, instructions=instructions)

    def _opening(self, key: str, view: TaskView, **variables: str) -> str:
        return self.templates[key].render(
            instance_id=view.instance_id, repo=view.repo, problem_statement=view.problem_statement, **variables
        )

    def observation(self, result: CommandResult, *, command: str, timeout_s: float) -> Observation:
        """A command's output as the model sees it: the template `timeout` where it was killed."""
        head, tail, elided_chars = self._elide(result)
        variables: dict[str, Any] = {
            "output": head + tail,
            "head": head,
            "tail": tail,
            "elided_chars": elided_chars,
            "exit_code": result.exit_code,
            "wall_s": result.wall_s,
            "shell_restarted": result.shell_restarted,
        }
        if result.timed_out:
            text = self.templates["timeout"].render(command=command, timeout_s=timeout_s, **variables)
        else:
            text = self.templates["observation"].render(variables)
        return Observation(text, elided_chars)

    def _elide(self, result: CommandResult) -> tuple[str, str, int]:
        """Head, tail, and how much is missing between them. All is in the head where nothing is."""
        output = result.output
        if len(output) <= self.text.output_limit_chars:
            if not result.elided_bytes:
                return output, "", 0
            return output[: result.elided_at], output[result.elided_at :], result.elided_bytes
        # Where the sandbox dropped the middle, head and tail must not reach across its gap.
        split = result.elided_at if result.elided_bytes else len(output)
        head = output[: min(self.text.head_chars, split)]
        rest = output[split:] if result.elided_bytes else output[len(head) :]
        tail = rest[max(0, len(rest) - self.text.tail_chars) :]
        return head, tail, len(output) - len(head) - len(tail) + result.elided_bytes

    def format_error(self, error: str, *, finish_reason: str | None, instructions: str) -> str:
        """The answer to a reply without a readable action."""
        return self.templates["format_error"].render(
            error=error, finish_reason=finish_reason, instructions=instructions
        )


def _parse(source: str, path: Path) -> PromptText:
    """A prompt file's keys, all known, all there, none twice."""
    try:
        node, content = yaml.compose(source, yaml.SafeLoader), yaml.safe_load(source)
    except yaml.YAMLError as error:
        raise InputError(f"{path}: not YAML ({' '.join(str(error).split())})") from None
    if not isinstance(node, yaml.MappingNode):
        raise InputError(f"{path}: expected keys with texts, like 'system: ...'")
    known, seen = PromptText.__struct_fields__, set()
    for key_node, _ in node.value:
        where, key = f"{path}:{key_node.start_mark.line + 1}", key_node.value
        if key not in known:
            nearest = difflib.get_close_matches(str(key), known, n=1) or [", ".join(known)]
            raise InputError(f"{where}: unknown key {key!r}; did you mean {nearest[0]}?")
        if key in seen:
            raise InputError(f"{where}: key {key!r} stands there twice; keep one")
        seen.add(key)
    try:
        text = msgspec.convert(content, PromptText)
    except msgspec.ValidationError as error:
        raise InputError(f"{path}: {error}") from None
    if min(text.head_chars, text.tail_chars) < 0 or text.head_chars + text.tail_chars > text.output_limit_chars:
        raise InputError(
            f"{path}: head_chars {text.head_chars} and tail_chars {text.tail_chars} must be 0 or more and together at "
            f"most output_limit_chars {text.output_limit_chars}"
        )
    return text


def _compile(source: str, key: str, path: Path) -> jinja2.Template:
    try:
        used = jinja2.meta.find_undeclared_variables(_ENVIRONMENT.parse(source))
        template = _ENVIRONMENT.from_string(source)
    except jinja2.TemplateError as error:
        raise InputError(f"{path}: {key}: not a Jinja template ({error})") from None
    if unknown := sorted(used - VARIABLES[key]):
        raise InputError(
            f"{path}: {key}: unknown variable {', '.join(unknown)}; this template may use "
            f"{', '.join(sorted(VARIABLES[key]))}"
        )
    return template
