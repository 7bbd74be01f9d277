"""Byte-level tokenizers in the layouts of LLaDA and Dream, with the published special tokens at their ids.

The first entries are bytes and merges learnt from the rehearsal's own texts. Then come complete answers, to which the
random checkpoints give most of their probability, so that rewards differ and responses end as with a trained model. The
rest is filler, up to the published vocabulary size.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

# Special tokens and ids as in tokenizer_config.json of GSAI-ML/LLaDA-8B-Instruct and Dream-org/Dream-v0-Instruct-7B.
LLADA_SPECIAL = {
    126080: "<|startoftext|>",
    126081: "<|endoftext|>",
    126082: "[CLS]",
    126083: "[gMASK]",
    126336: "<|mdm_mask|>",
    126340: "<role>",
    126341: "</role>",
    126346: "<|start_header_id|>",
    126347: "<|end_header_id|>",
    126348: "<|eot_id|>",
}
DREAM_SPECIAL = {
    151643: "<|endoftext|>",
    151644: "<|im_start|>",
    151645: "<|im_end|>",
    151665: "<|beginoftext|>",
    151666: "<|mask|>",
}
LLADA_CHAT = (
    "{% for message in messages %}{% set content = '<|start_header_id|>' + message['role'] + '<|end_header_id|>\n\n' "
    "+ message['content'] | trim + '<|eot_id|>' %}{% if loop.index0 == 0 %}{% set content = bos_token + content %}"
    "{% endif %}{{ content }}{% endfor %}{% if add_generation_prompt %}"
    "{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}"
)
DREAM_CHAT = (
    "{% if messages[0]['role'] != 'system' %}<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n{% endif %}"
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
BOARDS = ("1234341221434321", "2143432114323214", "3142243142131324", "4321123424133142")
EXPRESSIONS = ("1+2+3", "1*2*3", "3*(1+2)", "2*(1+3)", "(3-1)*2", "3*2-1", "3-2+1", "1+2*3")
NUMBERS = ("2", "4", "12", "18")
RENAMED = ("1234", "2143", "3412", "4321", "2341", "4123")  # the digits of a board under other names


def answers() -> list[str]:
    """Return complete answers to the rehearsal's problems: right and wrong, with and without the required format."""
    bare = [f"\n</reasoning>\n<answer>\n{number}\n</answer>\n" for number in NUMBERS]
    boxed = [f"\n</reasoning>\n<answer>\n\\boxed{{{number}}}\n</answer>" for number in NUMBERS]
    sums = [f"</reasoning><answer>\\boxed{{{text}}}</answer>" for text in EXPRESSIONS]
    renamed = [board.translate(str.maketrans("1234", names)) for board in BOARDS for names in RENAMED]
    boards = [f"</reasoning><answer>{board}</answer>" for board in dict.fromkeys(renamed)]
    return [*bare, *boxed, *sums, *boards, " so", " then", " and", " we", "\n"]


def write_llada(folder: Path, texts: list[str]) -> list[int]:
    """Write tokenizer.json and its configuration; return the ids of the answers."""
    vocabulary, merges = trained(texts)
    ids = fill(vocabulary, min(LLADA_SPECIAL))
    last = max(LLADA_SPECIAL)
    special = {i: LLADA_SPECIAL.get(i, f"<|reserved_token_{i}|>") for i in range(min(LLADA_SPECIAL), last + 1)}

    # Special tokens must get exactly the published ids, so the gaps between them are filled with reserved tokens.
    core = Tokenizer(models.BPE(vocab=vocabulary, merges=merges))
    core.pre_tokenizer, core.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    core.add_special_tokens(list(special.values()))
    found = {core.token_to_id(token): token for token in special.values()}
    if found != special:
        raise RuntimeError("tokenizers assigned other ids to the special tokens; check its version")
    core.save(str(folder / "tokenizer.json"))
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast", "bos_token": "<|startoftext|>", "cls_token": "[CLS]",
        "eos_token": "<|endoftext|>", "pad_token": "<|endoftext|>", "gmask_token": "[gMASK]", "fast_tokenizer": True,
        "clean_up_tokenization_spaces": False, "model_max_length": 1000000000000000019884624838656,
        "trust_remote_code": True, "add_bos_token": False, "add_eos_token": False, "chat_template": LLADA_CHAT,
        "added_tokens_decoder": {str(i): token_entry(token) for i, token in special.items()},
    }  # fmt: skip
    write_json(folder / "tokenizer_config.json", settings)
    return ids


def write_dream(folder: Path, texts: list[str]) -> list[int]:
    """Write vocab.json and merges.txt but no tokenizer.json, as Dream does; return the ids of the answers."""
    vocabulary, merges = trained(texts)
    ids = fill(vocabulary, min(DREAM_SPECIAL))
    write_json(folder / "vocab.json", vocabulary)
    lines = ["#version: 0.2", *(" ".join(pair) for pair in merges)]
    (folder / "merges.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    last = max(DREAM_SPECIAL)
    special = {i: DREAM_SPECIAL.get(i, f"<|reserved_{i}|>") for i in range(min(DREAM_SPECIAL), last + 1)}
    settings = {
        "tokenizer_class": "DreamTokenizer", "add_bos_token": False, "add_prefix_space": False,
        "auto_map": {"AutoTokenizer": ["tokenization_dream.DreamTokenizer", None]}, "bos_token": "<|beginoftext|>",
        "clean_up_tokenization_spaces": False, "eos_token": "<|endoftext|>", "errors": "replace",
        "mask_token": "<|mask|>", "model_max_length": 131072, "pad_token": "<|endoftext|>",
        "split_special_tokens": False, "unk_token": None, "chat_template": DREAM_CHAT,
        "added_tokens_decoder": {str(i): token_entry(token) for i, token in special.items()},
    }  # fmt: skip
    write_json(folder / "tokenizer_config.json", settings)
    return ids


def trained(texts: list[str]) -> tuple[dict[str, int], list[tuple[str, str]]]:
    """Train byte-level BPE on these texts; return its vocabulary and merges."""
    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=4000, initial_alphabet=alphabet, show_progress=False)
    core.train_from_iterator(texts, trainer)
    content = json.loads(core.to_str())["model"]
    return content["vocab"], [tuple(pair) for pair in content["merges"]]


def fill(vocabulary: dict[str, int], size: int) -> list[int]:
    """Fill the vocabulary up to `size` entries with the answers and filler; return the ids of the answers."""
    # Each answer is one token, so a single commit can write a complete answer.
    coded = [byte_level(text) for text in answers()]
    for text in coded:
        vocabulary.setdefault(text, len(vocabulary))
    for number in range(len(vocabulary), size):
        vocabulary[f"~{number}"] = number
    return [vocabulary[text] for text in coded]


def byte_level(text: str) -> str:
    """Return a text as spelled in byte-level vocabularies."""
    ((coded, _),) = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False).pre_tokenize_str(text)
    return coded


def token_entry(content: str) -> dict[str, Any]:
    """Return the entry of a special token in tokenizer_config.json."""
    flags = dict.fromkeys(("lstrip", "normalized", "rstrip", "single_word"), False)
    return {"content": content, **flags, "special": True}


def write_json(file: Path, values: Any) -> None:
    """Write a JSON file."""
    file.write_text(json.dumps(values, ensure_ascii=False), encoding="utf-8")
