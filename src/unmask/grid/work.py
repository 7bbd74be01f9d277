"""What a scale's configuration expands to: experiments, their runs, and the files that all of it makes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from unmask.config.runtime import Runtime
from unmask.config.scales import Cost
from unmask.spec import DataSpec, DiagnosisSpec, EvaluationSpec, ModelSpec, Run, Spec, ToySpec, joined


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
    apart: bool  # not among `everything`


@dataclass(frozen=True)
class Grid:
    """All the work of one scale, by name, and the files it makes."""

    scale: str
    wanted: list[str]  # experiments of the target `all`
    exact_toy: ToySpec
    cost: Cost
    runtime: Runtime
    fidelity: str = ""  # one other than the default
    warnings: list[str] = field(default_factory=list)  # mistakes in scales that are not in use
    runs: dict[str, Run] = field(default_factory=dict)
    models: dict[str, ModelSpec] = field(default_factory=dict)
    datasets: dict[str, DataSpec] = field(default_factory=dict)  # training and validation examples of each task
    tests: dict[str, DataSpec] = field(default_factory=dict)  # and its test examples
    evaluations: dict[str, EvaluationSpec] = field(default_factory=dict)
    diagnoses: dict[str, DiagnosisSpec] = field(default_factory=dict)
    experiments: dict[str, Experiment] = field(default_factory=dict)

    @property
    def place(self) -> str:
        """The folder of its results: a fidelity other than the default has its own, so that none remakes another's."""
        return f"{self.scale}-{self.fidelity}" if self.fidelity else self.scale

    @property
    def everything(self) -> list[str]:
        """Experiments of the target of this name: all but those apart, unless the scale wants them."""
        return [name for name, one in self.experiments.items() if name in self.wanted or not one.apart]

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
        tests = {f"data/{task}/test": spec for task, spec in self.tests.items()}
        return named | tests | {"exact_toy": self.exact_toy}

    def evaluated(self, run: str, evaluation: str) -> str:
        """The digest of all that decides the samples of a run in an evaluation."""
        spec = self.evaluations[evaluation]
        return joined(self.runs[run].digest, spec.digest, self.tests[self.examined_task(run, evaluation)].digest)

    def diagnosed(self, run: str, diagnosis: str) -> str:
        """The digest of all that decides the diagnosis of a run."""
        one = self.runs[run]
        return joined(one.digest, self.diagnoses[diagnosis].digest, self.tests[one.task].digest)

    def artifacts(self, experiment: str) -> list[str]:
        """Tables and figures of an experiment."""
        root = f"results/{self.place}"
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
        own = [f"{run}/{name}" for run in one.runs for name in self.measured(experiment, run)]
        carried = [f"{run}/{one.examined}-on-{task}" for run, tasks in one.transfers.items() for task in tasks]
        return [f"results/{self.place}/runs/{name}.parquet" for name in dict.fromkeys(own + carried)]

    def measured(self, experiment: str, run: str) -> list[str]:
        """What an experiment measures of a run under its own name: on its task, or on every task after a corpus."""
        one = self.experiments[experiment]
        if not self.runs[run].corpus:
            return [one.examined]
        return [f"{one.examined}-on-{task}" for task in one.transfers[run]]

    def examined_task(self, run: str, evaluation: str) -> str:
        """The task whose test problems a run is examined on."""
        return self.evaluations[evaluation].task or self.runs[run].task

    def samples_digest(self, experiment: str) -> str:
        """The digest of all that decides the samples, or the diagnoses, of an experiment."""
        digests = []
        for path in self.samples(experiment):
            run, _, name = path.removeprefix(f"results/{self.place}/runs/").removesuffix(".parquet").rpartition("/")
            kind, _, which = name.partition("-")
            digests.append(self.evaluated(run, which) if kind == "samples" else self.diagnosed(run, which))
        return joined(*digests)

    def metrics_digest(self, experiment: str) -> str:
        """The digest of all that decides the training metrics of an experiment."""
        return joined(*(self.runs[run].digest for run in self.experiments[experiment].runs))

    def metrics(self, experiment: str) -> list[str]:
        """Metrics of the runs of an experiment that train."""
        trained = [run for run in self.experiments[experiment].runs if self.runs[run].trains]
        return [f"results/{self.place}/runs/{run}/metrics.csv" for run in trained]

    def gpus(self, run: str) -> int:
        """GPUs of a run's training: as many as share its prompts evenly, at most those of `cost.gpus`."""
        return self.runs[run].shared_by(self.cost.gpus)

    def nodes(self, run: str) -> int:
        """Nodes of a run's training: as few as have its GPUs, each as many."""
        gpus = self.gpus(run)
        return next(n for n in range(1, gpus + 1) if gpus % n == 0 and gpus // n <= self.cost.gpus_per_node)

    def adapter(self, run: str | None) -> list[str]:
        """What a run trains; nothing for the base model and for no run."""
        return [f"results/{self.place}/runs/{run}/adapter"] if run and self.runs[run].trains else []

    def validation(self, run: str) -> list[str]:
        """The split by which a run's best policy is kept; nothing where the last one is."""
        chosen = self.runs[run].training["validate_every"]
        return [f"results/{self.place}/data/{self.runs[run].task}/validation.parquet"] if chosen else []

    def model_data(self, model: str) -> list[str]:
        """Splits that a base model made here is trained and measured on, task by task."""
        root = f"results/{self.place}/data"
        return [f"{root}/{task}/{s}.parquet" for task in self.models[model].tasks for s in ("train", "validation")]
