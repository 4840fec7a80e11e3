"""Datasets on the Hugging Face Hub, streamed through the `datasets` library: nothing is downloaded but what is read.

    runs, dataset = hub_source("SWE-bench/SWE-smith-trajectories:tool")       # OWNER/NAME[:CONFIG][:SPLIT]
    next(runs(Tally())).content["messages"]

HF_ENDPOINT, HF_TOKEN, HF_HOME and HF_HUB_OFFLINE count as everywhere.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from srft.agent.importing.readers import RawRun, Tally
from srft.agent.models.contract import well_formed_within
from srft.env.errors import InputError

_PATIENCE_S = 20.0


def hub_source(name: str) -> tuple[Callable[[Tally], Iterator[RawRun]], str]:
    """The runs of a dataset, and its name. Nothing is asked of the Hub until the first run is."""
    dataset, *parts = name.split(":")

    def runs(tally: Tally) -> Iterator[RawRun]:
        rows, where = _opened(name, dataset, parts)
        number = 0
        try:
            for number, row in enumerate(rows, 1):
                spot = f"{where}: row {number}"
                yield RawRun(spot, dataset.rpartition("/")[2], number, well_formed_within(row))
        except GeneratorExit:
            raise
        except InputError:
            raise
        except Exception as error:
            raise InputError(
                f"{where}: its rows end after row {number} ({_told(error)}); the same command again resumes after what "
                "is on file"
            ) from error

    return runs, dataset


def _opened(name: str, dataset: str, parts: list[str]) -> tuple[Any, str]:
    """The rows of one configuration and one split. Raises InputError."""
    from datasets import get_dataset_config_names, get_dataset_split_names, load_dataset
    from huggingface_hub import HfApi

    try:
        HfApi().dataset_info(dataset, timeout=_PATIENCE_S)  # says at once what `datasets` says after many attempts
        configs = list(get_dataset_config_names(dataset))
        config = parts[0] if len(parts) == 2 or (parts and parts[0] in configs) else None
        if config is None:
            config = configs[0] if len(configs) == 1 or "default" not in configs else "default"
            if len(configs) > 1 and "default" not in configs:
                raise InputError(
                    f"{name}: the configurations {', '.join(configs)}; name one, as in {dataset}:{configs[0]}"
                )
        elif config not in configs:
            raise InputError(f"{name}: no configuration {config}; there are {', '.join(configs)}")
        splits = list(get_dataset_split_names(dataset, config))
        split = parts[-1] if len(parts) == 2 or (parts and parts[0] != config) else None
        if split is None and len(splits) == 1:
            split = splits[0]
        if split not in splits:
            there = f"{dataset}:{config}:{splits[0]}" if len(configs) > 1 else f"{dataset}:{splits[0]}"
            told = f"no split {split}" if split else "several splits, which may hold the same runs"
            raise InputError(f"{name}: {told}; there are {', '.join(splits)}: name one, as in {there}")
        return load_dataset(dataset, config, split=split, streaming=True), f"{dataset}:{config}:{split}"
    except InputError:
        raise
    except Exception as error:
        raise InputError(
            f"{name}: no file or folder of that name here, and the Hugging Face Hub does not give a dataset of it "
            f"({_told(error)}). Check the name, the network, HF_ENDPOINT and HF_TOKEN, or fetch the dataset elsewhere "
            "and give its folder"
        ) from error


def _told(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())}"[:300]
