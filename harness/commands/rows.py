"""`srft rows`: runs and verdicts to masked token rows."""

from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from srft.env.errors import InputError
from srft.harness.commands.options import (
    ConfigOption,
    CriticsOption,
    JsonOption,
    RoundOption,
    RunOption,
    SetOption,
    ids,
    print_json,
    required,
)

TokenizerOption = Annotated[
    str | None, typer.Option("--tokenizer", metavar="DIR|NAME", help="That of the model to be trained.")
]
ArmsOption = Annotated[
    str | None,
    typer.Option("--arm", metavar="ARM,ARM", help="all, resolved, unresolved_masked, srft, random, tool_error, ..."),
]
ForOption = Annotated[
    str | None,
    typer.Option(
        "--for",
        metavar="critic",
        help="Rows that a critic is trained on: runs as questions, the labels of --critic (or human, oracle) as "
        "replies.",
    ),
]
MaxTokensOption = Annotated[int | None, typer.Option("--max-tokens", min=1, help="The longest row.")]
OverlongOption = Annotated[
    str | None, typer.Option("--overlong", metavar="RULE", help="What to do with longer ones: cut, drop, slide.")
]
EvaluationOption = Annotated[
    str | None,
    typer.Option(
        "--evaluation",
        metavar="TASKS,TASKS",
        help="Tasks to be evaluated on: runs on them or their repositories are refused.",
    ),
]


def rows(
    run: RunOption = None,
    tokenizer: TokenizerOption = None,
    arm: ArmsOption = None,
    critic: CriticsOption = None,
    made_for: ForOption = None,
    max_tokens: MaxTokensOption = None,
    overlong: OverlongOption = None,
    evaluation: EvaluationOption = None,
    round_number: RoundOption = None,
    config: ConfigOption = None,
    sets: SetOption = None,
    json: JsonOption = False,
) -> None:
    """Make token rows of a run: which tokens are trained, and with what weight. `srft show` prints them.

    Example: `srft rows --run runs/first --tokenizer models/base --arm srft,all --critic judge`

    Example: `srft rows --run runs/first --tokenizer models/base --for critic --critic human`
    """
    from srft.harness.config.config import read_config
    from srft.harness.run.find import find_round
    from srft.harness.run.store import Run
    from srft.harness.run.trained import CRITIC_ROWS
    from srft.harness.stages.critic_rows import CriticRowsConfig, make_critic_rows
    from srft.harness.stages.rows import RowsConfig, make_rows

    of_critic = _is_for_critic(made_for, arm)
    options = {
        "tokenizer": tokenizer,
        **({"labels": ids(critic)} if of_critic else {"critics": ids(critic), "arms": ids(arm)}),
        "rows.max_tokens": max_tokens,
        "rows.overlong": overlong,
        "evaluation": ids(evaluation),
    }
    number = find_round(required(run, "--run"), round_number)
    if of_critic:
        learned = read_config(CriticRowsConfig, file=config, sets=sets or (), **options)
        with Run(required(run, "--run")) as opened:
            made = {CRITIC_ROWS: make_critic_rows(learned, opened.round(number))}
    else:
        settings = read_config(RowsConfig, file=config, sets=sets or (), **options)
        with Run(required(run, "--run")) as opened:
            made = make_rows(settings, opened.round(number))
    if json:
        print_json(
            {arm: {"folder": str(it.folder), "new": it.is_new, **_figures(it.manifest)} for arm, it in made.items()}
        )
    else:
        _print_rows(made)


def _is_for_critic(made_for: str | None, arm: str | None) -> bool:
    """Raises InputError."""
    if made_for not in (None, "critic"):
        raise InputError(f"--for {made_for}: expected critic, or leave it out for rows that the model is trained on")
    if made_for and arm:
        raise InputError(f"--for critic and --arm {arm} exclude each other: an arm is of the model's own rows")
    return made_for is not None


def _figures(manifest: Any) -> dict[str, Any]:
    import msgspec

    return {**msgspec.to_builtins(manifest), "masked_share": manifest.masked_share}


def _print_rows(made: dict[str, Any]) -> None:
    table = Table("", title="Token rows")
    for arm in made:
        table.add_column(arm, justify="right")
    manifests = [it.manifest for it in made.values()]
    lines = {
        "runs": [f"{m.runs:,}" for m in manifests],
        "runs used": [f"{m.runs_used:,}" for m in manifests],
        **_reasons("left out", [m.left_out for m in manifests]),
        "rows": [f"{m.rows:,}" for m in manifests],
        **_reasons("dropped", [m.dropped for m in manifests]),
        **_reasons("", [m.remarks for m in manifests]),
        "longest row": [f"{m.longest_row:,}" for m in manifests],
        "tokens": [f"{m.tokens:,}" for m in manifests],
        "written by models": [f"{m.written_tokens:,}" for m in manifests],
        "trained": [f"{m.trained_tokens:,}" for m in manifests],
        "masked of the written": ["-" if m.masked_share is None else f"{m.masked_share:.1%}" for m in manifests],
        "steps": [f"{m.steps:,}" for m in manifests],
        "steps masked": [f"{m.steps_masked:,}" for m in manifests],
        **_reasons("rows", [m.mask_sources for m in manifests]),
    }
    for name, cells in lines.items():
        table.add_row(name, *cells)
    console = Console()
    console.print(table)
    advice = {it.manifest.keeps_history for it in made.values() if it.manifest.keeps_history}
    for setting in sorted(advice):
        console.print(
            f"The template shows earlier replies otherwise than they were written, so runs were split into rows that "
            f"repeat their beginning. --set {setting} keeps them whole.",
            soft_wrap=True,
        )
    for it in made.values():
        console.print(f"{it.folder}{'' if it.is_new else '  (as it was: nothing has changed)'}", soft_wrap=True)


def _reasons(prefix: str, counts: list[dict[str, int]]) -> dict[str, list[str]]:
    names = sorted({name for count in counts for name in count})
    return {
        f"{prefix}: {name}".removeprefix(": ").replace("_", " "): [f"{count.get(name, 0):,}" for count in counts]
        for name in names
    }
