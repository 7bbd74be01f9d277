"""Lineage of tables, figures and claims: one digest per job that covers its code and everything upstream of it.

The workflow repeats such a job when its digest changes, and the migration of finished projects translates the digests
that the workflow has recorded. Torch-free.
"""

from __future__ import annotations

import functools
import hashlib
import json
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from unmask.analysis import claim_entries
from unmask.analysis.decoding_protocol import Protocol
from unmask.analysis.released_description import descriptions
from unmask.common.errors import InputError
from unmask.common.manifest import read_manifest
from unmask.config.grid.checkpoints import evaluated
from unmask.config.grid.grid import Grid
from unmask.config.spec_file import joined

# Code behind all scores, tables, figures and claims. An edit redraws all of them, which takes seconds.
SHARED = (
    "src/unmask/common/alarms.py",
    "src/unmask/common/catalogue.py",
    "src/unmask/tasks/_released_prompts.py",
)
RELEASED = ("released_checkpoints.py", "released_description.py")  # only their own table depends on these
PRINTED = ("workflow/resources/published_results.yaml", "workflow/resources/papers.yaml")
# Further claims than those that a report is about, and their differences: on the papers' pages once they are tested.
FURTHER = {
    "workflow/resources/claims.yaml": "all_claims.csv",
    "workflow/resources/surrogate_claims.yaml": "tables/surrogates-claims.csv",
    "workflow/resources/field_claims.yaml": "field_claims.csv",
}
OWN = "reports/"  # folder of the reports on single experiments
RESOURCES = "workflow/resources"
PAPERS, FIELD = f"{RESOURCES}/claims.yaml", f"{RESOURCES}/field_claims.yaml"  # claims of the two papers, of the field
# What the report's page is made of, besides its Python modules.
PAGE = ("page.html.j2", "page.css", "tables.js", "browser.js", "figure.rst", "exact_toy.rst")
APART = (
    "so_far.py",
    "lineage.py",
    "publication.py",
    "published_papers.py",
    *RELEASED,
)  # no other output of the workflow depends on these


@dataclass(frozen=True)
class AnalysisJob:
    """Job that makes tables or figures: its outputs, its digest, and the files that identify what it reads."""

    outputs: list[str]
    digest: str
    reads: list[str]

    def parameter(self, contents: Callable[[str], str]) -> str:
        """Return what Snakemake records for the job; `contents` gives `content_of` each file that it reads."""
        return parameter_of(self.digest, [contents(file) for file in self.reads])


@dataclass(frozen=True)
class Lineage:
    """Digests of the analysis jobs of a grid; `project` is the folder with the code."""

    grid: Grid
    project: Path

    def scores(self, experiment: str) -> str:
        """Return the digest of an experiment's scores."""
        return joined(self._code("collect_scores"), self.grid.samples_digest(experiment))

    def metrics(self, experiment: str) -> str:
        """Return the digest of an experiment's training metrics."""
        return joined(self._code("collect_metrics"), self.grid.metrics_digest(experiment))

    def table(self, experiment: str) -> str:
        """Return the digest of an experiment's table of scores."""
        one = self.grid.experiments[experiment]
        said = json.dumps([one.question, one.rows, self.protocol_arguments(experiment)])
        made = self._code("render_table", *PRINTED)
        return joined(made, said, self.scores(experiment))

    def comparison(self, experiment: str) -> str:
        """Return the digest of an experiment's paired comparisons."""
        data = self.grid.samples_digest(experiment), self.grid.metrics_digest(experiment)
        return joined(self._code("compare_methods"), experiment, *data)

    def figure(self, experiment: str, figure: str) -> str:
        """Return the digest of one figure of an experiment."""
        data = self.grid.samples_digest(experiment), self.grid.metrics_digest(experiment)
        return joined(self._code("render_figure"), figure, self.scores(experiment), *data)

    def toy(self) -> str:
        """Return the digest of the figure and tables of the exact toy."""
        return joined(self._code("render_exact_toy"), self.grid.exact_toy.digest)

    def surrogates(self) -> str:
        """Return the digest of the figure, tables and verdicts of the experiment `surrogates`."""
        made = self._code("render_surrogates", "workflow/resources/surrogate_claims.yaml")
        return joined(made, self.grid.surrogates.digest)

    def claims(self, claims: str) -> str:
        """Return the digest of verdicts: `claims`, `all_claims`, `field_claims` or `reports/EXPERIMENT/claims`."""
        made = self._code("check_claims", self.claims_file(claims))
        names = self.experiments_of(claims)
        digests = []
        for name in names:
            digests += [self.grid.samples_digest(name), self.metrics(name)]
        return joined(made, *names, *digests)

    def report(self, extent: str) -> str:
        """Return the digest of the report; `extent` is empty, `all_` for `everything`, or `reports/EXPERIMENT/`."""
        library = sorted((self.project / "src/unmask/analysis/html_report").glob("*.py"))
        templates = [self.project / "workflow/report" / name for name in PAGE]
        sources = [file.relative_to(self.project).as_posix() for file in (*library, *templates)]
        shown = []
        for name in self.experiments_of(f"{extent}claims"):
            one = self.grid.experiments[name]
            shown += [self.table(name), self.comparison(name), self.metrics(name)]
            shown += [self.figure(name, figure) for figure in one.figures]
            shown.append(one.section)
        made = self._code("render_report", *sources, *PRINTED, *self.further())
        shown += [self.surrogates() if "surrogate" in name else self.claims(Path(name).stem) for name in self.further()]
        toy = [self.toy()] if self.shows_toy(extent) else []
        return joined(made, self.claims(f"{extent}claims"), *toy, *shown)

    def further(self) -> dict[str, str]:
        """Return the files of further claims that there are, with the paths of their differences."""
        found = {}
        for claims, differences in FURTHER.items():
            if (self.project / claims).exists():
                found[claims] = f"results/{self.grid.place}/{differences}"
        return found

    def shows_toy(self, extent: str) -> bool:
        """Return True if a report shows the exact toy: that of a scale does, that of one experiment does not."""
        return not extent.startswith(OWN)

    def choice(self, name: str) -> str:
        """Return the digest of the choice among the candidates of METHOD/TASK."""
        return joined(self._code("choose_settings"), self.grid.tuning_digest(name))

    def tuning(self, sweep: str) -> str:
        """Return the digest of the table and figure of the candidates of a sweep."""
        return joined(self._code("render_tuning"), *map(self.choice, self.grid.sweeps[sweep]))

    def released(self, checkpoints: list[str]) -> str:
        """Return the digest of a table of released checkpoints."""
        made = self._code("render_checkpoints", *(f"src/unmask/analysis/{name}" for name in RELEASED))
        digests = []
        for name in checkpoints:
            digests += [evaluated(self.grid, name, task) for task in self.grid.checkpoints[name].tasks]
        return joined(made, json.dumps(descriptions(self.grid, checkpoints)), *digests)

    def experiments_of(self, claims: str) -> list[str]:
        """Return the experiments that claims are tested on.

        They are those of `all` (claims), of `everything` (all_claims), those that the field's claims name, or one.
        """
        if claims.startswith(OWN):
            return [claims.removeprefix(OWN).removesuffix("/claims")]
        if claims == "field_claims":
            return [name for name in self.grid.experiments if name in self._named_in(FIELD)]
        return self.grid.wanted if claims == "claims" else self.grid.everything

    def claims_file(self, claims: str) -> str:
        """Return the file with the claims to test.

        The field's for `field_claims`, and for an experiment that its claims name and the papers' do not.
        """
        own = claims.removeprefix(OWN).removesuffix("/claims").removesuffix(self.grid.ending)
        if claims == "field_claims" or own in self._named_in(FIELD) - self._named_in(PAPERS):
            return FIELD
        return PAPERS

    def _named_in(self, file: str) -> set[str]:
        """Return the experiments that a file of claims names."""
        return _experiments_in(self.project / file)

    def protocol_arguments(self, experiment: str) -> list[str]:
        """Return the CLI arguments with the evaluation protocol behind a table; none for a diagnosis."""
        if self.grid.experiments[experiment].rows == "steps":
            return []
        return ["--protocol", Protocol.of(self.grid, experiment).to_json()]

    def samples_read(self, experiments: list[str]) -> list[str]:
        """Return the manifests of the samples, or diagnoses, of some experiments."""
        samples = [path for name in experiments for path in self.grid.samples(name)]
        return [f"{path.removesuffix('.parquet')}.json" for path in samples]

    def trainings_read(self, experiments: list[str]) -> list[str]:
        """Return the manifests of the trained runs of some experiments."""
        metrics = [path for name in experiments for path in self.grid.metrics(name)]
        return [_manifest_of(path) for path in metrics]

    def candidates_read(self, name: str) -> list[str]:
        """Return the manifests of the runs of all candidates of METHOD/TASK."""
        return [_manifest_of(path) for path in self.grid.tuning_metrics(name)]

    def all_read(self, experiments: list[str]) -> list[str]:
        """Return the manifests of the samples and of the trained runs of some experiments."""
        return self.samples_read(experiments) + self.trainings_read(experiments)

    def jobs(self) -> Iterator[AnalysisJob]:
        """Yield every analysis job but those of the exact toy, which depend on no run."""
        root = f"results/{self.grid.place}"
        for name, one in self.grid.experiments.items():
            samples, everything, table = self.samples_read([name]), self.all_read([name]), f"{root}/tables/{name}"
            yield AnalysisJob([f"{root}/scores/{name}.csv"], self.scores(name), samples)
            yield AnalysisJob([f"{root}/metrics/{name}.csv"], self.metrics(name), self.trainings_read([name]))
            yield AnalysisJob([f"{table}{end}" for end in (".md", ".tex", ".csv")], self.table(name), samples)
            compared = [f"{table}-comparisons.md", f"{table}-comparisons.csv"]
            yield AnalysisJob(compared, self.comparison(name), everything)
            for figure in one.figures:
                drawn = [f"{root}/figures/{name}/{figure}.{end}" for end in ("pdf", "png")]
                yield AnalysisJob(drawn, self.figure(name, figure), everything)

        extents = ("", "all_", *(f"{OWN}{name}/" for name in self.grid.experiments))
        for claims in ("field_claims", *(f"{extent}claims" for extent in extents)):
            everything = self.all_read(self.experiments_of(claims))
            yield AnalysisJob([f"{root}/{claims}.md", f"{root}/{claims}.csv"], self.claims(claims), everything)
        for extent in extents:
            everything = self.all_read(self.experiments_of(f"{extent}claims"))
            toy = [f"{root}/exact_toy/curves.csv"] if self.shows_toy(extent) else []
            reported = [f"{root}/{extent}{name}" for name in ("report.html", "papers.md", "speed.md", "speed.csv")]
            read = [*toy, *everything, *self.further().values()]
            yield AnalysisJob(reported, self.report(extent), read)

    def _code(self, step: str, *more: str) -> str:
        """Return the digest of a step's code: its script, the library behind it, and further files."""
        # Names and colours are in the files of methods. Those that no run uses do not count, so that a new file changes
        # nothing that exists.
        algorithms = {run.algorithm for run in self.grid.runs.values() if run.trains}
        algorithms |= {curve.method for curve in self.grid.exact_toy.curves.values()}
        methods = [f"src/unmask/methods/{name}.py" for name in ("__init__", *sorted(algorithms))]
        return _code(self.project, step, (*methods, *more))


@functools.cache
def _experiments_in(file: Path) -> set[str]:
    # Cached, because every report asks for the same two files.
    return {claim.experiment for claim in claim_entries.read(file)}


def _manifest_of(metrics: str) -> str:
    return f"{os.path.dirname(metrics)}/manifest.json"


def parameter_of(digest: str, read: list[str]) -> str:
    """Return the parameter of an analysis job, which Snakemake records and compares; `read` identifies its inputs."""
    return joined(digest, *read) if read else digest


def content_of(file: Path) -> str:
    """Return what identifies a file that a job reads: the digest in a manifest, the SHA-256 of any other file.

    Constants stand for a file that is missing and for a damaged manifest.
    """
    if not file.exists():
        return "absent"
    if file.suffix != ".json":
        return hashlib.sha256(file.read_bytes()).hexdigest()
    try:
        return str(read_manifest(file)["digest"])
    except InputError:
        return "damaged"


@functools.cache
def _code(project: Path, step: str, more: tuple[str, ...]) -> str:
    # Cached, because every experiment asks for the same steps.
    folder = project / "src/unmask/analysis"
    library = []
    for path in sorted(folder.rglob("*.py")):
        if path.parent.name != "html_report" and path.name not in APART:
            library.append(f"src/unmask/analysis/{path.relative_to(folder)}")
    files = [f"src/{step}.py", *SHARED, *library, *more]
    return joined(*(hashlib.sha256((project / file).read_bytes()).hexdigest() for file in files))
