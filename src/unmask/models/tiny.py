"""Tiny LLaDA or Dream with a character-level tokenizer, trained from scratch: the default model without a download.

Architecture, file format and conventions (mask token, end of text as padding, tags for reasoning and answer) are those
of the published models, so every step of the workflow runs on it unchanged.
"""

from __future__ import annotations

import torch
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from unmask.models.dream import DreamForMaskedDiffusion
from unmask.models.llada import LladaForMaskedDiffusion

MASK, EOT, UNKNOWN = "<|mdm_mask|>", "<|endoftext|>", "<|unknown|>"
TAGS = ("<reasoning>", "</reasoning>", "<answer>", "</answer>")
CHARACTERS = "0123456789+-*/()=,:;. abcdefghijklmnopqrstuvwxyz"
FAMILIES = {"llada": LladaForMaskedDiffusion, "dream": DreamForMaskedDiffusion}
CHAT_TEMPLATE = "{% for message in messages %}{{ message['content'] }}{% endfor %}"


def build_tokenizer() -> PreTrainedTokenizerFast:
    """Build a tokenizer with one token per character and one per tag; end of text doubles as padding."""
    # The order fixes the ids: build_model relies on [MASK] being 0 and the end of text being 1.
    vocabulary = {token: i for i, token in enumerate((MASK, EOT, *TAGS, *CHARACTERS, UNKNOWN))}
    core = Tokenizer(models.WordLevel(vocabulary, unk_token=UNKNOWN))
    core.pre_tokenizer = pre_tokenizers.Split(Regex("."), behavior="isolated")
    core.decoder = decoders.Fuse()
    core.add_special_tokens([MASK, EOT])
    core.add_tokens(list(TAGS))
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=core, mask_token=MASK, eos_token=EOT, pad_token=EOT, unk_token=UNKNOWN
    )
    tokenizer.chat_template = CHAT_TEMPLATE
    return tokenizer


def build_model(
    *,
    hidden_size: int,
    layers: int,
    heads: int,
    mlp_size: int,
    rope_theta: float,
    vocabulary: int,
    seed: int,
    family: str = "llada",
) -> LladaForMaskedDiffusion:
    """Build a randomly initialised model; the same seed gives the same weights."""
    model_class = FAMILIES[family]
    config = model_class.config_class(
        vocab_size=vocabulary,
        hidden_size=hidden_size,
        intermediate_size=mlp_size,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        rope_parameters={"rope_type": "default", "rope_theta": rope_theta},
        rms_norm_eps=1e-5,
        initializer_range=hidden_size**-0.5,
        max_position_embeddings=1024,
        mask_token_id=0,
        bos_token_id=None,
        eos_token_id=1,
    )

    # The global random state of the caller is left as it was.
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return model_class(config)
