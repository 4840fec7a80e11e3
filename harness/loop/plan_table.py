"""A training's plan as a table for a person.

Console().print(plan_table(plan(recipe, model=None, table=None)))
"""

from rich.markup import escape
from rich.table import Table

from srft.train.plan.plan import Plan

PARTS = ("weights", "copies", "gradients", "optimizer", "communication", "activations", "head")


def plan_table(plan: Plan) -> Table:
    """Every figure of a plan, what it rests on, and what to change where it does not fit."""
    memory, work, machine = plan.memory, plan.work, plan.machine
    table = Table("", "", title="Plan", show_header=False)

    def row(name: str, value: str) -> None:
        table.add_row(name, escape(value))

    row("model", f"{plan.model or '-'}, read from {plan.architecture}")
    share = plan.trained_parameters / plan.parameters
    row("parameters", f"{plan.parameters:,}, {plan.trained_parameters:,} of them trained ({share:.2%})")
    row("machine", f"{plan.gpus} x {machine.name}, {_gib(machine.memory_bytes)} each")
    table.add_section()
    for name in PARTS:
        row(f"memory: {name}", _gib(getattr(memory, f"{name}_bytes")))
    kept, checkpointed = memory.activations_kept_bytes, memory.activations_checkpointed_bytes
    row("activations if", f"kept {_gib(kept)}, checkpointed {_gib(checkpointed)}")
    verdict = "[green]fits[/]" if plan.fits else "[red]does not fit[/]"
    table.add_row("memory: peak", f"{_gib(memory.peak_bytes)} of {_gib(plan.usable_bytes)} usable: {verdict}")
    for words in plan.advice:
        row("change", words)
    table.add_section()
    storage = plan.storage
    row("disk: model", _gib(storage.model_bytes))
    row("disk: checkpoint", f"{_gib(storage.checkpoint_bytes)}, at most {storage.checkpoints} at a time")
    row("disk: at most", _gib(storage.disk_bytes))
    row(
        "host memory",
        f"{_gib(storage.host_bytes)} on {'one machine' if storage.nodes == 1 else f'each of {storage.nodes} machines'}",
    )
    table.add_section()
    row("rows", f"{work.rows:,}" + (f" and {work.held_out_rows:,} held out" if work.held_out_rows else ""))
    row("steps", f"{work.steps:,} of {work.packs:,} packs, the longest {work.longest_pack:,} tokens")
    row("tokens", f"{work.tokens:,}, {work.trained_tokens:,} of them trained")
    row("operations", f"{plan.flops:.3g} FLOP")
    row("time", f"{_clock(plan.time_s)} at {plan.tokens_per_s:,.0f} tokens/s")
    table.add_section()
    for words in plan.assumptions:
        row("assumed", words)
    return table


def _gib(count: int) -> str:
    return f"{count / (1 << 30):,.2f} GiB"


def _clock(seconds: float) -> str:
    """
    >>> _clock(90061), _clock(59)
    ('25:01:01', '0:00:59')
    """
    minutes, second = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{second:02d}"
