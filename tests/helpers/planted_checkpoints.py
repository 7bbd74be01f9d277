"""Released checkpoints in small: a base model in a published layout, an adapter and all weights trained elsewhere.

The adapter is written as PEFT saves it on the released code's model: by its module names, by nothing of the library.
"""

import json
import shutil

import torch
from safetensors.torch import load_file, save_file

from helpers.published_checkpoints import BLOCK_NAMES, CONFIGS, NAMES, TIED, change_json, write_puzzle_checkpoint

RANK, ALPHA = 4, 8
TARGETS = sorted(BLOCK_NAMES.values())  # LLaDA's seven projections; ff_out is also its head's name
BASES = {
    "llada": "GSAI-ML/LLaDA-8B-Instruct",
    "dream": "Dream-org/Dream-v0-Instruct-7B",
    "qwen2": "dllm-hub/Qwen2.5-Coder-0.5B-Instruct-diffusion-mdlm-v0.1",
    "qwen3": "dllm-hub/Qwen3-0.6B-diffusion-mdlm-v0.1",
}
OURS = {name: name for name in BLOCK_NAMES}
MODULES = {"llada": BLOCK_NAMES, "dream": OURS, "qwen2": OURS, "qwen3": OURS}


def write_adapter(folder, base, kind="llada", head=False, dtype=torch.float32, scale=0.1, **settings):
    """An adapter on every projection of the checkpoint in `base`, and on its head; returns its matrices by module."""
    stored = {name: value for file in base.glob("*.safetensors") for name, value in load_file(file).items()}
    modules = [f"{NAMES[kind]['block']}.{n}.{m}" for n in range(3) for m in MODULES[kind].values()]
    modules += [NAMES[kind]["head"]] if head else []
    generator = torch.Generator().manual_seed(1)
    matrices, tensors = {}, {}
    for module in modules:
        outputs, inputs = stored[f"{module}.weight"].shape
        down = scale * torch.randn((RANK, inputs), generator=generator)
        up = scale * torch.randn((outputs, RANK), generator=generator)
        matrices[module] = (down, up)
        tensors[f"base_model.model.{module}.lora_A.weight"] = down.to(dtype)
        tensors[f"base_model.model.{module}.lora_B.weight"] = up.to(dtype)
    folder.mkdir(parents=True)
    save_file(tensors, folder / "adapter_model.safetensors", {"format": "pt"})
    targets = TARGETS if kind == "llada" else [name.rpartition(".")[2] for name in BLOCK_NAMES]
    config = {
        "base_model_name_or_path": BASES[kind], "bias": "none", "fan_in_fan_out": False, "inference_mode": True,
        "init_lora_weights": True, "layers_to_transform": None, "lora_alpha": ALPHA, "lora_dropout": 0.05,
        "modules_to_save": None, "peft_type": "LORA", "r": RANK, "target_modules": targets, "task_type": "CAUSAL_LM",
    }  # fmt: skip
    (folder / "adapter_config.json").write_text(json.dumps(config | settings), encoding="utf-8")
    return matrices


def added(weights, matrices):
    """Weights by published name with LoRA's products: W + (α / r) · B A, written out once more."""
    changed = dict(weights)
    for module, (down, up) in matrices.items():
        changed[f"{module}.weight"] = weights[f"{module}.weight"] + ALPHA / RANK * (up @ down)
    return changed


def write_full(folder, base, kind="llada", files=1):
    """All weights, somewhat changed, in the published layout in one file or several; returns them."""
    stored = {name: value for file in base.glob("*.safetensors") for name, value in load_file(file).items()}
    generator = torch.Generator().manual_seed(2)
    weights = {name: value + 0.02 * torch.randn(value.shape, generator=generator) for name, value in stored.items()}
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(CONFIGS[kind]), encoding="utf-8")
    if kind in TIED:  # trainers save the tokenizer too, which has the mask token
        weights["lm_head.weight"] = weights["model.embed_tokens.weight"].clone()
        for name in ("tokenizer.json", "tokenizer_config.json"):
            shutil.copyfile(base / name, folder / name)
    if files == 1:
        save_file(weights, folder / "model.safetensors", {"format": "pt"})
        return weights
    places = {}
    for number in range(files):
        part = {name: weights[name] for name in sorted(weights)[number::files]}
        shard = f"model-{number + 1:05}-of-{files:05}.safetensors"
        save_file(part, folder / shard, {"format": "pt"})
        places |= dict.fromkeys(part, shard)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": places}), encoding="utf-8")
    return weights


def plant(folder):
    """Write base models and released checkpoints below `folder`; return what config.yaml has to say about them."""
    models, checkpoints = {}, {}
    for kind in ("llada", "dream"):
        base = folder / f"base-{kind}"
        write_puzzle_checkpoint(base, kind)
        write_adapter(folder / f"adapter-{kind}", base, kind)
        write_full(folder / f"full-{kind}", base, kind, files=2)
        change_json(folder / f"full-{kind}/config.json", mask_token_id=0)  # as write_puzzle_checkpoint has it
        models[f"planted-{kind}"] = {"source": "local", "path": str(base)}
        for what in ("adapter", "full"):
            checkpoints[f"planted-{what}-{kind}"] = {
                "source": "local", "path": str(folder / f"{what}-{kind}"), "kind": what, "base": f"planted-{kind}",
                "method": "Planted", "tasks": ["countdown"],
            }  # fmt: skip
    checkpoints["planted-adapter-llada"]["tasks"] = ["countdown", "sudoku"]
    checkpoints["planted-adapter-llada"]["printed"] = [
        {"source": "Table 1", "steps": "L", "selection": "the best on the test set",
         "accuracy": {"countdown": {"24": 81.6}, "sudoku": {"unstated": 12.5}}},
        {"source": "a model card", "accuracy": {"countdown": {"24": 79.0}}},
    ]  # fmt: skip
    return {
        "models": models,
        "checkpoints": checkpoints,
        "scales": {"smoke": {"models": {"planted-llada": "planted-llada", "planted-dream": "planted-dream"}}},
    }
