"""Adapter files in PEFT's format, ours or trained with released code: settings and tensors, checked before use.

Every tensor of a file must be used exactly once; anything else is an error. PEFT drops tensors with unknown names after
no more than a warning, and the policy is then just the base model. Names, shapes, dtypes and values are therefore
checked before the adapter is built. Released LLaDA code uses the module names of its checkpoint
(`model.transformer.blocks.0.attn_out`), which are translated to ours; Dream's names already match.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from unmask.common.errors import InputError
from unmask.models.checkpoint_formats import llada_name, read_json

CONFIG, TENSORS = "adapter_config.json", "adapter_model.safetensors"
HEAD = "lm_head"  # our name of the output layer
KEY = re.compile(r"(?:base_model\.model\.)?(?P<module>.+)\.lora_(?P<matrix>[AB])(?:\.default)?\.weight")
FLOATS = {"F64", "F32", "F16", "BF16"}
# Keys of adapter_config.json that we support or that do not affect the forward pass. Any other key must be falsy.
KNOWN = {
    "auto_mapping",
    "base_model_name_or_path",
    "corda_config",
    "ensure_weight_tying",
    "eva_config",
    "exclude_modules",
    "inference_mode",
    "init_lora_weights",
    "loftq_config",
    "lora_alpha",
    "lora_dropout",
    "lora_ga_config",
    "megatron_core",
    "peft_type",
    "peft_version",
    "qalora_group_size",
    "r",
    "revision",
    "runtime_config",
    "target_modules",
    "task_type",
    "use_rslora",
}
# Keys that decide the forward pass, together with the modules that are adapted.
OPTIONS = ("r", "lora_alpha", "lora_dropout", "use_rslora")
# Other initialisations (PiSSA, OLoRA, LoftQ, …) modify the base weights, so the adapter only fits those.
INITIALISATIONS = (True, False, "gaussian", "eva", "orthogonal", None)


class Place(NamedTuple):
    """One of the two matrices of a module, by our name of the module."""

    module: str
    matrix: str  # A or B


@dataclass(frozen=True)
class Settings:
    """Settings of an adapter that have an effect here."""

    rank: int
    targets: str | list[str]
    excluded: str | list[str]
    options: Mapping[str, Any]  # of LoraConfig


def read_settings(file: Path) -> Settings:
    """Read an adapter's settings. Raises InputError that lists every unsupported one."""
    config = read_json(file)
    wrong = [f"{key} {config.get(key)!r}" for key in _unsupported(config)]
    if wrong:
        raise InputError(
            f"{file}: unsupported adapter: {', '.join(sorted(wrong))}. Only plain LoRA on the projections of the "
            "layers, with one rank and one alpha, is supported; merge any other adapter into its base model and use "
            "`source: local`."
        )
    return Settings(
        rank=config["r"],
        targets=config["target_modules"],
        excluded=config.get("exclude_modules") or [],
        options={key: config[key] for key in OPTIONS if key in config},
    )


def _unsupported(config: Mapping[str, Any]) -> Iterator[str]:
    """Yield the keys of adapter_config.json whose values we do not support."""
    # A key we do not know, from a newer PEFT for example, is harmless as long as it is switched off.
    for key in config.keys() - KNOWN - {"bias"}:
        if config[key]:
            yield key
    for key in ("r", "lora_alpha"):
        if not _positive(config.get(key)):
            yield key
    if config.get("peft_type") != "LORA":
        yield "peft_type"
    if config.get("bias", "none") != "none":
        yield "bias"
    if config.get("init_lora_weights") not in INITIALISATIONS:
        yield "init_lora_weights"
    if not isinstance(config.get("target_modules"), str | list):
        yield "target_modules"


def _positive(value: Any) -> bool:
    return isinstance(value, int | float) and value > 0


def read_tensors(
    file: Path,
    modules: dict[str, nn.Linear],
    settings: Settings,
    model_type: str,
) -> dict[Place, Tensor]:
    """Read all tensors as fp32.

    Raises InputError that lists missing, unexpected, misshapen and non-finite tensors.
    """
    tensors: dict[Place, Tensor] = {}
    try:
        with safe_open(file, "pt") as stored:
            names = list(stored.keys())
            naming = _naming(names, modules, model_type)
            found, unexpected = _translated(names, naming)
            for place, name in found.items():
                # Other dtypes, such as those of quantised weights, cannot simply be cast to fp32.
                if stored.get_slice(name).get_dtype() in FLOATS:
                    tensors[place] = stored.get_tensor(name)
                else:
                    unexpected.add(name)
    except (OSError, SafetensorError) as error:
        raise InputError(f"{file}: cannot be read ({error}); copy the adapter again, as safetensors") from error
    if not names:
        raise InputError(f"{file}: contains no tensors; copy the adapter again")

    wanted, allowed = _targets(modules, settings, naming)
    for place, name in found.items():
        if place.module not in allowed:
            unexpected.add(name)
    not_finite = set()
    for place, value in tensors.items():
        if not value.isfinite().all():
            not_finite.add(found[place])
    lists = {
        "missing": _missing(found, wanted),
        "unexpected": unexpected,
        "of another shape": set(_misshapen(tensors, found, modules, settings.rank)),
        "with NaN or infinite values": not_finite,
    }
    said = [f"{len(some)} {what} ({_first(some)})" for what, some in lists.items() if some]
    if said:
        raise InputError(
            f"{file}: does not fit this base model and its {CONFIG}: {'; '.join(said)}. Use an adapter trained on this "
            "base model, or copy it again."
        )

    types = {str(value.dtype).removeprefix("torch.") for value in tensors.values()}
    narrow = sorted(types - {"float32"})
    if narrow:
        print(f"{file}: casting {', '.join(narrow)} to float32", flush=True)
    return {place: value.float() for place, value in tensors.items()}


def _missing(found: dict[Place, str], wanted: set[str]) -> set[str]:
    """Return the matrices that are not in the file, of the modules that must have LoRA."""
    # LLaDA's code calls the head like a projection of its layers (ff_out). A list of targets thus matches it too,
    # whether or not it was to be adapted, so it may be missing. Beyond what the config requires, a module with one of
    # its two matrices in the file must have the other one too.
    modules = wanted - {HEAD} | {place.module for place in found}
    missing = set()
    for module in modules:
        for matrix in "AB":
            if Place(module, matrix) not in found:
                missing.add(f"{module}.lora_{matrix}")
    return missing


def _naming(names: Iterable[str], modules: dict[str, nn.Linear], model_type: str) -> dict[str, str]:
    """Map module names as used in the file to ours; files with any LLaDA block name use LLaDA's names throughout."""
    if model_type == "llada" and any("transformer.blocks." in name for name in names):
        return _llada_naming(modules)
    return {name: name for name in modules}


def _llada_naming(modules: Iterable[str]) -> dict[str, str]:
    naming = {}
    for name in modules:
        theirs = llada_name(f"{name}.weight").removesuffix(".weight")
        naming[theirs] = name
    return naming


def _translated(names: list[str], naming: dict[str, str]) -> tuple[dict[Place, str], set[str]]:
    """Return the tensor name for each place in the model, and the names that fit no place or a place already taken."""
    found: dict[Place, str] = {}
    unexpected = set()
    for name in names:
        place = _place(name, naming)
        if place is None or place in found:
            unexpected.add(name)
        else:
            found[place] = name
    return found, unexpected


def _place(name: str, naming: dict[str, str]) -> Place | None:
    """Return the place of a tensor in the model; None if its name fits none."""
    parts = KEY.fullmatch(name)
    if parts is None or parts["module"] not in naming:
        return None
    return Place(naming[parts["module"]], parts["matrix"])


def _targets(modules: Iterable[str], settings: Settings, naming: dict[str, str]) -> tuple[set[str], set[str]]:
    """Return the modules (our names) that must have LoRA according to the config, and those that may have it.

    PEFT ignores targets that the trained model lacks: d1's list uses Llama's names, of which LLaDA has only four out of
    seven. The naming scheme of the file therefore decides which modules are required; a target that matches under
    either scheme is allowed.
    """
    # A file may mix the two: tensors in LLaDA's names and a target list in Llama's, as in d1.
    others = _llada_naming(modules) | {name: name for name in modules}
    here = _targeted(naming, settings)
    anywhere = _targeted(others, settings)
    return here or anywhere, here | anywhere


def _targeted(naming: dict[str, str], settings: Settings) -> set[str]:
    """Return the modules (our names) that the settings target by the names of a file."""
    targeted = set()
    excluded = set()
    for theirs, ours in naming.items():
        if _matches(settings.targets, theirs):
            targeted.add(ours)
        if _matches(settings.excluded, theirs):
            excluded.add(ours)
    return targeted - excluded


def _matches(targets: str | list[str], name: str) -> bool:
    """Return True if PEFT's list or pattern of targets matches a module name."""
    if targets == "all-linear":
        return True
    if isinstance(targets, str):
        return re.fullmatch(targets, name) is not None
    return any(name == target or name.endswith(f".{target}") for target in targets)


def _misshapen(
    tensors: dict[Place, Tensor],
    found: dict[Place, str],
    modules: dict[str, nn.Linear],
    rank: int,
) -> Iterable[str]:
    for place, value in tensors.items():
        base = modules[place.module]
        right = {"A": [rank, base.in_features], "B": [base.out_features, rank]}[place.matrix]
        shape = list(value.shape)
        if shape != right:
            yield f"{found[place]} {shape} instead of {right}"


def _first(names: set[str]) -> str:
    listed = ", ".join(sorted(names)[:6])
    if len(names) > 6:
        return f"{listed}, …"
    return listed
