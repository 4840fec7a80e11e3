"""The train stage: what its caller reads where the machine has too little memory."""

import pytest
import torch

from srft.harness.serve.memory import OutOfMemory
from srft.harness.stages import train as module
from srft.harness.stages.train import TrainConfig, train
from srft.train.fit.recipe import Recipe


@pytest.mark.parametrize("error", [torch.OutOfMemoryError("CUDA out of memory. Tried to allocate"), MemoryError()])
def test_out_of_memory_names_what_to_change(tmp_path, monkeypatch, error):
    def finetune(*given, **settings):
        raise error

    monkeypatch.setattr(module, "finetune", finetune)
    monkeypatch.setattr(module.RowTable, "open", lambda folder: None)
    config = TrainConfig(rows=tmp_path, model="m", out=tmp_path / "model", recipe=Recipe())
    with pytest.raises(OutOfMemory, match=r"model: out of memory \(.*\)\. Set gradient_checkpointing: true, a smaller"):
        train(config)
