"""`srft train`: masked rows to a trained model."""

from contextlib import nullcontext
from pathlib import Path
from typing import Annotated, Any

import typer
from loguru import logger
from rich.console import Console
from rich.table import Table

from srft.env.errors import InputError
from srft.harness.commands.options import (
    JsonOption,
    RoundOption,
    RunOption,
    SetOption,
    end_at_once,
    ids,
    print_json,
    stopping,
)
from srft.harness.config.errors import missing


def train(
    run: RunOption = None,
    rows: Annotated[
        str | None, typer.Option("--rows", metavar="DIR", help="A folder of rows, in the place of a run's.")
    ] = None,
    model: Annotated[
        str | None, typer.Option("--model", metavar="DIR|NAME", help="What is trained; the recipe's unless given.")
    ] = None,
    recipe: Annotated[
        str, typer.Option("--recipe", metavar="NAME|FILE", help="One of ours, or a YAML file.")
    ] = "smollm2-135m-cpu",
    arm: Annotated[
        str | None, typer.Option("--arm", metavar="ARM", help="Whose rows; the only ones by default.")
    ] = None,
    out: Annotated[
        str | None, typer.Option("--out", metavar="DIR", help="The new model's folder; in the run unless given.")
    ] = None,
    evaluation: Annotated[
        str | None,
        typer.Option("--evaluation", metavar="TASKS,TASKS", help="Tasks to be evaluated on: refused if trained on."),
    ] = None,
    plan: Annotated[bool, typer.Option("--plan", help="Print memory, time and tokens instead of training.")] = False,
    measure: Annotated[
        bool, typer.Option("--measure", help="Take two steps of the longest pack: their peak beside the plan's.")
    ] = False,
    round_number: RoundOption = None,
    sets: SetOption = None,
    json: JsonOption = False,
) -> None:
    """Train a model on token rows. Run the same command again to resume from the last checkpoint.

    Examples: `srft train --run runs/first --arm srft --model models/base --recipe smollm2-135m-cpu`,
    `torchrun --nproc-per-node 8 .venv/bin/srft train --run runs/first --recipe qwen2.5-coder-32b-full-8gpu`,
    `srft train --plan --recipe qwen2.5-coder-7b-lora-1gpu`
    """
    from srft.harness.stages.train import load_recipe

    settings = load_recipe(recipe, sets=sets)
    model = model or settings.model
    if plan:
        _print_plan(settings, model=model, rows=_rows(run, rows, arm, round_number) if run or rows else None, json=json)
        return
    folder = _rows(run, rows, arm, round_number)
    if measure:
        _print_measured(settings, model=model, rows=folder, json=json)
        return
    _train(
        folder,
        recipe=settings,
        model=model,
        out=Path(out) if out else _default_out(run, folder),
        evaluation=ids(evaluation) or (),
        run=run,
        json=json,
    )


def _train(
    folder: Path, *, recipe: Any, model: str | None, out: Path, evaluation: tuple[str, ...], run: str | None, json: bool
) -> None:
    import transformers

    from srft.harness.run.store import Run
    from srft.harness.stages.train import TrainConfig, is_first_process
    from srft.harness.stages.train import train as train_model
    from srft.harness.stages.training_process import progress_of, tell_progress

    transformers.utils.logging.disable_progress_bar()
    if model is None:
        raise InputError("--model is missing, and the recipe names none")
    config = TrainConfig(rows=folder, model=model, out=out, recipe=recipe, evaluation=evaluation)

    def on_log(logs: dict[str, Any], step: int, steps: int) -> None:
        tell_progress(out, step=step, steps=steps, eta_s=logs.get("eta_s"))
        _log(logs, step, steps)

    with stopping() as stop, Run(run) if run and is_first_process() else nullcontext() as opened:
        with opened.live.stage("train", out, lambda: progress_of(out)) if opened else nullcontext():
            trained = train_model(config, on_log=on_log, stop=stop)
        if opened and trained is None:
            opened.live.incomplete("stopped")
    if trained is None:
        end_at_once("stopped; run the same command to resume from the checkpoint", 130)
    if is_first_process():
        print_json(trained) if json else _print_trained(trained, out)


def _rows(run: str | None, rows: str | None, arm: str | None, round_number: int | None) -> Path:
    from srft.harness.run.find import find_place
    from srft.harness.stages.train import rows_to_train

    if rows:
        return Path(rows)
    if not run:
        raise InputError(missing("--run (or --rows)"))
    return rows_to_train(find_place(run, round_number).round, arm)


def _default_out(run: str | None, folder: Path) -> Path:
    if not run:
        raise InputError("--out is missing: with --rows, say where the model goes")
    return folder.parent.parent / "model" / folder.name


def _log(logs: dict[str, Any], step: int, steps: int) -> None:
    from srft.harness.stages.progress import clock

    if "loss" in logs:
        logger.info(
            "step {}/{}  loss {:.4f}  gradient {:.2f}  lr {:.2e}  {:,.0f} tokens/s  {:,.0f} trained tokens/s  ETA {}",
            step,
            steps,
            logs["loss"],
            logs.get("grad_norm", float("nan")),
            logs["learning_rate"],
            logs["tokens_per_s"],
            logs["trained_tokens_per_s"],
            clock(logs["eta_s"]) if "eta_s" in logs else "?",
        )
    elif "eval_loss" in logs:
        logger.info("step {}/{}  held-out loss {:.4f}", step, steps, logs["eval_loss"])


def _print_trained(trained: Any, out: Path) -> None:
    table = Table("", "", title="Trained", show_header=False)
    table.add_row("arm", trained.arm)
    for name, value in trained.figures.items():
        shown = "-" if value is None else f"{value:,.4f}" if isinstance(value, float) else f"{value:,}"
        table.add_row(name.replace("_", " "), shown)
    console = Console()
    console.print(table)
    console.print(f"{out}  (loss.png, training.json)", soft_wrap=True, highlight=False)


def _print_measured(recipe: Any, *, model: str | None, rows: Path, json: bool) -> None:
    from srft.harness.stages.train import is_first_process
    from srft.train.plan.measure import measure_step
    from srft.train.rows.rows import RowTable

    if model is None:
        raise InputError("--model is missing, and the recipe names none")
    measured = measure_step(RowTable.open(rows), recipe, model=model)
    if not is_first_process():
        return
    if json:
        print_json(measured)
        return
    table = Table("", "", title="Measured", show_header=False)
    gib = 1 << 30
    table.add_row("peak of a process", f"{measured.peak_bytes / gib:,.2f} GiB")
    table.add_row("planned", f"{measured.planned_bytes / gib:,.2f} GiB")
    table.add_row("a step", f"{measured.step_s:,.2f} s, {measured.tokens:,} tokens")
    table.add_row("pace", f"{measured.tokens_per_s:,.0f} tokens/s")
    table.add_row("share of the peak", "-" if measured.mfu is None else f"{measured.mfu:.0%}")
    table.add_row("longest pack", f"{measured.longest_pack:,} tokens")
    table.add_row("attention", measured.attention + (", document by document" if measured.apart else ""))
    Console().print(table)


def _print_plan(recipe: Any, *, model: str | None, rows: Path | None, json: bool) -> None:
    from srft.harness.loop.plan_table import plan_table
    from srft.train.plan.plan import plan as plan_training
    from srft.train.rows.rows import RowTable

    planned = plan_training(recipe, model=model, table=RowTable.open(rows) if rows else None)
    print_json(planned) if json else Console().print(plan_table(planned))
