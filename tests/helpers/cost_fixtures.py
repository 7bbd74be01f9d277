"""What tests of costs and memory reckon with: a small shape with its policy, runs, samplers with and without cache."""

import torch

from unmask.config.grid.expand import expand
from unmask.config.schema.samplers import TopK
from unmask.models.policy import Policy
from unmask.models.shapes import Shape
from unmask.models.tiny import build_model, build_tokenizer

ALL = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
TINY = Shape(hidden=64, layers=6, heads=2, kv_heads=2, mlp=96, vocabulary=55)
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
    model = build_model(**sizes, rope_theta=1e4, vocabulary=len(tokenizer), seed=0)
    return Policy(model.to(dtype).eval().requires_grad_(False), tokenizer)
