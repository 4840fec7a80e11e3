"""`srft critique`: a critic's verdict on every step."""

from collections.abc import Iterator
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from srft.harness.commands.options import (
    ConfigOption,
    JsonOption,
    OnlyOption,
    RoundOption,
    RunOption,
    SetOption,
    TasksOption,
    fail,
    ids,
    print_json,
    required,
    stopping,
)

VERDICTS = ("good", "unnecessary", "mistake", "recover", "abstained")


def critique(
    run: RunOption = None,
    critic: Annotated[
        str | None,
        typer.Option(
            "--critic",
            metavar="NAME|URL|FILE",
            help="tool_error, edits, milestones, exploit, file:F, oracle:F, local:DIR (one's own), a judge's URL "
            "(http://HOST/v1#NAME) or its YAML file.",
        ),
    ] = None,
    tasks: TasksOption = None,
    only: OnlyOption = None,
    workers: Annotated[int | None, typer.Option("--workers", min=1, help="Runs at a time.")] = None,
    round_number: RoundOption = None,
    only_unresolved: Annotated[
        bool | None, typer.Option("--only-unresolved", help="Leave the resolved runs out.")
    ] = None,
    config: ConfigOption = None,
    sets: SetOption = None,
    json: JsonOption = False,
) -> None:
    """Judge every step of a run's episodes. The same command again goes on, and judges nothing twice.

    Example: `srft critique --run runs/first --critic http://localhost:8000/v1#my-model --set judge.information=outcome`
    """
    from srft.harness.config.config import read_config
    from srft.harness.run.find import find_round
    from srft.harness.run.store import Run
    from srft.harness.stages.critique import CritiqueConfig
    from srft.harness.stages.critique import critique as critique_runs
    from srft.harness.stages.progress import watch

    options: dict[str, Any] = {
        "tasks": tasks,
        "only": ids(only),
        "workers": workers,
        "round": round_number,
        "only_unresolved": only_unresolved,
    }
    if config is None:
        required(critic, "--critic")
    settings = read_config(CritiqueConfig, file=config, **critic_options(critic, sets or []), **options)
    find_round(required(run, "--run"), settings.round)
    with stopping() as stop, Run(required(run, "--run")) as opened:
        summary = critique_runs(settings, opened, stop=stop, watch=lambda progress: watch(progress, figures))
        print_json(summary) if json else print_critique(summary)
    if stop.is_set():
        fail(summary.reason or "stopped; the same command goes on", 1 if summary.reason else 130)
    if not summary.complete:
        fail(f"{summary.failed} of {summary.trajectories} runs failed: the same command again tries them", 1)


def critic_options(critic: str | None, sets: list[str]) -> dict[str, Any]:
    """What --critic and --set come to; a judge's YAML file stands for its settings, which --set can still change."""
    from msgspec import to_builtins

    from srft.critic.judge.config import JudgeConfig
    from srft.harness.config.config import read_config

    if critic is None or not critic.endswith((".yaml", ".yml")):
        return {"critic": critic, "sets": sets}
    of_judge = [text.removeprefix("judge.") for text in sets if text.startswith("judge.")]
    judge = read_config(JudgeConfig, file=critic, sets=of_judge)
    return {
        "critic": "judge",
        "judge": to_builtins(judge),
        "sets": [text for text in sets if not text.startswith("judge.")],
    }


def figures(progress: Any) -> list[str]:
    """What the progress line says of a critique."""
    return [
        f"runs {progress.resumed + progress.judged}/{progress.total}",
        f"running {progress.running}",
        f"steps {progress.steps:,}",
        f"mistakes {progress.mistakes:,}",
        f"calls {progress.calls:,}",
        f"tokens {progress.tokens:,}",
    ]


def print_critique(summary: Any) -> None:
    outcomes = [outcome for outcome in ("resolved", "unresolved", "unknown") if outcome in summary.runs]
    table = Table("", title=f"Verdicts of {summary.critic} ({summary.information})", title_justify="left")
    for outcome in outcomes:
        table.add_column(outcome, justify="right")
    table.add_row("runs", *(str(summary.runs[outcome]) for outcome in outcomes))
    table.add_row("steps", *(str(sum(summary.verdicts[outcome].values())) for outcome in outcomes), end_section=True)
    for name in VERDICTS:
        table.add_row(name, *(_share(summary.verdicts[outcome], name) for outcome in outcomes))
    console = Console()
    console.print(table)
    for line in _lines(summary):
        console.print(line, soft_wrap=True, markup=False, highlight=False)


def _share(counts: dict[str, int], name: str) -> str:
    return f"{counts.get(name, 0)} ({counts.get(name, 0) / sum(counts.values()):.1%})"


def _lines(summary: Any) -> Iterator[str]:
    yield (
        f"{summary.trajectories} runs: {summary.judged} judged, {summary.resumed} on file before, "
        f"{summary.failed} failed, {summary.without} without an opinion; {summary.seconds:.1f} s"
    )
    if summary.skipped:
        yield "left out: " + ", ".join(f"{count} ({reason})" for reason, count in sorted(summary.skipped.items()))
    if summary.remarks:
        yield "remarks: " + ", ".join(f"{name} {count}" for name, count in summary.remarks.items())
    yield f"now:     {_spent(summary.spent_now)}"
    yield f"on file: {_spent(summary.spent)}"
    for name, error in summary.failures.items():
        yield f"failed: {name}: {error}"


def _spent(spent: Any) -> str:
    def known(value: int | None) -> str:
        return "?" if value is None else f"{value:,}"

    if not spent.calls:
        return "0 calls"
    usd = "not known" if spent.cost_usd is None else f"{spent.cost_usd:.4f}"
    return (
        f"{spent.calls:,} calls, {known(spent.prompt_tokens)} prompt tokens ({known(spent.cached_tokens)} cached), "
        f"{known(spent.completion_tokens)} completion tokens, USD {usd}, {spent.wall_s:.1f} s of critics' time"
    )
