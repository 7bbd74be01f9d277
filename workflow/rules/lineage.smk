# What repeats a job: a change of what decides its result, and nothing else. No rules, no files.
#
# Every job has one parameter, `digest`, of all that decides its result: its spec and those of all that it depends on, or,
# for tables and figures, also the code that makes them. Copied, touched or moved files and other texts of rules repeat nothing:
#   - inputs are `ancient`, so that their times are not looked at, as long as the digest says that the job is done;
#   - all other parameters are functions of `input`, `output` or `resources`, which Snakemake does not compare;
#   - the profiles' `rerun-triggers` leave out `code`.
import ast
import functools
import hashlib
import uuid
from pathlib import Path
from types import SimpleNamespace

from snakemake.io import IOFile
from snakemake.persistence import FileBackupMixin
from unmask.files import InputError
from unmask.manifest import made_of, read_manifest
from unmask.spec import digest_of, joined

# Outputs under `update` stay where they are until their step replaces them, whole. Snakemake would copy each before the job
# and put it back if the job fails; there is nothing to put back, and a copy left by a killed job would stop the next one.
FileBackupMixin.backup_output = lambda self, path: None
FileBackupMixin.restore_output = lambda self, path: True

NONCE = uuid.uuid4().hex
digest_on_disk = functools.cache(lambda manifest: made_of(Path(manifest)))


def recorded(path):
    """The parameter that Snakemake noted when it made a file; None if it knows of none."""
    found = workflow.persistence.params(IOFile(path))
    return ast.literal_eval(found[0]) if found else None


class Job:
    """What a rule's input and params need to know of a job: what tells of its result, and the digest that it should have.

    With a manifest, the job is done if that has the digest. Snakemake notes the parameters of failed jobs, too, and would
    take their old outputs, which stay in place, for new ones. Other outputs are removed first, so its note is enough.
    """

    def __init__(self, file, digest, current=lambda wildcards: True):
        """`current` says whether what the job was made of is still there and the same."""
        self.file, self.digest, self.current = file, digest, current

    def is_done(self, wildcards):
        file, digest = self.file(wildcards), self.digest(wildcards)
        made = digest_on_disk(file) if file.endswith(".json") else recorded(file)
        return made == digest and self.current(wildcards)

    def parameter(self, wildcards):
        """The digest; for a job with a manifest the recorded parameter while it is done, and else another one."""
        file, digest = self.file(wildcards), self.digest(wildcards)
        if not file.endswith(".json"):
            return digest
        known = recorded(file)
        return known if known and self.is_done(wildcards) else f"{digest} {NONCE}"

    def input(self, files):
        """An input function; `files` are a path or paths with wildcards, or a function of the wildcards."""

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
    """The parameter of a spec: the recorded one while the file has these values, and else another one."""
    path, spec = (
        f"results/{GRID.place}/{wildcards.item}/spec.yaml",
        GRID.specs[wildcards.item],
    )
    known, values = recorded(path), spec.to_json()
    same = known and known.startswith(values) and digest_of(Path(path)) == spec.digest
    return known if same else f"{values} {NONCE}"


@functools.cache
def code(step, *more):
    """The digest of a step of the analysis: its script, the library behind it, and other files of this clone."""
    files = [f"src/{step}.py", *ANALYSIS, *more]
    return joined(
        *(
            hashlib.sha256(Path(workflow.basedir, file).read_bytes()).hexdigest()
            for file in files
        )
    )


@functools.cache
def read_once(manifest):
    try:
        return read_manifest(Path(manifest))
    except InputError:
        return {}


def of_this_adapter(name_of):
    """Whether samples or a diagnosis are of the adapter that is there, and not of one before it with the same settings."""

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
    """Whether an experiment's samples, or diagnoses, are done: if not, what is drawn from them is drawn again."""
    for path in map(Path, GRID.samples(wildcards.experiment)):
        place = path.parent.as_posix().removeprefix(f"results/{GRID.place}/runs/")
        kind, _, name = path.stem.partition("-")
        job = EVALUATION if kind == "samples" else DIAGNOSIS
        words = {"scale": GRID.place, "run": place, "evaluation": name}
        if not job.is_done(SimpleNamespace(**words, diagnosis=name)):
            return False
    return True


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


def scores_digest(experiment):
    return joined(code("collect_scores"), GRID.samples_digest(experiment))


def metrics_digest(experiment):
    return joined(code("collect_metrics"), GRID.metrics_digest(experiment))


def table_digest(experiment):
    one = GRID.experiments[experiment]
    said = json.dumps([one.question, one.rows, protocol_arguments(experiment)])
    made = code("render_table", "workflow/resources/published_results.yaml")
    return joined(made, said, scores_digest(experiment))


def comparison_digest(experiment):
    return joined(code("compare_methods"), experiment, GRID.samples_digest(experiment))


def figure_digest(experiment, figure):
    data = GRID.samples_digest(experiment), GRID.metrics_digest(experiment)
    return joined(code("render_figure"), figure, scores_digest(experiment), *data)


def toy_digest():
    return joined(code("render_exact_toy"), GRID.exact_toy.digest)


def claims_digest(claims):
    made = code("check_claims", "workflow/resources/claims.yaml")
    names = checked(claims)
    digests = [(GRID.samples_digest(name), metrics_digest(name)) for name in names]
    return joined(made, *names, *(one for pair in digests for one in pair))


def report_digest(extent):
    library = [f"src/unmask/{name}.py" for name in ("report", "run_browser")]
    pages = [
        f"workflow/report/{name}"
        for name in ("page.html.j2", "figure.rst", "exact_toy.rst")
    ]
    shown = []
    for name in checked(f"{extent}claims"):
        shown += [table_digest(name), comparison_digest(name), metrics_digest(name)]
        shown += [figure_digest(name, one) for one in GRID.experiments[name].figures]
        shown.append(GRID.experiments[name].section)
    made = code("render_report", *library, *pages)
    return joined(made, claims_digest(f"{extent}claims"), toy_digest(), *shown)


def all_current(experiments):
    return all(
        samples_are_current(SimpleNamespace(experiment=name)) for name in experiments
    )


SCORES = Job(
    lambda w: f"results/{w.scale}/scores/{w.experiment}.csv",
    lambda w: scores_digest(w.experiment),
    samples_are_current,
)
METRICS = Job(
    lambda w: f"results/{w.scale}/metrics/{w.experiment}.csv",
    lambda w: metrics_digest(w.experiment),
)
TABLE = Job(
    lambda w: f"results/{w.scale}/tables/{w.experiment}.md",
    lambda w: table_digest(w.experiment),
    samples_are_current,
)
COMPARISON = Job(
    lambda w: f"results/{w.scale}/tables/{w.experiment}-comparisons.md",
    lambda w: comparison_digest(w.experiment),
    samples_are_current,
)
FIGURE = Job(
    lambda w: f"results/{w.scale}/figures/{w.experiment}/{w.figure}.png",
    lambda w: figure_digest(w.experiment, w.figure),
    samples_are_current,
)
TOY_FIGURE = Job(
    lambda w: f"results/{w.scale}/figures/exact_toy.png", lambda w: toy_digest()
)
CLAIMS = Job(
    lambda w: f"results/{w.scale}/{w.claims}.md",
    lambda w: claims_digest(w.claims),
    lambda w: all_current(checked(w.claims)),
)
REPORT = Job(
    lambda w: f"results/{w.scale}/{w.extent}report.html",
    lambda w: report_digest(w.extent),
    lambda w: all_current(reported(w)),
)
