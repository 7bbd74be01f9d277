"""Rollout buffer, generation, likelihood surrogates, losses, clipped ratios.

Modules load on first use: `from unmask import rl` needs no torch, `rl.losses.k3(…)` does. The files of methods use
this, because the workflow reads their settings and facts where torch is not installed.
"""

from __future__ import annotations

import importlib
from types import ModuleType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from unmask.rl import (  # noqa: F401 (for type checkers)
        bounds,
        buffer_data,
        clipped_ratio,
        completion_rewards,
        elbo_masks,
        generation,
        likelihoods,
        losses,
        mask_orders,
        response_likelihoods,
        rollouts,
        row_checks,
        sequence_ratio,
        sequences,
        trajectories,
    )


def __getattr__(name: str) -> ModuleType:
    """Import a module of this package; Python calls this only for names that are not loaded yet."""
    full_name = f"{__name__}.{name}"
    try:
        return importlib.import_module(full_name)
    except ModuleNotFoundError as error:
        # A missing dependency of the module, such as torch, must not read as a missing module of ours.
        if error.name != full_name:
            raise
        raise AttributeError(f"{__name__} has no module {name!r}") from None
