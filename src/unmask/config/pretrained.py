"""Base models that come with the project, so that runs start from the same bytes on every machine.

Training amplifies rounding, and rounding depends on the processor: the same recipe and seed give another base model on
another kind of processor, and other accuracies after RL. Papers compare methods on one published checkpoint; these
weights are that checkpoint at the laptop scale. src/adopt_pretrained.py copies them from finished training runs.
"""

from __future__ import annotations

from pathlib import Path

from unmask.common.checksums import fingerprint
from unmask.common.errors import InputError
from unmask.common.manifest import made_of
from unmask.config.loading import ROOT
from unmask.config.specs import ModelSpec

FOLDER = ROOT / "workflow/resources/pretrained"
MANIFEST, WEIGHTS = "manifest.json", "weights"


def pretrained_weights(spec: ModelSpec, folder: Path = FOLDER) -> str | None:
    """Return the hash of the project's weights of a base model; None if there are none that its recipe trained.

    Raises InputError if their manifest is damaged.
    """
    place = folder / spec.name
    if not place.is_dir():
        return None
    recipe = made_of(place / MANIFEST)
    if recipe is None:
        raise InputError(
            f"{place / MANIFEST}: missing or damaged. Restore it with git, or set "
            f"models.{spec.name.partition('/')[0]}.pretrained: false to train the model."
        )
    return fingerprint(place / WEIGHTS) if recipe == spec.recipe else None
