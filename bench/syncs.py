"""Counter of host-device synchronisations that needs no device.

On an accelerator the host runs ahead of the device until it reads a value from it, or uploads one from pageable memory:
both make it wait. `HostSyncs` intercepts every call of torch's Python interface and counts those that wait: reading
values (`item`, `bool`, `tolist`, …), results whose size depends on values (`nonzero`, a boolean index, `unique`, …) and
uploads (`torch.tensor`, an index that is a Python list). Synchronisations inside torch are not seen.
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
    """Context manager that counts synchronisations by the name of the call."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: Counter[str] = Counter()

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.__name__
        if name in WAITING:
            self.calls[name] += 1
        # `where` with a condition only is `nonzero`, whose output size depends on values.
        elif name == "where" and len(args) == 1:
            self.calls["nonzero"] += 1
        elif name in ("__getitem__", "__setitem__"):
            self.calls["index"] += waiting_indices(*args[1:])
        return func(*args, **(kwargs or {}))


def waiting_indices(index: Any, value: Any = None) -> int:
    """Count the parts of an index that wait: lists are uploaded, masks are counted unless filled with one value."""
    parts = index if isinstance(index, tuple) else (index,)
    # x[mask] = scalar is a masked fill on the device; a gather by mask must first count its elements.
    filled = value is not None and (not isinstance(value, Tensor) or value.numel() == 1)
    lists = sum(isinstance(part, list) for part in parts)
    masks = sum(isinstance(part, Tensor) and part.dtype == torch.bool for part in parts)
    return lists + masks * (not filled)
