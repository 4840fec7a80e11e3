"""Reads a judge's reply as opinions on steps, as leniently as is safe.

    answer = read_answer('Sure! {"steps": [{"step": 0, "verdict": "Good", "confidence": "90%"}', steps=range(2))
    answer.opinions                # {0: Opinion(verdict='good', confidence=0.9, reason=None)}
    answer.problems                # ['no entry for step 1']

Lenient: text around the JSON, fences, single quotes, trailing commas, an array that breaks off (its whole entries
count), JSON within JSON, a Markdown table, keys and verdicts in other letters, verdicts in other words, steps and
confidences as text, a map of steps instead of an array. Safe: an entry that is not understood, one that repeats another
step's command than its own, and entries that seem to be numbered otherwise than asked are a problem to be asked about,
never a guess.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from srft.agent.models.contract import well_formed
from srft.critic.labels.labels import SEVERITY, Verdict
from srft.env.practice.syntax import literal

_WORDS: dict[Verdict, str] = {
    "good": "good ok okay correct sound useful helpful productive necessary",
    "unnecessary": "unnecessary redundant useless wasted irrelevant unneeded superfluous",
    "mistake": "mistake mistaken error harmful wrong bad incorrect",
    "recover": "recover recovers recovered recovering recovery",
}
_VERDICTS: dict[str, Verdict] = {word: verdict for verdict, words in _WORDS.items() for word in words.split()}
_ABSTENTIONS = frozenset({"abstain", "abstains", "abstained", "unknown", "unsure", "unclear", "undecided"})
_ABSTAINED = "abstained"
WORDS = (*reversed(SEVERITY), "abstain")
"""What a verdict may be, in the order in which the judge is told."""
_FILLERS = frozenset({"a", "an", "the", "is", "step", "this", "clearly", "very"})
_STEP_KEYS = ("step", "step_index", "step_number", "index", "number", "id")
_VERDICT_KEYS = ("verdict", "label", "judgement", "judgment")
_REASON_KEYS = ("reason", "explanation", "rationale")
_COMMAND_KEYS = ("command", "cmd", "action")

# A repeated command of fewer letters and digits proves nothing; of a longer one so many are compared.
_PROOF_LETTERS, _COMPARED_LETTERS = 6, 16
# With a larger share of entries that repeat another step's command the numbers are in doubt, not single entries.
_DOUBTFUL_SHARE = 0.25

# An entry that is not strict JSON is looked for no further than this, at so many closing braces.
_ENTRY_LIMIT_CHARS = 4000
_CLOSINGS_TRIED = 6
# JSON in a string of JSON in a string ...
_LAYERS = 3


class Opinion(NamedTuple):
    """One step's verdict by one answer; verdict `None` is an abstention."""

    verdict: Verdict | None
    confidence: float | None = None
    reason: str | None = None


class Answer(NamedTuple):
    """opinions: by step. problems: what is missing or not understood. ignored: entries for steps not asked for, and
    earlier entries of a step that has several (the last counts). unproven: opinions whose entries do not show by their
    command that they are about their step. analysis: of the run, "" where there is none."""

    opinions: dict[int, Opinion]
    problems: list[str]
    ignored: int
    unproven: int = 0
    analysis: str = ""


def read_answer(text: str, *, steps: Sequence[int], written: Mapping[int, str] | None = None) -> Answer:
    """The opinions in a judge's answer on these steps, which are in order and without gaps or not.

    written: step -> what it wrote, of all steps of the run, where entries are asked to repeat their step's command.
    """
    entries: dict[int, dict[str, Any]] = {}
    foreign: set[int] = set()
    ignored = 0
    for entry in _entries(text) or _table(text):
        step = _step(_first(entry, _STEP_KEYS))
        if step is None or step not in steps:
            ignored += 1
            foreign |= {step} if step is not None else set()
            continue
        ignored += step in entries
        entries[step] = entry
    proofs = {step: _proof(entry, written.get(step, "")) for step, entry in entries.items()} if written else {}
    if doubt := _doubt(entries.keys() | foreign, steps, proofs):
        return Answer({}, [doubt], ignored + len(entries))
    opinions, problems = _opinions(entries, proofs)
    if missing := [step for step in steps if step not in entries]:
        problems.append(f"no entry for {'step' if len(missing) == 1 else 'the steps'} {', '.join(map(str, missing))}")
    unproven = sum(proofs.get(step) is None for step in opinions) if written else 0
    return Answer(
        {step: opinions[step] for step in steps if step in opinions}, problems, ignored, unproven, _analysis(text)
    )


def _opinions(
    entries: Mapping[int, dict[str, Any]], proofs: Mapping[int, bool | None]
) -> tuple[dict[int, Opinion], list[str]]:
    """(the opinions that are understood and of their step, what is wrong with the others)."""
    opinions, problems = {}, []
    for step, entry in entries.items():
        if proofs.get(step) is False:
            problems.append(f"step {step}: the command {_shown(_first(entry, _COMMAND_KEYS))} is not that step's")
            continue
        try:
            opinions[step] = _opinion(entry)
        except ValueError as error:
            problems.append(f"step {step}: {error}")
    return opinions, problems


def _shown(said: Any) -> str:
    return repr(str(said)[:60])


def _proof(entry: dict[str, Any], written: str) -> bool | None:
    """Whether an entry repeats what its step wrote; `None` where it repeats nothing that could show it.

    >>> told = ('sed -n "1,20p" a', "sed", "cat b.py | head", "ls", None)
    >>> [_proof({"command": said}, "sed -n '1,20p' a.py") for said in told]
    [True, True, False, None, None]
    """
    said = _letters(str(_first(entry, _COMMAND_KEYS) or ""))
    if len(said) < _PROOF_LETTERS:
        return True if said and _letters(written).startswith(said) else None
    return said[:_COMPARED_LETTERS] in _letters(written)


def _letters(text: str) -> str:
    """Letters and digits alone: quotes, escapes and white space come back changed."""
    return re.sub(r"[\W_]+", "", text.lower())


def _analysis(text: str) -> str:
    """The last text under the key `analysis`."""
    found = re.findall(r'"analysis"\s*:\s*("(?:[^"\\]|\\.)*")', text, re.IGNORECASE | re.DOTALL)
    try:
        return well_formed(str(json.loads(found[-1], strict=False)).strip()) if found else ""
    except ValueError:
        return ""


# What ends a thinking block that the server left in the text: drafts of entries may stand before it.
_THINKING_ENDS = re.compile(r"</(?:seed:)?think(?:ing)?>|\[/THINK\]|<\|channel\|>final", re.IGNORECASE)


def _entries(text: str, *, depth: int = 0) -> list[dict[str, Any]]:
    """Every entry in a text, in its order. What cannot be decoded as a whole is looked into.

    The end of a thinking block takes back the entries before it, unless it is quoted in one, or nothing follows.
    """
    text = _unwrapped(text)
    decoder = json.JSONDecoder(strict=False)  # raw line breaks in a reason do no harm
    found: list[dict[str, Any]] = []
    end, place = 0, text.find("{")
    while place >= 0:
        if _THINKING_ENDS.search(text, end, place):
            found = []
        try:
            value, end = decoder.raw_decode(text, place)
        except (ValueError, RecursionError):
            value, end = _almost_json(text, place)
        found += _entries_within(value, depth=depth)
        place = text.find("{", end)
    last = list(_THINKING_ENDS.finditer(text, end))
    return [] if last and text[last[-1].end() :].strip() else found


def _unwrapped(text: str) -> str:
    """The text that a JSON string holds, where the whole text is one."""
    for _ in range(_LAYERS):
        inner = text.strip()
        if not inner.startswith('"'):
            break
        try:
            decoded = json.loads(inner, strict=False)
        except ValueError:
            break
        text = decoded if isinstance(decoded, str) else text
    return text


def _table(text: str) -> list[dict[str, Any]]:
    """The rows of Markdown tables that have columns for the step and the verdict."""
    rows, columns = [], None
    for line in text.split("\n"):
        if not line.strip().startswith("|"):
            columns = None
            continue
        cells = [cell.strip(" \t*`") for cell in line.strip().strip("|").split("|")]
        if columns is None:
            columns = [cell.lower() for cell in cells]
            if not (set(columns) & set(_STEP_KEYS) and set(columns) & set(_VERDICT_KEYS)):
                columns = None
        elif len(cells) >= len(columns) and not set("".join(cells)) <= set("-: "):
            # a bar in the last column, the reason, splits it
            cells = [*cells[: len(columns) - 1], "|".join(cells[len(columns) - 1 :])]
            rows.append(dict(zip(columns, cells, strict=True)))
    return rows


def _almost_json(text: str, place: int) -> tuple[Any, int]:
    """(an entry with single quotes or trailing commas, its end); (None, the next place to look at) where it is none."""
    end = place
    for _ in range(_CLOSINGS_TRIED):
        end = text.find("}", end) + 1
        if not end or end - place > _ENTRY_LIMIT_CHARS:
            break
        candidate = re.sub(r":\s*null\b", ": None", text[place:end])
        try:
            value = literal(candidate)
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            continue
        if isinstance(value, dict):
            return value, end
    return None, place + 1


def _entries_within(value: Any, above: Any = None, *, depth: int = 0) -> Iterator[dict[str, Any]]:
    """The entries in a decoded value, arrays and maps of them included. above: the key that the value stands under."""
    if isinstance(value, str) and value.strip()[:1] in ("{", "[", '"') and depth < _LAYERS:
        yield from _entries(value, depth=depth + 1)
        return
    if isinstance(value, list):
        for member in value:
            yield from _entries_within(member, depth=depth)
        return
    if not isinstance(value, dict):
        return
    value = {str(key).strip().lower(): member for key, member in value.items()}
    own_step = _first(value, _STEP_KEYS)
    step = above if own_step is None else own_step
    if _step(step) is not None and _first(value, _VERDICT_KEYS) is not None:
        yield {**value, "step": step}
        return
    inner = [(key, member) for key, member in value.items() if isinstance(member, list | dict)]
    inner = inner or [(key, member) for key, member in value.items() if _holds_json(member)]
    for key, member in inner:
        yield from _entries_within(member, key, depth=depth)
    if not inner and own_step is not None:
        yield value
    elif not inner:
        yield from ({"step": key, "verdict": member} for key, member in value.items() if _step(key) is not None)


def _holds_json(value: Any) -> bool:
    return isinstance(value, str) and value.strip()[:1] in ("{", "[")


def _first(entry: dict[str, Any], keys: Sequence[str]) -> Any:
    return next((entry[key] for key in keys if entry.get(key) is not None), None)


def _step(value: Any) -> int | None:
    """
    >>> [_step(value) for value in (3, "3", "Step 3", 3.0, "third", True)]
    [3, 3, 3, 3, None, None]
    """
    if isinstance(value, str):
        found = re.fullmatch(r"\s*(?:steps?)?\s*[#_]?\s*(\d{1,9})\s*", value, re.IGNORECASE)
        return int(found[1]) if found else None
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return int(value) if is_number and value == value // 1 else None


def _opinion(entry: dict[str, Any]) -> Opinion:
    """Raises ValueError, in words for the judge."""
    said = _first(entry, _VERDICT_KEYS)
    reason = _first(entry, _REASON_KEYS)
    reason = well_formed(" ".join(reason.split())) if isinstance(reason, str) and reason.strip() else None
    confidence = _confidence(entry.get("confidence"))
    verdict = _verdict(said) if isinstance(said, str) else None
    if verdict is None:
        raise ValueError(f"the verdict {str(said)[:40]!r} is none of {', '.join(WORDS)}")
    return Opinion(None, None, reason) if verdict == _ABSTAINED else Opinion(verdict, confidence, reason)


def _verdict(said: str) -> Any:
    """The verdict that a text is, all of it; `None` for one that says more, or something else.

    >>> [_verdict(said) for said in ("**Harmful**", "a mistake", "no mistake", "error-free", "good, not bad", "unsure")]
    ['mistake', 'mistake', None, None, None, 'abstained']
    """
    whole = re.fullmatch(r"[\s*_\"'`(\[]*([a-z]+(?: [a-z]+){0,3})[\s*_\"'`.!)\],]*", said.lower())
    if whole is None:
        return None
    words = [word for word in whole[1].split() if word not in _FILLERS]
    meant = {_ABSTAINED if word in _ABSTENTIONS else _VERDICTS.get(word) for word in words}
    return meant.pop() if len(meant) == 1 else None


def _confidence(value: Any) -> float | None:
    """
    >>> [_confidence(value) for value in (0.8, "0.8", "80%", 80, 1, "high", -1, True)]
    [0.8, 0.8, 0.8, 0.8, 1.0, None, None, None]
    """
    if isinstance(value, str):
        found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*(%?)\s*", value)
        if not found:
            return None
        value = float(found[1]) / (100 if found[2] else 1)
    if not isinstance(value, int | float) or isinstance(value, bool):
        return None
    value = value / 100 if 1 < value <= 100 else float(value)
    return value if 0 <= value <= 1 else None


def _doubt(found: set[int], steps: Sequence[int], proofs: Mapping[int, bool | None]) -> str | None:
    """What is wrong where it cannot be told which entry is about which step."""
    wrong = [step for step, proof in proofs.items() if proof is False]
    if len(wrong) > _DOUBTFUL_SHARE * len(proofs):
        return (
            f"{len(wrong)} of the {len(proofs)} entries repeat the command of another step than the one that they name "
            f"(step {wrong[0]} first), so it is not clear which step each is about"
        )
    if proofs and all(proofs.values()):
        return None
    return _shift(found, steps)


def _shift(found: set[int], steps: Sequence[int]) -> str | None:
    """What is wrong where entries seem to be counted from another start than the steps: from 1, or from the window's
    beginning. Which verdict belongs to which step is then for the judge to say."""
    if not found or not _in_a_row(found) or not steps:
        return None
    low, high = min(found), max(found)
    # the first step has no entry, and those behind it follow without a gap
    from_one = low == steps[0] + 1 and len(found) > 1
    within_window = low in (0, 1) and low < steps[0] and high < len(steps) + low
    as_many = len(found) == len(steps) and _in_a_row(set(steps)) and low != steps[0]
    if not (from_one or within_window or as_many):
        return None
    return f"the entries are numbered {low} to {high}; the steps are {steps[0]} to {steps[-1]}"


def _in_a_row(numbers: set[int]) -> bool:
    return len(numbers) == max(numbers) - min(numbers) + 1
