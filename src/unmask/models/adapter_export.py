"""Adapters for users of the published code: under its module names, or added to the weights in its layout."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from unmask.common.errors import InputError
from unmask.models.adapter_files import CONFIG, TENSORS, Place, Settings, read_settings, read_tensors
from unmask.models.adapters import projections
from unmask.models.checkpoint_formats import Layout, read_json
from unmask.models.loading import INDEX, check_trained, weight_files

SKIPPED = ("SHA256SUMS", "README.md")  # of the base model's folder; the rest but weights is copied


def export(adapter: Path, base: Path, out: Path, base_name: str) -> list[str]:
    """Write an adapter under the module names of the base model's own code; return the names of its modules.

    `base_name` is what `base_model_name_or_path` says. Raises InputError if the adapter does not fit the base model.
    """
    settings, matrices, layout = _read(adapter, base)
    tensors = {}
    for place, value in matrices.items():
        module = layout.stored_name(f"{place.module}.weight").removesuffix(".weight")
        tensors[f"base_model.model.{module}.lora_{place.matrix}.weight"] = value.contiguous()
    modules = sorted({name.partition(".lora_")[0].removeprefix("base_model.model.") for name in tensors})

    config = read_json(adapter / CONFIG)
    config |= {"base_model_name_or_path": base_name, "target_modules": _pattern(modules), "exclude_modules": None}
    out.mkdir(parents=True)
    save_file(tensors, out / TENSORS, metadata={"format": "pt"})
    (out / CONFIG).write_text(json.dumps(config | {"r": settings.rank}, indent=2) + "\n", encoding="utf-8")
    return modules


def merge(adapter: Path, base: Path, out: Path, dtype: torch.dtype) -> int:
    """Write the base model with the adapter added, W + s · B A, in its own layout and files; count the matrices.

    The sum is formed in fp32 and then rounded to `dtype`. Raises InputError if the adapter does not fit the base model.
    """
    settings, matrices, layout = _read(adapter, base)
    scale = settings.options["lora_alpha"] / settings.rank
    if settings.options.get("use_rslora"):
        scale = settings.options["lora_alpha"] / settings.rank**0.5
    stored = {layout.stored_name(f"{place.module}.weight"): place.module for place in matrices}

    out.mkdir(parents=True)
    merged = 0
    for file in weight_files(base):
        weights: dict[str, Tensor] = {}
        with safe_open(file, "pt") as shard:
            for name in shard.keys():  # noqa: SIM118 (not a mapping)
                value = shard.get_tensor(name).float()
                if name in stored:
                    down, up = (matrices[Place(stored[name], matrix)] for matrix in "AB")
                    value = value + scale * (up @ down)
                    merged += 1
                weights[name] = value.to(dtype)
        save_file(weights, out / file.name, metadata={"format": "pt"})
    assert merged == len(stored), "a module of the adapter has no weight"

    for file in sorted(base.iterdir()):
        is_weight = file.suffix == ".safetensors"
        if file.is_file() and not is_weight and file.name not in SKIPPED and not file.name.startswith("."):
            shutil.copyfile(file, out / file.name)
    _write_types(out, dtype)
    return merged


def _read(adapter: Path, base: Path) -> tuple[Settings, dict[Place, Tensor], Layout]:
    if not (adapter / CONFIG).exists():
        raise InputError(f"{adapter}: no {CONFIG}, so no adapter; name the folder `adapter` of a run")
    check_trained(adapter)
    layout = Layout.read(base)
    settings = read_settings(adapter / CONFIG)
    tensors = read_tensors(adapter / TENSORS, projections(layout.empty_model()), settings, layout.config.model_type)
    return settings, tensors, layout


def _pattern(modules: list[str]) -> str:
    """Return the pattern that matches exactly these modules of a model, as PEFT's `target_modules`."""
    # PEFT matches a list by the end of names, and LLaDA's head ends like the down projection of its layers.
    numbered = {re.sub(r"\\\.\d+\\\.", r"\\.\\d+\\.", re.escape(module)) for module in modules}
    layers = {match[1] for module in modules if (match := re.search(r"\.(\d+)\.", module))}
    in_layers = [module for module in modules if re.search(r"\.\d+\.", module)]
    everywhere = len(in_layers) == len(layers) * sum(r"\d+" in one for one in numbered)
    return "|".join(sorted(numbered if everywhere and len(layers) > 1 else {re.escape(one) for one in modules}))


def _write_types(out: Path, dtype: torch.dtype) -> None:
    """Make config.json and the index say what the files have."""
    name = str(dtype).removeprefix("torch.")
    file = out / "config.json"
    config = read_json(file)
    for key in ("torch_dtype", "dtype"):
        if key in config:
            config[key] = name
    file.write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    if (out / INDEX).exists():
        index = read_json(out / INDEX)
        sizes = 0
        for weights in set(index["weight_map"].values()):
            with safe_open(out / weights, "pt") as shard:
                for key in shard.keys():  # noqa: SIM118 (not a mapping)
                    count = 1
                    for extent in shard.get_slice(key).get_shape():
                        count *= extent
                    sizes += count * dtype.itemsize
        index["metadata"] = index.get("metadata", {}) | {"total_size": sizes}
        (out / INDEX).write_text(json.dumps(index, indent=2) + "\n", encoding="utf-8")
