"""LLaDA: a Llama body with full attention that predicts every masked position at once.

The modules (and so the checkpoint names, LoRA targets and initialisation) are those of transformers' Llama; the
forward pass is ours, for three reasons. It returns hidden states, so that the head is applied only where a token is
scored. It computes the last layer's queries only for the columns asked for. And it rotates queries and keys in fp32,
as the published model does. Source: LLaDA, arXiv 2502.09992.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import AutoConfig
from transformers.models.llama.configuration_llama import LlamaConfig
from transformers.models.llama.modeling_llama import LlamaModel, LlamaPreTrainedModel, rotate_half


class LladaConfig(LlamaConfig):
    """Llama's configuration and the id of the token [MASK], which is never predicted."""

    model_type = "llada"
    mask_token_id: int | None = None


class LladaForMaskedDiffusion(LlamaPreTrainedModel):
    """A masked diffusion language model π_θ(· | partly masked sequence).

    All methods take `input_ids` [B, T] and `attention_mask` [B, T] (bool, False on padding, None when there is none).
    Padding is never attended to and positions count real tokens only, so a row does not depend on its batch mates.
    """

    config_class = LladaConfig

    def __init__(self, config: LladaConfig) -> None:
        super().__init__(config)
        self.model = LlamaModel(config)
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        self.post_init()

    def hidden_states(
        self, input_ids: Tensor, attention_mask: Tensor | None = None, columns: slice = slice(None)
    ) -> Tensor:
        """Final hidden states [B, len(columns), D] of the columns asked for."""
        x = self.model.embed_tokens(input_ids)
        rope = self._rope(input_ids, attention_mask)
        keys_seen = None if attention_mask is None else attention_mask[:, None, None, :].bool()
        *body, last = self.model.layers
        for layer in body:
            x = _block(layer, x, rope, keys_seen)
        return self.model.norm(_block(last, x, rope, keys_seen, columns))

    def log_probs(self, hidden: Tensor) -> Tensor:
        """Log π_θ over the vocabulary [..., V] in fp32; [MASK] has probability zero."""
        logits = self.lm_head(hidden).float()
        logits[..., self.config.mask_token_id] = -torch.inf
        return F.log_softmax(logits, dim=-1)

    def forward(self, input_ids: Tensor, attention_mask: Tensor | None = None) -> Tensor:
        """Raw logits [B, T, V], as the published model returns them."""
        return self.lm_head(self.hidden_states(input_ids, attention_mask))

    def _rope(self, input_ids: Tensor, attention_mask: Tensor | None) -> tuple[Tensor, Tensor]:
        """Cos and sin [B or 1, 1, T, head_dim] in fp32."""
        if attention_mask is None:
            positions = torch.arange(input_ids.shape[1], device=input_ids.device)[None]
        else:
            positions = (attention_mask.long().cumsum(-1) - 1).clamp(min=0)
        # The buffer may have been cast with the model; the angles must not lose bits, so they are made from the config.
        half = torch.arange(0, self.config.head_dim, 2, device=input_ids.device, dtype=torch.float32)
        theta = self.config.rope_parameters["rope_theta"]
        angles = positions[..., None].float() * theta ** (-half / self.config.head_dim)
        angles = torch.cat((angles, angles), dim=-1)[:, None]
        return angles.cos(), angles.sin()


def _block(
    layer: nn.Module, x: Tensor, rope: tuple[Tensor, Tensor], keys_seen: Tensor | None, columns: slice = slice(None)
) -> Tensor:
    """One transformer block on x [B, T, D]; only `columns` are asked for and returned."""
    attention, normed = layer.self_attn, layer.input_layernorm(x)
    cos, sin = rope

    def heads(y: Tensor) -> Tensor:  # [B, t, H * d] -> [B, H, t, d]
        return y.unflatten(-1, (-1, attention.head_dim)).transpose(1, 2)

    query = _rotate(heads(attention.q_proj(normed[:, columns])), cos[:, :, columns], sin[:, :, columns])
    key = _rotate(heads(attention.k_proj(normed)), cos, sin)
    value = heads(attention.v_proj(normed))
    mixed = F.scaled_dot_product_attention(query, key, value, attn_mask=keys_seen, enable_gqa=True)
    x = x[:, columns] + attention.o_proj(mixed.transpose(1, 2).flatten(2))
    return x + layer.mlp(layer.post_attention_layernorm(x))


def _rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotary embedding of x [B, H, t, d], computed in fp32 and returned in the type of x."""
    wide = x.float()
    return (wide * cos + rotate_half(wide) * sin).to(x.dtype)


AutoConfig.register(LladaConfig.model_type, LladaConfig, exist_ok=True)
