"""Small checkpoints in the layouts of LLaDA, Dream and dLLM's Qwen models, and what these compute, written out again.

The folders have what the published ones have: config.json with all its keys, weights in two shards with an index, and
the tokenizer's files. The forward pass shares nothing with the library's: it works on the stored tensors by their
published names, one row at a time, with rotary embedding as rotations of pairs.
"""

import json
import math

import pytest
import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from unmask.models.loading import load_model

CHAT = "{% for m in messages %}<|user|>{{ m['content'] }}{% endfor %}{% if add_generation_prompt %}<|bot|>{% endif %}"
QWEN_CHAT = (
    "{% for m in messages %}<|im_start|>{{ m['content'] }}<|im_end|>{% endfor %}{% if add_generation_prompt %}"
    "<|im_start|>{% if enable_thinking is defined and enable_thinking is false %}<think></think>{% endif %}{% endif %}"
)
LLADA_CONFIG = {
    "activation_type": "silu", "alibi": False, "alibi_bias_max": 8.0, "architectures": ["LLaDAModelLM"],
    "attention_dropout": 0.0, "attention_layer_norm": False, "attention_layer_norm_with_affine": True,
    "auto_map": {"AutoConfig": "configuration_llada.LLaDAConfig", "AutoModel": "modeling_llada.LLaDAModelLM"},
    "bias_for_layer_norm": False, "block_group_size": 1, "block_type": "llama", "d_model": 24, "embedding_dropout": 0.0,
    "embedding_size": 64, "eos_token_id": 1, "flash_attention": False, "include_bias": False,
    "include_qkv_bias": False, "init_cutoff_factor": None, "init_device": "meta", "init_fn": "mitchell",
    "init_std": 0.02, "input_emb_norm": False, "layer_norm_type": "rms", "layer_norm_with_affine": True,
    "mask_token_id": 60, "max_sequence_length": 128, "mlp_hidden_size": 40, "mlp_ratio": 4, "model_type": "llada",
    "multi_query_attention": None, "n_heads": 4, "n_kv_heads": 2, "n_layers": 3, "pad_token_id": 1,
    "precision": "amp_bf16", "residual_dropout": 0.0, "rms_norm_eps": 1e-05, "rope": True, "rope_full_precision": True,
    "rope_theta": 20.0, "scale_logits": False, "torch_dtype": "bfloat16", "transformers_version": "4.46.3",
    "use_cache": False, "vocab_size": 64, "weight_tying": False,
}  # fmt: skip
DREAM_CONFIG = {
    "architectures": ["DreamModel"], "attention_dropout": 0.0,
    "auto_map": {"AutoConfig": "configuration_dream.DreamConfig", "AutoModel": "modeling_dream.DreamModel"},
    "bos_token_id": 1, "eos_token_id": 1, "hidden_act": "silu", "hidden_size": 24, "initializer_range": 0.02,
    "intermediate_size": 40, "mask_token_id": 60, "max_position_embeddings": 128, "max_window_layers": 3,
    "model_type": "Dream", "num_attention_heads": 4, "num_hidden_layers": 3, "num_key_value_heads": 2,
    "pad_token_id": 1, "rms_norm_eps": 1e-06, "rope_scaling": None, "rope_theta": 30.0, "sliding_window": None,
    "tie_word_embeddings": False, "torch_dtype": "bfloat16", "transformers_version": "4.46.2", "use_cache": True,
    "use_sliding_window": False, "vocab_size": 64,
}  # fmt: skip
# As transformers 4.57 writes Qwen2's and Qwen3's configuration under dLLM's model types: without the mask token's id.
QWEN2_CONFIG = {
    "attention_dropout": 0.0, "architectures": ["A2DQwen2LMHeadModel"],
    "auto_map": {"AutoConfig": "modeling_qwen2.A2DQwen2Config", "AutoModel": "modeling_qwen2.A2DQwen2LMHeadModel"},
    "bos_token_id": 1, "dtype": "bfloat16", "eos_token_id": 59, "hidden_act": "silu", "hidden_size": 24,
    "initializer_range": 0.02, "intermediate_size": 40, "layer_types": ["full_attention"] * 3,
    "max_position_embeddings": 128, "max_window_layers": 3, "model_type": "a2d-qwen2", "num_attention_heads": 4,
    "num_hidden_layers": 3, "num_key_value_heads": 2, "pad_token_id": 1, "rms_norm_eps": 1e-06, "rope_scaling": None,
    "rope_theta": 30.0, "sliding_window": None, "tie_word_embeddings": True, "transformers_version": "4.57.0",
    "use_cache": True, "use_sliding_window": False, "vocab_size": 64,
}  # fmt: skip
QWEN3_CONFIG = QWEN2_CONFIG | {
    "attention_bias": False, "architectures": ["A2DQwen3LMHeadModel"], "head_dim": 10, "model_type": "a2d-qwen3",
    "auto_map": {"AutoConfig": "modeling_qwen3.A2DQwen3Config", "AutoModel": "modeling_qwen3.A2DQwen3LMHeadModel"},
}  # fmt: skip
CONFIGS = {"llada": LLADA_CONFIG, "dream": DREAM_CONFIG, "qwen2": QWEN2_CONFIG, "qwen3": QWEN3_CONFIG}
LLADA_NAMES = {
    "embed": "model.transformer.wte", "norm": "model.transformer.ln_f", "head": "model.transformer.ff_out",
    "attn_norm": "attn_norm", "mlp_norm": "ff_norm", "q": "q_proj", "k": "k_proj", "v": "v_proj", "o": "attn_out",
    "gate": "ff_proj", "up": "up_proj", "down": "ff_out", "block": "model.transformer.blocks",
}  # fmt: skip
DREAM_NAMES = {
    "embed": "model.embed_tokens", "norm": "model.norm", "head": "lm_head", "attn_norm": "input_layernorm",
    "mlp_norm": "post_attention_layernorm", "q": "self_attn.q_proj", "k": "self_attn.k_proj", "v": "self_attn.v_proj",
    "o": "self_attn.o_proj", "gate": "mlp.gate_proj", "up": "mlp.up_proj", "down": "mlp.down_proj",
    "block": "model.layers",
}  # fmt: skip
# The modules that LoRA targets, in Llama's names, and as LLaDA's code calls them.
BLOCK_NAMES = {
    "self_attn.q_proj": "q_proj", "self_attn.k_proj": "k_proj", "self_attn.v_proj": "v_proj",
    "self_attn.o_proj": "attn_out", "mlp.gate_proj": "ff_proj", "mlp.up_proj": "up_proj", "mlp.down_proj": "ff_out",
}  # fmt: skip
QWEN3_NAMES = DREAM_NAMES | {"q_norm": "self_attn.q_norm", "k_norm": "self_attn.k_norm"}
NAMES = {"llada": LLADA_NAMES, "dream": DREAM_NAMES, "qwen2": DREAM_NAMES, "qwen3": QWEN3_NAMES}
TIED = ("qwen2", "qwen3")
WIDTH, MLP, HEADS, KV_HEADS, VOCABULARY, LAYERS = 24, 40, 4, 2, 64, 3
HEAD = {"llada": 6, "dream": 6, "qwen2": 6, "qwen3": 10}
kinds = pytest.mark.parametrize("kind", ["llada", "dream", "qwen2", "qwen3"])


def load(folder, dtype=torch.float32):
    """The library's model of a checkpoint, whose forward pass the one below is compared with."""
    return load_model(folder, "cpu", dtype)


def write_checkpoint(folder, kind, dtype=torch.float32):
    """A checkpoint of random weights; returns them by their published names."""
    folder.mkdir(parents=True, exist_ok=True)
    weights = {name: value.to(dtype) for name, value in random_weights(kind).items()}
    write_json(folder / "config.json", CONFIGS[kind])
    names = sorted(weights)
    shards = {"model-00001-of-00002.safetensors": names[::2], "model-00002-of-00002.safetensors": names[1::2]}
    for shard, part in shards.items():
        save_file({name: weights[name] for name in part}, folder / shard, {"format": "pt"})
    places = {name: shard for shard, part in shards.items() for name in part}
    size = sum(w.numel() * w.element_size() for w in weights.values())
    write_json(folder / "model.safetensors.index.json", {"metadata": {"total_size": size}, "weight_map": places})
    {"llada": write_llada_tokenizer, "dream": write_dream_tokenizer}.get(kind, write_qwen_tokenizer)(folder)
    return weights


def random_weights(kind):
    names, generator = NAMES[kind], torch.Generator().manual_seed(0)

    def noise(*shape):
        return torch.randn(shape, generator=generator) / shape[-1] ** 0.5

    def gains(width=WIDTH):
        return 1 + 0.3 * torch.randn(width, generator=generator)

    weights = {
        f"{names['embed']}.weight": noise(VOCABULARY, WIDTH) * WIDTH**0.5,
        f"{names['head']}.weight": noise(VOCABULARY, WIDTH),
        f"{names['norm']}.weight": gains(),
    }
    if kind in TIED:  # and stored nevertheless
        weights["model.embed_tokens.weight"] *= 0.2
        weights["lm_head.weight"] = weights["model.embed_tokens.weight"].clone()
    queries, keys = HEADS * HEAD[kind], KV_HEADS * HEAD[kind]
    shapes = {"q": (queries, WIDTH), "k": (keys, WIDTH), "v": (keys, WIDTH), "o": (WIDTH, queries),
              "gate": (MLP, WIDTH), "up": (MLP, WIDTH), "down": (WIDTH, MLP)}  # fmt: skip
    for layer in range(LAYERS):
        block = f"{names['block']}.{layer}"
        weights |= {f"{block}.{names[part]}.weight": noise(*shape) for part, shape in shapes.items()}
        weights |= {f"{block}.{names[part]}.weight": gains() for part in ("attn_norm", "mlp_norm")}
        weights[f"{block}.{names['q']}.weight"] *= 2  # heads that look somewhere: else positions hardly matter
        if kind in ("dream", "qwen2"):
            weights |= {f"{block}.{names[p]}.bias": noise(shapes[p][0]) for p in "qkv"}
        if kind == "qwen3":
            weights |= {f"{block}.{names[p]}.weight": gains(HEAD[kind]) for p in ("q_norm", "k_norm")}
    return weights


def plain_logits(kind, weights, ids, positions=None):
    """Logits [T, V] of one row of ids [T] without padding, at positions 0 … T − 1 unless others are given."""
    names, config = NAMES[kind], CONFIGS[kind]
    positions = torch.arange(len(ids)) if positions is None else positions

    def linear(x, name):
        bias = weights.get(f"{name}.bias")
        return x @ weights[f"{name}.weight"].T + (0 if bias is None else bias)

    def norm(x, name):
        wide = x.float()
        wide = wide / (wide.square().mean(-1, keepdim=True) + config["rms_norm_eps"]).sqrt()
        return weights[f"{name}.weight"] * wide.to(x.dtype)

    def rotate(x):  # [T, d]: coordinates i and i + d/2 turn together
        half = x.shape[-1] // 2
        speed = torch.tensor([config["rope_theta"] ** (-i / half) for i in range(half)])
        turn = torch.polar(torch.ones(len(x), half), positions[:, None].float() * speed)
        turned = torch.complex(x[:, :half].float(), x[:, half:].float()) * turn
        return torch.cat((turned.real, turned.imag), -1).to(x.dtype)

    x = weights[f"{names['embed']}.weight"][ids]
    for layer in range(LAYERS):
        part = {key: f"{names['block']}.{layer}.{name}" for key, name in names.items()}
        y = norm(x, part["attn_norm"])
        q, k, v = (linear(y, part[p]).split(HEAD[kind], -1) for p in "qkv")
        if kind == "qwen3":
            q, k = ([norm(one, part[name]) for one in some] for some, name in ((q, "q_norm"), (k, "k_norm")))
        heads = []
        for h in range(HEADS):
            shared = h * KV_HEADS // HEADS
            scores = rotate(q[h]) @ rotate(k[shared]).T / math.sqrt(HEAD[kind])
            heads.append(scores.softmax(-1) @ v[shared])
        x = x + linear(torch.cat(heads, -1), part["o"])
        y = norm(x, part["mlp_norm"])
        gate = linear(y, part["gate"])
        x = x + linear(gate * gate.sigmoid() * linear(y, part["up"]), part["down"])
    logits = linear(norm(x, names["norm"]), names["head"])
    return torch.cat((logits[:1], logits[:-1])) if kind == "dream" else logits


def write_llada_tokenizer(folder):
    """tokenizer.json of whole words; the mask is a token, but not called the mask token."""
    words = {f"w{i}": i for i in range(60)} | {"<|mdm_mask|>": 60}
    words = {token: i for token, i in words.items() if i not in (1, 2)} | {"<|endoftext|>": 1, "[UNK]": 2}
    core = Tokenizer(models.WordLevel(words, unk_token="[UNK]"))
    core.pre_tokenizer = pre_tokenizers.Whitespace()
    core.add_special_tokens(["<|mdm_mask|>", "<|endoftext|>", "<|user|>", "<|bot|>"])
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=core, eos_token="<|endoftext|>", pad_token="<|endoftext|>", unk_token="[UNK]"
    )
    tokenizer.chat_template = CHAT
    tokenizer.save_pretrained(folder, save_jinja_files=False)


def write_dream_tokenizer(folder):
    """vocab.json and merges.txt, byte-level, with the special tokens in tokenizer_config.json and no tokenizer.json."""
    letters = "abcdefghijklmnopqrstuvwxyzĠ"
    tokens = [*letters, "th", "the", "Ġthe"]
    write_json(folder / "vocab.json", {token: i for i, token in enumerate(tokens + ["x" * i for i in range(2, 31)])})
    (folder / "merges.txt").write_text("#version: 0.2\nt h\nth e\nĠ the\n", encoding="utf-8")
    special = {59: "<|endoftext|>", 60: "<|mask|>", 61: "<|user|>", 62: "<|bot|>"}
    flags = {"lstrip": False, "normalized": False, "rstrip": False, "single_word": False, "special": True}
    write_json(
        folder / "tokenizer_config.json",
        {
            "add_bos_token": False, "add_prefix_space": False, "bos_token": None, "chat_template": CHAT,
            "added_tokens_decoder": {str(i): {"content": token, **flags} for i, token in special.items()},
            "auto_map": {"AutoTokenizer": ["tokenization_dream.DreamTokenizer", None]},
            "clean_up_tokenization_spaces": False, "eos_token": "<|endoftext|>", "errors": "replace",
            "mask_token": "<|mask|>", "model_max_length": 131072, "pad_token": "<|endoftext|>",
            "split_special_tokens": False, "tokenizer_class": "DreamTokenizer", "unk_token": None,
        },
    )  # fmt: skip


def write_qwen_tokenizer(folder):
    """tokenizer.json of whole words, whose mask token is among the added ones; an answer begins after no thoughts."""
    words = {f"w{i}": i for i in range(64)} | {"<|endoftext|>": 1, "[UNK]": 2, "<|im_end|>": 59, "<|mask|>": 60}
    words |= {"<|im_start|>": 61, "<think>": 62, "</think>": 63}
    taken = {i for token, i in words.items() if not token.startswith("w")}
    words = {token: i for token, i in words.items() if not token.startswith("w") or i not in taken}
    core = Tokenizer(models.WordLevel(words, unk_token="[UNK]"))
    core.pre_tokenizer = pre_tokenizers.Whitespace()
    core.add_special_tokens(["<|endoftext|>", "<|im_end|>", "<|mask|>", "<|im_start|>"])
    core.add_tokens(["<think>", "</think>"])
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=core, eos_token="<|im_end|>", pad_token="<|endoftext|>", unk_token="[UNK]",
        mask_token="<|mask|>",
    )  # fmt: skip
    tokenizer.chat_template = QWEN_CHAT
    tokenizer.save_pretrained(folder, save_jinja_files=False)


def write_json(file, values):
    file.write_text(json.dumps(values), encoding="utf-8")


def change_json(file, **changes):
    """Put other values in a JSON file; None removes a key."""
    values = json.loads(file.read_text(encoding="utf-8")) | changes
    write_json(file, {key: value for key, value in values.items() if value is not None})


def write_puzzle_checkpoint(folder, kind):
    """A checkpoint whose tokenizer has the characters of the puzzles, so that runs can be made on it."""
    from unmask.models.tiny import build_tokenizer

    write_checkpoint(folder, kind)
    for name in ("tokenizer.json", "tokenizer_config.json", "vocab.json", "merges.txt"):
        (folder / name).unlink(missing_ok=True)
    build_tokenizer().save_pretrained(folder)
    change_json(folder / "config.json", mask_token_id=0)
