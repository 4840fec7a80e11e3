"""`srft push`: what a run made, to the Hugging Face Hub."""

from typing import Annotated

import typer

from srft.harness.commands.options import JsonOption, RoundOption, RunOption, print_json, required

Repository = "OWNER/NAME"

RowsOption = Annotated[
    str | None, typer.Option("--rows", metavar=Repository, help="Send the token rows to this dataset.")
]
ModelOption = Annotated[
    str | None, typer.Option("--model", metavar=Repository, help="Send the trained model to this repository.")
]
TrajectoriesOption = Annotated[
    str | None,
    typer.Option("--trajectories", metavar=Repository, help="Send trajectories, labels, grades to this dataset."),
]
ArmOption = Annotated[
    str | None, typer.Option("--arm", metavar="ARM", help="Whose rows and model; the only ones unless given.")
]
BaseOption = Annotated[
    str | None, typer.Option("--base", metavar=Repository, help="The base model's name on the Hub, for the card.")
]
LicenseOption = Annotated[
    str | None, typer.Option("--license", metavar="ID", help="The licence on the card, say apache-2.0.")
]
PublicOption = Annotated[bool, typer.Option("--public", help="Let all see it; unless given, it is private.")]
PlanOption = Annotated[
    bool, typer.Option("--plan", "--dry-run", help="Write the folders and say what would be sent; send nothing.")
]


def push(
    run: RunOption = None,
    rows: RowsOption = None,
    model: ModelOption = None,
    trajectories: TrajectoriesOption = None,
    arm: ArmOption = None,
    round_number: RoundOption = None,
    base: BaseOption = None,
    license: LicenseOption = None,
    public: PublicOption = False,
    plan: PlanOption = False,
    json: JsonOption = False,
) -> None:
    """Send a run's rows, model and trajectories to the Hugging Face Hub, each with a card that says how it was made.

    The key is HF_TOKEN, or that of `hf auth login`. Run the same command again to resume. The folders that are sent lie
    in RUN/push.

    Example: `srft push --run runs/first --trajectories me/first-runs --model me/first-model --plan`
    """
    from pathlib import Path

    from srft.harness.push.folder import Asked, lines_of, put_together
    from srft.harness.push.hub import check_names, send
    from srft.harness.run.find import find_round
    from srft.harness.run.store import Run

    name = required(run, "--run")
    check_names([one for one in (rows, model, trajectories) if one is not None])
    asked = Asked(
        run=Path(name),
        round=find_round(name, round_number),
        arm=arm,
        rows=rows,
        model=model,
        trajectories=trajectories,
        base=base,
        license=license,
    )
    with Run(name):
        folders = put_together(asked)
        if plan and json:
            print_json({"would_send": [{**one._asdict(), "path": str(one.path), "kind": one.kind} for one in folders]})
        elif plan:
            print("\n".join(lines_of(folders, public=public)))
        else:
            sent = []
            for one in send(folders, public=public):
                sent.append(one)
                if not json:
                    print(one.url, flush=True)
            if json:
                print_json({"sent": [one._asdict() for one in sent]})
