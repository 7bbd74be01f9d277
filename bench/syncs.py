"""How often the host waits for the device, counted without one.

On an accelerator the host runs ahead of the device until it needs a value from it, or hands it one from pageable
memory: both make it wait. `HostSyncs` watches every call of torch's Python interface and counts those that wait: values
read (`item`, `bool`, `tolist`, …), results whose size depends on values (`nonzero`, a boolean index, `unique`, …) and
uploads (`torch.tensor`, an index that is a Python list). What torch does inside of a call is not seen.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

WAITING = {
    *("item", "tolist", "numpy", "cpu", "__bool__", "__int__", "__float__", "__index__", "__contains__"),
    *("nonzero", "masked_select", "unique", "unique_consecutive", "bincount", "equal", "allclose", "multinomial"),
    *("tensor", "as_tensor", "from_numpy"),
}


class HostSyncs(TorchFunctionMode):
    """Counts synchronisations by the name of the call, within a `with` block."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: Counter[str] = Counter()

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.__name__
        if name in WAITING:
            self.calls[name] += 1
        elif name == "where" and len(args) == 1:
            self.calls["nonzero"] += 1
        elif name in ("__getitem__", "__setitem__"):
            self.calls["index"] += waiting_indices(*args[1:])
        return func(*args, **(kwargs or {}))


def waiting_indices(index: Any, value: Any = None) -> int:
    """Parts of an index that wait: lists are uploaded, masks are counted (but a mask filled with one value is not)."""
    parts = index if isinstance(index, tuple) else (index,)
    filled = value is not None and (not isinstance(value, Tensor) or value.numel() == 1)
    lists = sum(isinstance(part, list) for part in parts)
    masks = sum(isinstance(part, Tensor) and part.dtype == torch.bool for part in parts)
    return lists + masks * (not filled)
