"""Threshold head of the adaptive sampler: it reads the prompt and chooses the entropy bound for decoding.

The threshold is an action of the policy, like a token [DiFFPO, arXiv 2510.02212]. In training it is drawn from a
Gaussian in logit space, z = μ_φ(s) + σ·ε and γ = γ_max · sigmoid(z), and its density enters the policy-gradient loss.
The state s is the hidden state of the last column before the response (or before each block) at the first forward pass;
it is recorded with the rollout and treated as data in the loss. Head, γ_max and σ are our choice; none is published.
"""

from __future__ import annotations

import math
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from unmask.config.schema.samplers import Adaptive

FILE = "threshold_head.safetensors"


class ThresholdHead(nn.Module):
    """Network μ_φ from hidden states [..., D] to means [...] of the threshold's logit."""

    def __init__(self, hidden_size: int, width: int, gamma: float, gamma_max: float) -> None:
        super().__init__()
        self.gamma_max = gamma_max
        self.inner = nn.Linear(hidden_size, width)
        self.outer = nn.Linear(width, 1)
        # An untrained head chooses `gamma` for every prompt: zero weights, and a bias that inverts γ_max · sigmoid.
        nn.init.zeros_(self.outer.weight)
        nn.init.constant_(self.outer.bias, math.log(gamma / (gamma_max - gamma)))

    @classmethod
    def of(cls, sampler: Adaptive, hidden_size: int, seed: int) -> ThresholdHead:
        """Create an untrained head for an adaptive sampler."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return cls(hidden_size, sampler.width, sampler.gamma, sampler.gamma_max)

    def forward(self, state: Tensor) -> Tensor:
        """Compute the mean of the threshold's logit."""
        features = torch.tanh(self.inner(state.float()))
        return self.outer(features)[..., 0]

    def gamma(self, logit: Tensor) -> Tensor:
        """Compute γ = γ_max · sigmoid(z)."""
        return self.gamma_max * torch.sigmoid(logit)

    def save(self, folder: Path) -> None:
        """Write the head into an adapter's folder."""
        # gamma_max is no parameter but defines what the logits mean, so it travels with the weights.
        tensors = {}
        for name, value in self.state_dict().items():
            tensors[name] = value.detach().cpu().contiguous()
        save_file(tensors, folder / FILE, metadata={"gamma_max": repr(self.gamma_max)})

    @classmethod
    def load(cls, folder: Path, device: torch.device | str = "cpu") -> ThresholdHead | None:
        """Load the head in an adapter's folder; None if there is none."""
        path = Path(folder) / FILE
        if not path.exists():
            return None
        with safe_open(path, "pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            metadata = file.metadata()
        gamma_max = float(metadata["gamma_max"])
        width, hidden_size = tensors["inner.weight"].shape
        # The initial γ is overwritten by the loaded weights; it only has to be below gamma_max.
        head = cls(hidden_size, width, gamma_max / 2, gamma_max)
        head.load_state_dict(tensors)
        return head.to(device)
