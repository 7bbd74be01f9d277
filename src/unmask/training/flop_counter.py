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
        ends = (model.get_input_embeddings(), model.get_output_embeddings())
        outside = {id(p) for module in ends for p in module.parameters()}
        body = [p for p in model.parameters() if id(p) not in outside]
        trained = sum(size(p) for p in body if p.requires_grad)
        self.forward, self.backward = flops_per_token(sum(map(size, body)), trained)

        # The embedding sees each token of a forward pass once; recomputed activations do not pass through it again.
        model.get_input_embeddings().register_forward_hook(self._count)

    def _count(self, embedding: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        self.flops += inputs[0].numel() * (self.forward + self.backward * torch.is_grad_enabled())
