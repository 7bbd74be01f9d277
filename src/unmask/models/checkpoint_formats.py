"""Checkpoint layouts: translate config.json and weight names of a checkpoint folder to ours.

Our own layout is transformers' Llama as `save_pretrained` writes it. LLaDA's is translated. The weights of Dream and of
dLLM's Qwen models have our names. The class is chosen by `model_type`; code in the folder is never run. Architecture
options that our forward pass does not implement are rejected by key.
Sources: config.json and model.safetensors.index.json of GSAI-ML/LLaDA-8B-Instruct (LLaDA-8B-Base and LLaDA-1.5 have
the same layout) and of Dream-org/Dream-v0-Instruct-7B; for Qwen see docs/models.md.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from huggingface_hub.errors import StrictDataclassError

from unmask.common.errors import InputError
from unmask.models.dream import DreamForMaskedDiffusion
from unmask.models.llada import LladaConfig, LladaForMaskedDiffusion
from unmask.models.qwen import Qwen2ForMaskedDiffusion, Qwen3ForMaskedDiffusion
from unmask.models.shapes import LLADA_KEYS

Values = dict[str, Any]  # a JSON object, of whatever code wrote it
MODELS = {
    "llada": LladaForMaskedDiffusion,
    "Dream": DreamForMaskedDiffusion,
    "a2d-qwen2": Qwen2ForMaskedDiffusion,
    "a2d-qwen3": Qwen3ForMaskedDiffusion,
}

# Our names -> LLaDA's. LLaDA uses "ff_out" twice: for the head and, within a block, for the down projection.
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
# Architecture options of which our forward pass implements exactly one value; absent and null count as False.
LLADA_SWITCHES = {
    "block_type": "llama",
    "layer_norm_type": "rms",
    "activation_type": "silu",
    "rope": True,
    "rope_full_precision": True,
    "alibi": False,
    "attention_layer_norm": False,
    "bias_for_layer_norm": False,
    "clip_qkv": False,
    "include_bias": False,
    "include_qkv_bias": False,
    "input_emb_norm": False,
    "multi_query_attention": False,
    "scale_logits": False,
    "weight_tying": False,
}
QWEN_SWITCHES = {
    "hidden_act": "silu",
    "rope_scaling": False,
    "use_sliding_window": False,
}
SWITCHES = {
    "llada": {},  # of our own checkpoints; the published ones are checked by LLADA_SWITCHES
    "Dream": QWEN_SWITCHES | {"tie_word_embeddings": False},
    "a2d-qwen2": QWEN_SWITCHES,
    "a2d-qwen3": QWEN_SWITCHES | {"attention_bias": False},
}


@dataclass(frozen=True)
class Layout:
    """Model class and configuration of a checkpoint folder, and the naming of its weights."""

    model_class: type[LladaForMaskedDiffusion]
    config: LladaConfig
    llada_names: bool

    @classmethod
    def read(cls, folder: Path) -> Layout:
        """Read the layout of the checkpoint in `folder`. Raises InputError that names the wrong keys of config.json."""
        file = Path(folder) / "config.json"
        values = read_json(file)
        kind = values.get("model_type")
        if kind not in MODELS:
            raise InputError(
                f"{file}: model_type {kind!r} is not supported; use a checkpoint with one of {', '.join(MODELS)}"
            )
        # "llada" is also the model_type of our own checkpoints; only the published configs have `d_model`.
        llada_names = "d_model" in values
        if llada_names:
            values = _from_llada(values, file)
        else:
            _check_switches(values, SWITCHES[kind], file)
        if values.get("mask_token_id") is None and kind.startswith("a2d-"):
            values = values | {"mask_token_id": _mask_token_id(file.parent)}
        # nn.Embedding gives its padding row no gradient. These models pad with the end-of-text token, which must be
        # trained like any other, so no padding row is declared.
        values = values | {"pad_token_id": None}
        try:
            config = MODELS[kind].config_class.from_dict(values)
        except StrictDataclassError as error:
            on_one_line = " ".join(str(error).split())
            raise InputError(f"{file}: {on_one_line}; correct the file") from error
        if config.rope_parameters["rope_type"] != "default":
            raise InputError(f"{file}: unsupported architecture: rope_type {config.rope_parameters['rope_type']!r}")
        if config.mask_token_id is None or not 0 <= config.mask_token_id < config.vocab_size:
            raise InputError(
                f"{file}: mask_token_id {config.mask_token_id} is not below vocab_size {config.vocab_size}; correct it"
            )
        return cls(MODELS[kind], config, llada_names)

    def empty_model(self) -> LladaForMaskedDiffusion:
        """Build the model on the meta device, without memory for its weights."""
        with torch.device("meta"):
            return self.model_class(self.config)

    def stored_name(self, name: str) -> str:
        """Translate a weight name of ours to the name used in the folder."""
        return llada_name(name) if self.llada_names else name


def _mask_token_id(folder: Path) -> int:
    """Return the id of the tokenizer's mask token, for a config.json that does not say it. Raises InputError."""
    file = folder / "tokenizer_config.json"
    settings = read_json(file)
    token = settings.get("mask_token")
    if isinstance(token, dict):
        token = token.get("content")

    # The same files as load_tokenizer: without tokenizer.json the special tokens are in tokenizer_config.json.
    added = {}
    if (folder / "tokenizer.json").exists():
        for entry in read_json(folder / "tokenizer.json").get("added_tokens") or []:
            added[entry["content"]] = entry["id"]
    else:
        for number, entry in (settings.get("added_tokens_decoder") or {}).items():
            added[entry["content"]] = int(number)
    if token not in added:
        raise InputError(
            f"{file}: mask_token {token!r} is not among the added tokens, and config.json has no mask_token_id; add "
            "mask_token_id to config.json, the id of the token that stands for a masked position"
        )
    return added[token]


def llada_name(name: str) -> str:
    """Translate a weight name of ours to the one in LLaDA's released code."""
    module, _, kind = name.rpartition(".")
    if module in WHOLE:
        return f"model.transformer.{WHOLE[module]}.{kind}"
    _, _, number, part = module.split(".", 3)  # model.layers.N.part
    return f"model.transformer.blocks.{number}.{BLOCK[part]}.{kind}"


def read_json(file: Path) -> Values:
    """Read a JSON object from a file. Raises InputError that names the file."""
    try:
        values = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{file}: cannot be read ({error}); download or copy the complete checkpoint") from error
    if not isinstance(values, dict):
        raise InputError(f"{file}: not a JSON object; download or copy the complete checkpoint")
    return values


def _from_llada(values: Values, file: Path) -> Values:
    """Translate the keys of LLaDA's config.json to ours."""
    _check_switches(values, LLADA_SWITCHES, file)
    # Both keys are optional in the published code: embedding_size is vocab_size, padded for speed, and without
    # n_kv_heads every head has its own keys and values.
    values = dict(values)
    values["embedding_size"] = values.get("embedding_size") or values.get("vocab_size")
    values["n_kv_heads"] = values.get("n_kv_heads") or values.get("n_heads")
    lacking = [theirs for theirs in LLADA_KEYS.values() if values.get(theirs) is None]
    if lacking:
        raise InputError(f"{file}: missing {', '.join(lacking)}; use the published config.json")
    return {ours: values[theirs] for ours, theirs in LLADA_KEYS.items()}


def _check_switches(values: Values, switches: Mapping[str, object], file: Path) -> None:
    """Raise InputError if an architecture option differs from what our forward pass implements."""
    wrong = []
    for key, wanted in switches.items():
        found = values.get(key, wanted)
        if (found or False) != wanted:
            wrong.append(f"{key} {found!r} (only {wanted!r})")
    if wrong:
        raise InputError(f"{file}: unsupported architecture: {', '.join(wrong)}")
