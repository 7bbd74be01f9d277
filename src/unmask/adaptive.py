"""The adaptive sampler: a head that looks at the prompt and chooses the entropy bound of its decoding.

The threshold is an action of the policy like a token [DiFFPO, arXiv 2510.02212]: while training it is drawn from a
Gaussian in logit space, z = μ_φ(s) + σ·ε and γ = γ_max · sigmoid(z), and its density enters the policy-gradient loss.
The state s is the hidden state of the last column before the response (or before each block), as it was at the first
forward pass; it is recorded with the rollout and is data in the loss. Head, γ_max, σ are our choice: none is public.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

FILE = "threshold_head.safetensors"


class ThresholdHead(nn.Module):
    """μ_φ: hidden states [..., D] -> means [...] of the threshold's logit."""

    def __init__(self, hidden_size: int, width: int, gamma: float, gamma_max: float) -> None:
        super().__init__()
        self.gamma_max = gamma_max
        self.inner = nn.Linear(hidden_size, width)
        self.outer = nn.Linear(width, 1)
        nn.init.zeros_(self.outer.weight)  # an untrained head chooses `gamma` for every prompt
        nn.init.constant_(self.outer.bias, math.log(gamma / (gamma_max - gamma)))

    @classmethod
    def of(cls, sampler: dict[str, Any], hidden_size: int, seed: int) -> ThresholdHead:
        """An untrained head for an adaptive sampler."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return cls(hidden_size, sampler["width"], sampler["gamma"], sampler["gamma_max"])

    def forward(self, state: Tensor) -> Tensor:
        """The mean of the threshold's logit."""
        return self.outer(torch.tanh(self.inner(state.float())))[..., 0]

    def gamma(self, logit: Tensor) -> Tensor:
        """γ = γ_max · sigmoid(z)."""
        return self.gamma_max * torch.sigmoid(logit)

    def save(self, folder: Path) -> None:
        """Write the head into an adapter's folder."""
        tensors = {name: value.detach().cpu().contiguous() for name, value in self.state_dict().items()}
        save_file(tensors, folder / FILE, metadata={"gamma_max": repr(self.gamma_max)})

    @classmethod
    def load(cls, folder: Path, device: torch.device | str = "cpu") -> ThresholdHead | None:
        """The head in an adapter's folder; None if it has none."""
        if not (Path(folder) / FILE).exists():
            return None
        with safe_open(Path(folder) / FILE, "pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            gamma_max = float(file.metadata()["gamma_max"])
        width, hidden_size = tensors["inner.weight"].shape
        head = cls(hidden_size, width, gamma_max / 2, gamma_max)
        head.load_state_dict(tensors)
        return head.to(device)


def log_density(logit: Tensor, mean: Tensor, sigma: float) -> Tensor:
    """Log N(z; μ, σ²) [B] of the recorded logits [B, N], summed over those that were drawn (the others are NaN)."""
    drawn = ~logit.isnan()
    z = torch.where(drawn, logit - mean, 0.0) / sigma
    each = -0.5 * z.square() - math.log(sigma) - 0.5 * math.log(2 * math.pi)
    return torch.where(drawn, each, 0.0).sum(1)
