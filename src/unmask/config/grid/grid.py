"""Grid of one scale: experiments, their runs, and the paths and digests of all files they produce."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from unmask.config.schema.checkpoints import Printed
from unmask.config.schema.runtime import Runtime
from unmask.config.schema.scales import Hardware
from unmask.config.schema.types import Values
from unmask.config.spec_file import Spec, joined
from unmask.config.specs import (
    CheckpointSpec,
    DataSpec,
    DiagnosisSpec,
    EvaluationSpec,
    ModelSpec,
    RunSpec,
    SurrogatesSpec,
    ToySpec,
)


@dataclass(frozen=True)
class Experiment:
    """Expanded experiment: its runs, their evaluation, and the tables and figures made from them."""

    name: str
    question: str
    runs: list[str]  # addresses
    evaluation_stem: str  # stem of the evaluation's output: samples-NAME or diagnosis-NAME
    transfers: dict[str, list[str]]  # run -> other tasks that it is evaluated on
    rows: str  # what a table row is: methods, samplers or (diagnosis) steps
    figures: list[str]
    section: str  # of the report
    apart: bool  # not part of `everything`


@dataclass(frozen=True)
class Candidate:
    """Settings of a method on a task that are compared with others, and the runs that they are judged by."""

    settings: Values
    runs: list[str]  # addresses, one per seed


@dataclass(frozen=True)
class ReleasedCheckpoint:
    """Released checkpoint with the tasks and the evaluation that it goes through (checkpoints.py)."""

    spec: CheckpointSpec
    method: str  # as its paper writes it
    tasks: list[str]
    evaluation: str
    apart: bool  # not part of the target `checkpoints`
    printed: list[Printed]


@dataclass(frozen=True)
class Grid:
    """All specs of one scale by name, and the paths of the files made from them."""

    scale: str
    wanted: list[str]  # experiments of the target `all`
    exact_toy: ToySpec
    surrogates: SurrogatesSpec
    cost: Hardware
    runtime: Runtime
    fidelity: str = ""  # empty for the default
    ending: str = ""  # of the names of limited experiments and evaluations; empty without a limit
    warnings: list[str] = field(default_factory=list)  # mistakes in scales that are not in use
    runs: dict[str, RunSpec] = field(default_factory=dict)
    models: dict[str, ModelSpec] = field(default_factory=dict)
    datasets: dict[str, DataSpec] = field(default_factory=dict)  # training and validation data by task
    tests: dict[str, DataSpec] = field(default_factory=dict)  # test data by task
    evaluations: dict[str, EvaluationSpec] = field(default_factory=dict)
    diagnoses: dict[str, DiagnosisSpec] = field(default_factory=dict)
    experiments: dict[str, Experiment] = field(default_factory=dict)
    tuning: dict[str, list[Candidate]] = field(default_factory=dict)  # method/task -> candidates
    sweeps: dict[str, list[str]] = field(default_factory=dict)  # name, empty for `tune` -> its method/task
    checkpoints: dict[str, ReleasedCheckpoint] = field(default_factory=dict)

    @property
    def place(self) -> str:
        """Folder name below results/."""
        # Fidelities have equal run addresses but different settings: in one folder they would overwrite each other.
        return f"{self.scale}-{self.fidelity}" if self.fidelity else self.scale

    @property
    def root(self) -> str:
        """Folder of the results of this scale and fidelity."""
        return f"results/{self.place}"

    @property
    def everything(self) -> list[str]:
        """Experiments of the target `everything`: all except those marked `apart`, unless the scale lists them."""
        found = []
        for name, experiment in self.experiments.items():
            if name in self.wanted or not experiment.apart:
                found.append(name)
        return found

    @property
    def specs(self) -> dict[str, Spec]:
        """Every spec of the experiments by its folder below results/{scale}."""
        kinds: dict[str, Mapping[str, Spec]] = {
            "runs": self.runs,
            "models": self.models,
            "data": self.datasets,
            "evaluations": self.evaluations,
            "diagnoses": self.diagnoses,
        }
        found: dict[str, Spec] = {}
        for kind, specs in kinds.items():
            for name, spec in specs.items():
                found[f"{kind}/{name}"] = spec
        for task, test in self.tests.items():
            found[f"data/{task}/test"] = test
        return found | {"exact_toy": self.exact_toy}

    @property
    def all_specs(self) -> dict[str, Spec]:
        """Every spec, those of released checkpoints and of `surrogates` too, by its folder below results/{scale}."""
        released = {f"checkpoints/{name}": one.spec for name, one in self.checkpoints.items()}
        return self.specs | released | {"surrogates": self.surrogates}

    def evaluated(self, run: str, evaluation: str) -> str:
        """Return the digest of everything that affects a run's samples in an evaluation: run, evaluation, test data."""
        test = self.tests[self.evaluation_task(run, evaluation)]
        return joined(self.runs[run].digest, self.evaluations[evaluation].digest, test.digest)

    def diagnosed(self, run: str, diagnosis: str) -> str:
        """Return the digest of everything that affects a run's diagnosis: run, diagnosis, test data."""
        test = self.tests[self.runs[run].task]
        return joined(self.runs[run].digest, self.diagnoses[diagnosis].digest, test.digest)

    def artifacts(self, experiment: str) -> list[str]:
        """Return the paths of an experiment's tables and figures."""
        spec = self.experiments[experiment]
        endings = [".md", ".tex", ".csv"]
        # A diagnosis has no samples, so there are no paired comparisons.
        if spec.rows != "steps":
            endings += ["-comparisons.md", "-comparisons.csv"]

        found = [f"{self.root}/tables/{experiment}{ending}" for ending in endings]
        for figure in spec.figures:
            path = f"{self.root}/figures/{experiment}/{figure}"
            found += [f"{path}.pdf", f"{path}.png"]
        return found

    def targets(self, experiment: str) -> list[str]:
        """Return the paths of an experiment's artifacts and adapters."""
        found = self.artifacts(experiment)
        # Adapters are listed because Snakemake recreates a deleted intermediate file only if it is a target.
        for run in self.experiments[experiment].runs:
            found += self.adapter(run)
        return found

    def samples(self, experiment: str) -> list[str]:
        """Return the paths of the sample or diagnosis files that an experiment's scores are computed from."""
        spec = self.experiments[experiment]
        names = []
        for run in spec.runs:
            names += [f"{run}/{stem}" for stem in self.measured(experiment, run)]
        for run, tasks in spec.transfers.items():
            names += [f"{run}/{spec.evaluation_stem}-on-{task}" for task in tasks]
        # `measured` already lists the transfers of corpus runs, so duplicates are removed.
        return [f"{self.root}/runs/{name}.parquet" for name in dict.fromkeys(names)]

    def measured(self, experiment: str, run: str) -> list[str]:
        """Return the stems of a run's files in an experiment: on its own task or, after a corpus, on every task."""
        # A corpus has no test data, so a run on it is evaluated on other tasks only.
        spec = self.experiments[experiment]
        if not self.runs[run].corpus:
            return [spec.evaluation_stem]
        return [f"{spec.evaluation_stem}-on-{task}" for task in spec.transfers[run]]

    def evaluation_task(self, run: str, evaluation: str) -> str:
        """Return the task on whose test data a run is evaluated."""
        return self.evaluations[evaluation].task or self.runs[run].task

    def samples_digest(self, experiment: str) -> str:
        """Return the digest of everything that affects an experiment's samples or diagnoses."""
        return joined(*(self.made_from(path) for path in self.samples(experiment)))

    def made_from(self, path: str) -> str:
        """Return the digest of everything that affects a file of samples or of a diagnosis."""
        run = self.run_of(path)
        kind, _, name = path.rpartition("/")[2].removesuffix(".parquet").partition("-")
        return self.evaluated(run, name) if kind == "samples" else self.diagnosed(run, name)

    def run_of(self, path: str) -> str:
        """Return the run whose folder a file is in."""
        return path.removeprefix(f"{self.root}/runs/").rpartition("/")[0]

    def tuning_digest(self, name: str) -> str:
        """Return the digest of everything that affects the choice among the candidates of METHOD/TASK."""
        return joined(*(self.runs[run].digest for candidate in self.tuning[name] for run in candidate.runs))

    def tuning_metrics(self, name: str) -> list[str]:
        """Return the paths of the training metrics of all candidates of METHOD/TASK."""
        return [f"{self.root}/runs/{run}/metrics.csv" for candidate in self.tuning[name] for run in candidate.runs]

    def metrics_digest(self, experiment: str) -> str:
        """Return the digest of everything that affects an experiment's training metrics."""
        digests = [self.runs[run].digest for run in self.experiments[experiment].runs]
        return joined(*digests)

    def metrics(self, experiment: str) -> list[str]:
        """Return the paths of the training metrics of an experiment's trained runs."""
        found = []
        for run in self.experiments[experiment].runs:
            if self.runs[run].trains:
                found.append(f"{self.root}/runs/{run}/metrics.csv")
        return found

    def gpus(self, run: str) -> int:
        """Return the number of GPUs of a training run: the largest divisor of `cost.gpus` that splits its prompts."""
        return self.runs[run].shared_by(self.cost.gpus)

    def nodes(self, run: str) -> int:
        """Return the number of nodes of a training run: the fewest that hold its GPUs in equal shares."""
        # torchrun needs the same number of ranks on every node.
        gpus = self.gpus(run)
        nodes = 1
        while gpus % nodes or gpus // nodes > self.cost.gpus_per_node:
            nodes += 1
        return nodes

    def adapter(self, run: str | None) -> list[str]:
        """Return the path of a run's adapter as a list; empty for the base model and for None."""
        if run is None or not self.runs[run].trains:
            return []
        return [f"{self.root}/runs/{run}/adapter"]

    def validation(self, run: str) -> list[str]:
        """Return the path of the validation split as a list; empty if the run keeps its last policy."""
        spec = self.runs[run]
        if spec.training.validate_every == 0:
            return []
        return [f"{self.root}/data/{spec.task}/validation.parquet"]

    def model_data(self, model: str) -> list[str]:
        """Return the paths of the splits that a model from scratch is trained and validated on; none if published."""
        found = []
        for task in self.models[model].tasks:
            found += [f"{self.root}/data/{task}/train.parquet", f"{self.root}/data/{task}/validation.parquet"]
        return found
