"""A policy: a base model, its tokenizer and what training changes, an adapter or every weight.

The adapter is PEFT's LoRA, saved so that `peft.PeftModel.from_pretrained` loads it on the same base model. The
reference policy is a snapshot of the trained parameters: of their beginning (a fresh adapter is the base model, with
the merged adapter if there is one), or of a later moment, or a mix of the two, when a run synchronises it.
"""

from __future__ import annotations

import contextlib
import functools
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerFast
from transformers.utils import logging

from unmask import processes
from unmask.adaptive import ThresholdHead
from unmask.files import InputError
from unmask.models.adapters import add_fresh, load_adapter, multiply_in_the_bases_type, save_joined
from unmask.models.llada import LladaForMaskedDiffusion
from unmask.models.nf4 import check_nf4, quantise
from unmask.models.published import check_trained, load_model, load_tokenizer
from unmask.scoring.extraction import END, END_OF_TEXT
from unmask.seal import seal

logging.disable_progress_bar()
warnings.filterwarnings("ignore", message=".*is_gradient_checkpointing", category=FutureWarning)  # PEFT's own call


@dataclass
class Policy:
    """π_θ with its tokenizer; `adapter` is PEFT's wrapper of `model` when LoRA is trained."""

    model: LladaForMaskedDiffusion
    tokenizer: PreTrainedTokenizerFast
    adapter: Any = None
    head: ThresholdHead | None = None  # of an adaptive sampler
    snapshot: dict[str, Tensor] | None = None  # the reference policy's values of the trained parameters
    is_narrow: bool = False  # within `narrowed`

    @classmethod
    def load(
        cls,
        folder: Path,
        trained: Path | None = None,
        *,
        device: torch.device | str | None = None,
        dtype: str = "auto",
        quantisation: str = "none",
    ) -> Policy:
        """The base model in `folder`, with what a run trained on top of it if `trained` is given.

        On the process's own GPU if there is one, unless `device` says otherwise. `dtype` is float32, bfloat16 or auto:
        bfloat16 on a GPU, float32 elsewhere. An adapter is in fp32 whatever the model is in. `quantisation` is none or
        nf4; the latter raises InputError before anything is read if it is not possible here, and on a CPU it has to be
        asked for by `device`. Raises InputError unless the files of `trained` are as its SHA256SUMS says, if it has
        one, and every tensor of an adapter belongs to this base model.
        """
        if quantisation == "nf4":
            check_nf4(needs_gpu=device is None)
        device = torch.device(device or processes.device())
        if device == torch.device("cuda"):
            device = processes.device()  # with its index, see there
        if dtype == "auto":
            dtype = "bfloat16" if device.type == "cuda" else "float32"
        if trained is not None:
            check_trained(trained)
        every_weight = trained is not None and (Path(trained) / "config.json").exists()
        there = "cpu" if quantisation == "nf4" else device  # a small GPU never holds the whole
        model = load_model(trained if every_weight else folder, there, getattr(torch, dtype))
        if quantisation == "nf4":
            model = quantise(model, device)
        tokenizer = load_tokenizer(folder, model.config)
        if trained is None:
            return cls(model, tokenizer)
        head = ThresholdHead.load(trained, device)
        if every_weight:
            return cls(model, tokenizer, head=head)
        return cls(model, tokenizer, load_adapter(model, Path(trained)), head)

    def make_trainable(
        self,
        *,
        rank: int,
        alpha: int,
        dropout: float,
        targets: Sequence[str],
        seed: int,
        merge_start: bool = False,
    ) -> None:
        """Add a LoRA adapter, or free every weight when the rank is 0. What is there now becomes the reference.

        A policy that was loaded with a trained adapter continues to train that adapter, or, with `merge_start`,
        holds it as part of the model and trains a fresh one.
        """
        if rank == 0 and self.model.dtype != torch.float32:
            raise InputError("lora_rank 0 trains every weight: set dtype: float32, small steps are lost in bfloat16")
        fresh = self.adapter is None or merge_start
        if rank == 0:
            if self.adapter is not None:
                self.adapter.merge_and_unload()
                self.adapter = None
            self.model.requires_grad_(True)
        elif not fresh:
            self.adapter.set_requires_grad("default", True)
        else:
            from peft import LoraConfig, get_peft_model

            config = LoraConfig(r=rank, lora_alpha=alpha, lora_dropout=dropout, target_modules=targets)
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(seed)
                if self.adapter is None:
                    self.adapter = get_peft_model(self.model, config)
                else:
                    add_fresh(self.adapter, config)
            multiply_in_the_bases_type(self.model)
        self.set_reference()

    def trainable(self) -> dict[str, Tensor]:
        """The parameters that training changes, by name."""
        modules = {"": self.model, "head.": self.head} if self.head else {"": self.model}
        named = ((prefix + name, p) for prefix, module in modules.items() for name, p in module.named_parameters())
        return {name: p for name, p in named if p.requires_grad}

    def add_head(self, sampler: dict[str, Any], seed: int) -> None:
        """Give an adaptive sampler the head it needs, untrained, unless there is one."""
        if sampler["rule"] == "adaptive" and self.head is None:
            self.head = ThresholdHead.of(sampler, self.model.config.hidden_size, seed).to(self.model.device)

    def set_reference(self, mix: float = 1.0) -> None:
        """Make the policy as it is now the reference, or move it there: `mix` · policy + (1 − mix) · reference."""
        if self.is_narrow:
            raise RuntimeError("the reference would be rounded: set it outside of `narrowed`")
        before, now = self.snapshot or {}, {name: p.detach().clone() for name, p in self.trainable().items()}
        self.snapshot = now if mix == 1.0 else {name: before[name].lerp(value, mix) for name, value in now.items()}

    @contextlib.contextmanager
    def reference(self) -> Iterator[None]:
        """Within the block, `model` is the reference π_ref, without dropout whatever the mode of the policy."""
        held, mode = {name: p.data for name, p in self.trainable().items()}, self.model.training
        self._point_to(self.snapshot)
        self.model.eval()
        try:
            yield
        finally:
            self._point_to(held)
            self.model.train(mode)

    @contextlib.contextmanager
    def merged(self) -> Iterator[None]:
        """Within the block, the adapter is folded into the weights: fewer operations, equal up to rounding.

        Not in bfloat16, where most of what an adapter has learnt would be lost in the rounding of the sum, and still
        less in four bits: there the adapter is narrowed.
        """
        if self.adapter is None or self.model.dtype != torch.float32 or self.model.is_loaded_in_4bit:
            with self.narrowed():
                yield
            return
        from peft.tuners.lora import LoraLayer  # slow to import, and base models do without it

        layers = {name: layer for name, layer in self.model.named_modules() if isinstance(layer, LoraLayer)}
        held = {name: layer.base_layer.weight.data for name, layer in layers.items()}
        try:
            for name, layer in layers.items():
                weight = held[name]
                for adapter in layer.active_adapters:
                    if adapter in layer.lora_A:  # a module may have one of two
                        weight = weight + layer.get_delta_weight(adapter).to(weight.dtype)
                layer.base_layer.weight.data = weight
                self._put(name, layer.base_layer)
            yield
        finally:
            for name, layer in layers.items():
                self._put(name, layer)
                layer.base_layer.weight.data = held[name]

    @contextlib.contextmanager
    def narrowed(self) -> Iterator[None]:
        """Within the block, which takes no gradient, LoRA's matrices are copies in the type of the base model.

        The same bits as without: `multiply_in_the_bases_type` makes such copies at every forward pass. Nothing happens
        where the base is in fp32.
        """
        lora = {name: p for name, p in self.model.named_parameters() if ".lora_" in name}
        if self.model.dtype == torch.float32 or not lora or self.is_narrow:
            yield
            return
        held = {name: p.data for name, p in lora.items()}
        self.is_narrow = True
        try:
            for p in lora.values():
                p.data = p.data.to(self.model.dtype)
            with torch.no_grad():
                yield
        finally:
            self.is_narrow = False
            for name, p in lora.items():
                p.data = held[name]

    def _put(self, name: str, module: torch.nn.Module) -> None:
        parent, _, leaf = name.rpartition(".")
        setattr(self.model.get_submodule(parent), leaf, module)

    def _point_to(self, values: dict[str, Tensor]) -> None:
        for name, parameter in self.trainable().items():
            narrow = self.is_narrow and ".lora_" in name
            parameter.data = values[name].to(self.model.dtype) if narrow else values[name]

    def save(self, folder: Path, card: str | None = None) -> None:
        """Write the adapter in PEFT's format, or the whole model when every weight was trained, with its model card."""
        if self.adapter and len(self.adapter.peft_config) > 1:
            save_joined(self.adapter, folder)
        else:
            if self.adapter:
                config = self.adapter.peft_config["default"]
                config.target_modules = sorted(config.target_modules)  # a set's order differs from process to process
            (self.adapter or self.model).save_pretrained(folder)
        if self.head:
            self.head.save(folder)
        if card:
            (folder / "README.md").write_text(card, encoding="utf-8")
        seal(folder)

    @property
    def eot(self) -> int:
        """Id of the end of text, which also pads."""
        return self.tokenizer.eos_token_id

    def prompt_ids(self, messages: list[dict[str, str]], prefill: str) -> list[int]:
        """Token ids of a conversation in the model's chat template, with the beginning of the answer given."""
        text = self.tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True) + prefill
        tokens = self.tokenizer(text, add_special_tokens=False).input_ids
        if self.tokenizer.unk_token_id is not None and self.tokenizer.unk_token_id in tokens:
            raise InputError(f"the tokenizer has no token for part of the prompt {text!r}; use `prompt: terse` here")
        return tokens

    def pad(self, prompts: list[list[int]]) -> tuple[Tensor, Tensor]:
        """Left-padded ids [B, P] and the mask [B, P] that is False on padding."""
        width = max(map(len, prompts))
        ids = torch.tensor([[self.eot] * (width - len(p)) + p for p in prompts], device=self.model.device)
        mask = torch.tensor([[False] * (width - len(p)) + [True] * len(p) for p in prompts], device=self.model.device)
        return ids, mask

    def responses(self, texts: list[str], length: int) -> Tensor:
        """Token ids [B, length] of given responses, padded with end of text. Raises InputError if one is too long."""
        ids = self.tokenizer(texts, add_special_tokens=False).input_ids
        for text, tokens in zip(texts, ids, strict=True):
            if len(tokens) > length:
                raise InputError(f"a demonstration has {len(tokens)} tokens, more than {length}: {text!r}")
        return torch.tensor([t + [self.eot] * (length - len(t)) for t in ids], device=self.model.device)

    def texts(self, responses: Tensor) -> list[str]:
        """The responses [B, L] as text, special tokens included: scoring rules look at them."""
        return self.tokenizer.batch_decode(responses, skip_special_tokens=False)

    @functools.cached_property
    def end_tokens(self) -> set[str]:
        """What ends a response: the end of text, and the special token that closes a turn in the chat template."""
        conversation = [{"role": "user", "content": "?"}, {"role": "assistant", "content": "!"}]
        after = self.tokenizer.apply_chat_template(conversation, tokenize=False).rpartition("!")[2]
        special = {str(token) for token in self.tokenizer.added_tokens_decoder.values() if token.special}
        return {self.tokenizer.eos_token} | {token for token in special if after.startswith(token)}

    def judged(self, texts: list[str]) -> list[str]:
        """Responses as tasks and scores read them: with the end tokens that they know in place of the tokenizer's."""
        unknown = [token for token in self.end_tokens if not END.fullmatch(token)]
        for token in unknown:
            texts = [text.replace(token, END_OF_TEXT) for text in texts]
        return texts
