"""config.yaml -> every run, model, dataset and experiment of a scale, or all that is wrong with it at once.

Torch-free: the Snakefile calls `expand` while it is parsed, so a mistake is found before anything runs, also with -n.
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from unmask.mistakes import ConfigError, check, check_scale
from unmask.plain import normalise
from unmask.settings import (
    NOT_SETTINGS,
    Config,
    Cost,
    ScratchModel,
    Training,
    declared_settings,
    settings_of,
)
from unmask.spec import DataSpec, DiagnosisSpec, EvaluationSpec, ModelSpec, Run, Spec, ToySpec

# A run that goes on training an adapter has the adapter's shape.
ADAPTER = ("lora_rank", "lora_alpha", "lora_dropout", "lora_targets")


@dataclass(frozen=True)
class Experiment:
    """A question with its runs and artifacts; `runs` are addresses."""

    name: str
    question: str
    runs: list[str]
    examined: str  # the end of the names of the files that its runs are examined into
    transfers: dict[str, list[str]]  # run -> tasks on which it is examined too
    rows: str
    figures: list[str]
    section: str  # of the report


@dataclass(frozen=True)
class Grid:
    """All the work of one scale, by name, and the files it makes."""

    scale: str
    wanted: list[str]  # experiments of the target `all`
    exact_toy: ToySpec
    cost: Cost
    runs: dict[str, Run] = field(default_factory=dict)
    models: dict[str, ModelSpec] = field(default_factory=dict)
    datasets: dict[str, DataSpec] = field(default_factory=dict)
    evaluations: dict[str, EvaluationSpec] = field(default_factory=dict)
    diagnoses: dict[str, DiagnosisSpec] = field(default_factory=dict)
    experiments: dict[str, Experiment] = field(default_factory=dict)

    @property
    def specs(self) -> dict[str, Spec]:
        """Every spec by the folder it is written to, below results/{scale}."""
        kinds: dict[str, Mapping[str, Spec]] = {
            "runs": self.runs,
            "models": self.models,
            "data": self.datasets,
            "evaluations": self.evaluations,
            "diagnoses": self.diagnoses,
        }
        named = {f"{kind}/{name}": spec for kind, specs in kinds.items() for name, spec in specs.items()}
        return named | {"exact_toy": self.exact_toy}

    def artifacts(self, experiment: str) -> list[str]:
        """Tables and figures of an experiment."""
        root = f"results/{self.scale}"
        one = self.experiments[experiment]
        figures, compared = one.figures, [] if one.rows == "steps" else ["-comparisons.md", "-comparisons.csv"]
        tables = [f"{root}/tables/{experiment}{end}" for end in (".md", ".tex", ".csv", *compared)]
        return tables + [f"{root}/figures/{experiment}/{f}.{end}" for f in figures for end in ("pdf", "png")]

    def targets(self, experiment: str) -> list[str]:
        """Artifacts and adapters: Snakemake makes a deleted adapter again only if somebody asks for it."""
        adapters = [path for run in self.experiments[experiment].runs for path in self.adapter(run)]
        return self.artifacts(experiment) + adapters

    def samples(self, experiment: str) -> list[str]:
        """Files of samples, or of a diagnosis, that an experiment's scores are made of."""
        one = self.experiments[experiment]
        names = [f"{run}/{one.examined}" for run in one.runs]
        names += [f"{run}/{one.examined}-on-{task}" for run, tasks in one.transfers.items() for task in tasks]
        return [f"results/{self.scale}/runs/{name}.parquet" for name in names]

    def examined_task(self, run: str, evaluation: str) -> str:
        """The task whose test problems a run is examined on."""
        return self.evaluations[evaluation].task or self.runs[run].task

    def metrics(self, experiment: str) -> list[str]:
        """Metrics of the runs of an experiment that train."""
        trained = [run for run in self.experiments[experiment].runs if self.runs[run].trains]
        return [f"results/{self.scale}/runs/{run}/metrics.csv" for run in trained]

    def processes(self, run: str) -> int:
        """The most processes that can share a run's training: its prompts a buffer by those decoded at once."""
        training = self.runs[run].training
        shares, rest = divmod(training["prompts_per_buffer"], training["prompts_at_once"])
        return shares if shares and not rest else 1

    def gpus(self, run: str) -> int:
        """GPUs of a run's training: as many as share its prompts evenly, at most those of `cost.gpus`."""
        return math.gcd(self.cost.gpus, self.processes(run))

    def nodes(self, run: str) -> int:
        """Nodes of a run's training: as few as have its GPUs, each as many."""
        gpus = self.gpus(run)
        return next(n for n in range(1, gpus + 1) if gpus % n == 0 and gpus // n <= self.cost.gpus_per_node)

    def adapter(self, run: str | None) -> list[str]:
        """What a run trains; nothing for the base model and for no run."""
        return [f"results/{self.scale}/runs/{run}/adapter"] if run and self.runs[run].trains else []

    def validation(self, run: str) -> list[str]:
        """The split by which a run's best policy is kept; nothing where the last one is."""
        chosen = self.runs[run].training["validate_every"]
        return [f"results/{self.scale}/data/{self.runs[run].task}/validation.parquet"] if chosen else []

    def model_data(self, model: str) -> list[str]:
        """Splits that a base model made here is trained and measured on, task by task."""
        root = f"results/{self.scale}/data"
        return [f"{root}/{task}/{s}.parquet" for task in self.models[model].tasks for s in ("train", "validation")]


def expand(raw: dict[str, Any]) -> Grid:
    """The grid of the scale that `raw['scale']` names. Raises ConfigError with every mistake."""
    raw = normalise(raw)
    check(raw)
    config = Config.model_validate(raw)
    check_scale(config)
    scale = config.scales[config.scale]
    grid = Grid(config.scale, scale.experiments, _exact_toy(config), scale.cost)
    for task in itertools.chain(scale.tasks, *map(config.tasks_of, config.experiments)):
        grid.datasets[task] = DataSpec(task, _task_settings(config, task))
    for name in config.evaluations:
        grid.evaluations[name] = _evaluation(config, name)
    for name, diagnosis in config.diagnoses.items():
        sampler = config.sampler(diagnosis.sampler)
        grid.diagnoses[name] = DiagnosisSpec(name, sampler, diagnosis.temperature, diagnosis.examples)
    made: list[Run] = []
    for name, experiment in config.experiments.items():
        runs = _runs(config, name)
        starts = [_start(config, run) for run in runs if run.start_from]
        made += starts + runs
        for run in starts + runs:
            grid.runs[run.name] = run
            grid.models.setdefault(run.model, _model(config, run))
            for task, settings in grid.models[run.model].tasks.items():
                grid.datasets.setdefault(task, DataSpec(task, settings))
        grid.experiments[name] = _experiment(name, experiment, runs)
        for other in itertools.chain(*grid.experiments[name].transfers.values()):
            spec = _evaluation(config, experiment.evaluation or "", other)
            if spec.name in config.evaluations:
                raise ConfigError([f"evaluations.{spec.name}: the name of a transfer between tasks; choose another"])
            grid.evaluations[spec.name] = spec
    if lines := _contradictions(made, grid.datasets):
        raise ConfigError(lines)
    return grid


def _experiment(name: str, experiment: Any, runs: list[Run]) -> Experiment:
    """The experiment over these runs; the base model knows no task that it could carry to another."""
    examined = f"diagnosis-{experiment.diagnosis}" if experiment.diagnosis else f"samples-{experiment.evaluation}"
    rows = "steps" if experiment.diagnosis else experiment.rows
    tasks = dict.fromkeys(run.task for run in runs)
    carried = {run.name: run.task for run in runs if run.trains and experiment.transfer}
    transfers = {run: [task for task in tasks if task != own] for run, own in carried.items()}
    names = list(dict.fromkeys(run.name for run in runs))
    return Experiment(
        name, experiment.question, names, examined, transfers, rows, experiment.figures, experiment.section
    )


def _evaluation(config: Config, name: str, task: str | None = None) -> EvaluationSpec:
    """An evaluation; with `task`, of runs that were trained on another one."""
    scale, evaluation = config.scales[config.scale], config.evaluations[name]
    return EvaluationSpec(
        name=f"{name}-on-{task}" if task else name,
        samplers={s: config.sampler(s) for s in evaluation.samplers},
        lengths=scale.lengths,
        block_length=scale.block_length,
        temperature=evaluation.temperature,
        rows_per_batch=evaluation.rows_per_batch,
        task=task,
        task_settings=_task_settings(config, task) if task else None,
    )


def _runs(config: Config, name: str) -> list[Run]:
    """An experiment's runs in a stable order; a variant that equals the default is the default run, once more."""
    experiment, scale = config.experiments[name], config.scales[config.scale]
    model = scale.models[experiment.model] if experiment.model else scale.model
    found: list[Run] = []
    for method in experiment.methods:
        algorithm = _algorithm(config, method)
        known = settings_of(algorithm).model_fields if algorithm != "base" else {}
        axes = {key: values for key, values in experiment.grid.items() if key in known}
        for task, values, seed in itertools.product(
            config.tasks_of(name), itertools.product(*axes.values()), scale.seeds
        ):
            choice = dict(zip(axes, values, strict=True))
            found.append(_run(config, model, method, task, seed, choice, experiment.equal_updates))
    return found


def _start(config: Config, run: Run) -> Run:
    """The run whose adapter `run` goes on training."""
    return _run(config, run.model.partition("/")[0], config.methods[run.method]["start_from"], run.task, run.seed, {})


def _run(
    config: Config,
    model: str,
    method: str,
    task: str,
    seed: int,
    choice: dict[str, Any],
    equal_updates: bool = False,
) -> Run:
    scale = config.scales[config.scale]
    default = _settings(config, method, task)
    changed = {key: value for key, value in choice.items() if default[key] != value}
    variant = "+".join(f"{key}~{_text(value)}" for key, value in sorted(changed.items())) or "default"
    values = default | changed
    if equal_updates:
        updates = default["buffers"] * default["updates_per_buffer"]
        values["buffers"] = math.ceil(updates / values["updates_per_buffer"])
    training = {key: values[key] for key in Training.model_fields}
    own = {key: value for key, value in values.items() if key not in Training.model_fields}
    start = config.methods[method].get("start_from")
    return Run(
        name=f"{method}/{task}/{_address(variant, model, scale.model)}/seed-{seed}",
        method=method,
        algorithm=_algorithm(config, method),
        start_from=_run(config, model, start, task, seed, {}).name if start else None,
        task=task,
        variant=variant,
        seed=seed,
        model=_model_address(config, model, task, seed),
        training=training,
        method_settings=own,
        task_settings=_task_settings(config, task),
        sampler=config.sampler(training["sampler"]),
        block_length=scale.block_length,
    )


def _address(variant: str, model: str, default: str) -> str:
    """A variant as part of a path: a run that starts from another model than the scale's has its own."""
    if model == default:
        return variant
    return "+".join([*([] if variant == "default" else [variant]), f"model~{model}"])


def _model_address(config: Config, model: str, task: str, seed: int) -> str:
    """A model made here depends on the seed, so that seeds share nothing, and on the task unless it is shared."""
    settings = config.models[model]
    if not isinstance(settings, ScratchModel):
        return model
    return f"{model}/seed-{seed}" if settings.shared else f"{model}/{task}/seed-{seed}"


def _contradictions(runs: list[Run], datasets: dict[str, DataSpec]) -> list[str]:
    """What contradicts itself only when the layers have added up."""
    lines: list[str] = []
    by_name: dict[str, Run] = {}
    for run in runs:
        if by_name.setdefault(run.name, run) != run:
            lines.append(f"experiments.*.grid: two values have the same name in paths: {run.method}, {run.variant}")
    for run, start in [(run, by_name[run.start_from]) for run in runs if run.start_from]:
        for key in ADAPTER:
            mine = run.training[key]
            if mine != start.training[key]:
                change = f"{mine} cannot go on training an adapter of {start.method} with {start.training[key]}"
                lines.append(f"methods.{run.method}.{key}: {change}")
    for run in runs:
        if run.trains and run.training["quantisation"] != "none" and run.training["lora_rank"] == 0:
            how = f"quantisation {run.training['quantisation']} trains an adapter only"
            lines.append(f"methods.{run.method}.lora_rank: 0 trains every weight, and {how}; give it a rank")
    for task, data in datasets.items():
        for key in data.settings:
            low, high = data.settings[key], data.settings.get(f"max_{key[4:]}")
            if key.startswith("min_") and high is not None and low > high:
                lines.append(f"tasks.{task}.{key}: {low} is more than max_{key[4:]} {high}")
    return lines


def _text(value: Any) -> str:
    """A value as part of a path: letters, digits and what a shell leaves alone."""
    text = "-".join(map(str, value)) if isinstance(value, list) else str(value)
    return re.sub(r"[^A-Za-z0-9_.+~-]", "-", text)


def _model(config: Config, run: Run) -> ModelSpec:
    """The base model of a run. Settings at their default are left out, so that a new one leaves models alone."""
    scale = config.scales[config.scale]
    model = config.models[run.model.partition("/")[0]]
    settings = model.model_dump(exclude_defaults=True)
    source = settings.pop("source")
    if not isinstance(model, ScratchModel):
        return ModelSpec(run.model, source, settings)
    if model.shared:
        all_settings = {name: _task_settings(config, name) for name in model.pretraining}
        return ModelSpec(run.model, source, settings, None, all_settings, run.seed, scale.block_length, scale.lengths)
    settings["pretraining"] = settings["pretraining"][run.task]
    own = run.task, run.task_settings
    return ModelSpec(run.model, source, settings, *own, run.seed, scale.block_length, scale.lengths)


def _exact_toy(config: Config) -> ToySpec:
    """The exact laboratory's experiment; a curve's settings are its method's, then the toy's, then its own."""
    settings = config.exact_toy.model_dump() | config.scales[config.scale].exact_toy
    overrides, changes = settings.pop("methods"), settings.pop("curves")
    curves = {}
    for name, change in changes.items():
        method = change["method"]
        values = config.methods[method] | overrides.get(method, {}) | change
        algorithm = _algorithm(config, method)
        known = declared_settings("methods", algorithm).model_fields
        curves[name] = {"method": algorithm, "settings": {key: values[key] for key in known}}
    return ToySpec(settings, curves)


def _algorithm(config: Config, method: str) -> str:
    """The file of a method: its own name, unless it is another algorithm under other settings."""
    return config.methods[method].get("algorithm", method)


def _settings(config: Config, method: str, task: str) -> dict[str, Any]:
    """All settings of a method, the later the stronger: of trainings, then of the method; of all, fidelity, scale."""
    overrides = config.fidelities[config.fidelity], config.scales[config.scale]
    layers: list[Any] = [config.training, *(block.training for block in overrides)]
    for block in (config.methods[method], *(block.methods.get(method, {}) for block in overrides)):
        layers += [block, block.get("by_task", {}).get(task, {})]
    return {key: value for layer in layers for key, value in layer.items() if key not in NOT_SETTINGS}


def _task_settings(config: Config, task: str) -> dict[str, Any]:
    layers = [config.tasks, config.fidelities[config.fidelity].task_settings, config.scales[config.scale].task_settings]
    return {key: value for layer in layers for key, value in layer.get(task, {}).items()}
