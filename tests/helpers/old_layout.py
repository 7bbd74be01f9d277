"""Projects as they were before settings were renamed: the inverse of src/migrate_results.py."""

import json
import os

import yaml

from helpers.paths import ROOT
from unmask.analysis.lineage import Lineage, content_of
from unmask.common.manifest import read_manifest, signed
from unmask.config.renames import RENAMED
from unmask.config.spec_file import Spec, digest_of_values, joined
from unmask.config.specs import DiagnosisSpec, RunSpec
from unmask.planning.snakemake_records import record_path, with_parameters

OLD_NAMES = {new: old for old, new in RENAMED.items()}


def old_values(spec, runtime, digests):
    """The values that a spec had; `digests` are the old ones of the runs that others start from, by name."""
    values = spec.values()
    if isinstance(spec, DiagnosisSpec):
        return {OLD_NAMES.get(key, key): value for key, value in values.items()}
    if not isinstance(spec, RunSpec) or not spec.trains:
        return values
    training = {OLD_NAMES.get(key, key): value for key, value in values["training"].items()}
    training["activation_checkpointing"] = runtime.activation_checkpointing
    values |= {"training": training}
    if spec.start_from:
        values["inputs"] = values["inputs"] | {"start": digests[spec.start_from]}
    return values


def old_specs(grid):
    """The old values of every spec of a grid, by its folder below results/{scale}."""
    found, digests = {}, {}
    # Runs that others start from come first.
    for place, spec in sorted(grid.specs.items(), key=lambda named: bool(getattr(named[1], "start_from", None))):
        found[place] = old_values(spec, grid.runtime, digests)
        digests[place.removeprefix("runs/")] = digest_of_values(found[place])
    return found


def make_old(work, grid, monkeypatch):
    """Give the specs, manifests and records of a finished project in `work` their old names and digests."""
    root, old = work / f"results/{grid.place}", old_specs(grid)
    digests = {place: digest_of_values(values) for place, values in old.items()}
    for place, values in old.items():
        path, spec = root / place / "spec.yaml", grid.specs[place]
        if path.exists() and digests[place] != spec.digest:
            rewrite(path, yaml.safe_dump(values | {"digest": digests[place]}, sort_keys=False, allow_unicode=True))
            swap(work, f"results/{grid.place}/{place}/spec.yaml", spec.to_json(), json.dumps(values, sort_keys=True))

    after = [job.parameter(lambda file: content_of(work / file)) for job in Lineage(grid, ROOT).jobs()]
    for name, run in grid.runs.items():
        folder = root / "runs" / name
        change(folder / "manifest.json", digests[f"runs/{name}"], settings=old[f"runs/{name}"])
        for path in folder.glob("samples-*.json"):
            evaluation = path.stem.removeprefix("samples-")
            task = grid.evaluation_task(name, evaluation)
            parts = f"runs/{name}", f"evaluations/{evaluation}", f"data/{task}/test"
            change(path, joined(*(digests[part] for part in parts)))
        for path in folder.glob("diagnosis-*.json"):
            parts = f"runs/{name}", f"diagnoses/{path.stem.removeprefix('diagnosis-')}", f"data/{run.task}/test"
            change(path, joined(*(digests[part] for part in parts)))

    former = {spec.digest: digests[place] for place, spec in grid.specs.items()}
    with monkeypatch.context() as patched:
        digest = Spec.digest.__get__
        patched.setattr(Spec, "digest", property(lambda spec: former.get(digest(spec), digest(spec))))
        for job, parameter in zip(Lineage(grid, ROOT).jobs(), after, strict=True):
            before = job.parameter(lambda file: content_of(work / file))
            for output in job.outputs:
                swap(work, output, parameter, before)


def change(manifest, digest, **entries):
    """Replace the digest of the spec, and other entries, in a manifest if it is there."""
    if manifest.exists():
        content = read_manifest(manifest) | {"spec": digest} | entries
        content.pop("digest")
        rewrite(manifest, json.dumps(signed(content), indent=2) + "\n")


def swap(work, output, new, old):
    """Replace a text in the record that Snakemake has of an output."""
    if not (work / ".snakemake/metadata").exists():
        return
    record = record_path(work, output)
    text = with_parameters(record, lambda value: value.replace(new, old))
    if text:
        rewrite(record, text)


def rewrite(path, text):
    """Write a text into a file and keep its times."""
    status = path.stat()
    path.write_text(text, encoding="utf-8")
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
