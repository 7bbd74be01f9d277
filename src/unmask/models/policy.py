"""Policy: base model, tokenizer and the trained parameters, which are a LoRA adapter or all weights.

The adapter is PEFT's LoRA, saved so that `peft.PeftModel.from_pretrained` loads it on the same base model. The
reference policy is a snapshot of the trained parameters. It is taken when training starts, where a fresh adapter equals
the policy it starts from; runs with `reference_sync` later replace it by the current policy or by a mix of both.
"""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerFast
from transformers.utils import logging

from unmask.common import distributed
from unmask.common.checksums import write_checksums
from unmask.common.errors import InputError
from unmask.config.schema.samplers import Adaptive, Sampler
from unmask.models import sharding
from unmask.models.adapters import add_fresh, load_adapter, multiply_in_the_bases_type, save_joined
from unmask.models.llada import LladaForMaskedDiffusion
from unmask.models.loading import check_trained, load_model, load_tokenizer
from unmask.models.quantization import check_nf4, quantise
from unmask.models.threshold_head import ThresholdHead
from unmask.models.tokenization import Tokenization

logging.disable_progress_bar()
warnings.filterwarnings("ignore", message=".*is_gradient_checkpointing", category=FutureWarning)  # PEFT's own call


@dataclass
class Policy(Tokenization):
    """π_θ with its tokenizer; `adapter` is PEFT's wrapper of `model` when LoRA is trained."""

    model: LladaForMaskedDiffusion
    tokenizer: PreTrainedTokenizerFast
    adapter: Any = None
    head: ThresholdHead | None = None  # of an adaptive sampler
    snapshot: dict[str, Tensor] | None = None  # the reference policy's values of the trained parameters
    is_narrow: bool = False  # True inside `narrowed`, also where it only gathers a sharded model

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
        """Load the base model in `folder`, with the adapter or full weights in `trained` if given.

        The default device is this process's GPU if there is one. `dtype` is float32, bfloat16 or auto (bfloat16 on a
        GPU, float32 elsewhere); an adapter is always in fp32. `quantisation` is none or nf4, which on a CPU requires an
        explicit `device`.

        Raises InputError if nf4 is not available (before anything is read), if a file of `trained` differs from its
        SHA256SUMS (where there is one), or if a tensor of the adapter does not belong to this base model.
        """
        if quantisation == "nf4":
            check_nf4(needs_gpu=device is None)
        device = torch.device(device or distributed.device())
        if device == torch.device("cuda"):
            device = distributed.device()  # with an index: safetensors takes plain "cuda" for GPU 0
        if dtype == "auto":
            dtype = "bfloat16" if device.type == "cuda" else "float32"

        if trained is not None:
            check_trained(trained)
        # Only a full model has a config.json; an adapter has adapter_config.json.
        every_weight = trained is not None and (Path(trained) / "config.json").exists()
        weights = trained if every_weight else folder
        # A small GPU cannot hold the unquantised model, so nf4 quantises from host memory.
        there = "cpu" if quantisation == "nf4" else device
        model = load_model(weights, there, getattr(torch, dtype))
        if quantisation == "nf4":
            model = quantise(model, device)
        tokenizer = load_tokenizer(folder, model.config)
        if trained is None:
            return cls(model, tokenizer)
        head = ThresholdHead.load(trained, device)
        adapter = None if every_weight else load_adapter(model, Path(trained))
        return cls(model, tokenizer, adapter, head)

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
        """Add a LoRA adapter, or unfreeze all weights if `rank` is 0; the current policy becomes the reference.

        A policy loaded with a trained adapter continues training it or, with `merge_start`, keeps it as a frozen part
        of the model and trains a fresh adapter. Without an adapter, several processes shard the model between them
        (models/sharding.py). Raises InputError for rank 0 in any dtype but float32.
        """
        if rank == 0 and self.model.dtype != torch.float32:
            raise InputError(
                "lora_rank 0 trains all weights, and bfloat16 rounds small updates away; set dtype: float32"
            )
        fresh = self.adapter is None or merge_start
        if rank == 0:
            # All weights are trained from here on, so an adapter from an earlier run becomes part of them.
            if self.adapter is not None:
                self.adapter.merge_and_unload()
                self.adapter = None
            self.model.requires_grad_(True)
            # Before the snapshot is taken, so that no rank ever holds two whole models.
            if distributed.world() > 1:
                sharding.shard(self.model)
        elif not fresh:
            self.adapter.set_requires_grad("default", True)
        else:
            from peft import LoraConfig, get_peft_model

            # The adapter's initial values depend on the seed of the run only, not on what was drawn before.
            config = LoraConfig(
                r=rank,
                lora_alpha=alpha,
                lora_dropout=dropout,
                target_modules=targets,
            )
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(seed)
                if self.adapter is None:
                    self.adapter = get_peft_model(self.model, config)
                else:
                    add_fresh(self.adapter, config)
            multiply_in_the_bases_type(self.model)

        # The snapshot covers the trainable parameters, which have to exist by now.
        self.set_reference()

    def trainable(self) -> dict[str, Tensor]:
        """Return the trainable parameters by name; those of the threshold head are prefixed with "head."."""
        parameters = {name: p for name, p in self.model.named_parameters() if p.requires_grad}
        if self.head:
            for name, p in self.head.named_parameters():
                if p.requires_grad:
                    parameters[f"head.{name}"] = p
        return parameters

    def add_head(self, sampler: Sampler, seed: int) -> None:
        """Create the untrained threshold head that an adaptive sampler needs, unless there is one."""
        if isinstance(sampler, Adaptive) and self.head is None:
            head = ThresholdHead.of(sampler, self.model.config.hidden_size, seed)
            self.head = head.to(self.model.device)

    def set_reference(self, mix: float = 1.0) -> None:
        """Set the reference to the current policy, or to `mix` · policy + (1 − mix) · reference."""
        if self.is_narrow:
            raise RuntimeError(
                "set_reference inside `narrowed` would store rounded weights; call it outside of that block"
            )
        now = {name: p.detach().clone() for name, p in self.trainable().items()}
        if mix == 1.0:
            self.snapshot = now
            return
        before = self.snapshot or {}
        self.snapshot = {name: before[name].lerp(value, mix) for name, value in now.items()}

    @contextlib.contextmanager
    def reference(self) -> Iterator[None]:
        """Make `model` the reference π_ref within the block, in eval mode (no dropout) whatever its mode was."""
        was_training = self.model.training
        with self._holding(self.snapshot):
            self.model.eval()
            try:
                yield
            finally:
                self.model.train(was_training)

    @contextlib.contextmanager
    def merged(self) -> Iterator[None]:
        """Merge the adapter into the weights within the block: fewer operations, the same result up to rounding.

        In bfloat16, rounding the sum would erase most of what the adapter has learnt, four-bit weights cannot take it
        at all, and in training mode merging would bypass dropout. In these cases the block runs under `narrowed`.
        """
        model = self.model
        if self.adapter is None or model.training or model.dtype != torch.float32 or model.is_loaded_in_4bit:
            with self.narrowed():
                yield
            return
        from peft.tuners.lora import LoraLayer  # slow to import, and base models do without it

        layers = {}
        held = {}
        for name, layer in self.model.named_modules():
            if isinstance(layer, LoraLayer):
                layers[name] = layer
                held[name] = layer.base_layer.weight.data

        # The base weights are kept and put back, not restored by subtraction, so they return bit for bit. Meanwhile
        # the plain layers take the place of PEFT's, which would add the adapter a second time.
        try:
            for name, layer in layers.items():
                weight = held[name]
                for adapter in layer.active_adapters:
                    if adapter in layer.lora_A:  # after `add_fresh`, a module may have only one of the two
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
        """Cast LoRA's matrices to the base model's dtype once for the whole block, in which gradients are off.

        Results are bitwise the same, since `multiply_in_the_bases_type` makes the same cast in every forward pass. A
        no-op if the base is in fp32. A sharded model is whole on every rank within the block, which makes entering it
        a collective call; the number of forward passes inside may differ between ranks.
        """
        if self.model.is_sharded and not self.is_narrow:
            self.is_narrow = True
            try:
                with sharding.unsharded(self.model):
                    yield
            finally:
                self.is_narrow = False
            return
        lora = {name: p for name, p in self.model.named_parameters() if ".lora_" in name}
        if not lora or self.is_narrow or self.model.dtype == torch.float32:
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

    @contextlib.contextmanager
    def _holding(self, values: dict[str, Tensor]) -> Iterator[None]:
        """Give the trained parameters other values within the block; optimisers keep their references."""
        if self.model.is_sharded:
            if not self.is_narrow:
                raise RuntimeError("the reference of a sharded policy can only be scored inside `narrowed`")
            with sharding.exchanged(self.model, self.trainable, values):
                yield
            return
        # Only the parameters' data is swapped, so that nothing is copied.
        held = {name: p.data for name, p in self.trainable().items()}
        self._point_to(values)
        try:
            yield
        finally:
            self._point_to(held)

    def _point_to(self, values: dict[str, Tensor]) -> None:
        for name, parameter in self.trainable().items():
            # Inside `narrowed` the reference is rounded like the policy, so that equal weights give equal scores.
            value = values[name]
            if self.is_narrow and ".lora_" in name:
                value = value.to(self.model.dtype)
            parameter.data = value

    def gather(self) -> None:
        """Replace a sharded model by the whole one, on every rank, so that it can be saved. A collective call."""
        if self.model.is_sharded:
            self.model = sharding.whole_model(self.model)

    def save(self, folder: Path, card: str | None = None) -> None:
        """Write the adapter in PEFT's format, or the model if all weights were trained, then seal the folder.

        `card` is the text of README.md. The threshold head, if there is one, is saved in the same folder.
        """
        if self.adapter and len(self.adapter.peft_config) > 1:
            save_joined(self.adapter, folder)
        else:
            if self.adapter:
                config = self.adapter.peft_config["default"]
                # PEFT holds a set, whose order differs between processes; sorted, equal runs write equal files.
                config.target_modules = sorted(config.target_modules)
            (self.adapter or self.model).save_pretrained(folder)
        if self.head:
            self.head.save(folder)
        if card:
            (folder / "README.md").write_text(card, encoding="utf-8")
        write_checksums(folder)
