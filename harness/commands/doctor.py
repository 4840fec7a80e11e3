"""`srft doctor`: what works on this machine, and what to do about the rest."""

from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.text import Text

from srft.harness.commands.options import JsonOption, RunOption, SetOption, fail, print_json

if TYPE_CHECKING:
    from srft.harness.doctor.diagnosis import Diagnosis

WORDS = {True: ("works", "green"), False: ("does not", "red"), None: ("unknown", "yellow")}
STYLES = {"ok": "green", "warning": "yellow", "error": "red"}


def doctor(
    endpoint: Annotated[
        str | None, typer.Option("--endpoint", metavar="URL", help="A model to be asked: http://HOST/v1#NAME.")
    ] = None,
    tokenizer: Annotated[
        str | None, typer.Option("--tokenizer", metavar="DIR|NAME", help="A tokenizer to be trained with.")
    ] = None,
    run: RunOption = None,
    sets: SetOption = None,
    json: JsonOption = False,
) -> None:
    """Check this machine, and say what works, what does not, and what to do about it.

    Exit code 0 only where runs can be collected, and what the options name is in order.

    Examples: `srft doctor`,
    `srft doctor --endpoint http://localhost:8000/v1#my-model --set openai.api_key_env=MY_KEY --run runs/first`
    """
    from srft.harness.config.config import read_config
    from srft.harness.doctor.diagnosis import Asked, DoctorConfig, diagnose

    settings = read_config(DoctorConfig, sets=sets or ()).openai
    diagnosis = diagnose(Asked(run=run, endpoint=endpoint, tokenizer=tokenizer, openai=settings))
    print_json(diagnosis) if json else print_diagnosis(diagnosis)
    if not diagnosis.works:
        wrong = [finding.name for finding in diagnosis.findings if finding.state == "error"]
        fail(f"not everything that was asked for works: {', '.join(wrong)}", 1)


def print_diagnosis(diagnosis: "Diagnosis") -> None:
    """A line a finding, its remedy below it; then what follows."""
    console = Console(highlight=False, soft_wrap=True)
    width = max(len(finding.name) for finding in diagnosis.findings)
    for finding in diagnosis.findings:
        line = Text(f"{finding.state:<8} ", style=STYLES[finding.state])
        line.append(f"{finding.name:<{width}}  {finding.found}", style="default")
        console.print(line)
        if finding.remedy is not None:
            console.print(Text(f"{'':<9}{'':<{width}}  -> {finding.remedy}", style="default"))
    console.print()
    width = max(len(use.name) for use in diagnosis.uses)
    for use in diagnosis.uses:
        word, style = WORDS[use.works]
        line = Text(f"{word:<9}", style=style)
        why = "" if use.works else f"{'':<{width - len(use.name)}}  {use.stopped_by} -> {use.remedy}"
        line.append(f"{use.name}{why}", style="default")
        console.print(line)
