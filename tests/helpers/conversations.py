"""Rows in the published layout of simplescaling/s1K, and a byte-level tokenizer with LLaDA's chat template."""

import json
import random

from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

# The form of LLaDA's: each message with a header and an end of turn, the begin of text in front of the first.
LLADA_TEMPLATE = (
    "{% for message in messages %}{% if loop.first %}{{ bos_token }}{% endif %}"
    "<|start_header_id|>{{ message['role'] }}<|end_header_id|>\n\n{{ message['content'] | trim }}<|eot_id|>{% endfor %}"
    "{% if add_generation_prompt %}<|start_header_id|>assistant<|end_header_id|>\n\n{% endif %}"
)
SPECIAL = (
    "<|mdm_mask|>", "<|endoftext|>", "<|startoftext|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>",
)  # fmt: skip


def s1k_rows(count, seed=0, longest=60):
    """Questions, traces and attempts of random length, with all the columns of the published rows."""
    rng = random.Random(seed)

    def words():
        return " ".join(
            rng.choice(["so", "x = 2", "thus", "\n", "√3", "wait,"]) for _ in range(rng.randint(1, longest))
        )

    return [
        {
            "solution": str(i), "question": f"Question {i}: {words()}", "cot_type": "math", "source_type": "generated",
            "metadata": "{}", "cot": None, "thinking_trajectories": [words()], "attempt": words(),
        }
        for i in range(count)
    ]  # fmt: skip


def write_rows(file, rows):
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def llada_tokenizer():
    """A token a byte; the ids of mask and end of text are those of the tiny model, 0 and 1."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    core = Tokenizer(models.BPE({token: i for i, token in enumerate([*SPECIAL, *letters])}, []))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    core.decoder = decoders.ByteLevel()
    core.add_special_tokens(list(SPECIAL))
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=core, mask_token=SPECIAL[0], eos_token=SPECIAL[1], pad_token=SPECIAL[1], bos_token=SPECIAL[2]
    )
    tokenizer.chat_template = LLADA_TEMPLATE
    return tokenizer
