"""`srft loop`: rounds."""

from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markdown import Markdown

from srft.env.errors import InputError
from srft.harness.commands.options import (
    ConfigOption,
    JsonOption,
    RunOption,
    SandboxOption,
    SetOption,
    WorkersOption,
    end_at_once,
    ids,
    print_json,
    required,
    sandbox_kind,
    stopping,
)

PresetOption = Annotated[
    str | None, typer.Option("--preset", metavar="NAME", help="demo, public-7b, paper and others, see above.")
]
RunsOption = Annotated[
    list[str] | None,
    typer.Option("--runs", metavar="FILE|FOLDER|NAME", help="Begin with these runs instead of a collection."),
]
ModelOption = Annotated[
    str | None, typer.Option("--model", metavar="DIR|NAME", help="The base model; the preset's unless given.")
]
ArmsOption = Annotated[
    str | None, typer.Option("--arms", metavar="ARM,ARM", help="all, resolved, srft, random, oracle, ...")
]
SeedsOption = Annotated[str | None, typer.Option("--seeds", metavar="N,N", help="Each arm is trained with each.")]
StagesOption = Annotated[
    str | None,
    typer.Option("--stages", metavar="STAGE,STAGE", help="These stages alone; the others are found done."),
]


def loop(
    preset: PresetOption = None,
    run: RunOption = None,
    runs: RunsOption = None,
    model: ModelOption = None,
    rounds: Annotated[int | None, typer.Option("--rounds", min=1, help="How many rounds.")] = None,
    arms: ArmsOption = None,
    seeds: SeedsOption = None,
    workers: WorkersOption = None,
    sandbox: SandboxOption = None,
    stages: StagesOption = None,
    plan: Annotated[bool, typer.Option("--plan", help="Print what it would take instead of doing it.")] = False,
    config: ConfigOption = None,
    sets: SetOption = None,
    json: JsonOption = False,
) -> None:
    """Rounds: collect (or import), critique, rows, train, serve, evaluate, promote.

    Run the same command again to resume.

    Presets: demo, smollm2-gpu, paper; public-smollm2, public-7b, public-32b begin with published runs.

    Examples: `srft loop --preset demo --run runs/demo`,
    `srft loop --preset demo --run runs/arms --arms all,resolved,srft,random,oracle --seeds 0,1,2`,
    `srft loop --preset public-smollm2 --runs recorded.jsonl.gz --run runs/public`,
    `srft loop --preset public-32b --plan`
    """
    from srft.harness.loop.loop_config import read_loop_config

    kind = None if sandbox is None else sandbox_kind(sandbox)
    settings = read_loop_config(
        preset,
        file=config,
        sets=sets or (),
        **{
            "model": model,
            "runs.from": runs,
            "rounds": rounds,
            "arms": ids(arms),
            "seeds": None if seeds is None else _numbers(seeds),
            "collect.workers": workers,
            "evaluate.workers": workers,
            "collect.sandbox.kind": kind,
            "evaluate.sandbox.kind": kind,
        },
    )
    if plan:
        _print_plan(settings, json=json)
        return
    _loop(settings, required(run, "--run"), only=ids(stages), json=json)


def _loop(settings: Any, run: str, *, only: Any, json: bool) -> None:
    from srft.harness.commands.collect import figures as episode_figures
    from srft.harness.commands.critique import figures as run_figures
    from srft.harness.commands.practice import figures as making_figures
    from srft.harness.loop.loop_work import Displays
    from srft.harness.loop.rounds import loop as go_round
    from srft.harness.run.store import Run
    from srft.harness.stages.progress import watch

    displays = Displays(
        practice=lambda shown: watch(shown, making_figures),
        episodes=lambda shown: watch(shown, episode_figures),
        runs=lambda shown: watch(shown, run_figures),
    )
    with stopping() as stop, Run(run) as opened:
        outcome = go_round(settings, opened, stop=stop, displays=displays, only=only)
    if json:
        print_json({**outcome._asdict(), "report": outcome.report and str(outcome.report)})
    else:
        _print_outcome(outcome)
    if not outcome.complete:
        is_budget = str(outcome.reason).startswith("budget.")
        remedy = "raise it and give the same command again" if is_budget else "run the same command to resume"
        end_at_once(f"{outcome.reason}; {remedy}", 1 if is_budget else 130)


def _numbers(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError:
        raise InputError(f"--seeds {text}: expected whole numbers with commas between them, say 0,1,2") from None


def _print_outcome(outcome: Any) -> None:
    console = Console()
    if outcome.report is not None:
        console.print(Markdown(outcome.report.with_suffix(".md").read_text().split("\n## ")[0]))
        console.print(f"\n{outcome.report}", soft_wrap=True, highlight=False)
    console.print(f"model: {outcome.model}", soft_wrap=True, highlight=False)
    for model in outcome.unmeasured:
        console.print(f"trained, not measured (no evaluation tasks): {model}", soft_wrap=True, highlight=False)


def _print_plan(settings: Any, *, json: bool) -> None:
    from srft.harness.loop.loop_plan import plan_loop, plan_table

    planned = plan_loop(settings)
    print_json(planned) if json else Console().print(plan_table(planned))
