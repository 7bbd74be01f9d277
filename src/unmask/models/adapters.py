"""LoRA adapters: loading (adapter_files.py checks the files), stacking and saving."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional

from unmask.models.adapter_files import CONFIG, HEAD, TENSORS, Place, read_settings, read_tensors
from unmask.models.llada import LladaForMaskedDiffusion

FRESH = "fresh"  # PEFT name of the adapter trained on top of a loaded one, which is called "default"


def load_adapter(model: LladaForMaskedDiffusion, folder: Path) -> Any:
    """Return the model in PEFT's wrapper with the adapter of `folder`: frozen, in fp32, on the model's device.

    Raises InputError if the adapter uses unsupported features or if its tensors do not fit the model exactly.
    """
    folder = Path(folder)
    modules = projections(model)
    settings = read_settings(folder / CONFIG)
    tensors = read_tensors(folder / TENSORS, modules, settings, model.config.model_type)

    from peft import LoraConfig, get_peft_model

    targets = _target_names(tensors, model.config.num_hidden_layers)
    config = LoraConfig(**settings.options, target_modules=targets)
    # PEFT initialises the matrices at random; the values are overwritten below and must not advance the global RNG.
    with torch.random.fork_rng(devices=[]):
        adapter = get_peft_model(model, config)
    parameters = {name: p for name, p in model.named_parameters() if ".lora_" in name}
    with torch.no_grad():
        for place, value in tensors.items():
            name = f"{place.module}.lora_{place.matrix}.default.weight"
            parameters.pop(name).copy_(value)
    assert not parameters, f"LoRA matrices without a value: {sorted(parameters)}"
    adapter.set_requires_grad("default", False)
    multiply_in_the_bases_type(model)
    return adapter.eval()


def projections(model: LladaForMaskedDiffusion) -> dict[str, nn.Linear]:
    """Return the modules that an adapter may change, by name: the projections of the layers, and an untied head."""
    modules = {}
    for name, module in model.named_modules():
        if isinstance(module, nn.Linear):
            modules[name] = module
    # What is added to a tied head would be added to the embedding too.
    if model.config.tie_word_embeddings:
        del modules[HEAD]
    return modules


def _target_names(places: Iterable[Place], layers: int) -> list[str]:
    """Return the names of the adapted modules for PEFT: short ones, as training writes them, where these suffice."""
    full = set()
    short = set()
    for place in places:
        _, _, last = place.module.rpartition(".")
        full.add(place.module)
        short.add(last)
    # With only some layers adapted, short names would match too many modules.
    is_partial = len(short) * layers != len(full)
    return sorted(full if is_partial else short)


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

    ranks = {name: config.r for name, config in adapter.peft_config.items()}
    tensors = {}
    targets = set()
    for name, layer in adapter.get_base_model().named_modules():
        if not isinstance(layer, LoraLayer):
            continue
        _, _, target = name.rpartition(".")
        targets.add(target)
        down, up = _joined_matrices(layer, ranks)
        tensors[f"base_model.model.{name}.lora_A.weight"] = down
        tensors[f"base_model.model.{name}.lora_B.weight"] = up

    # lora_alpha / r = 1, because the scaling is in the B matrices already.
    config = copy.deepcopy(adapter.peft_config[FRESH])
    config.r = config.lora_alpha = sum(ranks.values())
    config.target_modules = sorted(targets)
    config.inference_mode = True
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    save_file(tensors, folder / TENSORS, metadata={"format": "pt"})
    config.save_pretrained(str(folder))


def _joined_matrices(layer: Any, ranks: dict[str, int]) -> tuple[Tensor, Tensor]:
    """Concatenate the matrices of a layer's adapters along the rank axis: B₁A₁ + B₂A₂ = [B₁ B₂] · [A₁; A₂].

    The scaling of each adapter is folded into its B.
    """
    downs = []
    ups = []
    for one, rank in ranks.items():
        if one in layer.lora_A:
            down = layer.lora_A[one].weight
            up = layer.lora_B[one].weight * layer.scaling[one]
        else:  # only the other adapter covers this module
            down = torch.zeros(rank, layer.in_features)
            up = torch.zeros(layer.out_features, rank)
        downs.append(down.detach().cpu())
        ups.append(up.detach().cpu())
    joint_down = torch.cat(downs).float().contiguous()
    joint_up = torch.cat(ups, 1).float().contiguous()
    return joint_down, joint_up


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
