"""Threshold choice of the adaptive sampler: once per response or once per block."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from unmask.models.llada import VECTOR
from unmask.models.threshold_head import ThresholdHead
from unmask.samplers.batch import DecodingBatch, upload
from unmask.samplers.noise import DecodingNoise
from unmask.samplers.unmasking_rules import RowBounds


@dataclass
class Chooser:
    """Threshold head with its exploration noise."""

    head: ThresholdHead
    sigma: float  # standard deviation of the noise on the threshold's logit; 0 at evaluation
    each_block: bool
    proxy: str  # error proxy of the entropy bound

    def bounds(self, batch: DecodingBatch, noise: DecodingNoise) -> RowBounds:
        """Return the entropy bounds of this step, one γ per row.

        Rows that start a response (or a block, with `each_block`) choose a new threshold; it is recorded in the batch.
        """
        rows = list(batch.new_row)
        if self.each_block:
            rows += batch.new_block
        if rows:
            # One threshold per response is recorded in column 0, one per block in the block's column.
            columns = [batch.at[row] if self.each_block else 0 for row in rows]
            here = upload(batch.state.device, rows, columns)

            # State and logit are recorded: the loss takes both as data to compute the density of this choice.
            state = batch.state[here[0]].float()
            # Padded, because on a CPU the last few values of a vectorised loop are rounded differently.
            padded = F.pad(state, (0, 0, 0, -len(state) % VECTOR))
            mean = self.head(padded)[: len(state)]
            batch.part.gamma_input[here] = state
            batch.part.gamma_logit[here] = mean
            if self.sigma:
                exploration = noise.for_thresholds(batch.row[here[0]], here[1]).to(mean.dtype)
                batch.part.gamma_logit[here] = mean + self.sigma * exploration
        gamma = self.head.gamma(self._logit(batch))
        return RowBounds(gamma, self.proxy)

    def _logit(self, batch: DecodingBatch) -> Tensor:
        """Return the logit [B] of each row's current threshold."""
        column = batch.block if self.each_block else torch.zeros_like(batch.block)
        return batch.part.gamma_logit.gather(1, column[:, None])[:, 0]
