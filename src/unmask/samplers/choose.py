"""How an adaptive sampler chooses its thresholds: once a response, or anew for each block."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from unmask.adaptive import ThresholdHead
from unmask.samplers.slots import Slots, upload


@dataclass
class Chooser:
    """A head and its noise."""

    head: ThresholdHead
    sigma: float  # standard deviation of the noise on the threshold's logit; 0 at evaluation
    each_block: bool
    proxy: str

    def commit_rule(self, batch: Slots, generator: torch.Generator) -> dict[str, Any]:
        """The entropy bound of this step, one γ a row; rows at the beginning of a response or block choose theirs."""
        rows = batch.fresh + (batch.turned if self.each_block else [])
        if rows:
            place = [batch.at[row] if self.each_block else 0 for row in rows]
            here = upload(batch.state.device, rows, place)
            state = batch.state[here[0]].float()
            mean = self.head(state)
            noise = torch.randn(mean.shape, generator=generator, device=mean.device)
            batch.part.state[here] = state
            batch.part.threshold[here] = mean + self.sigma * noise
        return {"rule": "entropy_bound", "gamma": self.head.gamma(self._logit(batch)), "proxy": self.proxy}

    def _logit(self, batch: Slots) -> Tensor:
        place = batch.block if self.each_block else torch.zeros_like(batch.block)
        return batch.part.threshold.gather(1, place[:, None])[:, 0]
