"""Number of rows of logits computed at once wherever the head is applied in parts. No torch import, for `plan`.

Fewer rows take less memory. On a CPU they cost at most a tenth of the time; a GPU needs more rows to be kept busy.
"""

from __future__ import annotations

# Largest number of logits held at once.
CPU_LOGITS = 2**22  # 16 MiB in fp32
GPU_LOGITS = 2**24  # 64 MiB


def logit_chunk_rows(device_type: str, vocabulary: int) -> int:
    """Return how many rows of `vocabulary` logits fit, at least one; `device_type` as in torch."""
    most = CPU_LOGITS if device_type == "cpu" else GPU_LOGITS
    return max(1, most // vocabulary)
