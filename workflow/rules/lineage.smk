# Rerun logic: a job is repeated if something that affects its result has changed, and only then. Defines no rules.
#
# Every job has one parameter, `digest`, which covers everything that affects its result: its spec and the specs that it
# depends on; for tables and figures also their code, and the manifests of the runs and samples that they show. Copied,
# touched or moved files and edited rules repeat nothing:
#   - inputs are `ancient`, so that their times are ignored, as long as the digest says that the job is done;
#   - all other parameters are functions of `input`, `output` or `resources`, which Snakemake does not compare;
#   - the profiles' `rerun-triggers` omit `code`.
import ast
import functools
import uuid
from pathlib import Path
from types import SimpleNamespace

from snakemake.io import IOFile
from snakemake.persistence import FileBackupMixin
from unmask.analysis.lineage import Lineage, content_of, parameter_of
from unmask.common.errors import InputError
from unmask.common.manifest import made_of, read_manifest
from unmask.config.grid.checkpoints import evaluated, in_catalogue, samples
from unmask.config.spec_file import digest_of

# Outputs marked `update` stay in place until their step replaces them atomically. Snakemake would back each up before
# the job and restore it after a failure; that is not needed, and a backup left by a killed job would stop the next one.
FileBackupMixin.backup_output = lambda self, path: None
FileBackupMixin.restore_output = lambda self, path: True

LINEAGE = Lineage(GRID, Path(CLONE))
# A parameter that differs from any recorded one, so that Snakemake repeats the job.
NONCE = uuid.uuid4().hex
# Cached, because many jobs ask for the same manifest while the workflow is planned.
digest_on_disk = functools.cache(lambda manifest: made_of(Path(manifest)))


def recorded(path):
    """Return the parameter that Snakemake recorded when it made a file; None if there is none."""
    found = workflow.persistence.params(IOFile(path))
    return ast.literal_eval(found[0]) if found else None


class Job:
    """State of a job for its rule's input and params: the file that records its result, and the expected digest.

    If the file is a manifest, the job is done when the manifest has the digest. Snakemake records parameters of failed
    jobs, too, and would mistake their old outputs, which stay in place, for new ones. Outputs without a manifest are
    removed before the job starts, so for them Snakemake's record is enough.
    """

    def __init__(
        self,
        file,
        digest,
        current=lambda wildcards: True,
        reads=lambda wildcards: [],
    ):
        """`current` returns True if the job's inputs still exist and have not been made again since.

        `reads`, for a job without a manifest, returns the files that identify what it reads: the manifests of its
        inputs, or inputs that have none.
        """
        self.file, self.digest, self.current, self.reads = file, digest, current, reads

    def is_done(self, wildcards):
        """Return True if the recorded digest is the expected one and the inputs are current."""
        file = self.file(wildcards)
        if file.endswith(".json"):
            same = digest_on_disk(file) == self.digest(wildcards)
        else:
            same = recorded(file) == self.parameter(wildcards)
        return same and self.current(wildcards)

    def parameter(self, wildcards):
        """Return the parameter for Snakemake to compare; with a manifest, the recorded one if the job is done.

        Without a manifest it covers the inputs as they are now. Snakemake computes it again as soon as all inputs of
        the job exist, and records that.
        """
        file, digest = self.file(wildcards), self.digest(wildcards)
        if not file.endswith(".json"):
            read = [content_now(one) for one in self.reads(wildcards)]
            return parameter_of(digest, read)

        # Snakemake also records the parameters of failed jobs, so the manifest decides.
        known = recorded(file)
        return known if known and self.is_done(wildcards) else f"{digest} {NONCE}"

    def input(self, files):
        """Return an input function for `files`: a path with wildcards, or a function of the wildcards."""

        def paths(wildcards):
            found = files(wildcards) if callable(files) else files.format(**wildcards)
            if not self.is_done(wildcards):
                return found
            return (
                ancient(found)
                if isinstance(found, str)
                else [ancient(path) for path in found]
            )

        return paths


def written_spec(wildcards):
    """Return the parameter of a spec: the recorded one if the file has these values, else a new one."""
    path, spec = (
        f"results/{GRID.place}/{wildcards.item}/spec.yaml",
        GRID.all_specs[wildcards.item],
    )
    known, values = recorded(path), spec.to_json()
    same = known and known.startswith(values) and digest_of(Path(path)) == spec.digest
    return known if same else f"{values} {NONCE}"


@functools.cache
def read_once(manifest):
    """Read a manifest, empty if it is missing or damaged; cached while the workflow is planned."""
    try:
        return read_manifest(Path(manifest))
    except InputError:
        return {}


def content_now(file):
    """Return what identifies a file as it is now."""
    try:
        now = os.stat(file)
    except OSError:
        return content_of(Path(file))
    return cached_content(file, now.st_mtime_ns, now.st_size)


# The workflow replaces files while it runs, so time and size are part of the cache's key.
@functools.cache
def cached_content(file, mtime, size):
    return content_of(Path(file))


def of_this_adapter(name_of):
    """Return a `current` function: True if samples or diagnosis were made with the adapter that exists now.

    A run trained again with the same settings has the same digest, but possibly another adapter.
    """

    def current(wildcards):
        run = f"results/{wildcards.scale}/runs/{wildcards.run}"
        if not GRID.adapter(wildcards.run):
            return True
        made, used = (
            read_once(f"{run}/{name}.json") for name in ("manifest", name_of(wildcards))
        )
        trained = made.get("outputs", {}).get("adapter")
        return (
            os.path.exists(f"{run}/adapter")
            and trained is not None
            and trained == used.get("inputs", {}).get("adapter")
        )

    return current


def samples_are_current(wildcards):
    """Return True if all samples or diagnoses of an experiment are done; else its tables and figures are redrawn."""
    for path in map(Path, GRID.samples(wildcards.experiment)):
        place = path.parent.as_posix().removeprefix(f"results/{GRID.place}/runs/")
        kind, _, name = path.stem.partition("-")
        job = EVALUATION if kind == "samples" else DIAGNOSIS
        words = {"scale": GRID.place, "run": place, "evaluation": name}
        if not job.is_done(SimpleNamespace(**words, diagnosis=name)):
            return False
    return True


def trainings_are_current(wildcards):
    """Return True if the trained runs of an experiment are done and have their adapters, so that none is repeated."""
    for run in GRID.experiments[wildcards.experiment].runs:
        words = SimpleNamespace(scale=GRID.place, run=run)
        adapters = GRID.adapter(run)
        if adapters and not (
            TRAINING.is_done(words) and all(map(os.path.exists, adapters))
        ):
            return False
    return True


# One Job per rule; its functions take the rule's wildcards.
DATA = Job(
    lambda w: f"results/{w.scale}/data/{w.task}/manifest.json",
    lambda w: GRID.datasets[w.task].digest,
)
TEST_DATA = Job(
    lambda w: f"results/{w.scale}/data/{w.task}/test/manifest.json",
    lambda w: GRID.tests[w.task].digest,
)
MODEL = Job(
    lambda w: f"results/{w.scale}/models/{w.model}/manifest.json",
    lambda w: GRID.models[w.model].digest,
)
TRAINING = Job(
    lambda w: f"results/{w.scale}/runs/{w.run}/manifest.json",
    lambda w: GRID.runs[w.run].digest,
)
EVALUATION = Job(
    lambda w: f"results/{w.scale}/runs/{w.run}/samples-{w.evaluation}.json",
    lambda w: GRID.evaluated(w.run, w.evaluation),
    of_this_adapter(lambda w: f"samples-{w.evaluation}"),
)
DIAGNOSIS = Job(
    lambda w: f"results/{w.scale}/runs/{w.run}/diagnosis-{w.diagnosis}.json",
    lambda w: GRID.diagnosed(w.run, w.diagnosis),
    of_this_adapter(lambda w: f"diagnosis-{w.diagnosis}"),
)
TOY = Job(
    lambda w: f"results/{w.scale}/exact_toy/curves.csv",
    lambda w: GRID.exact_toy.digest,
)
SURROGATES = Job(
    lambda w: f"results/{w.scale}/surrogates/errors.csv",
    lambda w: GRID.surrogates.digest,
)


CHECKPOINT = Job(
    lambda w: f"results/{w.scale}/checkpoints/{w.released}/manifest.json",
    lambda w: GRID.checkpoints[w.released].spec.digest,
)
RELEASED = Job(
    lambda w: f"results/{w.scale}/checkpoints/{w.released}/{w.task}/samples.json",
    lambda w: evaluated(GRID, w.released, w.task),
)


def released_table(path, names):
    """Return the job of a table of released checkpoints; `names` returns those that it shows."""
    return Job(
        path,
        lambda w: LINEAGE.released(names(w)),
        lambda w: all(
            RELEASED.is_done(SimpleNamespace(scale=w.scale, released=name, task=task))
            for name in names(w)
            for task in GRID.checkpoints[name].tasks
        ),
        lambda w: [
            path.replace("samples.parquet", "samples.json")
            for name in names(w)
            for path in samples(GRID, name)
        ],
    )


RELEASED_TABLE = released_table(
    lambda w: f"results/{w.scale}/tables/released_checkpoints.md",
    lambda w: in_catalogue(GRID),
)
RELEASED_SINGLE = released_table(
    lambda w: f"results/{w.scale}/checkpoints/{w.released}/table.md",
    lambda w: [w.released],
)


def all_current(experiments):
    return all(
        samples_are_current(SimpleNamespace(experiment=name)) for name in experiments
    )


SCORES = Job(
    lambda w: f"results/{w.scale}/scores/{w.experiment}.csv",
    lambda w: LINEAGE.scores(w.experiment),
    samples_are_current,
    lambda w: LINEAGE.samples_read([w.experiment]),
)
METRICS = Job(
    lambda w: f"results/{w.scale}/metrics/{w.experiment}.csv",
    lambda w: LINEAGE.metrics(w.experiment),
    trainings_are_current,
    lambda w: LINEAGE.trainings_read([w.experiment]),
)
TABLE = Job(
    lambda w: f"results/{w.scale}/tables/{w.experiment}.md",
    lambda w: LINEAGE.table(w.experiment),
    samples_are_current,
    lambda w: LINEAGE.samples_read([w.experiment]),
)
COMPARISON = Job(
    lambda w: f"results/{w.scale}/tables/{w.experiment}-comparisons.md",
    lambda w: LINEAGE.comparison(w.experiment),
    samples_are_current,
    lambda w: LINEAGE.all_read([w.experiment]),
)
FIGURE = Job(
    lambda w: f"results/{w.scale}/figures/{w.experiment}/{w.figure}.png",
    lambda w: LINEAGE.figure(w.experiment, w.figure),
    samples_are_current,
    lambda w: LINEAGE.all_read([w.experiment]),
)
TOY_FIGURE = Job(
    lambda w: f"results/{w.scale}/figures/exact_toy.png",
    lambda w: LINEAGE.toy(),
    reads=lambda w: [f"results/{w.scale}/exact_toy/curves.csv"],
)
SURROGATES_FIGURE = Job(
    lambda w: f"results/{w.scale}/figures/surrogates.png",
    lambda w: LINEAGE.surrogates(),
    reads=lambda w: [f"results/{w.scale}/surrogates/errors.csv"],
)
CLAIMS = Job(
    lambda w: f"results/{w.scale}/{w.claims}.md",
    lambda w: LINEAGE.claims(w.claims),
    lambda w: all_current(LINEAGE.experiments_of(w.claims)),
    lambda w: LINEAGE.all_read(LINEAGE.experiments_of(w.claims)),
)
REPORT = Job(
    lambda w: f"results/{w.scale}/{w.extent}report.html",
    lambda w: LINEAGE.report(w.extent),
    lambda w: all_current(reported(w)),
    lambda w: [
        *toy_of(w, "exact_toy/curves.csv"),
        *LINEAGE.all_read(reported(w)),
        *LINEAGE.further().values(),
    ],
)
