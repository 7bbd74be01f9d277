"""Qwen2 and Qwen3 with full attention: autoregressive models that were trained on to masked diffusion, without a shift.

A masked token is predicted at its own position, as by LLaDA. Qwen2 adds biases to queries, keys and values; Qwen3 has
none, but normalises the queries and keys of every head. The small models tie the head to the embedding.
Sources: Qwen2 arXiv 2407.10671, Qwen3 arXiv 2505.09388, dLLM arXiv 2602.22661; docs/models.md cites what was read.
"""

from __future__ import annotations

from transformers import AutoConfig
from transformers.models.llama.modeling_llama import LlamaRMSNorm

from unmask.models.llada import LladaConfig, LladaForMaskedDiffusion


class Qwen2Config(LladaConfig):
    """Llama's configuration with attention biases, plus the id of [MASK], which is never predicted."""

    model_type = "a2d-qwen2"
    attention_bias: bool = True


class Qwen2ForMaskedDiffusion(LladaForMaskedDiffusion):
    """Masked diffusion language model with a Qwen2 body; same interface as LLaDA."""

    config_class = Qwen2Config

    def __init__(self, config: Qwen2Config) -> None:
        super().__init__(config)
        # Llama's attention_bias also adds a bias to the output projection, which Qwen2 does not have.
        for layer in self.model.layers:
            layer.self_attn.o_proj.register_parameter("bias", None)


class Qwen3Config(LladaConfig):
    """Llama's configuration, in which `head_dim` is free, plus the id of [MASK], which is never predicted."""

    model_type = "a2d-qwen3"


class Qwen3ForMaskedDiffusion(LladaForMaskedDiffusion):
    """Masked diffusion language model with a Qwen3 body; same interface as LLaDA."""

    config_class = Qwen3Config

    def __init__(self, config: Qwen3Config) -> None:
        super().__init__(config)
        for layer in self.model.layers:
            layer.self_attn.q_norm = LlamaRMSNorm(config.head_dim, config.rms_norm_eps)
            layer.self_attn.k_norm = LlamaRMSNorm(config.head_dim, config.rms_norm_eps)


for kind in (Qwen2Config, Qwen3Config):
    AutoConfig.register(kind.model_type, kind, exist_ok=True)
