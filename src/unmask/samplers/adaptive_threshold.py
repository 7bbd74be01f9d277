"""Threshold choice of the adaptive sampler: once per response or once per block."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from unmask.models.threshold_head import ThresholdHead
from unmask.samplers.batch import DecodingBatch, upload
from unmask.samplers.unmasking_rules import RowBounds


@dataclass
class Chooser:
    """Threshold head with its exploration noise."""

    head: ThresholdHead
    sigma: float  # standard deviation of the noise on the threshold's logit; 0 at evaluation
    each_block: bool
    proxy: str  # error proxy of the entropy bound

    def bounds(self, batch: DecodingBatch, generator: torch.Generator) -> RowBounds:
        """Return the entropy bounds of this step, one γ per row.

        Rows that start a response (or a block, with `each_block`) choose a new threshold; it is recorded in the batch.
        """
        rows = batch.new_row + (batch.new_block if self.each_block else [])
        if rows:
            place = [batch.at[row] if self.each_block else 0 for row in rows]
            here = upload(batch.state.device, rows, place)

            # State and logit are recorded: the loss takes both as data to compute the density of this choice.
            state = batch.state[here[0]].float()
            mean = self.head(state)
            noise = torch.randn(mean.shape, generator=generator, device=mean.device)
            batch.part.gamma_input[here] = state
            batch.part.gamma_logit[here] = mean + self.sigma * noise
        return RowBounds(self.head.gamma(self._logit(batch)), self.proxy)

    def _logit(self, batch: DecodingBatch) -> Tensor:
        place = batch.block if self.each_block else torch.zeros_like(batch.block)
        return batch.part.gamma_logit.gather(1, place[:, None])[:, 0]
