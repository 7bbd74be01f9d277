"""What tests of costs and memory reckon with: a small shape with its policy, runs, samplers with and without cache."""

import torch

from unmask.config.grid.expand import expand
from unmask.config.schema.samplers import TopK
from unmask.models.policy import Policy
from unmask.models.qwen import Qwen3Config, Qwen3ForMaskedDiffusion
from unmask.models.shapes import Shape
from unmask.models.tiny import build_model, build_tokenizer

ALL = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
TINY = Shape(hidden=64, layers=6, heads=2, kv_heads=2, mlp=96, vocabulary=55)
QWEN3 = Shape(64, 6, heads=2, kv_heads=1, mlp=96, vocabulary=55, head_width=48, head_norms=True, tied=True)
TOP1, DUAL, PREFIX = (TopK(tokens_per_step=1, score="confidence", cache=cache) for cache in ("none", "dual", "prefix"))


def run_of(config, method="dmpo", scale="smoke", runtime=None, **training):
    config["scale"] = scale
    config["experiments"]["main"]["methods"] = [method]
    config["scales"][scale]["training"] |= training
    config["scales"][scale].setdefault("runtime", {}).update(runtime or {})
    grid = expand(config)
    return grid, grid.runs[f"{method}/sudoku/default/seed-0"]


def tiny_policy(shape=TINY, dtype=torch.float32):
    sizes = {"hidden_size": shape.hidden, "layers": shape.layers, "heads": shape.heads, "mlp_size": shape.mlp}
    tokenizer = build_tokenizer()
    if shape.head_norms:
        torch.manual_seed(0)
        model = Qwen3ForMaskedDiffusion(
            Qwen3Config(
                vocab_size=len(tokenizer), hidden_size=shape.hidden, intermediate_size=shape.mlp, mask_token_id=0,
                num_hidden_layers=shape.layers, num_attention_heads=shape.heads, tie_word_embeddings=shape.tied,
                num_key_value_heads=shape.kv_heads, head_dim=shape.head_width,
            )
        )  # fmt: skip
    else:
        model = build_model(**sizes, rope_theta=1e4, vocabulary=len(tokenizer), seed=0)
    return Policy(model.to(dtype).eval().requires_grad_(False), tokenizer)
