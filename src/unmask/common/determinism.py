"""Fixed order of floating-point operations: one thread on a CPU and, on request, torch's deterministic algorithms.

UNMASK_DETERMINISTIC=1 snakemake …

docs/develop/determinism.md says what this covers on a GPU, and what not.
"""

from __future__ import annotations

import os

import torch
from torch import Tensor

from unmask.common.errors import InputError

CHOICE = "UNMASK_DETERMINISTIC"
WORKSPACE = "CUBLAS_WORKSPACE_CONFIG"


def fix_order() -> None:
    """Use one CPU thread and, if UNMASK_DETERMINISTIC is 1, deterministic algorithms only.

    Called once by each step, before its first matrix product. Raises InputError for a value other than 0 and 1.
    """
    torch.set_num_threads(1)  # the order of a sum would depend on the number of cores
    choice = os.environ.get(CHOICE, "0")
    if choice not in ("0", "1"):
        raise InputError(f"{CHOICE}: {choice!r} is neither 0 nor 1; set 1 for deterministic algorithms, or unset it")
    if choice == "1":
        # cuBLAS reads this variable when it is first used. Without it, torch refuses matrix products on a GPU.
        os.environ.setdefault(WORKSPACE, ":4096:8")
        torch.use_deterministic_algorithms(True)


def running_sum(values: Tensor, dim: int, dtype: torch.dtype | None = None) -> Tensor:
    """Return torch.cumsum, also where deterministic algorithms are required.

    torch 2.13 has none for cumulative sums of floats on a GPU, and would raise an error. Here it warns instead.
    """
    if not torch.are_deterministic_algorithms_enabled() or torch.is_deterministic_algorithms_warn_only_enabled():
        return values.cumsum(dim, dtype=dtype)
    # Only around this operation: under warn_only, the backward pass of attention would not be deterministic either.
    torch.use_deterministic_algorithms(True, warn_only=True)
    try:
        return values.cumsum(dim, dtype=dtype)
    finally:
        torch.use_deterministic_algorithms(True)
