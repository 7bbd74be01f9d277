"""Data of a buffer or an update: small frozen dataclasses of tensors whose first axis runs over the responses.

Each method declares its own, one for what all updates of a buffer share and one for what is new in an update; those of
several methods are here. A field is a tensor, None, a dictionary of tensors or another such dataclass. Torch-free, so
that the files of methods can name these types where torch is not installed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, is_dataclass, replace
from typing import TYPE_CHECKING, Any, TypeVar, get_args, get_origin, get_type_hints

if TYPE_CHECKING:
    from torch import Tensor

Data = TypeVar("Data")


@dataclass(frozen=True)
class NoData:
    """For methods whose updates share only the rollouts, or draw nothing."""


@dataclass(frozen=True)
class RatioBuffer:
    """What the updates of a buffer of the GRPO family share; axis 1 runs over the updates."""

    advantage: Tensor  # [B]
    token_weight: Tensor  # [B, L] weight of each token in the loss
    kl: Tensor  # [B] estimate of KL(old ‖ reference)
    old: Tensor  # [B, updates, L] log-probabilities of the policy that sampled the buffer, on each update's masks
    reference: Tensor  # [B, updates, L] those of the reference policy
    masks: dict[str, Tensor] = field(default_factory=dict)  # [B, updates, …] random masks of each update, by name


@dataclass(frozen=True)
class RatioUpdate:
    """Masks of one update and the log-probabilities on them."""

    old: Tensor  # [B, L]
    reference: Tensor  # [B, L]
    masks: dict[str, Tensor] = field(default_factory=dict)  # [B, …]


@dataclass(frozen=True)
class SequenceBuffer:
    """What the updates of a buffer of a sequence-level method share; axis 1 runs over the updates.

    Scores are per token, per pair of copies or per response, as the method has it: the axes after the second.
    """

    advantage: Tensor  # [B]
    old: Tensor  # [B, updates, …] scores of the policy that sampled the buffer, on each update's masks
    masked: Tensor  # [B, updates, K, L] masked copies of each update
    weight: Tensor  # [B, updates, K] their weights in the ELBO
    reference: Tensor | None = None  # [B, updates, …] scores of the reference policy, if the loss uses it


@dataclass(frozen=True)
class SequenceUpdate:
    """Masked copies of one update and the scores on them."""

    old: Tensor  # [B, …]
    masked: Tensor  # [B, K, L]
    weight: Tensor  # [B, K]
    reference: Tensor | None = None  # [B, …]


def leaves(data: Any) -> Iterator[tuple[str, Any]]:
    """Yield dotted name and value of everything in a dataclass or dictionary that is not None."""
    values = data if isinstance(data, dict) else vars(data)
    for name, value in values.items():
        if isinstance(value, dict) or is_dataclass(value):
            for inner, leaf in leaves(value):
                yield f"{name}.{inner}", leaf
        elif value is not None:
            yield name, value


def map_tensors(data: Data, change: Callable[[Tensor], Tensor]) -> Data:
    """Return a copy of the data with every tensor changed."""
    if data is None:
        return data
    if isinstance(data, dict):
        return {name: map_tensors(value, change) for name, value in data.items()}  # type: ignore[return-value]
    if is_dataclass(data):
        changed = {name: map_tensors(value, change) for name, value in vars(data).items()}
        return replace(data, **changed)  # type: ignore[type-var]
    return change(data)  # type: ignore[arg-type, return-value]


def take(data: Data, rows: slice) -> Data:
    """Return the data of some responses."""
    return map_tensors(data, lambda tensor: tensor[rows])


def restore(kind: type[Data], tensors: dict[str, Tensor]) -> Data:
    """Rebuild data of type `kind` from its `leaves`, as read from a checkpoint."""
    # The files that declare these types import Tensor only for type checking.
    import torch

    annotations = get_type_hints(kind, localns={"Tensor": torch.Tensor})
    values: dict[str, Any] = {}
    for name, annotation in annotations.items():
        prefix = f"{name}."
        inner = {}
        for key, tensor in tensors.items():
            if key.startswith(prefix):
                inner[key.removeprefix(prefix)] = tensor
        if name in tensors:
            values[name] = tensors[name]
        elif inner:
            # The annotation of an optional dataclass is a union with None; a dictionary stays as it is.
            values[name] = inner
            for choice in (annotation, *get_args(annotation)):
                if isinstance(choice, type) and is_dataclass(choice):
                    values[name] = restore(choice, inner)
        else:
            # `leaves` has no entry for None or an empty dictionary.
            values[name] = {} if get_origin(annotation) is dict else None
    return kind(**values)
