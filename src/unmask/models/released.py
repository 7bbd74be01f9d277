"""Released checkpoints: an adapter or all weights, from elsewhere, checked against the base model before use.

Nothing of a checkpoint is run: its settings are JSON, its weights are safetensors. Whatever does not fit is one error
that names the file, the key and the way to fix it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Literal

from unmask.common.errors import InputError
from unmask.models.adapter_files import CONFIG, TENSORS, read_settings, read_tensors
from unmask.models.adapters import projections
from unmask.models.checkpoint_formats import Layout, read_json
from unmask.models.loading import PICKLES, check_weights, pickled
from unmask.models.shapes import PUBLISHED

Kind = Literal["adapter", "full"]
# Parts of a configuration that two models may differ in and still compute the same from the same weights.
FREE = ("max_position_embeddings", "transformers_version", "dtype", "architectures", "use_cache", "initializer_range",
        "attention_dropout", "bos_token_id", "eos_token_id")  # fmt: skip


def kind_of(folder: Path) -> Kind:
    """Return whether a folder has an adapter or all weights. Raises InputError if it has neither or both."""
    has_adapter, has_model = (folder / CONFIG).exists(), (folder / "config.json").exists()
    if has_adapter and has_model and not list(folder.glob("model*.safetensors")):
        return "adapter"  # trainers copy the base model's config.json next to an adapter
    if has_adapter and has_model:
        raise InputError(f"{folder}: has {CONFIG} and a whole model; move one of the two into a folder of its own")
    if not has_adapter and not has_model:
        inside = ", ".join(sorted(file.name for file in folder.iterdir())[:6]) or "nothing"
        raise InputError(
            f"{folder}: has neither {CONFIG} nor config.json, only {inside}; name the folder with one of the two (on "
            "the hub: set subfolder)"
        )
    return "adapter" if has_adapter else "full"


def check_released(folder: Path, kind: str, base: Path, repository: str | None = None) -> int:
    """Check a released checkpoint against its base model; return the number of parameters that it stores.

    `repository` is where the base model is from, if that is known. Raises InputError if the checkpoint is of another
    kind, is pickled, was trained from another base model, or does not fit the base model tensor by tensor.
    """
    found = kind_of(folder)
    if found != kind:
        raise InputError(f"{folder}: kind is {kind!r}, but the folder has {_described(found)}; set kind: {found}")
    if kind == "full":
        return _check_full(folder, base)
    return _check_adapter(folder, base, repository)


def _described(kind: Kind) -> str:
    return {"adapter": f"an adapter ({CONFIG})", "full": "a whole model (config.json)"}[kind]


def _check_adapter(folder: Path, base: Path, repository: str | None) -> int:
    if not (folder / TENSORS).exists():
        _refuse_pickles(folder)
        raise InputError(
            f"{folder}: no {TENSORS}; if the repository has adapter_model.bin instead, convert it and use source: "
            "local (docs/evaluate_checkpoints.md)"
        )
    check_base_name(folder / CONFIG, repository or str(base))
    settings = read_settings(folder / CONFIG)
    layout = Layout.read(base)
    modules = projections(layout.empty_model())
    tensors = read_tensors(folder / TENSORS, modules, settings, layout.config.model_type)
    return sum(tensor.numel() for tensor in tensors.values())


def _check_full(folder: Path, base: Path) -> int:
    layout, ours = Layout.read(folder), Layout.read(base)
    if layout.model_class is not ours.model_class:
        raise InputError(
            f"{folder / 'config.json'}: model_type {layout.config.model_type!r}, but the base model's is "
            f"{ours.config.model_type!r}; name the base model that it was trained from"
        )
    theirs, wanted = layout.config.to_dict(), ours.config.to_dict()
    differ = []
    for key in sorted(theirs.keys() & wanted.keys() - set(FREE)):
        if theirs[key] != wanted[key]:
            differ.append(f"{key} {theirs[key]!r} instead of {wanted[key]!r}")
    if differ:
        raise InputError(
            f"{folder / 'config.json'}: not the architecture of the base model: {', '.join(differ)}; name the base "
            "model that it was trained from"
        )
    return check_weights(folder, layout)


def _refuse_pickles(folder: Path) -> None:
    names = {file.name for file in folder.glob("*") if file.suffix in PICKLES}
    if names:
        raise pickled(folder, names)


def check_base_name(config: Path, base: str) -> None:
    """Compare the base model that an adapter's settings name with the one given.

    Shapes cannot tell LLaDA-8B-Base, LLaDA-8B-Instruct and LLaDA-1.5 apart. Raises InputError if the settings name a
    published model and the base is another; prints a line if the two names do not tell.
    """
    stated = read_json(config).get("base_model_name_or_path")
    theirs, ours = published_name(stated), published_name(base)
    if theirs is None or ours is None:
        print(f"{config}: base_model_name_or_path is {stated!r}; whether that is {base} has to be known from elsewhere")
    elif theirs != ours:
        raise InputError(
            f"{config}: base_model_name_or_path {stated!r} is {theirs}, but the base model given is {ours}; evaluate "
            "it on the base model that it was trained from"
        )


def published_name(place: object, known: Iterable[str] = tuple(PUBLISHED)) -> str | None:
    """Return the published model that a repository, path or folder of the hub's cache names; None if it names none."""
    if not isinstance(place, str):
        return None
    # In the hub's cache the folder is models--OWNER--NAME.
    parts = [part.rpartition("--")[2].lower() for part in re.split(r"[/\\]", place)]
    for repository in known:
        _, _, name = repository.partition("/")
        if name.lower() in parts:
            return repository
    return None
