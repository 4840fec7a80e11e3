"""The trainer: `transformers.Trainer` with our loss, our order of the data, and figures of our own.

    trainer = MaskedTrainer(model, arguments, train=schedule, held_out=None)
    trainer.train(resume_from_checkpoint=None)

What is different from the plain Trainer, and why:

- The loss of an optimizer step is the weighted sum over all its micro-batches and processes, divided by the sum of all
  their weights once. A mean of means would weigh a token by the company it is in.
- The order of the data is the `Schedule`'s; there is no sampler to be restored.
- A loss or a gradient that is not finite stops the training before it reaches the weights, and names the rows.
- Tokens and trained tokens a second, and the time to go, are logged with the loss.
"""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from accelerate import FullyShardedDataParallelPlugin, ParallelismConfig, PartialState
from accelerate.utils import DistributedType
from torch import Tensor
from torch.distributed.fsdp import MixedPrecisionPolicy
from torch.utils.data import SequentialSampler
from transformers import PrinterCallback, Trainer, TrainingArguments

from srft.env.errors import InputError, SrftError
from srft.train.fit.loss import LossForward
from srft.train.fit.pack import Batch
from srft.train.fit.probe import probe_loss
from srft.train.fit.schedule import Schedule


class TrainingDiverged(SrftError):
    """A loss or a gradient is not finite. The weights are those of the last step before it."""


class MaskedTrainer(Trainer):
    """model: with `install_loss` done to it, which gave `forward`. train, held_out: what to go through. replicas: under
    FSDP, groups of processes that each hold all shards."""

    # The loss is divided by the weight of the whole step, so not once more by the number of micro-batches.
    loss_is_scaled_for_ga = True

    def __init__(
        self,
        model: Any,
        arguments: TrainingArguments,
        *,
        forward: LossForward,
        train: Schedule,
        held_out: Schedule | None,
        replicas: int = 1,
        **options: Any,
    ) -> None:
        self.forward, self.schedule, self.held_out, self.replicas = forward, train, held_out, replicas
        super().__init__(
            model,
            arguments,
            train_dataset=train,
            eval_dataset=held_out,
            data_collator=_only,
            **options,
        )
        self.remove_callback(PrinterCallback)  # the caller has `on_log`, and stdout is for results
        self._rows: deque[str] = deque(maxlen=64)
        self._input_tokens = 0
        self._trained_tokens = 0
        self._logged_s = time.monotonic()
        self._opened_s = self._logged_s
        self._first_step: int | None = None

    def create_accelerator_and_postprocess(self) -> None:
        """Shard as asked for, also without a GPU: accelerate (1.15) reads FSDP on CPUs as plain data parallelism."""
        super().create_accelerator_and_postprocess()
        state = self.accelerator.state
        if not self.args.fsdp:
            return
        if state.distributed_type == DistributedType.MULTI_CPU:
            state.fsdp_plugin = FullyShardedDataParallelPlugin(**self.args.fsdp_plugin_args)
            state.distributed_type = DistributedType.FSDP
            PartialState._shared_state["distributed_type"] = DistributedType.FSDP
            self.is_fsdp_enabled = True
        if state.distributed_type != DistributedType.FSDP:
            raise InputError(
                "recipe: fsdp is true and there is one process; start it under torchrun with more, or say fsdp: false"
            )
        if self.replicas > 1:
            shape = ParallelismConfig(
                dp_replicate_size=self.replicas, dp_shard_size=self.args.world_size // self.replicas
            )
            state.parallelism_config = shape
            state.device_mesh = shape.get_device_mesh(self.args.device.type)
        if self.args.bf16:
            # accelerate's own policy would also round the rows' weights and the reduced gradients to bfloat16.
            state.fsdp_plugin.mixed_precision_policy = MixedPrecisionPolicy(
                param_dtype=torch.bfloat16, reduce_dtype=torch.float32, cast_forward_inputs=False
            )

    def _get_train_sampler(self, train_dataset: Any = None) -> SequentialSampler:
        return SequentialSampler(self.schedule)

    def _prepare_inputs(self, inputs: Any) -> dict[str, Any]:
        return {"batch": self.moved(inputs["batch"])}

    def moved(self, batch: Batch) -> Batch:
        """To where the model is; where processes share sequences, this one's part."""
        sequence = self.forward.sequence
        if sequence is not None and batch.parts == 1:
            batch = sequence.part(batch)
        moved: dict[str, Any] = {
            name: value.to(self.args.device) for name, value in batch._asdict().items() if isinstance(value, Tensor)
        }
        return batch._replace(**moved)

    @property
    def groups(self) -> tuple[int, int]:
        """How many groups of processes there are that go through batches of their own, and the number of this one."""
        size = self.forward.sequence.size if self.forward.sequence else 1
        return self.accelerator.num_processes // size, self.accelerator.process_index // size

    @contextmanager
    def measuring(self) -> Iterator[Any]:
        """The model as it is called in training, without gradients and dropout."""
        model: Any = self.model_wrapped if self.args.world_size > 1 else self.model
        was_training = model.training
        model.eval()
        with torch.no_grad(), self.compute_loss_context_manager(), self.accelerator.autocast():
            yield model
        model.train(was_training)
        self._logged_s = time.monotonic()

    def probe(self) -> None:
        """Compare the loss with the model's own, where and as training will. Raises InputError."""
        with self.measuring() as model:
            probe_loss(
                model,
                self.forward,
                several=self.schedule.packs_several or self.args.per_device_train_batch_size > 1,
                is_sharded=bool(self.args.fsdp) or self.forward.sequence is not None,
                device=self.args.device,
            )

    def _get_num_items_in_batch(self, batch_samples: list[Any], device: torch.device) -> Tensor:
        """The weight of the whole optimizer step: all of its micro-batches, on all processes, each once."""
        weights = [inputs["batch"].weight_K.sum(dtype=torch.float64) for inputs in batch_samples]
        total = torch.stack(weights).sum().to(device)
        gathered: Tensor = self.accelerator.gather(total.reshape(1))
        return gathered.sum() * self.groups[0] / self.accelerator.num_processes

    def compute_loss(
        self, model: Any, inputs: Any, return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        # DDP and FSDP average the gradients over the processes; the sum is wanted.
        share = self.accelerator.num_processes / num_items_in_batch
        loss = model(batch=inputs["batch"])
        return loss * share.to(loss.dtype)

    def training_step(self, model: Any, inputs: Any, num_items_in_batch: Any = None) -> Tensor:
        batch: Batch = inputs["batch"]
        self._rows.extend(batch.rows)
        loss = super().training_step(model, inputs, num_items_in_batch)
        if not torch.isfinite(loss):
            raise TrainingDiverged(
                f"step {self.state.global_step + 1}: the loss is {loss.item()}; in this pack: {', '.join(batch.rows)}. "
                "The weights are as before this step; leave the rows out, or lower learning_rate"
            )
        if batch.weight_K.any():
            self._input_tokens += batch.input_ids.numel()
            self._trained_tokens += len(batch.target_K)
        return loss

    def _get_grad_norm(self, model: Any, grad_norm: Any = None) -> Any:
        norm = super()._get_grad_norm(model, grad_norm=grad_norm)
        if norm is not None and not math.isfinite(float(norm)):
            raise TrainingDiverged(
                f"step {self.state.global_step + 1}: the gradient's norm is {float(norm)}; among the last packs: "
                f"{', '.join(self._rows)}. The weights are as before this step; lower learning_rate, or try "
                "compute: float32"
            )
        self._rows.clear()
        return norm

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Adds the pace. `epoch` is left out: a schedule is gone through once."""
        if "loss" in logs:
            logs |= self._pace()
        super().log(logs, start_time)

    def _pace(self) -> dict[str, float]:
        now_s = time.monotonic()
        passed_s, self._logged_s = now_s - self._logged_s, now_s
        groups, _ = self.groups
        pace = {
            "tokens_per_s": self._input_tokens * groups / passed_s,
            "trained_tokens_per_s": self._trained_tokens * groups / passed_s,
        }
        self._input_tokens = self._trained_tokens = 0
        done = self.state.global_step - self._initial_global_step
        if done:
            pace["eta_s"] = (now_s - self._opened_s) / done * (self.state.max_steps - self.state.global_step)
        return {name: round(value, 1) for name, value in pace.items()}

    def evaluate(
        self, eval_dataset: Any = None, ignore_keys: Any = None, metric_key_prefix: str = "eval"
    ) -> dict[str, float]:
        """The held-out loss: one weighted mean over all trained tokens of the held-out rows."""
        assert self.held_out is not None
        total = torch.zeros(2, dtype=torch.float64, device=self.args.device)
        with self.measuring() as model:
            groups, group = self.groups
            for number in range(group, len(self.held_out), groups):
                batch = self.moved(self.held_out[number])
                loss = model(batch=batch).double()
                total += torch.stack([loss, batch.weight_K.sum(dtype=torch.float64)])
        loss_sum, weight_sum = self.accelerator.reduce(total).tolist()
        metrics = {f"{metric_key_prefix}_loss": loss_sum / weight_sum}
        self.log(metrics)
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics


def _only(batches: list[Batch]) -> dict[str, Batch]:
    """A micro-batch as one flattened sequence."""
    return {"batch": batches[0] if len(batches) == 1 else _joined(batches)}


def _joined(batches: list[Batch]) -> Batch:
    offsets = torch.tensor([0, *(batch.input_ids.shape[1] for batch in batches)]).cumsum(0)
    return Batch(
        input_ids=torch.cat([batch.input_ids for batch in batches], dim=1),
        position_ids=torch.cat([batch.position_ids for batch in batches], dim=1),
        keep_K=torch.cat([batch.keep_K + offset for batch, offset in zip(batches, offsets, strict=False)]),
        target_K=torch.cat([batch.target_K for batch in batches]),
        weight_K=torch.cat([batch.weight_K for batch in batches]),
        documents=tuple(length for batch in batches for length in batch.documents),
        rows=tuple(name for batch in batches for name in batch.rows),
    )
