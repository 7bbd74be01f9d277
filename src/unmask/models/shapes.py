"""Model sizes and the parameter counts that follow from them. No torch import, because `plan` runs without it.

Sources of the published sizes: config.json of GSAI-ML/LLaDA-8B-Instruct and of Dream-org/Dream-v0-Instruct-7B; for the
Qwen models see docs/models.md.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from unmask.config.schema.models import HubModel, LocalModel, ScratchModel
from unmask.config.specs import ModelSpec

# Keys of our config.json (transformers' Llama) -> keys of LLaDA's.
LLADA_KEYS = {
    "hidden_size": "d_model",
    "intermediate_size": "mlp_hidden_size",
    "num_hidden_layers": "n_layers",
    "num_attention_heads": "n_heads",
    "num_key_value_heads": "n_kv_heads",
    "vocab_size": "embedding_size",
    "max_position_embeddings": "max_sequence_length",
    "rms_norm_eps": "rms_norm_eps",
    "rope_theta": "rope_theta",
    "mask_token_id": "mask_token_id",
    "eos_token_id": "eos_token_id",
}
TINY_VOCABULARY = 55  # number of tokens in models/tiny.py, which needs torch


@dataclass(frozen=True)
class Shape:
    """Sizes of a Llama body; `biases` and `head_norms` refer to what a layer adds to queries and keys (and values)."""

    hidden: int
    layers: int
    heads: int
    kv_heads: int
    mlp: int
    vocabulary: int
    biases: bool = False
    head_width: int = 0  # of an attention head; 0: hidden / heads
    head_norms: bool = False  # the queries and keys of every head are normalised
    tied: bool = False  # the output head is the embedding

    @property
    def query_width(self) -> int:
        """Width of a token's queries, and of the attention output, in one layer."""
        return self.heads * (self.head_width or self.hidden // self.heads)

    @property
    def kv_width(self) -> int:
        """Width of a token's keys, and of its values, in one layer."""
        return self.query_width // self.heads * self.kv_heads

    @property
    def ends(self) -> int:
        """Parameters of embedding and output head."""
        matrices = 1 if self.tied else 2
        return matrices * self.vocabulary * self.hidden

    @property
    def projections(self) -> dict[str, tuple[int, int]]:
        """Input and output width of every matrix of a layer, by name."""
        return {
            "q_proj": (self.hidden, self.query_width),
            "k_proj": (self.hidden, self.kv_width),
            "v_proj": (self.hidden, self.kv_width),
            "o_proj": (self.query_width, self.hidden),
            "gate_proj": (self.hidden, self.mlp),
            "up_proj": (self.hidden, self.mlp),
            "down_proj": (self.mlp, self.hidden),
        }

    @property
    def body(self) -> int:
        """Parameters of the layers and the final norm: all except embedding and head."""
        biases = self.biases * (self.query_width + 2 * self.kv_width)
        head_norms = self.head_norms * 2 * (self.query_width // self.heads)
        # The last term of each sum is RMSNorm weights: two per layer, one at the end.
        matrices = sum(inputs * outputs for inputs, outputs in self.projections.values())
        layer = matrices + biases + head_norms + 2 * self.hidden
        return self.layers * layer + self.hidden

    @property
    def parameters(self) -> int:
        """Parameters of the whole model."""
        return self.body + self.ends

    def adapter(self, rank: int, targets: Iterable[str]) -> int:
        """Count the parameters of a LoRA adapter."""
        widths = sum(sum(self.projections[target]) for target in targets)
        return self.layers * rank * widths

    def targeted(self, targets: Iterable[str]) -> int:
        """Count the parameters of the matrices that LoRA adapts."""
        weights = 0
        for target in targets:
            inputs, outputs = self.projections[target]
            weights += inputs * outputs
        return self.layers * weights


LLADA_8B = Shape(
    hidden=4096,
    layers=32,
    heads=32,
    kv_heads=32,
    mlp=12288,
    vocabulary=126464,
)
DREAM_7B = Shape(
    hidden=3584,
    layers=28,
    heads=28,
    kv_heads=4,
    mlp=18944,
    vocabulary=152064,
    biases=True,
)
QWEN3_06B = Shape(
    hidden=1024,
    layers=28,
    heads=16,
    kv_heads=8,
    mlp=3072,
    vocabulary=151936,
    head_width=128,
    head_norms=True,
    tied=True,
)
QWEN2_05B = Shape(
    hidden=896,
    layers=24,
    heads=14,
    kv_heads=2,
    mlp=4864,
    vocabulary=151936,
    biases=True,
    tied=True,
)
PUBLISHED = {
    "GSAI-ML/LLaDA-8B-Instruct": LLADA_8B,
    "GSAI-ML/LLaDA-8B-Base": LLADA_8B,
    "GSAI-ML/LLaDA-1.5": LLADA_8B,
    "Dream-org/Dream-v0-Instruct-7B": DREAM_7B,
    "dllm-hub/Qwen3-0.6B-diffusion-mdlm-v0.1": QWEN3_06B,
    "dllm-hub/Qwen2.5-Coder-0.5B-Instruct-diffusion-mdlm-v0.1": QWEN2_05B,
}


def shape_of(model: ModelSpec, prepared: Path) -> Shape | None:
    """Return the shape of a base model; None if it is not known yet.

    It is read from config.json, in `prepared` or at a local path. Before a model is prepared, a scratch model's shape
    follows from its settings, and a published one's from the table above.
    """
    settings = model.settings
    folders = [prepared]
    if isinstance(settings, LocalModel):
        folders.append(Path(settings.path))
    for folder in folders:
        file = folder / "config.json"
        if file.exists():
            return _read(json.loads(file.read_text(encoding="utf-8")))
    if isinstance(settings, ScratchModel):
        return Shape(
            hidden=settings.hidden_size,
            layers=settings.layers,
            heads=settings.heads,
            kv_heads=settings.heads,
            mlp=settings.mlp_size,
            vocabulary=TINY_VOCABULARY,
        )
    if isinstance(settings, HubModel):
        return PUBLISHED.get(settings.repository)
    return None


def _read(values: Mapping[str, Any]) -> Shape:
    """Read the shape from a config.json of any layout, without the checks of models/checkpoint_formats.py."""
    # The same translation as in models/checkpoint_formats.py, which cannot be imported here because it needs torch.
    if "d_model" in values:
        vocabulary = values.get("embedding_size") or values["vocab_size"]
        ours = {key: values.get(theirs) for key, theirs in LLADA_KEYS.items()}
        values = ours | {"vocab_size": vocabulary}
    return Shape(
        hidden=values["hidden_size"],
        layers=values["num_hidden_layers"],
        heads=values["num_attention_heads"],
        kv_heads=values["num_key_value_heads"] or values["num_attention_heads"],
        mlp=values["intermediate_size"],
        vocabulary=values["vocab_size"],
        biases=values.get("model_type") in ("Dream", "a2d-qwen2"),
        head_width=values.get("head_dim") or 0,
        head_norms=values.get("model_type") == "a2d-qwen3",
        tied=bool(values.get("tie_word_embeddings")),
    )


def flops_per_token(body: int, trained: int) -> tuple[int, int]:
    """Return a token's forward and backward FLOPs in a body of `body` weights, of which `trained` are trained.

    The usual estimate: two per weight in the forward pass; in the backward pass two per weight for the gradient of the
    activations, and two per trained weight for its own. Embedding, head and attention scores are not counted.
    """
    forward = 2 * body
    backward = 2 * body + 2 * trained
    return forward, backward
