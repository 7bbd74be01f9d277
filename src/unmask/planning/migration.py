"""Migration of a finished project to the current names of settings: its results stay valid, and no run is repeated.

Specs, manifests and checkpoints hold settings or digests of settings, and Snakemake's records hold both. They are
rewritten with their old modification times. Weights, samples and tables are not touched.

Everything is planned before the first write. Specs are written last, runs before those that they start from: what was
interrupted is still recognised by its old spec, so a second call completes it.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from unmask.common.atomic import atomic_write
from unmask.common.checksums import SUMS, sealed, write_checksums
from unmask.common.errors import InputError
from unmask.common.manifest import read_manifest, signed
from unmask.config.renames import RENAMED, TO_RUNTIME, current_name
from unmask.config.schema.types import Values
from unmask.config.spec_file import digest_of, digest_of_values, joined
from unmask.planning.snakemake_records import METADATA, record_path, with_parameters


@dataclass(frozen=True)
class SpecChange:
    """Values of a spec on disk, and its values under the current names; equal if it has no old name."""

    path: Path
    before: Values
    after: Values

    @property
    def digests(self) -> tuple[str, str]:
        """Digest before and after."""
        return digest_of_values(self.before), digest_of_values(self.after)

    @property
    def text(self) -> str:
        """Text of the new spec.yaml."""
        values = self.after | {"digest": self.digests[1]}
        return yaml.safe_dump(values, sort_keys=False, allow_unicode=True)

    def new_parameter(self, recorded: str) -> str:
        """Return the parameter that Snakemake recorded for this spec, with the new values."""
        before = json.dumps(self.before, sort_keys=True)
        after = json.dumps(self.after, sort_keys=True)
        # The values are followed by a random number, which is kept.
        if not recorded.startswith(before):
            return recorded
        return after + recorded.removeprefix(before)


@dataclass
class Migration:
    """Planned changes of one results folder."""

    folder: Path  # absolute
    records: dict[Path, str] = field(default_factory=dict)  # new text by file, as below
    manifests: dict[Path, str] = field(default_factory=dict)
    checkpoints: dict[Path, str] = field(default_factory=dict)  # new identity by folder
    specs: dict[Path, str] = field(default_factory=dict)
    digests: dict[Path, tuple[str, str]] = field(default_factory=dict)  # of each spec, before and after
    left: list[str] = field(default_factory=list)  # what is not migrated, and what to do about it

    @property
    def work(self) -> Path:
        """Folder that the workflow runs in."""
        return self.folder.parents[1]

    @property
    def is_empty(self) -> bool:
        """True if there is nothing to write."""
        return not (self.records or self.manifests or self.checkpoints or self.specs)

    def write(self) -> None:
        """Carry out the plan, each file atomically."""
        for path, text in (self.records | self.manifests).items():
            _replace(path, text)
        for folder, identity in self.checkpoints.items():
            _reidentify(folder, identity)
        for path, text in self.specs.items():
            _replace(path, text)


def plan_migration(folder: Path) -> Migration:
    """Return what has to be rewritten in a results folder, such as results/laptop."""
    plan = Migration(folder.absolute())
    diagnoses = {}
    for spec in _changes(plan, "diagnoses/*/spec.yaml"):
        diagnoses[spec.path.parent.name] = spec
    runs = _run_changes(plan)
    for run in runs:
        _add_run(plan, run, diagnoses)

    # Reversed, so that runs that others start from come last.
    for spec in [*diagnoses.values(), *reversed(runs)]:
        _add_spec(plan, spec)
    return plan


# --- specs ------------------------------------------------------------------------------------------------------------


def _changes(plan: Migration, pattern: str) -> Iterator[SpecChange]:
    """Yield the specs in the files that match; a damaged one is left."""
    for path in sorted(plan.folder.glob(pattern)):
        try:
            values = yaml.safe_load(path.read_text(encoding="utf-8"))
            written = values.pop("digest")
        except (OSError, ValueError, AttributeError, KeyError, yaml.YAMLError) as error:
            plan.left.append(f"{path}: cannot be read ({error}). Delete it and run snakemake again")
            continue
        if digest_of_values(values) != written:
            plan.left.append(f"{path}: its digest is not that of its values. Delete it and run snakemake again")
            continue
        yield SpecChange(path, values, under_current_names(values))


def under_current_names(values: Values) -> Values:
    """Return the values of the spec of a run or diagnosis under the current names, without what is now in `runtime`."""
    after = {current_name(key): value for key, value in values.items()}
    if "training" in values:
        training = values["training"]
        after["training"] = {current_name(key): training[key] for key in training if key not in TO_RUNTIME}
    return after


def _run_changes(plan: Migration) -> list[SpecChange]:
    """Return the specs of all runs, those that others start from first."""
    found: dict[str, SpecChange] = {}
    changes = _changes(plan, "runs/*/*/*/*/spec.yaml")
    for change in sorted(changes, key=lambda one: one.before["start_from"] is not None):
        name, start = change.before["name"], change.before["start_from"]
        # The folder of a run is named after the settings that a grid varies.
        old = [key for key in RENAMED if f"{key}~" in change.before["variant"]]
        if old:
            plan.left.append(
                f"{change.path.parent}: named after {', '.join(old)}; it is trained again under the new name"
            )
            continue
        # A run's digest covers that of the run it starts from.
        if start is not None:
            if start not in found or change.before["inputs"]["start"] not in found[start].digests:
                plan.left.append(
                    f"{change.path.parent}: {start}, from which it starts, is not as it was; trained again"
                )
                continue
            inputs = change.after["inputs"] | {"start": found[start].digests[1]}
            change = SpecChange(change.path, change.before, change.after | {"inputs": inputs})
        found[name] = change
    return list(found.values())


def _add_spec(plan: Migration, spec: SpecChange) -> None:
    if spec.before == spec.after:
        return
    plan.specs[spec.path] = spec.text
    plan.digests[spec.path] = spec.digests

    # Without a record snakemake writes a spec only if the file is missing.
    if not (plan.work / METADATA).is_dir():
        return
    output = spec.path.relative_to(plan.work).as_posix()
    record = record_path(plan.work, output)
    text = with_parameters(record, spec.new_parameter)
    if text is not None:
        plan.records[record] = text


# --- what a run has in its folder -------------------------------------------------------------------------------------


def _add_run(plan: Migration, run: SpecChange, diagnoses: dict[str, SpecChange]) -> None:
    """Add the manifests and checkpoints in the folder of a run."""
    folder, (before, after) = run.path.parent, run.digests
    _add_manifest(plan, folder / "manifest.json", run.digests, settings=run.after)

    for path in sorted(folder.glob("samples-*.json")):
        name = path.stem.removeprefix("samples-")
        evaluation = plan.folder / "evaluations" / name / "spec.yaml"
        digest = digest_of(evaluation)  # evaluations have no renamed settings
        test = _test_digest(plan.folder, _task_of(evaluation) or run.before["task"])
        _add_manifest(plan, path, _joined(run.digests, (digest, digest), test))
    for path in sorted(folder.glob("diagnosis-*.json")):
        diagnosis = diagnoses.get(path.stem.removeprefix("diagnosis-"))
        if diagnosis:
            test = _test_digest(plan.folder, run.before["task"])
            _add_manifest(plan, path, _joined(run.digests, diagnosis.digests, test))

    # A base model keeps its digest.
    if before == after:
        return
    for path in sorted(folder.glob("checkpoints/step-*/state.json")):
        _add_checkpoint(plan, path, before, after)
    for parts in sorted(folder.glob("samples-*.parts")):
        plan.left.append(f"{parts}: parts of an unfinished evaluation, which starts again")


def _add_manifest(plan: Migration, path: Path, digests: tuple[str, str] | None, **entries: Any) -> None:
    """Add a manifest if it has the old digest; `entries` are replaced, too."""
    if digests is None or digests[0] == digests[1] or not path.exists():
        return
    try:
        content = read_manifest(path)
    except InputError as error:
        plan.left.append(str(error))
        return
    # Others were made with other settings, or have been migrated.
    if content["spec"] == digests[0]:
        content.pop("digest")
        content |= {"spec": digests[1], **entries}
        plan.manifests[path] = json.dumps(signed(content), indent=2) + "\n"


def _joined(run: tuple[str, str], other: tuple[str | None, str | None], test: str | None) -> tuple[str, str] | None:
    """Return the joint digests of run, evaluation or diagnosis, and test data, before and after; None if one lacks."""
    if other[0] is None or other[1] is None or test is None:
        return None
    return joined(run[0], other[0], test), joined(run[1], other[1], test)


def _task_of(evaluation: Path) -> str | None:
    """Return the task of an evaluation; None if that is the run's own, or there is no such spec."""
    try:
        task = yaml.safe_load(evaluation.read_text(encoding="utf-8")).get("task")
    except (OSError, ValueError, AttributeError, yaml.YAMLError):
        return None
    return None if task is None else str(task)


def _test_digest(folder: Path, task: str) -> str | None:
    return digest_of(folder / "data" / task / "test" / "spec.yaml")


def _add_checkpoint(plan: Migration, path: Path, before: str, after: str) -> None:
    """Add a checkpoint of the run with the old settings."""
    try:
        identity = str(json.loads(path.read_text(encoding="utf-8"))["identity"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        plan.left.append(f"{path.parent}: cannot be read ({error}); not resumed from")
        return
    # The identity is that digest, followed by the hashes of the inputs.
    if identity.startswith(f"{before}-"):
        plan.checkpoints[path.parent] = after + identity.removeprefix(before)


# --- writing ----------------------------------------------------------------------------------------------------------


def _replace(path: Path, text: str) -> None:
    """Replace the text of a file, keeping its mode and times, by which Snakemake orders files."""
    status = path.stat()
    with atomic_write(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
        shutil.copymode(path, temporary)
        os.utime(temporary, ns=(status.st_atime_ns, status.st_mtime_ns))


def _reidentify(folder: Path, identity: str) -> None:
    """Replace a checkpoint by one with another identity and the same tensors, which are linked, not copied."""
    state, hashes = folder / "state.json", sealed(folder)
    text = json.dumps(json.loads(state.read_text(encoding="utf-8")) | {"identity": identity})
    status = state.stat()
    with atomic_write(folder) as temporary:
        temporary.mkdir()
        hashes = {name: digest for name, digest in hashes.items() if name not in (state.name, SUMS)}
        for name in hashes:
            # Some file systems have no links.
            try:
                os.link(folder / name, temporary / name)
            except OSError:
                shutil.copy2(folder / name, temporary / name)
        new = temporary / state.name
        new.write_text(text, encoding="utf-8")
        write_checksums(temporary, hashes)
        os.utime(new, ns=(status.st_atime_ns, status.st_mtime_ns))
