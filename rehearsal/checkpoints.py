"""Random checkpoints of any size in the published layouts of LLaDA and Dream, written tensor by tensor.

The weights are cheap to generate: slices of one pool of normal numbers, scaled by the fan-in of a matrix. One
coordinate of the residual stream is a constant that no layer writes to; through it the head gives the answers and the
end of text most of the probability. Masked positions depend little on themselves and much on the others, so that they
differ.
"""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from vocabulary import write_dream, write_json, write_llada

POOL = 16_777_213  # numbers; prime, so that the rows of a matrix start at different offsets
CONSTANT = 4.0  # first coordinate of every embedding
FAVOUR = 60.0  # head weight of the constant for the answers
END = {"llada": 60.5, "dream": 53.0}  # and for the end of text: Dream's answers mostly end with their turn token
QUICK = 12  # rotary pairs per head that queries and keys use: the fastest ones, so that positions differ
PIECE = 2**22  # numbers per write


@dataclass(frozen=True)
class Size:
    """Dimensions of a published model that may be reduced; the vocabulary may not."""

    width: int
    layers: int
    heads: int
    kv_heads: int
    mlp: int


@dataclass(frozen=True)
class Part:
    """Tensor: its published name, shape and the scale of its numbers; scale None means all ones."""

    name: str
    shape: tuple[int, ...]
    scale: float | None

    @property
    def numbers(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)


@dataclass(frozen=True)
class Steering:
    """Non-random part of the weights: the favoured tokens, and the names of the tensors that favour them."""

    names: dict[str, str]
    answers: list[int]
    eot: int
    turn: int  # closes an assistant's turn in the chat template; does not end decoding
    mask: int
    head_width: int
    end: float

    def apply(self, name: str, values: Tensor, start: int) -> None:
        """Change `values`, consecutive rows of a tensor from row `start`, in place."""
        rows = torch.arange(start, start + len(values))
        if name.startswith(self.names["embed"]):
            # A small [MASK] embedding: masked positions are determined by what they attend to.
            values[rows == self.mask] *= 0.1
            values[:, 0] = CONSTANT
        elif name.startswith(self.names["head"]):
            values[:, 0] = 0.0
            # A random model spreads over the whole vocabulary: without favoured tokens no response would end or score.
            favoured = torch.isin(rows, torch.tensor([*self.answers, self.eot, self.turn]))
            values[favoured] *= 0.1  # so that they are about equally probable
            values[favoured, 0] = FAVOUR
            values[rows == self.eot, 0] = self.end
        elif any(name.endswith(f"{self.names[part]}.weight") for part in ("o", "down")):
            values[rows == 0] = 0.0  # layers must not write to the constant coordinate
        elif any(name.endswith(f"{self.names[part]}.weight") for part in ("q", "k")):
            # Rows pair up as rotary coordinates, fastest first. Slow pairs hardly differ between positions.
            values[rows % self.head_width % (self.head_width // 2) >= QUICK] = 0.0


def write_llada_checkpoint(folder: Path, size: Size, texts: list[str], shards: int) -> int:
    """Write a checkpoint in LLaDA's layout with its vocabulary of 126,464; return the bytes of its weights."""
    folder.mkdir(parents=True)
    answers = write_llada(folder, texts)
    config = {
        "activation_type": "silu", "alibi": False, "alibi_bias_max": 8.0, "architectures": ["LLaDAModelLM"],
        "attention_dropout": 0.0, "attention_layer_norm": False, "attention_layer_norm_with_affine": True,
        "auto_map": {"AutoConfig": "configuration_llada.LLaDAConfig", "AutoModel": "modeling_llada.LLaDAModelLM"},
        "bias_for_layer_norm": False, "block_group_size": 1, "block_type": "llama", "d_model": size.width,
        "embedding_dropout": 0.0, "embedding_size": 126464, "eos_token_id": 126081, "flash_attention": False,
        "include_bias": False, "include_qkv_bias": False, "init_cutoff_factor": None, "init_device": "meta",
        "init_fn": "mitchell", "init_std": 0.02, "input_emb_norm": False, "layer_norm_type": "rms",
        "layer_norm_with_affine": True, "mask_token_id": 126336, "max_sequence_length": 4096,
        "mlp_hidden_size": size.mlp, "mlp_ratio": 4, "model_type": "llada", "multi_query_attention": None,
        "n_heads": size.heads, "n_kv_heads": size.kv_heads, "n_layers": size.layers, "pad_token_id": 126081,
        "precision": "amp_bf16", "residual_dropout": 0.0, "rms_norm_eps": 1e-05, "rope": True,
        "rope_full_precision": True, "rope_theta": 500000.0, "scale_logits": False, "torch_dtype": "bfloat16",
        "transformers_version": "4.46.3", "use_cache": False, "vocab_size": 126464, "weight_tying": False,
    }  # fmt: skip
    write_json(folder / "config.json", config)
    names = {"embed": "model.transformer.wte", "norm": "model.transformer.ln_f", "head": "model.transformer.ff_out",
             "attn_norm": "attn_norm", "mlp_norm": "ff_norm", "q": "q_proj", "k": "k_proj", "v": "v_proj",
             "o": "attn_out", "gate": "ff_proj", "up": "up_proj", "down": "ff_out",
             "block": "model.transformer.blocks"}  # fmt: skip
    steering = Steering(names, answers, 126081, 126348, 126336, size.width // size.heads, END["llada"])
    return write_weights(folder, parts(size, 126464, names), steering, shards)


def write_dream_checkpoint(folder: Path, size: Size, texts: list[str], shards: int) -> int:
    """Write a checkpoint in Dream's layout with its vocabulary of 152,064; return the bytes of its weights."""
    folder.mkdir(parents=True)
    answers = write_dream(folder, texts)
    config = {
        "architectures": ["DreamModel"], "attention_dropout": 0.0,
        "auto_map": {"AutoConfig": "configuration_dream.DreamConfig", "AutoModel": "modeling_dream.DreamModel"},
        "bos_token_id": 151643, "eos_token_id": 151643, "hidden_act": "silu", "hidden_size": size.width,
        "initializer_range": 0.02, "intermediate_size": size.mlp, "mask_token_id": 151666,
        "max_position_embeddings": 131072, "max_window_layers": 28, "model_type": "Dream",
        "num_attention_heads": size.heads, "num_hidden_layers": size.layers, "num_key_value_heads": size.kv_heads,
        "pad_token_id": 151643, "rms_norm_eps": 1e-06, "rope_scaling": None, "rope_theta": 1000000.0,
        "sliding_window": None, "tie_word_embeddings": False, "torch_dtype": "bfloat16",
        "transformers_version": "4.46.2", "use_cache": True, "use_sliding_window": False, "vocab_size": 152064,
    }  # fmt: skip
    write_json(folder / "config.json", config)
    names = {"embed": "model.embed_tokens", "norm": "model.norm", "head": "lm_head", "attn_norm": "input_layernorm",
             "mlp_norm": "post_attention_layernorm", "q": "self_attn.q_proj", "k": "self_attn.k_proj",
             "v": "self_attn.v_proj", "o": "self_attn.o_proj", "gate": "mlp.gate_proj", "up": "mlp.up_proj",
             "down": "mlp.down_proj", "block": "model.layers"}  # fmt: skip
    # Unlike LLaDA, Dream has biases on queries, keys and values.
    listed = parts(size, 152064, names)
    for layer in range(size.layers):
        for part, width in (("q", size.width), ("k", kv_width(size)), ("v", kv_width(size))):
            listed.append(Part(f"{names['block']}.{layer}.{names[part]}.bias", (width,), 0.02))
    steering = Steering(names, answers, 151643, 151645, 151666, size.width // size.heads, END["dream"])
    return write_weights(folder, listed, steering, shards)


def kv_width(size: Size) -> int:
    """Return the width of the keys, which is that of the values."""
    return size.width // size.heads * size.kv_heads


def parts(size: Size, vocabulary: int, names: dict[str, str]) -> list[Part]:
    """List every weight except biases, in the order of the layers."""
    width, mlp, kv = size.width, size.mlp, kv_width(size)
    deep = 1 / math.sqrt(2 * size.layers)  # keeps the sum of all layers from outgrowing the embedding
    shapes = {"q": (width, width), "k": (kv, width), "v": (kv, width), "o": (width, width), "gate": (mlp, width),
              "up": (mlp, width), "down": (width, mlp)}  # fmt: skip
    gains = {"q": 20.0, "o": 20 * deep, "down": deep}  # peaked attention, or positions would hardly matter
    found = [Part(f"{names['embed']}.weight", (vocabulary, width), 1.0)]
    for layer in range(size.layers):
        block = f"{names['block']}.{layer}"
        for part, shape in shapes.items():
            scale = gains.get(part, 1.0) / math.sqrt(shape[1])
            found.append(Part(f"{block}.{names[part]}.weight", shape, scale))
        found += [Part(f"{block}.{names[norm]}.weight", (width,), None) for norm in ("attn_norm", "mlp_norm")]
    found.append(Part(f"{names['norm']}.weight", (width,), None))
    found.append(Part(f"{names['head']}.weight", (vocabulary, width), 1 / math.sqrt(width)))
    return found


def write_weights(folder: Path, listed: list[Part], steering: Steering, shards: int) -> int:
    """Write the shards and their index, return the bytes; at most PIECE numbers of a tensor are in memory."""
    pool = torch.randn(POOL, generator=torch.Generator().manual_seed(0))
    total = sum(part.numbers for part in listed) * 2

    # Tensors fill the shards in order, each shard about the same number of bytes.
    groups: list[list[Part]] = [[] for _ in range(shards)]
    done = 0
    for part in listed:
        groups[min(shards - 1, done * shards // total)].append(part)
        done += 2 * part.numbers

    places: dict[str, str] = {}
    for number, group in enumerate(groups, 1):
        file = f"model-{number:05d}-of-{shards:05d}.safetensors"
        places |= {part.name: file for part in group}
        write_shard(folder / file, group, pool, steering)
    write_json(folder / "model.safetensors.index.json", {"metadata": {"total_size": total}, "weight_map": places})
    return total


def write_shard(file: Path, group: list[Part], pool: Tensor, steering: Steering) -> None:
    """Write one file in the safetensors format: length of the header, header, numbers."""
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    place = 0
    for part in group:
        header[part.name] = {"dtype": "BF16", "shape": part.shape, "data_offsets": [place, place + 2 * part.numbers]}
        place += 2 * part.numbers

    # The header is padded to a multiple of 8 bytes, which aligns the numbers.
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with file.open("wb") as stream:
        stream.write(struct.pack("<Q", len(text)) + text)
        for part in group:
            for values in numbers(part, pool, steering):
                stream.write(values.bfloat16().view(torch.uint8).numpy().data)


def numbers(part: Part, pool: Tensor, steering: Steering) -> Iterator[Tensor]:
    """Yield the numbers of a tensor in fp32, some rows at a time."""
    if part.scale is None:
        yield torch.ones(part.shape)
        return
    rows, width = part.shape[0], math.prod(part.shape[1:])
    step = max(1, PIECE // width)
    offset = hash_of(part.name)
    for start in range(0, rows, step):
        count = min(step, rows - start)
        # The pool is read as a ring.
        index = (offset + start * width) % POOL
        taken = pool[index : index + count * width]
        if len(taken) < count * width:
            taken = torch.cat((taken, pool[: count * width - len(taken)]))
        values = (taken * part.scale).view(count, *part.shape[1:])
        steering.apply(part.name, values, start)
        yield values


def hash_of(name: str) -> int:
    """Return the offset of a tensor in the pool; the same on every machine, unlike `hash`."""
    return int.from_bytes(name.encode()[-7:], "little") * 7919 % POOL
