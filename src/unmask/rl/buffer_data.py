"""Data of a buffer or an update: small frozen dataclasses of tensors whose first axis runs over the responses.

Each method declares its own, one for what all updates of a buffer share and one for what is new in an update. A field
is a tensor, None, a dictionary of tensors or another such dataclass.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

from torch import Tensor

Data = TypeVar("Data")


@dataclass(frozen=True)
class NoData:
    """For methods whose updates share only the rollouts, or draw nothing."""


def leaves(data: Any) -> Iterator[tuple[str, Any]]:
    """Yield dotted name and value of everything in a dataclass or dictionary that is not None."""
    values = data if isinstance(data, dict) else {f.name: getattr(data, f.name) for f in fields(data)}
    for name, value in values.items():
        if isinstance(value, dict) or is_dataclass(value):
            for inner, leaf in leaves(value):
                yield f"{name}.{inner}", leaf
        elif value is not None:
            yield name, value


def map_tensors(data: Data, change: Callable[[Tensor], Tensor]) -> Data:
    """Return a copy of the data with every tensor changed."""
    if isinstance(data, Tensor):
        return change(data)  # type: ignore[return-value]
    if isinstance(data, dict):
        return {name: map_tensors(value, change) for name, value in data.items()}  # type: ignore[return-value]
    if data is None:
        return data
    return replace(data, **{f.name: map_tensors(getattr(data, f.name), change) for f in fields(data)})  # type: ignore


def take(data: Data, rows: slice) -> Data:
    """Return the data of some responses."""
    return map_tensors(data, lambda tensor: tensor[rows])


def restore(kind: type[Data], tensors: dict[str, Tensor]) -> Data:
    """Rebuild data of type `kind` from its `leaves`, as read from a checkpoint."""
    values: dict[str, Any] = {}
    for name, annotation in get_type_hints(kind).items():
        prefix = f"{name}."
        inner = {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}
        if name in tensors:
            values[name] = tensors[name]
        elif inner:
            # The annotation of an optional dataclass is a union with None.
            choices = (annotation, *get_args(annotation))
            nested = [choice for choice in choices if isinstance(choice, type) and is_dataclass(choice)]
            values[name] = restore(nested[0], inner) if nested else inner
        else:
            # `leaves` has no entry for None or an empty dictionary.
            values[name] = {} if get_origin(annotation) is dict else None
    return kind(**values)
