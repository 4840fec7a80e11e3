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

CriticOption = Annotated[
    str | None,
    typer.Option(
        "--critic",
        metavar="NAME|URL|FILE",
        help="tool_error, edits, milestones, exploit, file:F, oracle:F, local:DIR (one's own), a judge's URL "
        "(http://HOST/v1#NAME) or its YAML file.",
    ),
]
OutcomeOption = Annotated[
    str | None,
    typer.Option(
        "--outcome", metavar="KIND", help="all or unresolved; a judge reads unresolved runs alone, a rule all."
    ),
]
MaxUsdOption = Annotated[
    float | None, typer.Option("--max-usd", metavar="USD", help="Begin no run that would cost more in total.")
]
PlanOption = Annotated[bool, typer.Option("--plan", help="Print runs, tokens, dollars and hours, and ask nobody.")]
BatchOption = Annotated[
    bool | None, typer.Option("--batch", help="Ask by OpenAI's batch API: within a day, at half the price.")
]


def critique(
    run: RunOption = None,
    critic: CriticOption = None,
    tasks: TasksOption = None,
    only: OnlyOption = None,
    workers: Annotated[int | None, typer.Option("--workers", min=1, help="Runs at a time.")] = None,
    round_number: RoundOption = None,
    outcome: OutcomeOption = None,
    max_usd: MaxUsdOption = None,
    plan: PlanOption = False,
    batch: BatchOption = None,
    config: ConfigOption = None,
    sets: SetOption = None,
    json: JsonOption = False,
) -> None:
    """Judge every step of a run's episodes. Run the same command again to resume: nothing is judged twice.

    Example: `srft critique --run runs/first --critic http://localhost:8000/v1#my-model --plan`
    """
    from srft.harness.config.config import read_config
    from srft.harness.run.find import find_round
    from srft.harness.run.store import Run
    from srft.harness.stages.critique import CritiqueConfig, plan_critique
    from srft.harness.stages.critique import critique as critique_runs
    from srft.harness.stages.progress import watch

    options: dict[str, Any] = {
        "tasks": tasks,
        "only": ids(only),
        "workers": workers,
        "round": round_number,
        "outcome": outcome,
        "max_usd": max_usd,
        "batch.enabled": batch,
    }
    if config is None:
        required(critic, "--critic")
    settings = read_config(CritiqueConfig, file=config, **critic_options(critic, sets or []), **options)
    find_round(required(run, "--run"), settings.round)
    if plan:
        with Run(required(run, "--run")) as opened:
            planned = plan_critique(settings, opened)
        print_json(planned) if json else print_plan(planned, settings)
        return
    with stopping() as stop, Run(required(run, "--run")) as opened:
        summary = critique_runs(settings, opened, stop=stop, watch=lambda progress: watch(progress, figures))
        print_json(summary) if json else print_critique(summary)
    if stop.is_set():
        fail(summary.reason or "stopped; run the same command to resume", 1 if summary.reason else 130)
    if summary.waiting:
        return  # as far as batch.until says
    if not summary.complete:
        fail(f"{summary.failed} of {summary.trajectories} runs failed: the same command again tries them", 1)


def critic_options(critic: str | None, sets: list[str]) -> dict[str, Any]:
    """What --critic and --set come to; a judge's YAML file holds its settings, which --set can still change."""
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
    seen = "" if summary.information == "none" else f" (shown: {summary.information.replace('_', ' ')})"
    table = Table("", title=f"Verdicts of {summary.critic}{seen}", title_justify="left")
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


def print_plan(planned: Any, settings: Any) -> None:
    """What `--plan` says."""
    console, cost = Console(), planned.cost
    table = Table("", "", title=f"Plan of a critique by {planned.critic}", title_justify="left", show_header=False)
    outcomes = ", ".join(f"{count:,} {outcome}" for outcome, count in sorted(planned.runs.items())) or "none"
    table.add_row("runs to judge", outcomes)
    table.add_row("judged already", f"{planned.resumed:,}")
    for reason, count in sorted(planned.skipped.items()):
        table.add_row("left out", f"{count:,} ({reason})")
    table.add_row("steps", f"{planned.steps:,}")
    table.add_row("questions", f"{cost.calls:,}")
    table.add_row("prompt tokens", f"{cost.prompt_tokens:,} (counted by {planned.counted_by})")
    table.add_row(
        "reply tokens", f"{cost.reply_tokens:,} (assumed: plan.entry_tokens, .analysis_tokens, .thinking_tokens)"
    )
    table.add_row("US dollars", _usd(planned.usd))
    table.add_row("... by --batch", _usd(planned.usd_by_batch))
    table.add_row("hours", f"{planned.hours:.2f} with {settings.workers} workers (assumed: plan.*_tokens_per_s)")
    console.print(table)
    for line in _remarks_on(planned):
        console.print(line, soft_wrap=True, markup=False, highlight=False)


def _usd(value: float | None) -> str:
    return "not known: set judge.openai.usd_per_million_prompt and _completion" if value is None else f"{value:,.2f}"


def _remarks_on(planned: Any) -> Iterator[str]:
    if unknown := planned.runs.get("unknown"):
        yield f"{unknown} runs have no outcome: no arm that masks trains on them before they are graded (srft evaluate)"
    if planned.cost.windowed:
        yield f"{planned.cost.windowed} runs do not fit judge.context_tokens and are asked about in windows"
    if planned.cost.cut:
        yield f"{planned.cost.cut} steps are cut to fit judge.context_tokens"
    for name, error in planned.failing.items():
        yield f"cannot be asked about: {name}: {error}"


def _share(counts: dict[str, int], name: str) -> str:
    return f"{counts.get(name, 0)} ({counts.get(name, 0) / sum(counts.values()):.1%})"


def _lines(summary: Any) -> Iterator[str]:
    yield (
        f"{summary.trajectories} runs: {summary.judged} judged, {summary.resumed} on file before, "
        f"{summary.failed} failed, {summary.without} without an opinion; {summary.seconds:.1f} s"
    )
    if summary.waiting:
        yield f"{summary.waiting} runs wait for a batch: run the same command again when it is answered"
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
