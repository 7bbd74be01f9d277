"""Grid of one scale: experiments, their runs, and the paths and digests of all files they produce."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from unmask.config.schema.runtime import Runtime
from unmask.config.schema.scales import Hardware
from unmask.config.spec_file import Spec, joined
from unmask.config.specs import DataSpec, DiagnosisSpec, EvaluationSpec, ModelSpec, RunSpec, ToySpec


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
class Grid:
    """All specs of one scale by name, and the paths of the files made from them."""

    scale: str
    wanted: list[str]  # experiments of the target `all`
    exact_toy: ToySpec
    cost: Hardware
    runtime: Runtime
    fidelity: str = ""  # empty for the default
    warnings: list[str] = field(default_factory=list)  # mistakes in scales that are not in use
    runs: dict[str, RunSpec] = field(default_factory=dict)
    models: dict[str, ModelSpec] = field(default_factory=dict)
    datasets: dict[str, DataSpec] = field(default_factory=dict)  # training and validation data by task
    tests: dict[str, DataSpec] = field(default_factory=dict)  # test data by task
    evaluations: dict[str, EvaluationSpec] = field(default_factory=dict)
    diagnoses: dict[str, DiagnosisSpec] = field(default_factory=dict)
    experiments: dict[str, Experiment] = field(default_factory=dict)

    @property
    def place(self) -> str:
        """Folder name below results/."""
        # Fidelities have equal run addresses but different settings: in one folder they would overwrite each other.
        return f"{self.scale}-{self.fidelity}" if self.fidelity else self.scale

    @property
    def everything(self) -> list[str]:
        """Experiments of the target `everything`: all except those marked `apart`, unless the scale lists them."""
        return [name for name, one in self.experiments.items() if name in self.wanted or not one.apart]

    @property
    def specs(self) -> dict[str, Spec]:
        """Every spec by its folder below results/{scale}."""
        kinds: dict[str, Mapping[str, Spec]] = {
            "runs": self.runs,
            "models": self.models,
            "data": self.datasets,
            "evaluations": self.evaluations,
            "diagnoses": self.diagnoses,
        }
        named = {f"{kind}/{name}": spec for kind, specs in kinds.items() for name, spec in specs.items()}
        tests = {f"data/{task}/test": spec for task, spec in self.tests.items()}
        return named | tests | {"exact_toy": self.exact_toy}

    def evaluated(self, run: str, evaluation: str) -> str:
        """Return the digest of everything that affects a run's samples in an evaluation: run, evaluation, test data."""
        spec = self.evaluations[evaluation]
        return joined(self.runs[run].digest, spec.digest, self.tests[self.evaluation_task(run, evaluation)].digest)

    def diagnosed(self, run: str, diagnosis: str) -> str:
        """Return the digest of everything that affects a run's diagnosis: run, diagnosis, test data."""
        one = self.runs[run]
        return joined(one.digest, self.diagnoses[diagnosis].digest, self.tests[one.task].digest)

    def artifacts(self, experiment: str) -> list[str]:
        """Return the paths of an experiment's tables and figures."""
        root = f"results/{self.place}"
        one = self.experiments[experiment]

        # A diagnosis has no samples, so there are no paired comparisons.
        figures, compared = one.figures, [] if one.rows == "steps" else ["-comparisons.md", "-comparisons.csv"]
        tables = [f"{root}/tables/{experiment}{end}" for end in (".md", ".tex", ".csv", *compared)]
        return tables + [f"{root}/figures/{experiment}/{f}.{end}" for f in figures for end in ("pdf", "png")]

    def targets(self, experiment: str) -> list[str]:
        """Return the paths of an experiment's artifacts and adapters."""
        # Adapters are listed because Snakemake recreates a deleted intermediate file only if it is a target.
        adapters = [path for run in self.experiments[experiment].runs for path in self.adapter(run)]
        return self.artifacts(experiment) + adapters

    def samples(self, experiment: str) -> list[str]:
        """Return the paths of the sample or diagnosis files that an experiment's scores are computed from."""
        # `measured` already lists the transfers of corpus runs, so duplicates are removed.
        one = self.experiments[experiment]
        own = [f"{run}/{name}" for run in one.runs for name in self.measured(experiment, run)]
        carried = [f"{run}/{one.evaluation_stem}-on-{task}" for run, tasks in one.transfers.items() for task in tasks]
        return [f"results/{self.place}/runs/{name}.parquet" for name in dict.fromkeys(own + carried)]

    def measured(self, experiment: str, run: str) -> list[str]:
        """Return the stems of a run's files in an experiment: on its own task or, after a corpus, on every task."""
        # A corpus has no test data, so a run on it is evaluated on other tasks only.
        one = self.experiments[experiment]
        if not self.runs[run].corpus:
            return [one.evaluation_stem]
        return [f"{one.evaluation_stem}-on-{task}" for task in one.transfers[run]]

    def evaluation_task(self, run: str, evaluation: str) -> str:
        """Return the task on whose test data a run is evaluated."""
        return self.evaluations[evaluation].task or self.runs[run].task

    def samples_digest(self, experiment: str) -> str:
        """Return the digest of everything that affects an experiment's samples or diagnoses."""
        digests = []
        for path in self.samples(experiment):
            run, _, name = path.removeprefix(f"results/{self.place}/runs/").removesuffix(".parquet").rpartition("/")
            kind, _, which = name.partition("-")
            digests.append(self.evaluated(run, which) if kind == "samples" else self.diagnosed(run, which))
        return joined(*digests)

    def metrics_digest(self, experiment: str) -> str:
        """Return the digest of everything that affects an experiment's training metrics."""
        return joined(*(self.runs[run].digest for run in self.experiments[experiment].runs))

    def metrics(self, experiment: str) -> list[str]:
        """Return the paths of the training metrics of an experiment's trained runs."""
        trained = [run for run in self.experiments[experiment].runs if self.runs[run].trains]
        return [f"results/{self.place}/runs/{run}/metrics.csv" for run in trained]

    def gpus(self, run: str) -> int:
        """Return the number of GPUs of a training run: the largest divisor of `cost.gpus` that splits its prompts."""
        return self.runs[run].shared_by(self.cost.gpus)

    def nodes(self, run: str) -> int:
        """Return the number of nodes of a training run: the fewest that hold its GPUs in equal shares."""
        # torchrun needs the same number of ranks on every node.
        gpus = self.gpus(run)
        return next(n for n in range(1, gpus + 1) if gpus % n == 0 and gpus // n <= self.cost.gpus_per_node)

    def adapter(self, run: str | None) -> list[str]:
        """Return the path of a run's adapter as a list; empty for the base model and for None."""
        return [f"results/{self.place}/runs/{run}/adapter"] if run and self.runs[run].trains else []

    def validation(self, run: str) -> list[str]:
        """Return the path of the validation split as a list; empty if the run keeps its last policy."""
        chosen = self.runs[run].training.validate_every
        return [f"results/{self.place}/data/{self.runs[run].task}/validation.parquet"] if chosen else []

    def model_data(self, model: str) -> list[str]:
        """Return the paths of the splits that a model from scratch is trained and validated on; none if published."""
        root = f"results/{self.place}/data"
        return [f"{root}/{task}/{s}.parquet" for task in self.models[model].tasks for s in ("train", "validation")]
