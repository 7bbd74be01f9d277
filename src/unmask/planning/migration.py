"""Migration of a finished project to the current names of settings: its results stay valid, and no run is repeated.

Specs and manifests hold settings or digests of settings, and Snakemake's records hold both. They are rewritten with
their old modification times. Weights, samples, tables and checkpoints are not touched.

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
from unmask.common.errors import InputError
from unmask.common.manifest import read_manifest, signed
from unmask.config.renames import RENAMED, TO_RUNTIME, current_name
from unmask.config.schema.types import Values
from unmask.config.spec_file import Spec, digest_of, digest_of_values, joined
from unmask.config.specs import DiagnosisSpec, RunSpec
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
        return not (self.records or self.manifests or self.specs)

    def write(self) -> None:
        """Carry out the plan, each file atomically."""
        for path, text in (self.records | self.manifests | self.specs).items():
            _replace(path, text)


def plan_migration(folder: Path) -> Migration:
    """Return what has to be rewritten in a results folder, such as results/laptop."""
    plan = Migration(Path(os.path.abspath(folder)))  # without `..`, as Snakemake records paths
    diagnoses = {}
    for spec in _changes(plan, "diagnoses/*/spec.yaml", DiagnosisSpec, "repeats the diagnosis of every run"):
        diagnoses[spec.path.parent.name] = spec
    runs = _run_changes(plan)
    for run in runs:
        _add_run(plan, run, diagnoses)

    # Reversed, so that runs that others start from come last.
    for spec in [*diagnoses.values(), *reversed(runs)]:
        _add_spec(plan, spec)
    return plan


# --- specs ------------------------------------------------------------------------------------------------------------


def _changes(plan: Migration, pattern: str, kind: type[Spec], effect: str) -> Iterator[SpecChange]:
    """Yield the specs in the files that match; others are left. `effect` says what deleting one would do."""
    for path in sorted(plan.folder.glob(pattern)):
        try:
            change = _change(path, kind)
        except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError, yaml.YAMLError) as error:
            reason = " ".join(str(error).split())
            plan.left.append(f"{path}: {reason}. Restore it from a backup: deleting it {effect}")
            continue
        yield change


def _change(path: Path, kind: type[Spec]) -> SpecChange:
    """Return the change of a spec. Raises one of several errors if it is damaged or was written by something else."""
    values = yaml.safe_load(path.read_text(encoding="utf-8"))
    if not isinstance(values, dict):
        raise ValueError("has no keys")
    written = values.pop("digest", None)
    if digest_of_values(values) != written:
        raise ValueError("its digest is not that of its values, so it was damaged or edited")

    # What is written has to be read again.
    after = under_current_names(values)
    kind.check_keys(after)
    kind.of(after)
    return SpecChange(path, values, after)


def under_current_names(values: Values) -> Values:
    """Return the values of the spec of a run or diagnosis under the current names, without what is now in `runtime`."""
    after = {current_name(key): value for key, value in values.items()}
    training = values.get("training")
    if isinstance(training, dict):
        after["training"] = {current_name(key): training[key] for key in training if key not in TO_RUNTIME}
    return after


def _run_changes(plan: Migration) -> list[SpecChange]:
    """Return the specs of all runs, those that others start from first."""
    for manifest in sorted(plan.folder.glob("runs/*/*/*/*/manifest.json")):
        spec = manifest.parent / "spec.yaml"
        if not spec.exists():
            plan.left.append(f"{spec}: missing. Restore it from a backup: without it the finished run is trained again")

    found: dict[str, SpecChange] = {}
    changes = _changes(plan, "runs/*/*/*/*/spec.yaml", RunSpec, "trains a finished run again")
    for change in sorted(changes, key=lambda one: one.before["start_from"] is not None):
        reason = _why_left(plan, change, found)
        if reason:
            plan.left.append(f"{change.path.parent}: {reason}")
            continue
        # A run's digest covers that of the run it starts from.
        start = change.before["start_from"]
        if start is not None:
            inputs = change.after["inputs"] | {"start": found[start].digests[1]}
            change = SpecChange(change.path, change.before, change.after | {"inputs": inputs})
        found[change.before["name"]] = change
    return list(found.values())


def _why_left(plan: Migration, run: SpecChange, found: dict[str, SpecChange]) -> str:
    """Return why a run is not migrated, and what happens to it; "" if it is. `found` has those it may start from."""
    folder, name, start = run.path.parent, run.before["name"], run.before["start_from"]
    if name != folder.relative_to(plan.folder / "runs").as_posix():
        return f"has the spec of another run, {name}; move the folder to that place, or delete it"

    # The folder of a run is named after the settings that a grid varies.
    old = [key for key in RENAMED if f"{key}~" in name]
    if old:
        return f"named after {', '.join(old)}; it is trained again under the new name"

    # Its spec is kept, so that snakemake does not start it again without a word.
    is_finished = (folder / "manifest.json").exists()
    if run.before != run.after and not is_finished and any(folder.glob("checkpoints/step-*")):
        return "unfinished; finish it with the old version, or it starts again: new code resumes from no old checkpoint"

    if start is not None:
        inputs = run.before.get("inputs")
        used = inputs.get("start") if isinstance(inputs, dict) else None
        known = found.get(str(start))
        if known is None or used not in known.digests:
            return f"{start}, from which it starts, is not finished or not as it was; trained again"
    return ""


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
    """Add the manifests in the folder of a run."""
    folder = run.path.parent
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
    if run.before == run.after:
        return
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
    if "spec" not in content:
        plan.left.append(f"{path}: has no entry `spec`. Restore it from a backup, or delete it and run snakemake again")
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
    except (OSError, ValueError, AttributeError, RecursionError, yaml.YAMLError):
        return None
    return None if task is None else str(task)


def _test_digest(folder: Path, task: str) -> str | None:
    return digest_of(folder / "data" / task / "test" / "spec.yaml")


# --- writing ----------------------------------------------------------------------------------------------------------


def _replace(path: Path, text: str) -> None:
    """Replace the text of a file, keeping its mode and times, by which Snakemake orders files."""
    status = path.stat()
    with atomic_write(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
        shutil.copymode(path, temporary)
        os.utime(temporary, ns=(status.st_atime_ns, status.st_mtime_ns))
