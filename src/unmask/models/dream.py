"""Dream: a Qwen2 body with full attention that was adapted from an autoregressive model and kept its shift.

The state at a position predicts the next one, so position d is predicted at d − 1. That is all that differs from LLaDA
here, but for the biases of queries, keys and values, which the projections bring themselves. The shift is made in
`hidden_states`: whoever asks for columns gets the states that predict them, and nobody else needs to know.
The published code rotates queries and keys in the type of the weights; we rotate in fp32, as for LLaDA.
Source: Dream 7B, arXiv 2508.15487.
"""

from __future__ import annotations

import torch
from torch import Tensor
from transformers import AutoConfig

from unmask.models.llada import LladaConfig, LladaForMaskedDiffusion


class DreamConfig(LladaConfig):
    """Llama's configuration with biases, and the id of the token [MASK], which is never predicted."""

    model_type = "Dream"
    attention_bias: bool = True


class DreamForMaskedDiffusion(LladaForMaskedDiffusion):
    """A masked diffusion language model whose position d is predicted at d − 1; methods as in LLaDA."""

    config_class = DreamConfig

    def __init__(self, config: DreamConfig) -> None:
        super().__init__(config)
        for layer in self.model.layers:  # Llama's switch gives the output projection a bias too; Qwen2 has none there
            layer.self_attn.o_proj.register_parameter("bias", None)

    def hidden_states(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        columns: slice | Tensor = slice(None),
        *,
        store: Tensor | None = None,
        window: Tensor | None = None,
    ) -> Tensor:
        """Final hidden states [B, Q, D] that predict the columns asked for; arguments as in LLaDA.

        Nothing stands before the first token of a row, so its prediction has no meaning: column 0 gets the state of
        column 0, as in the published code, and the first token after left padding that of the padding.
        """
        if window is None:
            columns = _before(columns, input_ids)
        else:  # consecutive columns: with the one before them in front, `columns` counts to their predecessors
            window = torch.cat(((window[:, :1] - 1).clamp(min=0), window), dim=1)
        return super().hidden_states(input_ids, attention_mask, columns, store=store, window=window)


def _before(columns: slice | Tensor, input_ids: Tensor) -> slice | Tensor:
    """The columns one to the left; column 0 stays where it is."""
    if isinstance(columns, slice):
        start, stop, _ = columns.indices(input_ids.shape[1])
        if start > 0:
            return slice(start - 1, stop - 1)
        columns = torch.arange(stop, device=input_ids.device)[None]
    return (columns - 1).clamp(min=0)


AutoConfig.register(DreamConfig.model_type, DreamConfig, exist_ok=True)
