"""config.yaml -> every run, model, dataset and experiment of a scale, or all that is wrong with it at once.

Torch-free: the Snakefile calls `expand` while it is parsed, so a mistake is found before anything runs, also with -n.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from typing import Any

from unmask.mistakes import check
from unmask.settings import (
    NOT_SETTINGS,
    Config,
    ScratchModel,
    Training,
    declared_settings,
    normalise,
    settings_of,
)
from unmask.spec import DataSpec, EvaluationSpec, ModelSpec, Run, Spec, ToySpec


@dataclass(frozen=True)
class Experiment:
    """A question with its runs and artifacts; `runs` are addresses."""

    name: str
    question: str
    runs: list[str]
    evaluation: str
    figures: list[str]


@dataclass(frozen=True)
class Grid:
    """All the work of one scale, by name, and the files it makes."""

    scale: str
    wanted: list[str]  # experiments of the target `all`
    exact_toy: ToySpec
    runs: dict[str, Run] = field(default_factory=dict)
    models: dict[str, ModelSpec] = field(default_factory=dict)
    datasets: dict[str, DataSpec] = field(default_factory=dict)
    evaluations: dict[str, EvaluationSpec] = field(default_factory=dict)
    experiments: dict[str, Experiment] = field(default_factory=dict)

    @property
    def specs(self) -> dict[str, Spec]:
        """Every spec by the folder it is written to, below results/{scale}."""
        kinds = {"runs": self.runs, "models": self.models, "data": self.datasets, "evaluations": self.evaluations}
        named = {f"{kind}/{name}": spec for kind, specs in kinds.items() for name, spec in specs.items()}
        return named | {"exact_toy": self.exact_toy}

    def artifacts(self, experiment: str) -> list[str]:
        """Tables and figures of an experiment."""
        root = f"results/{self.scale}"
        figures = self.experiments[experiment].figures
        tables = [f"{root}/tables/{experiment}.{end}" for end in ("md", "tex", "csv")]
        return tables + [f"{root}/figures/{experiment}/{f}.{end}" for f in figures for end in ("pdf", "png")]

    def samples(self, experiment: str) -> list[str]:
        """Sample files that an experiment's scores are made of."""
        one = self.experiments[experiment]
        return [f"results/{self.scale}/runs/{run}/samples-{one.evaluation}.parquet" for run in one.runs]

    def metrics(self, experiment: str) -> list[str]:
        """Metrics of the runs of an experiment that train."""
        trained = [run for run in self.experiments[experiment].runs if self.runs[run].trains]
        return [f"results/{self.scale}/runs/{run}/metrics.csv" for run in trained]

    def adapter(self, run: str | None) -> list[str]:
        """What a run trains; nothing for the base model and for no run."""
        return [f"results/{self.scale}/runs/{run}/adapter"] if run and self.runs[run].trains else []

    def model_data(self, model: str) -> list[str]:
        """Splits that a base model made here is trained and measured on."""
        task = self.models[model].task
        return (
            [f"results/{self.scale}/data/{task}/{split}.parquet" for split in ("train", "validation")] if task else []
        )


def expand(raw: dict[str, Any]) -> Grid:
    """The grid of the scale that `raw['scale']` names. Raises ConfigError with every mistake."""
    raw = normalise(raw)
    check(raw)
    config = Config.model_validate(raw)
    scale = config.scales[config.scale]
    grid = Grid(config.scale, scale.experiments, _exact_toy(config))
    for task in scale.tasks:
        grid.datasets[task] = DataSpec(task, _task_settings(config, task))
    for name, evaluation in config.evaluations.items():
        samplers = {s: config.samplers[s].model_dump() for s in evaluation.samplers}
        grid.evaluations[name] = EvaluationSpec(
            name, samplers, scale.lengths, scale.block_length, evaluation.temperature, evaluation.rows_per_batch
        )
    for name, experiment in config.experiments.items():
        runs = _runs(config, experiment)
        starts = [
            _run(config, config.methods[r.method]["start_from"], r.task, r.seed, {}) for r in runs if r.start_from
        ]
        for run in starts + runs:
            grid.runs[run.name] = run
            grid.models.setdefault(run.model, _model(config, run))
        grid.experiments[name] = Experiment(
            name, experiment.question, [r.name for r in runs], experiment.evaluation, experiment.figures
        )
    return grid


def _runs(config: Config, experiment: Any) -> list[Run]:
    """The experiment's runs in a stable order; a variant that equals the default is the default run."""
    scale = config.scales[config.scale]
    found: dict[str, Run] = {}
    for method in experiment.methods:
        known = settings_of(_algorithm(config, method)).model_fields
        axes = {key: values for key, values in experiment.grid.items() if key in known}
        for task, values, seed in itertools.product(
            experiment.tasks or scale.tasks, itertools.product(*axes.values()), scale.seeds
        ):
            run = _run(config, method, task, seed, dict(zip(axes, values, strict=True)))
            found.setdefault(run.name, run)
    return list(found.values())


def _run(config: Config, method: str, task: str, seed: int, choice: dict[str, Any]) -> Run:
    scale = config.scales[config.scale]
    default = _settings(config, method, task)
    changed = {key: value for key, value in choice.items() if default[key] != value}
    variant = "+".join(f"{key}~{value}" for key, value in sorted(changed.items())) or "default"
    values = default | changed
    training = {key: values[key] for key in Training.model_fields}
    own = {key: value for key, value in values.items() if key not in Training.model_fields}
    scratch = isinstance(config.models[scale.model], ScratchModel)
    start = config.methods[method].get("start_from")
    return Run(
        name=f"{method}/{task}/{variant}/seed-{seed}",
        method=method,
        algorithm=_algorithm(config, method),
        start_from=_run(config, start, task, seed, {}).name if start else None,
        task=task,
        variant=variant,
        seed=seed,
        model=f"{scale.model}/{task}/seed-{seed}" if scratch else scale.model,
        training=training,
        method_settings=own,
        task_settings=_task_settings(config, task),
        sampler=config.samplers[training["sampler"]].model_dump(),
        block_length=scale.block_length,
    )


def _model(config: Config, run: Run) -> ModelSpec:
    """The base model of a run. A model made here depends on the task and the seed, so that seeds share nothing."""
    scale = config.scales[config.scale]
    model = config.models[scale.model]
    settings = model.model_dump()
    source = settings.pop("source")
    if not isinstance(model, ScratchModel):
        return ModelSpec(run.model, source, settings)
    settings["pretraining"] = settings["pretraining"][run.task]
    return ModelSpec(
        run.model, source, settings, run.task, run.task_settings, run.seed, scale.block_length, scale.lengths
    )


def _exact_toy(config: Config) -> ToySpec:
    """The exact laboratory's experiment; a curve's settings are its method's, then the toy's, then its own."""
    settings = config.exact_toy.model_dump() | config.scales[config.scale].exact_toy
    overrides, changes = settings.pop("methods"), settings.pop("curves")
    curves = {}
    for name, change in changes.items():
        method = change["method"]
        values = config.methods[method] | overrides.get(method, {}) | change
        known = declared_settings("methods", _algorithm(config, method)).model_fields
        curves[name] = {"method": method, "settings": {key: values[key] for key in known}}
    return ToySpec(settings, curves)


def _algorithm(config: Config, method: str) -> str:
    """The file of a method: its own name, unless it is another algorithm under other settings."""
    return config.methods[method].get("algorithm", method)


def _settings(config: Config, method: str, task: str) -> dict[str, Any]:
    """All settings of a method, the later the stronger: of trainings, then of the method; of all, fidelity, scale."""
    overrides = config.fidelities[config.fidelity], config.scales[config.scale]
    layers = [config.training, *(block.training for block in overrides)]
    for block in (config.methods[method], *(block.methods.get(method, {}) for block in overrides)):
        layers += [block, block.get("by_task", {}).get(task, {})]
    return {key: value for layer in layers for key, value in layer.items() if key not in NOT_SETTINGS}


def _task_settings(config: Config, task: str) -> dict[str, Any]:
    layers = [config.tasks, config.fidelities[config.fidelity].task_settings, config.scales[config.scale].task_settings]
    return {key: value for layer in layers for key, value in layer.get(task, {}).items()}
