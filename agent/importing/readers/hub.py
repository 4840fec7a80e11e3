"""Datasets on the Hugging Face Hub, streamed through the `datasets` library: nothing is downloaded but what is read.

    runs, dataset = hub_source("SWE-bench/SWE-smith-trajectories:tool")       # OWNER/NAME[@REVISION][:CONFIG][:SPLIT]
    next(runs(Tally())).content["messages"]

A revision is a commit, a tag or a branch; without one, the dataset is read as it is today. HF_ENDPOINT, HF_TOKEN,
HF_HOME and HF_HUB_OFFLINE count as everywhere.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple, Protocol

from srft.agent.importing.readers import RawRun, Tally
from srft.agent.models.contract import well_formed_within
from srft.env.errors import InputError

_NAME = re.compile(r"([\w.-]+/[\w.-]+)(?:@([\w.-]+(?:/[\w.-]+)*))?((?::[\w.-]+){0,2})")
_PATIENCE_S = 20.0


class HubName(NamedTuple):
    """The name of a dataset. parts: a configuration, a split, or both. `str` is the name without the parts."""

    dataset: str
    revision: str | None
    parts: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.dataset}@{self.revision}" if self.revision else self.dataset


def hub_name(text: str) -> HubName | None:
    """A name on the Hub; `None` for what is none.

    >>> hub_name("allenai/Sera@v1:train")
    HubName(dataset='allenai/Sera', revision='v1', parts=('train',))
    """
    found = _NAME.fullmatch(text)
    return HubName(found[1], found[2], tuple(found[3].split(":")[1:])) if found else None


class Hub(Protocol):
    """What is asked of a hub. Each may raise whatever its library raises."""

    def configs(self, name: HubName) -> Sequence[str]: ...
    def splits(self, name: HubName, config: str) -> Sequence[str]: ...
    def rows(self, name: HubName, config: str, split: str) -> Iterable[dict[str, Any]]: ...


class HuggingFace:
    """The Hub, by its own libraries, which are imported when the first question is asked: that takes seconds."""

    def configs(self, name: HubName) -> Sequence[str]:
        from datasets import get_dataset_config_names
        from huggingface_hub import HfApi

        # Says at once what `datasets` says after many attempts.
        HfApi().dataset_info(name.dataset, revision=name.revision, timeout=_PATIENCE_S)
        return get_dataset_config_names(name.dataset, revision=name.revision)

    def splits(self, name: HubName, config: str) -> Sequence[str]:
        from datasets import get_dataset_split_names

        return get_dataset_split_names(name.dataset, config, revision=name.revision)

    def rows(self, name: HubName, config: str, split: str) -> Iterable[dict[str, Any]]:
        from datasets import load_dataset

        return load_dataset(name.dataset, config, split=split, revision=name.revision, streaming=True)


def hub_source(text: str, hub: Hub | None = None) -> tuple[Callable[[Tally], Iterator[RawRun]], str] | None:
    """The runs of a dataset, and its name; `None` for a text that is no name. Nothing is asked of the Hub until the
    first run is."""
    name = hub_name(text)
    if name is None:
        return None

    def runs(tally: Tally) -> Iterator[RawRun]:
        where, rows = _opened(name, text, hub or HuggingFace())
        number = 0
        iterator = iter(rows)
        while True:
            try:
                row = next(iterator, None)
            except Exception as error:
                raise InputError(
                    f"{where}: its rows end after row {number} ({_told(error)}); the same command again resumes after "
                    "what is on file"
                ) from error
            if row is None:
                return
            number += 1
            yield RawRun(f"{where}: row {number}", name.dataset.rpartition("/")[2], number, well_formed_within(row))

    return runs, name.dataset


def _opened(name: HubName, text: str, hub: Hub) -> tuple[str, Iterable[dict[str, Any]]]:
    """The full name and the rows of one configuration and one split. Raises InputError."""
    try:
        configs = list(hub.configs(name))
        config = _config(name, text, configs)
        split = _split(name, text, config, configs, list(hub.splits(name, config)))
        return f"{name}:{config}:{split}", hub.rows(name, config, split)
    except InputError:
        raise
    except Exception as error:
        raise InputError(
            f"{text}: no file or folder of that name here, and the Hugging Face Hub does not give a dataset of it "
            f"({_told(error)}). Check the name, the network, HF_ENDPOINT and HF_TOKEN, or fetch the dataset elsewhere "
            "and give its folder"
        ) from error


def _config(name: HubName, text: str, configs: list[str]) -> str:
    if len(name.parts) == 2 and name.parts[0] not in configs:
        raise InputError(f"{text}: no configuration {name.parts[0]}; there are {', '.join(configs)}")
    if name.parts and name.parts[0] in configs:
        return name.parts[0]
    if "default" in configs:
        return "default"
    if len(configs) != 1:
        raise InputError(f"{text}: the configurations {', '.join(configs)}; name one, as in {name}:{configs[0]}")
    return configs[0]


def _split(name: HubName, text: str, config: str, configs: list[str], splits: list[str]) -> str:
    named = name.parts[1:] if name.parts[:1] == (config,) else name.parts
    if not named and len(splits) == 1:
        return splits[0]
    if named and named[0] in splits:
        return named[0]
    there = f"{name}:{config}:{splits[0]}" if len(configs) > 1 else f"{name}:{splits[0]}"
    told = f"no split {named[0]}" if named else "several splits, which may hold the same runs"
    raise InputError(f"{text}: {told}; there are {', '.join(splits)}: name one, as in {there}")


def _told(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())}"[:300]
