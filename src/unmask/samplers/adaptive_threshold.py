"""Threshold choice of the adaptive sampler: once per response or once per block."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from unmask.models.llada import VECTOR
from unmask.models.threshold_head import ThresholdHead
from unmask.samplers.batch import DecodingBatch, upload
from unmask.samplers.noise import DecodingNoise


@dataclass
class Chooser:
    """Threshold head with its exploration noise."""

    head: ThresholdHead
    sigma: float  # standard deviation of the noise on the threshold's logit; 0 at evaluation
    each_block: bool
    proxy: str  # error proxy of the entropy bound

    def commit_rule(self, batch: DecodingBatch, noise: DecodingNoise) -> dict[str, Any]:
        """Return the entropy-bound rule of this step, with one γ per row.

        Rows that start a response (or a block, with `each_block`) choose a new threshold; it is recorded in the batch.
        """
        rows = batch.new_row + (batch.new_block if self.each_block else [])
        if rows:
            place = [batch.at[row] if self.each_block else 0 for row in rows]
            here = upload(batch.state.device, rows, place)

            # State and logit are recorded: the loss takes both as data to compute the density of this choice.
            state = batch.state[here[0]].float()
            # Padded, because on a CPU the last few values of a vectorised loop are rounded differently.
            mean = self.head(F.pad(state, (0, 0, 0, -len(state) % VECTOR)))[: len(state)]
            batch.part.gamma_input[here] = state
            batch.part.gamma_logit[here] = mean
            if self.sigma:
                exploration = noise.for_thresholds(batch.row[here[0]], here[1]).to(mean.dtype)
                batch.part.gamma_logit[here] = mean + self.sigma * exploration
        return {"rule": "entropy_bound", "gamma": self.head.gamma(self._logit(batch)), "proxy": self.proxy}

    def _logit(self, batch: DecodingBatch) -> Tensor:
        place = batch.block if self.each_block else torch.zeros_like(batch.block)
        return batch.part.gamma_logit.gather(1, place[:, None])[:, 0]
