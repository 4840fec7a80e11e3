"""The judge's prompts: YAML files of strict Jinja templates.

Reads `prompts/<name>.yaml` or a file of the user's. Writes nothing. An unknown or missing key and a variable that will
not be there are errors that name file, line and key.

    prompt = JudgePrompt.load("default")
    prompt.fingerprint                             # changes with every word that the judge sees
    prompt.render("system", information="none", reason_chars=300)

Keys: system; step (one step of the run); run (the question: task, steps, end, evidence); repair; optionally about.
"""

from __future__ import annotations

import difflib
import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2
import jinja2.meta
import msgspec
import yaml

from srft.env.errors import InputError

PROMPTS = Path(__file__).parent / "prompts"

# What each template may use. The judge gives exactly these.
VARIABLES: dict[str, frozenset[str]] = {
    "system": frozenset({"information", "reason_chars"}),
    "step": frozenset({"index", "reasoning", "content", "call", "observation", "exit_code"}),
    "run": frozenset(
        {"task", "total", "first", "last", "lines", "left_out", "steps", "stop_reason", "patch"}
        | {"resolved", "test_log", "gold_patch", "information"}
    ),
    "repair": frozenset({"problems", "steps", "truncated"}),
}

_ENVIRONMENT = jinja2.Environment(
    undefined=jinja2.StrictUndefined, keep_trailing_newline=True, trim_blocks=True, lstrip_blocks=True, autoescape=False
)


class JudgePromptText(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What stands in a prompt file."""

    system: str
    step: str
    run: str
    repair: str
    about: str = ""


@dataclass(frozen=True)
class JudgePrompt:
    """A loaded prompt file. fingerprint: a hash of what the judge may see of it; comments and `about` do not count."""

    name: str
    text: JudgePromptText
    templates: dict[str, jinja2.Template]

    @classmethod
    def load(cls, name: str | Path) -> JudgePrompt:
        """A prompt of ours by name, or a file by its path. Raises InputError."""
        path = Path(name)
        if path.suffix not in {".yaml", ".yml"}:
            path = PROMPTS / f"{name}.yaml"
        try:
            source = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            known = ", ".join(sorted(file.stem for file in PROMPTS.glob("*.yaml")))
            raise InputError(
                f"judge prompt {name}: cannot be read ({error}); expected a .yaml file, or one of {known}"
            ) from None
        text = _parse(source, path)
        return cls(path.stem, text, {key: _compile(getattr(text, key), key, path) for key in VARIABLES})

    @property
    def fingerprint(self) -> str:
        seen = msgspec.structs.replace(self.text, about="")
        return hashlib.sha256(msgspec.json.encode(seen)).hexdigest()[:12]

    def render(self, key: str, **variables: Any) -> str:
        """One of the templates, filled in with all of its `VARIABLES`."""
        assert variables.keys() == VARIABLES[key], f"{key} is rendered with {sorted(variables)}"
        return self.templates[key].render(variables)


def elide(text: str, limit_chars: int) -> str:
    """The text, cut in its middle to `limit_chars` characters where it is longer; the cut says how many are gone.

    >>> elide("abcdefghij", 4)
    'ab\\n[... 6 characters left out ...]\\nij'
    """
    if len(text) <= limit_chars:
        return text
    head, tail = (limit_chars + 1) // 2, limit_chars // 2
    gap = f"\n[... {len(text) - limit_chars} characters left out ...]\n"
    return text[:head] + gap + text[len(text) - tail :]


def _parse(source: str, path: Path) -> JudgePromptText:
    """A prompt file's keys, all known, all there, none twice."""
    try:
        node, content = yaml.compose(source, yaml.SafeLoader), yaml.safe_load(source)
    except yaml.YAMLError as error:
        raise InputError(f"{path}: not YAML ({' '.join(str(error).split())})") from None
    if not isinstance(node, yaml.MappingNode):
        raise InputError(f"{path}: expected keys with texts, like 'system: ...'")
    known, seen = JudgePromptText.__struct_fields__, set()
    for key_node, _ in node.value:
        where, key = f"{path}:{key_node.start_mark.line + 1}", key_node.value
        if key not in known:
            nearest = difflib.get_close_matches(str(key), known, n=1) or [", ".join(known)]
            raise InputError(f"{where}: unknown key {key!r}; did you mean {nearest[0]}?")
        if key in seen:
            raise InputError(f"{where}: key {key!r} stands there twice; keep one")
        seen.add(key)
    try:
        return msgspec.convert(content, JudgePromptText)
    except msgspec.ValidationError as error:
        raise InputError(f"{path}: {error}; expected the texts system, step, run and repair") from None


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
