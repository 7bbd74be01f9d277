"""FLOP counter of a training run, estimated from the tokens that pass through the model."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from unmask.models.quantization import size
from unmask.models.shapes import flops_per_token


class FlopCounter:
    """Counter of a model's floating-point operations from its creation on.

    An estimate: `shapes.flops_per_token` per token. Savings of the last layer at columns that are not requested are
    ignored.
    """

    def __init__(self, model: nn.Module, done: float = 0.0) -> None:
        """Start from `done`, the operations counted before the run was interrupted."""
        self.flops = done

        # Embedding and output head are excluded; `flops_per_token` takes the weights of the body.
        outside = set()
        for module in (model.get_input_embeddings(), model.get_output_embeddings()):
            outside |= {id(parameter) for parameter in module.parameters()}
        held, trained = 0, 0
        for parameter in model.parameters():
            if id(parameter) in outside:
                continue
            held += size(parameter)
            if parameter.requires_grad:
                trained += size(parameter)
        self.forward, self.backward = flops_per_token(held, trained)

        # The embedding sees each token of a forward pass once; recomputed activations do not pass through it again.
        model.get_input_embeddings().register_forward_hook(self._count)

    def _count(self, embedding: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        tokens = inputs[0].numel()
        per_token = self.forward
        if torch.is_grad_enabled():
            per_token += self.backward
        self.flops += tokens * per_token
