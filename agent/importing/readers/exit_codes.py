"""Exit codes and timeouts as scaffolds word them in the text that answers a command.

    exit_code_in("<returncode>1</returncode>\n<output>...")                     # 1: mini-swe-agent
    exit_code_in("OBSERVATION:\n...\n[Command finished with exit code 1]")      # 1: OpenHands
    exit_code_in("Exit code: 1\nExecution output of [execute_bash]:\n...")      # 1: R2E-Gym
    exit_code_in("x\n(exit code: 1)")                                           # 1

Only whole lines at the text's beginning or end count: what a command prints in between may quote anything. A bare
`exit code: 1` may also be what the command itself printed (`...; echo "exit code: $?"`): it counts only where the reply
does not speak of exit codes. OpenHands' -1 says that the command still runs: no exit code.
"""

from __future__ import annotations

import json
import re

_TAG = re.compile(r"<(return_?code|exit_?code|exit_?status)>\s*(-?\d{1,10})\s*</\1>", re.IGNORECASE)
_HEADER = re.compile(
    r"(?:OBSERVATION|EXECUTION RESULT of \[[^\]]*\]|EXECUTION_RESULT_OF \[[^\]]*\]|Execution output of \[[^\]]*\]):?\s*"
    r"|<exception>.*?</exception>\s*",
    re.IGNORECASE | re.DOTALL,
)
_CODE = r"(?:Error: Exit code )?(?P<code>-?\d{1,10})"
_SAID = r"(?:exit(?:ed)?|return(?:ed)?)(?:[ _-]?(?:code|status)| with(?: an?)?(?: exit)? (?:code|status))"
# A sentence of the scaffold, or anything in brackets.
_SENTENCE = re.compile(
    r"[\[(<*\s]*(?:the |your |last )*(?:command|process|execution|program|script|shell)\b[^\n:]{0,40}?"
    rf"(?:with |: ?|, |\b){_SAID}\s*(?:[:=]|of|is|was)?\s*{_CODE}\b[.)\]>*\s]*(?:CTRL\+\w was sent\.?[\])]?)?\s*",
    re.IGNORECASE,
)
_BRACKETED = re.compile(rf"\s*[\[(<]\s*{_SAID}\s*(?:[:=]|is)?\s*{_CODE}\s*[\])>]\s*", re.IGNORECASE)
_BARE = re.compile(rf"\s*{_SAID}\s*(?:[:=]|is)?\s*{_CODE}\.?\s*", re.IGNORECASE)
_AFTER_BARE = re.compile(
    r"\s*(?:Execution output of \[|Wall time|Original token count|Output:|Signal:|Std(?:out|err)\b|\[STD(?:OUT|ERR)\]"
    r"|<output>|Error:)",
    re.IGNORECASE,
)
_AT_END = re.compile(r"(?P<before>.*?[.:]\s)?(?P<rest>Exit code: -?\d+)$")
_NOTE = re.compile(
    r"\s*[\[(].*[\])]\s*|\s*(?:Signal|Background PIDs|Process Group PGID|Wall time)\b.*|\s*</\w+>\s*|\s*"
)
_SPEAKS_OF_CODES = re.compile(r"\$\?|PIPESTATUS|exit.?code|return.?code|exit.?status|%ERRORLEVEL%", re.IGNORECASE)
_TIMED_OUT = re.compile(
    r"The last command <command>.*</command> timed out and has been killed\."
    r"|The command '.*' was cancelled because it took more than "
    r"|EXECUTION TIMED OUT"
    r"|Command timed out after \d"
    r"|(?:.*\n)?\[The command timed out after ",
    re.DOTALL,
)
_LINES = 4
"""So many lines at the beginning are looked at, and twice as many at the end."""


def timed_out_in(text: str) -> bool:
    """Whether the text says that the command was stopped because it took too long."""
    return bool(_TIMED_OUT.match(_body(text))) if "time" in text.lower() or "cancelled" in text else False


def exit_code_in(text: str, *, asked: str = "") -> int | None:
    """The exit code that a scaffold wrote into its answer; `None` where it wrote none.

    asked: the reply that the text answers, with the arguments of its calls.
    """
    body = _body(text)
    if tag := _TAG.match(body) or _TAG.match(body.rpartition("\n")[2]):
        return -1 if tag[2] == "-1" else code_of(tag[2])
    if body.startswith("{"):
        return _of_json(body)
    lines = [line for line in body.split("\n", _LINES)[:_LINES] if line.strip()]
    end = _end_lines(body)
    for line in [*end, *lines[:1]]:
        if found := _SENTENCE.fullmatch(line) or _BRACKETED.fullmatch(line):
            return code_of(found["code"])
    return _bare(lines, end, asked)


def _bare(lines: list[str], end: list[str], asked: str) -> int | None:
    """A code without anything around it: sure where the scaffold's next header follows it."""
    for place, line in enumerate(lines):
        rest = _AT_END.fullmatch(line)
        found = _BARE.fullmatch(rest["rest"] if rest else line) or _SENTENCE.fullmatch(line)
        if found and place + 1 < len(lines) and _AFTER_BARE.match(lines[place + 1]):
            return code_of(found["code"])
    found = next((found for line in [*lines[:1], *end] if (found := _BARE.fullmatch(line))), None)
    return code_of(found["code"]) if found and not _SPEAKS_OF_CODES.search(asked) else None


def _body(text: str) -> str:
    """The text behind the scaffold's headers."""
    start = 0
    text = text.lstrip()
    while found := _HEADER.match(text, start):
        start = found.end()
    return text[start:]


def _end_lines(body: str) -> list[str]:
    """The last lines from the end: notes of the scaffold, up to and with the first line that is not one."""
    found = []
    for line in reversed(body.rstrip().rsplit("\n", 2 * _LINES)[-2 * _LINES :]):
        found.append(line)
        if not _NOTE.fullmatch(line):
            break
    return found


def _of_json(body: str) -> int | None:
    """The code in an answer that is a JSON object with an output: {"returncode": 1, "output": ...}, or in its metadata;
    another object is what a command printed."""
    try:
        content = json.loads(body)
    except (ValueError, RecursionError):
        return None
    if not {"output", "stdout"} & content.keys():
        return None
    for holder in (content, content.get("metadata")):
        for key in ("returncode", "return_code", "exit_code", "exitCode"):
            code = holder.get(key) if isinstance(holder, dict) else None
            if isinstance(code, int) and not isinstance(code, bool):
                return code_of(code)
    return None


def code_of(digits: str | int) -> int | None:
    """The exit code; `None` for OpenHands' -1, and for more than any program can exit with."""
    code = int(digits)
    return None if code == -1 or abs(code) > 2**31 else code
