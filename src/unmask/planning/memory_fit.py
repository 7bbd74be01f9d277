"""Check of every run against the memory of a GPU, with the config keys to change where it does not fit."""

from __future__ import annotations

from dataclasses import dataclass, replace

from unmask.config.grid.grid import Grid
from unmask.config.schema.runtime import Runtime
from unmask.config.specs import EvaluationSpec, RunSpec
from unmask.models.shapes import Shape
from unmask.planning.memory import evaluation_memory, total, training_memory

EVALUATION = "evaluation "  # prefix of the phase of an evaluation
Change = dict[str, int]  # settings of the training or of `runtime`, and their new values


def memory_by_phase(
    grid: Grid,
    run: RunSpec,
    shape: Shape,
    evaluations: list[EvaluationSpec],
) -> dict[str, float]:
    """Return the GB of a GPU that each phase of a run's training, and each of its evaluations, needs."""
    needed = {}
    if run.trains:
        checkpointing = grid.runtime.activation_checkpointing
        phases = training_memory(shape, run, grid.cost, grid.gpus(run.name), checkpointing)
        for phase, parts in phases.items():
            needed[phase] = total(parts)
    for evaluation in evaluations:
        parts = evaluation_memory(shape, run, evaluation, grid.cost)
        needed[EVALUATION + evaluation.name] = total(parts)
    return needed


def misfits(
    grid: Grid,
    run: RunSpec,
    shape: Shape,
    evaluations: list[EvaluationSpec],
) -> list[str]:
    """Explain why a run's training or largest evaluation does not fit, with changes of config.yaml that make it fit."""
    limit = grid.cost.gpu_memory
    if limit is None:
        return []

    # Training and evaluations are fixed by different settings: report the worst phase of each.
    case = _Case(grid, limit, run, shape)
    needed = memory_by_phase(grid, run, shape, evaluations)
    training: dict[str, float] = {}
    evaluating: dict[str, float] = {}
    for phase, size in needed.items():
        kind = evaluating if phase.startswith(EVALUATION) else training
        kind[phase] = size

    said = []
    worst, size = _largest(training)
    if size > limit:
        said.append(case.explained(worst, size, case.smaller_training(worst)))
    worst, size = _largest(evaluating)
    if size > limit:
        (spec,) = (one for one in evaluations if worst == EVALUATION + one.name)
        said.append(case.explained(worst, size, case.smaller_batches(spec)))
    return said


def _largest(needed: dict[str, float]) -> tuple[str, float]:
    """Return the phase that needs most, with the GB that it needs; 0 GB if there is none."""
    worst = max(needed, key=lambda phase: needed[phase], default="")
    return worst, needed.get(worst, 0.0)


@dataclass(frozen=True)
class _Case:
    """Run that may not fit into a GPU with `limit` GB."""

    grid: Grid
    limit: float
    run: RunSpec
    shape: Shape

    def explained(self, phase: str, needed: float, ways: list[str]) -> str:
        """Say what does not fit, and the changes in `ways` that make it fit."""
        end = ": use a GPU with more memory, or a smaller model."
        if ways:
            end = f". Set {', or '.join(ways)}."
        elif self.run.trains and self.run.training.lora_rank == 0 and not phase.startswith(EVALUATION):
            end = ": use a GPU with more memory, a smaller model, or an adapter (lora_rank above 0)."
        what = f"{needed:.1f} GB ({phase}) do not fit into the {self.limit:g} GB of"
        return f"{what} scales.{self.grid.scale}.cost.gpu_memory{end}"

    def smaller_batches(self, spec: EvaluationSpec) -> list[str]:
        """Return the largest `rows_per_batch` with which an evaluation fits, as a line for config.yaml, or nothing."""
        for rows in range(spec.rows_per_batch - 1, 0, -1):
            smaller = replace(spec, rows_per_batch=rows)
            parts = evaluation_memory(self.shape, self.run, smaller, self.grid.cost)
            needed = total(parts)
            if needed <= self.limit:
                return [f"evaluations.{spec.name}.rows_per_batch: {rows} ({needed:.1f} GB)"]
        return []

    def smaller_training(self, phase: str) -> list[str]:
        """Return single changes with which this phase of the training fits, else the first pair that does.

        Of `micro_batch_size`, the largest value that fits is named.
        """
        training = self.run.training
        # Where all weights are trained, they are sharded: more GPUs help in every phase.
        more = self.more_gpus() if training.lora_rank == 0 else []
        if more:
            return more

        # Rollouts depend on how many prompts are decoded together, the other phases on rows and checkpointing.
        if phase == "rollouts" and training.prompts_per_decode_batch == 1:
            return []
        if phase == "rollouts":
            return self._first(phase, [{"prompts_per_decode_batch": 1}])

        fewer = range(training.micro_batch_size - 1, 0, -1)
        rows: list[Change] = [{"micro_batch_size": count} for count in fewer]
        if self.grid.runtime.activation_checkpointing:
            return self._first(phase, rows)

        checkpointing: Change = {"activation_checkpointing": True}
        ways = self._first(phase, rows) + self._first(phase, [checkpointing])
        if ways:
            return ways
        both = [checkpointing | change for change in rows]
        return self._first(phase, both)

    def more_gpus(self) -> list[str]:
        """Return the smallest larger number of GPUs on which all phases fit, as a line for config.yaml, or nothing."""
        for gpus in range(self.grid.gpus(self.run.name) + 1, self.run.processes + 1):
            if self.run.shared_by(gpus) < gpus:
                continue  # the prompts of a buffer cannot be split among so many
            cost = self.grid.cost.model_copy(update={"gpus": gpus})
            needed = max(memory_by_phase(replace(self.grid, cost=cost), self.run, self.shape, []).values())
            if needed <= self.limit:
                return [f"scales.{self.grid.scale}.cost.gpus: {gpus} ({needed:.1f} GB)"]
        return []

    def _first(self, phase: str, changes: list[Change]) -> list[str]:
        """Return the first of `changes` with which the phase fits, as a line for config.yaml; empty if none does."""
        for change in changes:
            runtime = {key: value for key, value in change.items() if key in Runtime.model_fields}
            training = {key: value for key, value in change.items() if key not in runtime}
            grid = replace(self.grid, runtime=self.grid.runtime.model_copy(update=runtime))
            run = replace(self.run, training=self.run.training.model_copy(update=training))
            needed = memory_by_phase(grid, run, self.shape, [])[phase]
            if needed <= self.limit:
                # Only `by_task` and grids override this layer, so the advice takes effect wherever the value came from.
                scale = f"scales.{self.grid.scale}"
                lines = [f"{scale}.runtime.{key}: {str(value).lower()}" for key, value in runtime.items()]
                lines += [f"{scale}.methods.{self.run.method}.{key}: {value}" for key, value in training.items()]
                return [f"{' and '.join(lines)} ({needed:.1f} GB)"]
        return []
