"""Specs as they were before settings were renamed: the inverse of src/unmask/planning/migration.py."""

from unmask.config.renames import RENAMED
from unmask.config.specs import DiagnosisSpec, RunSpec, digest_of_values

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
