"""Our trainer, as `srft train` sets it up, in turns: see `trainer_turns.py`.

python trainer_worker.py '{"rows": DIR, "model": DIR, "out": DIR, "packs": [[3], [1]], "packs_per_step": 4}'
"""

import json
import sys
from pathlib import Path

from trainer_turns import Turns

from srft.train.fit.finetune import load_model, training_arguments
from srft.train.fit.recipe import Recipe
from srft.train.fit.schedule import Schedule
from srft.train.fit.trainer import MaskedTrainer
from srft.train.rows.render import Renderer
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
    renderer = Renderer.load(options["model"])
    trainer = MaskedTrainer(
        load_model(options["model"], recipe, renderer, table, on_gpu=False),
        arguments,
        train=schedule,
        held_out=None,
        processing_class=renderer.tokenizer,
        callbacks=[turns],
    )
    trainer.train()


if __name__ == "__main__":
    main()
