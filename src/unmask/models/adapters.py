"""LoRA adapters: loading (ours, or trained with released code), stacking and saving.

Every tensor of an adapter file must be used exactly once; anything else is an error. PEFT drops tensors with unknown
names after no more than a warning, and the policy is then just the base model. Names, shapes, dtypes and values are
therefore checked before the adapter is built. Released LLaDA code uses the module names of its checkpoint
(`model.transformer.blocks.0.attn_out`), which are translated to ours; Dream's names already match.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional

from unmask.common.errors import InputError
from unmask.models.checkpoint_formats import llada_name, read_json
from unmask.models.llada import LladaForMaskedDiffusion

CONFIG, TENSORS = "adapter_config.json", "adapter_model.safetensors"
FRESH = "fresh"  # PEFT name of the adapter trained on top of a loaded one, which is called "default"
KEY = re.compile(r"(?:base_model\.model\.)?(?P<module>.+)\.lora_(?P<matrix>[AB])(?:\.default)?\.weight")
FLOATS = {"F64", "F32", "F16", "BF16"}
# Keys of adapter_config.json that we support or that do not affect the forward pass. Any other key must be falsy.
KNOWN = {"r", "lora_alpha", "lora_dropout", "target_modules", "exclude_modules", "use_rslora", "peft_type"}
KNOWN |= {"task_type", "base_model_name_or_path", "revision", "inference_mode", "auto_mapping", "peft_version"}
KNOWN |= {"init_lora_weights", "eva_config", "corda_config", "lora_ga_config", "loftq_config", "runtime_config"}
KNOWN |= {"megatron_core", "qalora_group_size", "ensure_weight_tying"}
# Other initialisations (PiSSA, OLoRA, LoftQ, …) modify the base weights, so the adapter only fits those.
INITIALISATIONS = (True, False, "gaussian", "eva", "orthogonal", None)

Found = dict[tuple[str, str], str]  # (our module name, "A" or "B") -> tensor name in the file


def load_adapter(model: LladaForMaskedDiffusion, folder: Path) -> Any:
    """Return the model in PEFT's wrapper with the adapter of `folder`: frozen, in fp32, on the model's device.

    Raises InputError if the adapter uses unsupported features or if its tensors do not fit the model exactly.
    """
    config = _read_config(Path(folder) / CONFIG)
    modules = {name: m for name, m in model.model.named_modules(prefix="model") if isinstance(m, nn.Linear)}
    tensors = _read_tensors(Path(folder) / TENSORS, modules, config, model.config.model_type)

    from peft import LoraConfig, get_peft_model

    targets = {name.rpartition(".")[2] for name, _ in tensors}
    # `_read_config` has made sure that no other setting affects the forward pass.
    settings = {key: config[key] for key in ("r", "lora_alpha", "lora_dropout", "use_rslora") if key in config}
    # Use short target names, as training writes them. With only some layers adapted, short names would match too many
    # modules, so full names are needed.
    partial = len(targets) * model.config.num_hidden_layers != len(tensors) // 2
    chosen = sorted({name for name, _ in tensors} if partial else targets)
    # PEFT initialises the matrices at random; the values are overwritten below and must not advance the global RNG.
    with torch.random.fork_rng(devices=[]):
        adapter = get_peft_model(model, LoraConfig(**settings, target_modules=chosen))
    parameters = {name: p for name, p in model.named_parameters() if ".lora_" in name}
    with torch.no_grad():
        for (module, matrix), value in tensors.items():
            parameters.pop(f"{module}.lora_{matrix}.default.weight").copy_(value)
    assert not parameters, f"LoRA matrices without a value: {sorted(parameters)}"
    adapter.set_requires_grad("default", False)
    multiply_in_the_bases_type(model)
    return adapter.eval()


def add_fresh(adapter: Any, config: Any) -> None:
    """Add a second, trainable LoRA adapter on top of the loaded one, which is frozen.

    The loaded adapter is not merged into the weights: in bfloat16 rounding would erase most of it, and NF4 weights
    cannot absorb it.
    """
    from peft.tuners.lora import LoraLayer

    adapter.add_adapter(FRESH, config)
    adapter.base_model.set_adapter(["default", FRESH])
    adapter.set_requires_grad("default", False)
    # The loaded adapter is now part of the frozen model, and only the trained adapter may have dropout.
    for layer in adapter.modules():
        if isinstance(layer, LoraLayer) and "default" in layer.lora_dropout:
            layer.lora_dropout["default"] = nn.Identity()


def save_joined(adapter: Any, folder: Path) -> None:
    """Write the two adapters of `add_fresh` as one adapter in PEFT's format.

    The joint rank is the sum of both ranks and the scaling is 1. Evaluation therefore always needs just the base model
    and a single adapter, however the policy was trained.
    """
    from peft.tuners.lora import LoraLayer

    layers = {name: layer for name, layer in adapter.get_base_model().named_modules() if isinstance(layer, LoraLayer)}
    ranks = {name: config.r for name, config in adapter.peft_config.items()}
    # B₁A₁ + B₂A₂ = [B₁ B₂] · [A₁; A₂]: concatenate along the rank axis, with each adapter's scaling folded into its B.
    tensors = {}
    for name, layer in layers.items():
        down, up = [], []
        for one, rank in ranks.items():
            if one in layer.lora_A:
                down.append(layer.lora_A[one].weight)
                up.append(layer.lora_B[one].weight * layer.scaling[one])
            else:  # only the other adapter covers this module
                down.append(torch.zeros(rank, layer.in_features))
                up.append(torch.zeros(layer.out_features, rank))
        for matrix, value in (("A", torch.cat([x.cpu() for x in down])), ("B", torch.cat([x.cpu() for x in up], 1))):
            tensors[f"base_model.model.{name}.lora_{matrix}.weight"] = value.detach().float().contiguous()

    # lora_alpha / r = 1, because the scaling is in the B matrices already.
    config = copy.deepcopy(adapter.peft_config[FRESH])
    config.r = config.lora_alpha = sum(ranks.values())
    config.target_modules = sorted({name.rpartition(".")[2] for name in layers})
    config.inference_mode = True
    Path(folder).mkdir(parents=True, exist_ok=True)
    save_file(tensors, Path(folder) / TENSORS, metadata={"format": "pt"})
    config.save_pretrained(str(folder))


class _CastLinear(nn.Linear):
    """Linear layer with an fp32 weight, for the optimiser, that multiplies in the dtype of its input."""

    def forward(self, x: Tensor) -> Tensor:
        return functional.linear(x, self.weight.to(x.dtype), self.bias)


def multiply_in_the_bases_type(model: LladaForMaskedDiffusion) -> None:
    """Make LoRA multiply in the base model's dtype, while its matrices and their gradients stay in fp32.

    This matches autocast, which the released trainers use. By default, PEFT casts every input to fp32 when the base is
    in bfloat16, which doubles the time of a forward pass at 8B and keeps a copy of every input for the gradient.
    Sampling, scoring and loss all use the same arithmetic, so the ratio of a policy to itself is exactly 1.
    """
    from peft.tuners.lora import LoraLayer

    if model.dtype == torch.float32:
        return
    for layer in model.modules():
        if isinstance(layer, LoraLayer):
            layer.cast_input_dtype_enabled = False
            # Swapping the class keeps the parameters, and so the optimiser's references and the saved names.
            for matrix in (*layer.lora_A.values(), *layer.lora_B.values()):
                matrix.__class__ = _CastLinear


def _read_config(file: Path) -> dict[str, Any]:
    """Read an adapter's settings. Raises InputError that lists every unsupported one."""
    config = read_json(file)
    # A key we do not know, from a newer PEFT for example, is harmless as long as it is switched off.
    wrong = [f"{key} {config[key]!r}" for key in config.keys() - KNOWN if key != "bias" and config[key]]
    wrong += [f"{key} {config.get(key)!r}" for key in ("r", "lora_alpha") if not _positive(config.get(key))]
    if config.get("peft_type") != "LORA":
        wrong.append(f"peft_type {config.get('peft_type')!r}")
    if config.get("bias", "none") != "none":
        wrong.append(f"bias {config['bias']!r}")
    if config.get("init_lora_weights") not in INITIALISATIONS:
        wrong.append(f"init_lora_weights {config['init_lora_weights']!r}")
    if not isinstance(config.get("target_modules"), str | list):
        wrong.append(f"target_modules {config.get('target_modules')!r}")
    if wrong:
        raise InputError(
            f"{file}: unsupported adapter: {', '.join(sorted(wrong))}. Only plain LoRA on the projections of the "
            "layers, with one rank and one alpha, is supported; merge any other adapter into its base model and use "
            "`source: local`."
        )
    return config


def _positive(value: Any) -> bool:
    return isinstance(value, int | float) and value > 0


def _read_tensors(
    file: Path, modules: dict[str, nn.Linear], config: dict[str, Any], model_type: str
) -> dict[tuple[str, str], Tensor]:
    """Read all tensors as fp32, keyed by (our module name, matrix).

    Raises InputError that lists missing, unexpected, misshapen and non-finite tensors.
    """
    try:
        with safe_open(file, "pt") as stored:
            names = list(stored.keys())
            found, unexpected = _translated(names, modules, model_type)
            # Other dtypes, such as those of quantised weights, cannot simply be cast to fp32.
            unexpected |= {name for name in found.values() if stored.get_slice(name).get_dtype() not in FLOATS}
            tensors = {place: stored.get_tensor(name) for place, name in found.items() if name not in unexpected}
    except (OSError, SafetensorError) as error:
        raise InputError(f"{file}: cannot be read ({error}); copy the adapter again, as safetensors") from error

    # Beyond what the config requires, a module with one of its two matrices in the file must have the other one too.
    wanted, allowed = _targets(modules, config, _naming(names, modules, model_type))
    unexpected |= {name for (module, _), name in found.items() if module not in allowed}
    wanted |= {module for module, _ in found}
    lists = {
        "missing": {f"{m}.lora_{x}" for m in wanted for x in "AB" if (m, x) not in found},
        "unexpected": unexpected,
        "of another shape": set(_misshapen(tensors, found, modules, config["r"])),
        "with NaN or infinite values": {found[at] for at, value in tensors.items() if not value.isfinite().all()},
    }
    if not names:
        raise InputError(f"{file}: contains no tensors; copy the adapter again")
    if said := "; ".join(f"{len(some)} {what} ({_first(some)})" for what, some in lists.items() if some):
        raise InputError(
            f"{file}: does not fit this base model and its {CONFIG}: {said}. Use an adapter trained on this base "
            "model, or copy it again."
        )
    if narrow := sorted({str(value.dtype).removeprefix("torch.") for value in tensors.values()} - {"float32"}):
        print(f"{file}: casting {', '.join(narrow)} to float32", flush=True)
    return {place: value.float() for place, value in tensors.items()}


def _naming(names: Iterable[str], modules: dict[str, nn.Linear], model_type: str) -> dict[str, str]:
    """Map module names as used in the file to ours; files with any LLaDA block name use LLaDA's names throughout."""
    if model_type == "llada" and any("transformer.blocks." in name for name in names):
        return {llada_name(f"{name}.weight").removesuffix(".weight"): name for name in modules}
    return {name: name for name in modules}


def _translated(names: list[str], modules: dict[str, nn.Linear], model_type: str) -> tuple[Found, set[str]]:
    """Return the tensor name for each place in the model, and the names that fit no place or a place already taken."""
    ours, found, unexpected = _naming(names, modules, model_type), Found(), set()
    for name in names:
        parts = KEY.fullmatch(name)
        place = (ours.get(parts["module"], ""), parts["matrix"]) if parts else ("", "")
        if not place[0] or place in found:
            unexpected.add(name)
        else:
            found[place] = name
    return found, unexpected


def _targets(
    modules: dict[str, nn.Linear], config: dict[str, Any], naming: dict[str, str]
) -> tuple[set[str], set[str]]:
    """Return the modules (our names) that must have LoRA according to the config, and those that may have it.

    PEFT ignores targets that the trained model lacks: d1's list uses Llama's names, of which LLaDA has only four out of
    seven. The naming scheme of the file therefore decides which modules are required; a target that matches under
    either scheme is allowed.
    """
    # A file may mix the two: tensors in LLaDA's names and a target list in Llama's, as in d1.
    others = {llada_name(f"{name}.weight").removesuffix(".weight"): name for name in modules} | {m: m for m in modules}
    by_naming = []
    for names in (naming, others):
        some = {ours for theirs, ours in names.items() if _matches(config["target_modules"], theirs)}
        by_naming.append(some - {o for t, o in names.items() if _matches(config.get("exclude_modules") or [], t)})
    here, anywhere = by_naming
    return here or anywhere, here | anywhere


def _matches(targets: str | list[str], name: str) -> bool:
    """Return True if PEFT's list or pattern of targets matches a module name."""
    if targets == "all-linear":
        return True
    if isinstance(targets, str):
        return re.fullmatch(targets, name) is not None
    return any(name == target or name.endswith(f".{target}") for target in targets)


def _misshapen(
    tensors: dict[tuple[str, str], Tensor], found: Found, modules: dict[str, nn.Linear], rank: int
) -> Iterable[str]:
    for (module, matrix), value in tensors.items():
        base = modules[module]
        right = [rank, base.in_features] if matrix == "A" else [base.out_features, rank]
        if list(value.shape) != right:
            yield f"{found[module, matrix]} {list(value.shape)} instead of {right}"


def _first(names: set[str]) -> str:
    return ", ".join(sorted(names)[:6]) + (", …" if len(names) > 6 else "")
