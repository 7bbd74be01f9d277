"""NF4 quantisation of a base model to four bits, for GPUs that cannot hold it in bfloat16.

The settings are those of transformers' BitsAndBytesConfig for QLoRA [arXiv 2305.14314]: NF4 with double quantisation,
computation in the dtype of the rest of the model, embeddings and head unquantised. bitsandbytes is an optional
dependency: pip install -e '.[nf4]'.
"""

from __future__ import annotations

import importlib.util

import torch
from torch import Tensor, nn

from unmask.common.errors import InputError
from unmask.models.llada import LladaForMaskedDiffusion


def check_nf4(*, needs_gpu: bool) -> None:
    """Raise InputError if NF4 is not available: no bitsandbytes, or no GPU although `needs_gpu`.

    bitsandbytes also has a slow CPU path, which the tests use.
    """
    if importlib.util.find_spec("bitsandbytes") is None:
        raise InputError(
            "training.quantisation: nf4 needs bitsandbytes; run `pip install -e '.[nf4]'` or set it to none"
        )
    if needs_gpu and not torch.cuda.is_available():
        raise InputError(
            "training.quantisation: nf4 needs a CUDA device and none is visible; use a GPU or set it to none"
        )


def quantise(model: LladaForMaskedDiffusion, device: torch.device) -> LladaForMaskedDiffusion:
    """Quantise every linear layer of the body to NF4 and move the model to the device, frozen and in eval mode."""
    from bitsandbytes.nn import Linear4bit, Params4bit

    kind = {"compress_statistics": True, "quant_type": "nf4"}
    # One matrix at a time: moving it to the device quantises it, so the device never holds the unquantised model.
    for layer in model.model.layers:
        # A list, because the loop replaces modules of the layer.
        linear = [(name, module) for name, module in layer.named_modules() if isinstance(module, nn.Linear)]
        for name, whole in linear:
            small = Linear4bit(
                whole.in_features,
                whole.out_features,
                whole.bias is not None,
                compute_dtype=model.dtype,
                device="meta",
                **kind,
            )
            small.weight = Params4bit(whole.weight.data, requires_grad=False, **kind).to(device)
            small.bias = whole.bias
            layer.set_submodule(name, small)
    model.is_loaded_in_4bit = True
    return model.to(device).requires_grad_(False).eval()


def size(parameter: Tensor) -> int:
    """Return the number of weights in a parameter; NF4 packs two into a byte."""
    if parameter.dtype == torch.uint8:
        return 2 * parameter.numel()
    return parameter.numel()
