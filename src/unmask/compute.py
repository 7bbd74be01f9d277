"""How much computing a training has taken, estimated from the tokens that pass through the model."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from unmask.costs import flops_a_token
from unmask.models.nf4 import size


class Compute:
    """Counts floating-point operations of a model from now on.

    An estimate, `costs.flops_a_token` for each token. What the last layer saves at columns that nobody asks for is not
    taken off.
    """

    def __init__(self, model: nn.Module, done: float = 0.0) -> None:
        """`done`: operations counted before a training was interrupted."""
        self.flops = done
        ends = (model.get_input_embeddings(), model.get_output_embeddings())
        outside = {id(p) for module in ends for p in module.parameters()}
        body = [p for p in model.parameters() if id(p) not in outside]
        trained = sum(size(p) for p in body if p.requires_grad)
        self.forward, self.backward = flops_a_token(sum(map(size, body)), trained)
        model.get_input_embeddings().register_forward_hook(self._count)

    def _count(self, embedding: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        self.flops += inputs[0].numel() * (self.forward + self.backward * torch.is_grad_enabled())
