"""Hold the matrices of a base model in four bits (NF4), for GPUs that are too small for them in bfloat16.

As transformers' BitsAndBytesConfig has it for QLoRA [arXiv 2305.14314]: NF4 with double quantisation, computed in the
type of the rest of the model, embeddings and head as they are. bitsandbytes is an extra: pip install -e '.[nf4]'.
"""

from __future__ import annotations

import importlib.util

import torch
from torch import Tensor, nn

from unmask.files import InputError
from unmask.models.llada import LladaForMaskedDiffusion


def check_nf4(*, needs_gpu: bool) -> None:
    """Raise InputError if nothing can be held in NF4 here. bitsandbytes has a slow path for CPUs, which tests use."""
    if importlib.util.find_spec("bitsandbytes") is None:
        raise InputError("training.quantisation: nf4 needs bitsandbytes; pip install -e '.[nf4]', or set it to none")
    if needs_gpu and not torch.cuda.is_available():
        raise InputError("training.quantisation: nf4 needs a CUDA device and none is visible; set it to none here")


def quantise(model: LladaForMaskedDiffusion, device: torch.device) -> LladaForMaskedDiffusion:
    """Replace every matrix of the layers by its NF4 form, one after the other, and bring the model to the device."""
    from bitsandbytes.nn import Linear4bit, Params4bit

    kind = {"compress_statistics": True, "quant_type": "nf4"}
    for layer in model.model.layers:
        for name, whole in [(n, m) for n, m in layer.named_modules() if isinstance(m, nn.Linear)]:
            shape = whole.in_features, whole.out_features
            small = Linear4bit(*shape, whole.bias is not None, compute_dtype=model.dtype, device="meta", **kind)
            small.weight = Params4bit(whole.weight.data, requires_grad=False, **kind).to(device)
            small.bias = whole.bias
            layer.set_submodule(name, small)
    model.is_loaded_in_4bit = True
    return model.to(device).requires_grad_(False).eval()


def size(parameter: Tensor) -> int:
    """How many weights a parameter holds: in NF4, two share a byte."""
    return parameter.numel() * (2 if parameter.dtype == torch.uint8 else 1)
