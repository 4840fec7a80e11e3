"""TRL's SFTTrainer in turns, in its own venv: see `trainer_turns.py`.

    python trl_worker.py '{"rows": DIR, "model": DIR, "out": DIR, "order": [3, 1], "settings": {"max_length": 2048}}'

settings: of SFTConfig. The rows come as ids with labels, -100 where a token has no weight, so that the loss is ours.
"""

import json
import sys
from pathlib import Path
from typing import Any

from datasets import Dataset
from trainer_turns import Turns
from trl import SFTConfig, SFTTrainer

NOT_TRAINED = -100


def labelled(row: dict[str, Any]) -> dict[str, Any]:
    labels = [
        token if weight > 0 else NOT_TRAINED for token, weight in zip(row["input_ids"], row["weights"], strict=True)
    ]
    return {"input_ids": row["input_ids"], "labels": labels}


def main() -> None:
    options = json.loads(sys.argv[1])
    turns = Turns()
    rows = Dataset.from_file(str(Path(options["rows"], "rows.arrow"))).select(options["order"])
    trainer = SFTTrainer(
        model=options["model"],
        args=SFTConfig(
            output_dir=options["out"],
            use_cpu=True,
            report_to="none",
            save_strategy="no",
            disable_tqdm=True,
            logging_steps=1,
            num_train_epochs=1,
            train_sampling_strategy="sequential",  # so that both sides have the same rows in every step
            **options["settings"],
        ),
        train_dataset=rows.map(labelled, remove_columns=rows.column_names),
        callbacks=[turns],
    )
    trainer.train()


if __name__ == "__main__":
    main()
