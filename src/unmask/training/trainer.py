"""Training loop shared by all methods: fill a buffer with rollouts, take F gradient steps on it, repeat.

    for each buffer:   rollouts = method.collect(…);  buffer_data = method.prepare(rollouts)
      for each update: update_data = method.refresh(…);  loss = Σ method.losses(part of the buffer);  step

The gradient is accumulated over micro-batches that fit in memory and summed over processes (distributed.py). Neither
changes the result beyond rounding, except that dropout masks of the adapter depend on the micro-batches.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from unmask.common import distributed
from unmask.common.errors import TransientError
from unmask.common.progress import Progress
from unmask.common.seeding import Seeds
from unmask.config.specs import RunSpec
from unmask.methods import Method
from unmask.models.policy import Policy
from unmask.models.sharding import is_sharded
from unmask.rl.buffer_data import leaves, restore, take
from unmask.rl.rollouts import Rollouts, RolloutSettings
from unmask.rl.row_checks import check_buffer_data, check_losses, check_update_data
from unmask.tasks import Example, Task
from unmask.training import alarm
from unmask.training.checkpoint import Checkpoint, flatten, optimizer_state, restore_optimizer_state, unflatten
from unmask.training.checkpoint_writer import CheckpointWriter
from unmask.training.epochs import examples_of
from unmask.training.flop_counter import FlopCounter
from unmask.training.nonfinite import MOST_SKIPPED, SPOILT, given_up, skipped_in_a_row
from unmask.training.optimizer import adamw, clip, schedule, set_rates
from unmask.training.preemption import Preempted
from unmask.training.sharing import check_equal, check_shares
from unmask.training.trackers import Trackers
from unmask.training.validation import BestCheckpoint


@dataclass
class Trainer:
    """State of one training run. `train` is its only public method."""

    run: RunSpec
    policy: Policy
    method: Method
    task: Task
    examples: list[Example]
    folder: Path  # where checkpoints are written
    identity: str  # names everything that decides the result: spec, data, base model
    asked_to_stop: Callable[[], bool] = lambda: False  # polled after each update
    held_back: list[Example] = field(default_factory=list)  # validation split, used to keep the best policy
    checkpoint_minutes: float = 10.0  # between two checkpoints; 0: after every update
    activation_checkpointing: bool = False  # recompute activations in the backward pass; changes no bit of the result
    trackers: Trackers = field(default_factory=Trackers)  # where metrics are logged while training runs

    def __post_init__(self) -> None:
        self.settings = self.run.training
        check_shares(self.settings, distributed.world())
        self.seeds = Seeds(("train", self.run.seed))
        self.updates = self.settings.buffers * self.settings.updates_per_buffer
        self.metrics: list[dict[str, Any]] = []
        self.validation = BestCheckpoint(self.settings.validate_every, self.held_back)

    def train(self) -> list[dict[str, Any]]:
        """Train to the end, from the newest checkpoint if there is one; return the metrics, one row per update."""
        s = self.settings
        self.policy.model.activation_checkpointing = self.activation_checkpointing

        # The head must exist before `make_trainable`, which takes the snapshot that serves as the reference policy.
        self.policy.add_head(self.run.rollout_sampler, self.seeds.number("head"))
        self.policy.make_trainable(
            rank=s.lora_rank,
            alpha=s.lora_alpha,
            dropout=s.lora_dropout,
            targets=s.lora_targets,
            seed=self.seeds.number("adapter"),
            merge_start=s.merge_start,
        )

        # `begin` may freeze parameters, so the optimiser is built from what is still trainable after it.
        self.method.begin(self.policy)
        self.examples = self.method.usable(self.policy, self.task, self.examples, self._rollout_settings())
        parameters = self.policy.trainable()
        optimizer = adamw(parameters, s)

        self.writer = CheckpointWriter(self.folder, self.identity, self.checkpoint_minutes)
        with self.writer, self.trackers:
            self._updates(parameters, optimizer)
        self.validation.restore_best(self.policy)
        distributed.barrier()  # rank 0 may have written a checkpoint for longer than a gathering waits
        self.policy.gather()
        return self.metrics

    def _updates(self, parameters: dict[str, Tensor], optimizer: torch.optim.Optimizer) -> None:
        """Run all remaining updates."""
        s = self.settings
        start, rollouts, buffer_data = self._resume(parameters, optimizer)
        done = self.metrics[-1]["flops"] if self.metrics and distributed.rank() == 0 else 0.0
        compute = FlopCounter(self.policy.model, done)
        progress = Progress(self.run.name, self.updates, start)
        self.trackers.start(self.metrics)
        for update in range(start, self.updates):
            began = time.monotonic()
            buffer, inner = divmod(update, s.updates_per_buffer)
            if inner == 0:
                seeds = self.seeds.child("buffer", buffer)
                # Ranks that have diverged are caught before they spend a buffer of rollouts.
                check_equal(parameters, self.run.name, update)
                rollouts, buffer_data = self._fill(buffer, seeds)

            row = self._step(update, rollouts, buffer_data, parameters, optimizer)
            if s.reference_sync and (update + 1) % s.reference_sync == 0:
                # `buffer_data` of the current buffer keeps log-probabilities of the old reference.
                self.policy.set_reference(s.reference_mix)
            row |= self._validate(update + 1)
            row["flops"] = distributed.total(compute.flops)  # cumulative over the run, rollouts and validation included
            row["seconds"] = round(time.monotonic() - began, 3)
            self.metrics.append(row)
            alarm.mark(self.run, self.metrics)
            self.trackers.log(row)
            progress.show(update + 1, reward=row["reward"], loss=row["loss"])

            if skipped_in_a_row(self.metrics) >= MOST_SKIPPED:
                # Saved outside the checkpoints: a restart must fail again rather than resume from a broken state.
                state = self._state(update + 1, parameters, optimizer, rollouts, buffer_data)
                self.writer.write_apart(state, self.folder / SPOILT)
                raise given_up(self.run.name, update + 1, self.folder)

            # All ranks must agree, or one would wait in a collective that the others never enter.
            stop, due = distributed.any_rank(self.asked_to_stop(), self.writer.due())
            stop = stop and update + 1 < self.updates
            if stop or due:
                self.writer.write(self._state(update + 1, parameters, optimizer, rollouts, buffer_data))
            if stop:
                self.writer.finish()
                # torchrun ends all ranks once one exits with an error code, so none may exit while rank 0 still writes.
                distributed.barrier()
                print(f"{self.run.name}: stopped by a signal after update {update + 1}; the next start resumes there")
                raise Preempted
        check_equal(parameters, self.run.name, self.updates)

    def _fill(self, buffer: int, seeds: Seeds) -> tuple[Rollouts, Any]:
        """Collect a new buffer; return it with the data that all its updates share."""
        s = self.settings
        torch.manual_seed(seeds.number("dropout") + distributed.rank())
        # Set the mode before each phase, whatever the previous one left: log-probabilities are those of the policy
        # without dropout, unless `rollout_dropout` reproduces the released code.
        self.policy.model.train(s.rollout_dropout)
        rollouts = self.method.collect(
            self.policy, self.task, self._prompts(buffer), self._rollout_settings(buffer), seeds
        )
        self.policy.model.train(s.rollout_dropout)
        with self.policy.narrowed():
            buffer_data = self.method.prepare(self.policy, rollouts, s.updates_per_buffer, seeds)
        return rollouts, check_buffer_data(self.method, buffer_data, len(rollouts))

    def _step(
        self,
        update: int,
        rollouts: Rollouts,
        buffer_data: Any,
        parameters: dict[str, Tensor],
        optimizer: torch.optim.Optimizer,
    ) -> dict[str, Any]:
        """Take one optimiser step; return its row of metrics."""
        inner = update % self.settings.updates_per_buffer
        seeds = self.seeds.child("update", update)
        torch.manual_seed(seeds.number("dropout") + distributed.rank())
        self.policy.model.train(self.settings.rollout_dropout)  # as for `prepare`: log-probabilities without dropout
        with self.policy.narrowed():
            update_data = self.method.refresh(self.policy, rollouts, buffer_data, inner, seeds)
        check_update_data(self.method, update_data, len(rollouts))

        self.policy.model.train()
        sums: dict[str, Tensor] = {}
        progress = rollouts.progress("gradient")
        for part in rollouts.parts():
            # Seeded by the micro-batch's first row, so dropout does not depend on which rank works on it.
            torch.manual_seed(seeds.number("dropout") + part.start)
            some = rollouts.part(part), take(buffer_data, part), take(update_data, part)
            for rows, metrics in self.method.losses(self.policy, *some):
                check_losses(self.method, rows, metrics, part.stop - part.start)
                # A sum, not a mean: losses are already normalised by the whole buffer, so micro-batches add up.
                rows.sum().backward()
                for key, value in {"loss": rows, **metrics}.items():
                    sums[key] = sums.get(key, 0.0) + value.detach().sum()
            progress.show(part.stop - distributed.local_slice(len(rollouts)).start)

        # Clip after the all-reduce: the norm is that of the full gradient and the step is the same on every rank.
        # The backward pass has already summed the gradients of sharded parameters.
        gradients = [p.grad for p in parameters.values() if p.grad is not None and not is_sharded(p)]
        distributed.add([*gradients, *sums.values()])
        norms = clip(parameters, self.settings.max_grad_norm)
        set_rates(optimizer, schedule(update, self.updates, self.settings))

        # Skip non-finite updates: one NaN would spoil parameters and Adam's moments for good.
        loss = sums.pop("loss").item()
        sound = math.isfinite(loss) and all(map(math.isfinite, norms.values()))
        if sound:
            optimizer.step()
        optimizer.zero_grad(set_to_none=True)

        return {
            "step": update + 1,
            "reward": rollouts.reward.mean().item(),
            "accuracy": rollouts.correct.mean().item(),
            "loss": loss,
            **norms,
            "nfe": rollouts.nfe.float().mean().item(),
            "tokens": rollouts.loss_mask.sum(1).mean().item(),
            "entropy": rollouts.mean_entropy(),
            "skipped": int(not sound),
            "flat_groups": rollouts.zero_variance_groups,
            "partial_credit": rollouts.partial_credit,
            **({} if rollouts.cut is None else {"prompts_cut": rollouts.cut.float().mean().item()}),
            **{key: (value / len(rollouts)).item() for key, value in sums.items()},
        }

    def _validate(self, updates: int) -> dict[str, Any]:
        """Return the validation columns: None between evaluations, no columns if validation is off."""
        if not self.validation.every:
            return {}
        # `validate_every` counts buffers, so validation runs only after the last update of one.
        buffers, rest = divmod(updates, self.settings.updates_per_buffer)
        if rest or not self.validation.due(buffers, self.settings.buffers):
            return {"validation": None, "validation_strict": None}
        seeds = self.seeds.child("validation", buffers)
        return self.validation.evaluate(self.policy, self.task, self._rollout_settings(buffers - 1), seeds)

    def _prompts(self, buffer: int) -> list[Example]:
        return examples_of(buffer, self.examples, self.settings.prompts_per_buffer, self.seeds)

    def _rollout_settings(self, buffer: int = 0) -> RolloutSettings:
        return RolloutSettings.of_run(self.run, self.settings, self._label(buffer))

    def _label(self, buffer: int) -> str:
        return f"{self.run.name}  buffer {buffer + 1}/{self.settings.buffers}"

    # --- checkpoints --------------------------------------------------------------------------------------------------

    def _state(
        self,
        step: int,
        parameters: dict[str, Tensor],
        optimizer: torch.optim.Optimizer,
        rollouts: Rollouts,
        buffer_data: Any,
    ) -> Checkpoint:
        return Checkpoint(
            step,
            parameters=parameters,
            optimizer=optimizer_state(optimizer),
            buffer=flatten(rollouts=rollouts.tensors(), buffer_data=dict(leaves(buffer_data))),
            metrics=self.metrics,
            reference=self.policy.snapshot,
            best=self.validation.best,
        )

    def _resume(self, parameters: dict[str, Tensor], optimizer: torch.optim.Optimizer) -> tuple[int, Any, Any]:
        """Restore the newest checkpoint; return (updates done, current buffer, its data).

        Returns (0, None, None) if there is no checkpoint. Raises TransientError if ranks find different ones.
        """
        model = self.policy.model
        with distributed.rank0_first():  # rank 0 goes first and removes damaged checkpoints
            state = Checkpoint.newest(self.folder, self.identity, model.device, is_sharded=model.is_sharded)
        # On a network file system a node may see files late; resuming from different steps would diverge silently.
        if not distributed.same(state.step if state else 0):
            raise TransientError(
                f"{self.folder}: processes see different checkpoints; wait for the shared disk and start again"
            )
        if state is None:
            return 0, None, None
        if model.is_sharded:
            state = state.sharded_like(self.policy.snapshot | parameters, optimizer)

        # Copied in place, because the optimiser already holds these tensors.
        with torch.no_grad():
            for name, parameter in parameters.items():
                parameter.copy_(state.parameters[name])
        restore_optimizer_state(optimizer, state.optimizer)
        self.metrics = state.metrics
        self.policy.snapshot = state.reference
        self.validation.resume(state.best, self.metrics)
        self.writer.seen(state)

        # A checkpoint may lie in the middle of a buffer, whose remaining updates use the rollouts saved with it.
        s, saved = self.settings, unflatten(state.buffer, "rollouts")
        rollouts = Rollouts(
            **saved,
            group_size=s.group_size,
            buffer_rows=len(saved["reward"]),
            micro_batch_size=s.micro_batch_size,
            name=self._label((state.step - 1) // s.updates_per_buffer),
        )
        print(f"{self.run.name}: resumed after update {state.step}", flush=True)
        return state.step, rollouts, restore(self.method.buffer_type, unflatten(state.buffer, "buffer_data"))
