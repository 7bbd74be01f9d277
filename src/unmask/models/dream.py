"""Dream: a Qwen2 body with full attention, adapted from an autoregressive model whose one-token shift it keeps.

The hidden state at a position predicts the next token, so token d is predicted at d − 1. The shift is applied in
`hidden_states`, which returns the states that predict the requested columns, so samplers and likelihoods need not know
about it.
The published code applies rotary embeddings in the dtype of the weights; we use fp32, as for LLaDA.
Source: Dream 7B, arXiv 2508.15487.
"""

from __future__ import annotations

import torch
from torch import Tensor
from transformers import AutoConfig

from unmask.models.qwen import Qwen2Config, Qwen2ForMaskedDiffusion


class DreamConfig(Qwen2Config):
    """Qwen2's configuration under Dream's name."""

    model_type = "Dream"


class DreamForMaskedDiffusion(Qwen2ForMaskedDiffusion):
    """Masked diffusion language model that predicts token d at position d − 1; same interface as LLaDA."""

    config_class = DreamConfig

    def hidden_states(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        columns: slice | Tensor = slice(None),
        *,
        store: Tensor | None = None,
        window: Tensor | None = None,
    ) -> Tensor:
        """Return the final hidden states [B, Q, D] that predict the requested columns; arguments as in LLaDA.

        The first token of a row has no predecessor, so its prediction is meaningless: column 0 gets the state of
        column 0, as in the published code, and the first token after left padding gets the state of the padding.
        """
        if window is None:
            columns = _before(columns, input_ids)
        else:
            # Prepend the preceding column: index i of the longer window is then the predecessor of index i of the old
            # one, so `columns` needs no shift. This relies on the window being consecutive columns.
            window = torch.cat(((window[:, :1] - 1).clamp(min=0), window), dim=1)
        return super().hidden_states(input_ids, attention_mask, columns, store=store, window=window)


def _before(columns: slice | Tensor, input_ids: Tensor) -> slice | Tensor:
    """Shift columns by one to the left; column 0 maps to itself."""
    if isinstance(columns, slice):
        start, stop, _ = columns.indices(input_ids.shape[1])
        if start > 0:
            return slice(start - 1, stop - 1)
        # From column 0 on, the shifted columns start with a repeated 0, which a slice cannot express.
        columns = torch.arange(stop, device=input_ids.device)[None]
    return (columns - 1).clamp(min=0)


AutoConfig.register(DreamConfig.model_type, DreamConfig, exist_ok=True)
