"""Published results: what each experiment publishes, whether a folder of results has it, and what made it.

Experiments are published one by one, from runs made at different times and on different machines. What can be mixed is
decided by the base models: all published runs of a base model start from the same weights.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from pydantic import Field, ValidationError

from unmask.common.errors import InputError
from unmask.common.manifest import Manifest, commit_name, git_state, made_of, read_manifest, seconds_of
from unmask.config.grid.checkpoints import evaluated, in_catalogue
from unmask.config.grid.grid import Grid
from unmask.config.schema.types import NonNegative, Section, Whole
from unmask.config.spec_file import digest_of, joined

PROVENANCE = "provenance.json"
# Tables that belong to no experiment, with the question that their pages do not state.
TOY = "How close does each method come to the tilted distribution where every response can be enumerated?"
SURROGATES = "How closely does each surrogate follow the exact log-ratio of a whole response?"
RELEASED = "What do released checkpoints reach here, next to what their papers print?"


@dataclass(frozen=True)
class Job:
    """Training or evaluation whose result a page shows."""

    manifest: str  # below results/SCALE
    digest: str  # of its settings as they are now
    model: str = ""  # base model, if it is recorded by name
    trained_by: str = ""  # manifest of the training whose adapter it evaluates; empty for a training or a base model
    trains: bool = False


@dataclass(frozen=True)
class Page:
    """Everything that is published of an experiment."""

    name: str
    question: str
    files: dict[str, str]  # name of the copy -> path below results/SCALE
    settings: str  # digest of all settings that affect the results
    jobs: tuple[Job, ...] = ()
    spec: str = ""  # below results/SCALE, of a page without jobs


class Provenance(Section):
    """What made a published page; what was not recorded has its default."""

    commits: list[str] = Field(default=[], description="of runs and evaluations; without these, of the publication")
    devices: list[str] = Field(default=[])
    python: list[str] = Field(default=[])
    packages: dict[str, str] = Field(default={}, description="version by name; several where runs differ")
    finished: str = Field(default="", description="date of the last run or evaluation")
    runs: Whole | None = Field(default=None, description="training runs; several experiments may share one")
    seconds: NonNegative | None = Field(default=None, description="of training")
    evaluation_seconds: NonNegative | None = None
    base_models: dict[str, str] = Field(default={}, description="hash of the weights by name")
    settings: str = Field(default="", description="digest of all settings that affect the results")
    older_recipe: bool = Field(default=False, description="known to be of other settings, whose digest is not recorded")

    def is_older(self, page: Page) -> bool:
        """Return True if the results are of other settings than those that the configuration has now."""
        return self.older_recipe or self.settings not in ("", page.settings)

    def commit(self, page: Page) -> str:
        """Return the commits, and a note if the results are of other settings."""
        names = ", ".join(self.commits) or "not recorded"
        return f"{names}, older recipe" if self.is_older(page) else names


class Publication(Section):
    """Content of provenance.json."""

    scale: str = Field(description="name of the folder below results/")
    experiments: dict[str, Provenance] = Field(default={})

    def text(self) -> str:
        """Return the content as JSON; defaults are left out."""
        return json.dumps(self.model_dump(exclude_defaults=True), indent=1, ensure_ascii=False) + "\n"


def read_publication(target: Path) -> Publication | None:
    """Read provenance.json of a folder; None if there is none. Raises InputError if it is damaged."""
    path = target / PROVENANCE
    if not path.exists():
        return None
    try:
        return Publication.model_validate_json(path.read_text(encoding="utf-8"))
    except (OSError, ValidationError) as error:
        raise InputError(f"{path}: cannot be read ({error}). Restore it, or pass --replace-all.") from error


def pages(grid: Grid) -> dict[str, Page]:
    """Return what can be published at a scale, by name: its experiments, then tables that belong to none."""
    found = {name: _of_experiment(grid, name) for name in grid.experiments}
    for name, question, settings, kinds in (
        ("exact_toy", TOY, grid.exact_toy.digest, (".md",)),
        ("surrogates", SURROGATES, grid.surrogates.digest, (".md", "-claims.md", "-claims.csv")),
    ):
        files = {f"{name}{kind}": f"tables/{name}{kind}" for kind in kinds}
        files[f"{name}.png"] = f"figures/{name}.png"
        found[name] = Page(name, question, files, settings, spec=f"{name}/spec.yaml")
    if in_catalogue(grid):
        found["released_checkpoints"] = _of_checkpoints(grid)
    return found


def _of_experiment(grid: Grid, name: str) -> Page:
    """Return the page of an experiment. The target is flat: figures/main/x.png becomes main-x.png."""
    files = {}
    for path in grid.artifacts(name):
        place = path.removeprefix(f"{grid.root}/")
        if place.endswith((".md", ".png")):
            files[place.partition("/")[2].replace("/", "-")] = place

    jobs = []
    for path in grid.samples(name):
        run = grid.runs[grid.run_of(path)]
        training = f"runs/{run.name}/manifest.json" if run.trains else ""
        if training:
            jobs.append(Job(training, run.digest, run.model, trains=True))
        manifest = path.removeprefix(f"{grid.root}/").removesuffix(".parquet") + ".json"
        jobs.append(Job(manifest, grid.made_from(path), run.model, trained_by=training))
    # A run has several evaluations; its training counts once.
    distinct = tuple(dict.fromkeys(jobs))
    return Page(name, grid.experiments[name].question, files, grid.samples_digest(name), distinct)


def _of_checkpoints(grid: Grid) -> Page:
    jobs = []
    for name in in_catalogue(grid):
        for task in grid.checkpoints[name].tasks:
            jobs.append(Job(f"checkpoints/{name}/{task}/samples.json", evaluated(grid, name, task)))
    table = "released_checkpoints.md"
    settings = joined(*(job.digest for job in jobs))
    return Page("released_checkpoints", RELEASED, {table: f"tables/{table}"}, settings, tuple(jobs))


def lacking(page: Page, results: Path) -> str:
    """Return what a folder of results lacks to publish a page; empty if nothing."""
    open_jobs = [job for job in page.jobs if made_of(results / job.manifest) != job.digest]
    if open_jobs:
        return f"{len(open_jobs)} of {len(page.jobs)} runs and evaluations are missing or have other settings"
    if page.spec and digest_of(results / page.spec) != page.settings:
        return f"{page.spec} is missing or has other settings"
    absent = [path for path in page.files.values() if not (results / path).exists()]
    if absent:
        return f"no {', '.join(absent)}"

    # A run that is repeated with the same settings may have another adapter.
    manifests = {job.manifest: read_manifest(results / job.manifest) for job in page.jobs}
    for job in page.jobs:
        if not job.trained_by:
            continue
        trained, evaluated_with = manifests[job.trained_by]["outputs"], manifests[job.manifest]["inputs"]
        if trained["adapter"] != evaluated_with["adapter"]:
            return f"{job.manifest} is about another adapter than the run has now"
    if manifests:
        last = max(_finished(manifest) for manifest in manifests.values())
        old = [path for path in page.files.values() if (results / path).stat().st_mtime < last.timestamp()]
        if old:
            return f"older than the runs: {', '.join(old)}"
    return ""


def begun(page: Page, results: Path) -> bool:
    """Return True if a folder of results has a table or figure of a page; runs may be there for other experiments."""
    return any((results / path).exists() for path in page.files.values())


def _finished(manifest: Manifest) -> datetime:
    return datetime.fromisoformat(manifest["finished"])


def provenance(page: Page, results: Path) -> Provenance:
    """Return what made a finished page. Raises InputError if its runs start from different weights of a base model."""
    if not page.jobs:
        git = git_state()
        return Provenance(commits=[commit_name(git)] if git else [], settings=page.settings)

    manifests = {job: read_manifest(results / job.manifest) for job in page.jobs}
    weights: dict[str, str] = {}
    for job, manifest in manifests.items():
        if not job.model:
            continue
        found = manifest["inputs"]["weights"]
        if weights.setdefault(job.model, found) != found:
            raise InputError(
                f"{results / job.manifest}: its base model {job.model} has other weights ({found[:12]}) than that of "
                f"other runs of {page.name} ({weights[job.model][:12]}). Run snakemake again."
            )

    everything = list(manifests.values())
    versions: defaultdict[str, list[str]] = defaultdict(list)
    for manifest in everything:
        for name, version in manifest["packages"].items():
            versions[name].append(version)
    trained = [seconds_of(manifest) for job, manifest in manifests.items() if job.trains]
    rest = [seconds_of(manifest) for job, manifest in manifests.items() if not job.trains]
    return Provenance(
        commits=sorted({commit_name(manifest["git"]) for manifest in everything if manifest["git"]}),
        devices=sorted({manifest["device"] for manifest in everything}),
        python=sorted({manifest["python"] for manifest in everything}),
        packages={name: ", ".join(sorted(set(found))) for name, found in versions.items()},
        finished=max(map(_finished, everything)).date().isoformat(),
        runs=len(trained),
        seconds=round(sum(trained), 1),
        evaluation_seconds=round(sum(rest), 1),
        base_models=weights,
        settings=page.settings,
    )


def check_base_models(experiments: Mapping[str, Provenance]) -> None:
    """Raise InputError if two experiments start from different weights of the same base model."""
    first: dict[str, str] = {}
    for name, made in experiments.items():
        for model, weights in made.base_models.items():
            other = first.setdefault(model, name)
            expected = experiments[other].base_models[model]
            if weights != expected:
                raise InputError(
                    f"{model}, the base model of {other} and {name}, has different weights in their runs "
                    f"({expected[:12]} and {weights[:12]}), so that their results cannot be published together. "
                    "Run both from the same weights, or pass --replace-all to publish the new runs alone."
                )
