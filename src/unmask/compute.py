"""How much computing a training has taken, estimated from the tokens that pass through the model."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Compute:
    """Counts floating-point operations of a model from now on.

    An estimate, the usual one: a token's forward pass takes two operations a weight of the body (the embedding and the
    head left out), its backward pass as many again for the activations and two a trained weight. Attention scores, the
    head, and what the last layer saves at columns that nobody asks for are not counted.
    """

    def __init__(self, model: nn.Module, done: float = 0.0) -> None:
        """`done`: operations counted before a training was interrupted."""
        self.flops = done
        ends = (model.get_input_embeddings(), model.get_output_embeddings())
        outside = {id(p) for module in ends for p in module.parameters()}
        body = [p for p in model.parameters() if id(p) not in outside]
        self.forward = 2 * sum(p.numel() for p in body)
        self.backward = self.forward + 2 * sum(p.numel() for p in body if p.requires_grad)
        model.get_input_embeddings().register_forward_hook(self._count)

    def _count(self, embedding: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        self.flops += inputs[0].numel() * (self.forward + self.backward * torch.is_grad_enabled())
