"""What a checkpoint folder calls things: its config.json and the names of its weights, in our terms.

Three layouts are read: our own, which is transformers' Llama and what `save_pretrained` writes; LLaDA's; and Dream's,
whose weights are called like ours. The class is chosen by `model_type`; code in the folder is never run. An
architecture that our forward pass does not have is refused, key by key.
Sources: config.json and model.safetensors.index.json of GSAI-ML/LLaDA-8B-Instruct (LLaDA-8B-Base and LLaDA-1.5 have
the same layout) and of Dream-org/Dream-v0-Instruct-7B.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from huggingface_hub.errors import StrictDataclassError

from unmask.files import InputError
from unmask.models.dream import DreamForMaskedDiffusion
from unmask.models.llada import LladaConfig, LladaForMaskedDiffusion
from unmask.models.shapes import LLADA_KEYS

MODELS = {"llada": LladaForMaskedDiffusion, "Dream": DreamForMaskedDiffusion}

# Our names -> LLaDA's. The head and the second matrix of the feed-forward part have the same name there.
WHOLE = {"model.embed_tokens": "wte", "model.norm": "ln_f", "lm_head": "ff_out"}
BLOCK = {
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ff_norm",
    "self_attn.q_proj": "q_proj",
    "self_attn.k_proj": "k_proj",
    "self_attn.v_proj": "v_proj",
    "self_attn.o_proj": "attn_out",
    "mlp.gate_proj": "ff_proj",
    "mlp.up_proj": "up_proj",
    "mlp.down_proj": "ff_out",
}
# Switches that our forward pass has in one position only; absent and null are off.
LLADA_SWITCHES = {
    "block_type": "llama",
    "layer_norm_type": "rms",
    "activation_type": "silu",
    "rope": True,
    "rope_full_precision": True,
    **dict.fromkeys(("alibi", "attention_layer_norm", "bias_for_layer_norm", "clip_qkv", "include_bias"), False),
    **dict.fromkeys(("include_qkv_bias", "input_emb_norm", "multi_query_attention", "scale_logits"), False),
    "weight_tying": False,
}
DREAM_SWITCHES = {
    "hidden_act": "silu",
    "rope_scaling": False,
    "tie_word_embeddings": False,
    "use_sliding_window": False,
}


@dataclass(frozen=True)
class Layout:
    """The model that a folder holds, and how its weights are called there."""

    model_class: type[LladaForMaskedDiffusion]
    config: LladaConfig
    llada_names: bool

    @classmethod
    def read(cls, folder: Path) -> Layout:
        """The layout of the checkpoint in `folder`. Raises InputError with every key of config.json that is wrong."""
        file = Path(folder) / "config.json"
        values = read_json(file)
        kind = values.get("model_type")
        if kind not in MODELS:
            raise InputError(f"{file}: model_type {kind!r} is not one of {', '.join(MODELS)}")
        llada_names = "d_model" in values
        if llada_names:
            values = _from_llada(values, file)
        elif kind == "Dream":
            _check_switches(values, DREAM_SWITCHES, file)
        # An embedding's pad row gets no gradient, and these models pad with the end of text: there is no pad row.
        values = values | {"pad_token_id": None}
        try:
            config = MODELS[kind].config_class.from_dict(values)
        except StrictDataclassError as error:
            raise InputError(f"{file}: {' '.join(str(error).split())}; correct the file") from error
        if config.mask_token_id is None or not 0 <= config.mask_token_id < config.vocab_size:
            raise InputError(f"{file}: mask_token_id {config.mask_token_id} is none of {config.vocab_size} tokens")
        return cls(MODELS[kind], config, llada_names)

    def empty_model(self) -> LladaForMaskedDiffusion:
        """The model without memory for its weights."""
        with torch.device("meta"):
            return self.model_class(self.config)

    def stored_name(self, name: str) -> str:
        """What a weight of ours is called in the folder."""
        return llada_name(name) if self.llada_names else name


def llada_name(name: str) -> str:
    """What LLaDA's released code calls a weight of ours."""
    module, _, kind = name.rpartition(".")
    if module in WHOLE:
        return f"model.transformer.{WHOLE[module]}.{kind}"
    _, _, number, part = module.split(".", 3)  # model.layers.N.part
    return f"model.transformer.blocks.{number}.{BLOCK[part]}.{kind}"


def read_json(file: Path) -> dict[str, Any]:
    """An object in a JSON file. Raises InputError that names the file."""
    try:
        values = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{file}: cannot be read ({error}); bring the whole checkpoint") from error
    if not isinstance(values, dict):
        raise InputError(f"{file}: not an object; bring the whole checkpoint")
    return values


def _from_llada(values: dict[str, Any], file: Path) -> dict[str, Any]:
    """Our keys from LLaDA's."""
    _check_switches(values, LLADA_SWITCHES, file)
    values = values | {"embedding_size": values.get("embedding_size") or values.get("vocab_size")}
    values["n_kv_heads"] = values.get("n_kv_heads") or values.get("n_heads")
    if lacking := [theirs for theirs in LLADA_KEYS.values() if values.get(theirs) is None]:
        raise InputError(f"{file}: no {', '.join(lacking)}; bring the published file")
    return {ours: values[theirs] for ours, theirs in LLADA_KEYS.items()}


def _check_switches(values: dict[str, Any], switches: dict[str, Any], file: Path) -> None:
    """Refuse an architecture with other switches than ours."""
    wrong = [
        f"{key} {values[key]!r} (only {wanted!r})"
        for key, wanted in switches.items()
        if key in values and (values[key] or False) != wanted
    ]
    if wrong:
        raise InputError(f"{file}: not an architecture that can be run here: {', '.join(wrong)}")
