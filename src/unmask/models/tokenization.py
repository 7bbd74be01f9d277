"""Conversation to token ids, and responses to text: what a policy does with its tokenizer."""

from __future__ import annotations

import functools

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from unmask.common.end_tokens import END, END_OF_TEXT
from unmask.common.errors import InputError
from unmask.models.llada import LladaForMaskedDiffusion


class Tokenization:
    """Base class of Policy: prompts, padding, responses and end tokens."""

    model: LladaForMaskedDiffusion
    tokenizer: PreTrainedTokenizerFast

    @property
    def eot(self) -> int:
        """Id of the end-of-text token, which is also the padding token."""
        return self.tokenizer.eos_token_id

    def prompt_ids(self, messages: list[dict[str, str]], prefill: str) -> list[int]:
        """Return the token ids of a conversation in the chat template, followed by `prefill`, the answer's beginning.

        Raises InputError if the tokenizer has no token for part of it.
        """
        conversation = self.tokenizer.apply_chat_template(
            messages,
            tokenize=False,
            add_generation_prompt=True,
            enable_thinking=False,  # dLLM's Qwen models begin after an empty <think>; other templates ignore it
        )
        text = conversation + prefill
        tokens = self.tokenizer(text, add_special_tokens=False).input_ids
        # Unknown characters would become [UNK] without a warning, and the problem could not be solved.
        unknown = self.tokenizer.unk_token_id
        if unknown is not None and unknown in tokens:
            raise InputError(f"the tokenizer has no token for part of the prompt {text!r}; use `prompt: terse` here")
        return tokens

    def pad(self, prompts: list[list[int]]) -> tuple[Tensor, Tensor]:
        """Left-pad prompts to ids [B, P] and return them with a mask [B, P] that is False on padding."""
        # Padding on the left makes all responses of a batch start at the same column.
        width = max(map(len, prompts))
        ids = []
        mask = []
        for prompt in prompts:
            missing = width - len(prompt)
            ids.append([self.eot] * missing + prompt)
            mask.append([False] * missing + [True] * len(prompt))
        device = self.model.device
        return torch.tensor(ids, device=device), torch.tensor(mask, device=device)

    def responses(self, texts: list[str], length: int) -> Tensor:
        """Tokenize given responses to [B, length], padded with end of text. Raises InputError if one is too long."""
        ids = self.tokenizer(texts, add_special_tokens=False).input_ids
        padded = []
        for text, tokens in zip(texts, ids, strict=True):
            if len(tokens) > length:
                raise InputError(
                    f"a demonstration has {len(tokens)} tokens, more than the response length {length}; shorten it or "
                    f"raise the length: {text!r}"
                )
            missing = length - len(tokens)
            padded.append(tokens + [self.eot] * missing)
        return torch.tensor(padded, device=self.model.device)

    def texts(self, responses: Tensor) -> list[str]:
        """Decode responses [B, L] to text, with special tokens, because scoring rules look at them."""
        return self.tokenizer.batch_decode(responses, skip_special_tokens=False)

    @functools.cached_property
    def end_tokens(self) -> set[str]:
        """Tokens that end a response: the end of text and the special token that closes a turn in the chat template."""
        # The template itself shows what closes a turn: render one and look at what follows the assistant's text.
        conversation = [{"role": "user", "content": "?"}, {"role": "assistant", "content": "!"}]
        rendered = self.tokenizer.apply_chat_template(conversation, tokenize=False)
        _, _, after = rendered.rpartition("!")
        found = {self.tokenizer.eos_token}
        for token in self.tokenizer.added_tokens_decoder.values():
            if token.special and after.startswith(str(token)):
                found.add(str(token))
        return found

    def judged(self, texts: list[str]) -> list[str]:
        """Replace end tokens that tasks and scores do not know by the end of text they do know."""
        unknown = [token for token in self.end_tokens if not END.fullmatch(token)]
        for token in unknown:
            texts = [text.replace(token, END_OF_TEXT) for text in texts]
        return texts
