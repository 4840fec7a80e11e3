"""Two processes that share a sequence beside each alone, for the architectures that are named; run under torchrun.

    torchrun --nproc-per-node 2 -m tests.train.fit.shared_sequences llama qwen3_next

Prints for each a JSON line {"kind": ..., "loss": how far the losses are apart, "gradient": how far the gradients are,
relative to the largest}, or with the reason {"refused": ...}.
"""

import json
import sys
from typing import Any

import torch
from torch import distributed

from srft.env.errors import InputError
from srft.train.fit.attention import DOCUMENTS
from srft.train.fit.base import model_class
from srft.train.fit.loss import install_loss
from srft.train.fit.probe import batch_of, probe_loss
from srft.train.fit.sequence import SequenceGroup
from tests.train.fit.tiny_models import tiny_config


def compare(kind: str, group: SequenceGroup) -> dict[str, Any]:
    torch.manual_seed(0)
    config = tiny_config(kind)
    model = model_class(config).from_config(config, attn_implementation="eager")
    forward = install_loss(model, attention=DOCUMENTS)
    forward.sequence = group
    probe_loss(model, forward, several=False, is_sharded=True, device=torch.device("cpu"))
    model.eval()
    whole = batch_of([torch.arange(3, 23), torch.arange(40, 53)])
    found: dict[str, Any] = {"kind": kind}
    sums: list[list[torch.Tensor]] = []
    for batch in (whole, group.part(whole)):
        model.zero_grad()
        loss = model(batch=batch)
        loss.backward()
        sums.append([loss.detach().clone(), *(weight.grad for weight in model.parameters() if weight.grad is not None)])
    for part in sums[1]:
        distributed.all_reduce(part, group=group.group)
    found["loss"] = float(abs(sums[0][0] - sums[1][0]) / abs(sums[0][0]))
    pairs = list(zip(sums[0][1:], sums[1][1:], strict=True))
    largest = max(float(one.abs().max()) for one, _ in pairs)
    found["gradient"] = max(float((one - other).abs().max()) for one, other in pairs) / largest
    return found


def main() -> None:
    distributed.init_process_group("gloo")
    group = SequenceGroup.of(2)
    assert group is not None
    for kind in sys.argv[1:]:
        try:
            found = compare(kind, group)
        except InputError as error:
            found = {"kind": kind, "refused": str(error)}
        if distributed.get_rank() == 0:
            print(json.dumps(found), flush=True)
    distributed.destroy_process_group()


if __name__ == "__main__":
    main()
