"""LLaDA: a Llama body with full attention that predicts all masked positions in parallel.

The modules (and so the checkpoint names, LoRA targets and initialisation) are those of transformers' Llama; the
forward pass is ours, for three reasons. It returns hidden states, so that the head is applied only where a token is
scored. It computes the last layer's queries only for the requested columns. And it applies rotary embeddings in fp32,
as the published model does. Source: LLaDA, arXiv 2502.09992.
"""

from __future__ import annotations

import math
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint
from transformers import AutoConfig
from transformers.models.llama.configuration_llama import LlamaConfig
from transformers.models.llama.modeling_llama import LlamaModel, LlamaPreTrainedModel, rotate_half

from unmask.models.fused_logprobs import target_log_probs

VECTOR = 32  # values that torch's vectorised loops on a CPU take at once
EMBEDDING_WEIGHT, HEAD_WEIGHT = "model.embed_tokens.weight", "lm_head.weight"


class LladaConfig(LlamaConfig):
    """Llama's configuration plus the id of [MASK], which is never predicted."""

    model_type = "llada"
    mask_token_id: int | None = None


class LladaForMaskedDiffusion(LlamaPreTrainedModel):
    """Masked diffusion language model π_θ(· | partly masked sequence).

    All methods take `input_ids` [B, T] and `attention_mask` [B, T] (bool, False on padding; None if there is none).
    Padding is never attended to and positions count real tokens only, so a row's result is independent of the batch.
    """

    config_class = LladaConfig
    _tied_weights_keys: ClassVar = {HEAD_WEIGHT: EMBEDDING_WEIGHT}  # in effect where tie_word_embeddings is true
    activation_checkpointing = False  # recompute every layer in the backward pass
    is_loaded_in_4bit = False  # set by quantization.py; PEFT looks for this name
    is_sharded = False  # set by sharding.py: with gradients, layers are called, and gather their parameters then

    def __init__(self, config: LladaConfig) -> None:
        super().__init__(config)
        self.model = LlamaModel(config)
        del self.model.rotary_emb  # `_rope` computes the angles, in fp32
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        self.post_init()

    def take(self, weights: dict[str, Tensor]) -> None:
        """Make these tensors the parameters of the model, by name; a tied head comes with the embedding."""
        if self.config.tie_word_embeddings:
            weights = weights | {HEAD_WEIGHT: weights[EMBEDDING_WEIGHT]}
        self.load_state_dict(weights, assign=True)
        self.tie_weights()

    def hidden_states(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        columns: slice | Tensor = slice(None),
        *,
        store: Tensor | None = None,
        window: Tensor | None = None,
    ) -> Tensor:
        """Return the final hidden states [B, Q, D] of the requested columns, a slice or indices [B, Q].

        `store` [layers, 2, B, T, H, d] is a cache that receives keys (after rotation) and values. With `window` [B, W],
        only these columns of input_ids are computed and stored, the others are attended to from the store, and
        `columns` are indices into the window. A window may contain a column twice.
        """
        rope = self._rope(input_ids, attention_mask)
        if window is not None:
            input_ids = select(input_ids, window)
            rope = tuple(select(part, window) for part in rope)
        x = self.model.embed_tokens(input_ids)
        keys_seen = None
        if attention_mask is not None:
            keys_seen = attention_mask[:, None, None, :].bool()

        # No later layer attends to the last one's output, so that layer computes only the requested columns.
        stores = [None] * len(self.model.layers) if store is None else store.unbind(0)
        *body, (last, last_store) = zip(self.model.layers, stores, strict=True)
        for layer, kept in body:
            x = self._layer(layer, x, rope, keys_seen, slice(None), kept, window)
        x = self._layer(last, x, rope, keys_seen, columns, last_store, window)
        return self.model.norm(x)

    def empty_store(self, rows: int, width: int) -> Tensor:
        """Allocate a cache of keys and values [layers, 2, B, T, H, d] for B = rows and T = width, uninitialised."""
        shape = (
            self.config.num_hidden_layers,
            2,
            rows,
            width,
            self.config.num_key_value_heads,
            self.config.head_dim,
        )
        return torch.empty(shape, dtype=self.dtype, device=self.device)

    def log_probs(self, hidden: Tensor) -> Tensor:
        """Compute log π_θ over the vocabulary [..., V] in fp32; [MASK] has probability 0."""
        logits = self.lm_head(hidden).float()
        logits[..., self.config.mask_token_id] = -torch.inf
        return F.log_softmax(logits, dim=-1)

    def target_log_probs(self, hidden: Tensor, target: Tensor) -> Tensor:
        """Compute log π_θ of given tokens [n] in fp32 from hidden [n, D], in less memory than `log_probs`."""
        # An adapter on the head is more than its weight; only adapters from elsewhere have one.
        if hasattr(self.lm_head, "lora_A"):
            return self.log_probs(hidden).gather(-1, target[..., None])[..., 0]
        never = self.config.mask_token_id
        return target_log_probs(hidden, self.lm_head.weight, target, never)

    def forward(self, input_ids: Tensor, attention_mask: Tensor | None = None) -> Tensor:
        """Compute raw logits [B, T, V], as the published model returns them."""
        return self.lm_head(self.hidden_states(input_ids, attention_mask))

    def _layer(self, layer: nn.Module, *arguments: Any) -> Tensor:
        """Run a layer, in passes with gradients through the hooks that gather a sharded layer's parameters."""
        if self.is_sharded and torch.is_grad_enabled():
            return layer(*arguments)
        return self.apply_layer(layer, *arguments)

    def apply_layer(self, *arguments: Any) -> Tensor:
        """Run `_block`; with activation checkpointing, only its input is kept for the backward pass."""
        if self.activation_checkpointing and torch.is_grad_enabled():
            return checkpoint(_block, *arguments, use_reentrant=False)
        return _block(*arguments)

    def _rope(self, input_ids: Tensor, attention_mask: Tensor | None) -> tuple[Tensor, Tensor]:
        """Compute the rotary cos and sin [B or 1, T, 1, head_dim] in fp32."""
        # Counting real tokens only makes a left-padded row identical to the same row without padding.
        if attention_mask is None:
            positions = torch.arange(input_ids.shape[1], device=input_ids.device)[None]
        else:
            tokens_so_far = attention_mask.long().cumsum(-1)
            positions = (tokens_so_far - 1).clamp(min=0)

        # Frequencies come from the config, because casting the model to bfloat16 would round those in a module buffer.
        width = self.config.head_dim
        theta = self.config.rope_parameters["rope_theta"]
        even = torch.arange(0, width, 2, device=input_ids.device, dtype=torch.float32)
        frequencies = theta ** (-even / width)
        angles = positions[..., None].float() * frequencies
        angles = torch.cat((angles, angles), dim=-1)[:, :, None]
        return angles.cos(), angles.sin()


def _block(
    layer: nn.Module,
    x: Tensor,
    rope: tuple[Tensor, Tensor],
    keys_seen: Tensor | None,
    columns: slice | Tensor,
    store: Tensor | None,
    window: Tensor | None,
) -> Tensor:
    """Apply a transformer block to x [B, W, D] and return the output at `columns`; `store` is this layer's cache."""
    attention = layer.self_attn
    normed = layer.input_layernorm(x)

    def heads(y: Tensor) -> Tensor:  # [B, t, H * d] -> [B, t, H, d]
        return y.unflatten(-1, (-1, attention.head_dim))

    key = heads(attention.k_proj(normed))
    if hasattr(attention, "k_norm"):  # Qwen3
        key = attention.k_norm(key)
    key = _rotate(key, *rope)
    value = heads(attention.v_proj(normed))
    # A full pass fills the cache. A windowed pass updates its columns and attends to the whole cache.
    if store is not None and window is None:
        store[0] = key
        store[1] = value
    elif store is not None:
        rows = torch.arange(len(window), device=window.device)[:, None]
        store[0, rows, window] = key
        store[1, rows, window] = value
        key, value = store

    # With a strided input torch computes a batched product and copies the weight, which in bfloat16 takes twice the
    # time. In fp32 that costs little, and a contiguous input would change the rounding.
    asked = select(normed, columns)
    if asked.dtype != torch.float32:
        asked = asked.contiguous()
    cos, sin = (select(part, columns) for part in rope)
    query = heads(attention.q_proj(asked))
    if hasattr(attention, "q_norm"):
        query = attention.q_norm(query)
    query = _rotate(query, cos, sin)
    query = query.transpose(1, 2)
    key = key.transpose(1, 2)
    value = value.transpose(1, 2)

    # Grouped-query attention: no fast kernel supports it together with a mask, so keys and values are repeated then.
    shared = query.shape[1] // key.shape[1]  # query heads per key head
    if shared > 1 and keys_seen is not None:
        key = key.repeat_interleave(shared, 1)
        value = value.repeat_interleave(shared, 1)
        shared = 1
    mixed = F.scaled_dot_product_attention(
        query,
        key,
        value,
        attn_mask=keys_seen,
        enable_gqa=shared > 1,
    )
    joined_heads = mixed.transpose(1, 2).flatten(2)
    x = select(x, columns) + attention.o_proj(joined_heads)
    return x + _feed_forward(layer.mlp, layer.post_attention_layernorm(x))


def _feed_forward(mlp: nn.Module, x: Tensor) -> Tensor:
    """Apply the MLP to x [B, Q, D]; on a CPU, without gradients, no row depends on how many there are."""
    # There the last few values of the activation, up to a multiple of VECTOR, are rounded differently from the others.
    alike = VECTOR // math.gcd(VECTOR, mlp.gate_proj.out_features)
    rows = x.shape[0] * x.shape[1]
    missing = -rows % alike
    if not missing or x.device.type != "cpu" or torch.is_grad_enabled():
        return mlp(x)
    padded = F.pad(x.flatten(0, 1), (0, 0, 0, missing))
    return mlp(padded)[:rows].view_as(x)


def select(x: Tensor, columns: slice | Tensor) -> Tensor:
    """Select columns of x [B or 1, T, ...] by a slice or by indices [B, Q], one set per row."""
    if isinstance(columns, slice):
        return x[:, columns]
    further = (1,) * (x.ndim - 2)
    return torch.take_along_dim(x, columns.reshape(columns.shape + further), dim=1)


def _rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Apply the rotary embedding to x [B, t, H, d] in fp32; returned in the dtype of x."""
    wide = x.float()
    rotated = wide * cos + rotate_half(wide) * sin
    return rotated.to(x.dtype)


AutoConfig.register(LladaConfig.model_type, LladaConfig, exist_ok=True)
