"""Our trainer, as `srft train` sets it up, in turns: see `trainer_turns.py`.

python trainer_worker.py '{"rows": DIR, "model": DIR, "out": DIR, "packs": [[3], [1]], "packs_per_step": 4}'
"""

import json
import sys
from pathlib import Path

from trainer_turns import Turns

from srft.train.fit.arguments import training_arguments
from srft.train.fit.finetune import make_trainer
from srft.train.fit.recipe import Recipe
from srft.train.fit.schedule import Schedule
from srft.train.rows.rows import RowTable


def main() -> None:
    options = json.loads(sys.argv[1])
    turns = Turns()
    table = RowTable.open(options["rows"])
    recipe = Recipe(
        pack_tokens=2048,
        packs_per_step=options["packs_per_step"],
        # As TRL has them by default, so that the weights and the later losses go the same way.
        learning_rate=2e-5,
        schedule="linear",
        warmup_steps=0,
        weight_decay=0.0,
        save_every=None,
    )
    schedule = Schedule(table, options["packs"], packs_per_step=recipe.packs_per_step)
    arguments = training_arguments(recipe, out=Path(options["out"]), steps=schedule.steps, evaluates=False)
    trainer = make_trainer(table, recipe, schedule, None, arguments=arguments, model=options["model"])
    trainer.add_callback(turns)
    trainer.train()


if __name__ == "__main__":
    main()
