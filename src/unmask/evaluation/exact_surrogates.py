"""All surrogates of the log-ratio that the package has, in the form in which `exact_errors.py` measures them.

Stratified masks [ESPO] are not listed apart: those of one response are distributed as uniform antithetic ones.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import torch

from unmask.evaluation import exact_masks as masks
from unmask.evaluation import exact_orders as orders
from unmask.evaluation.exact_errors import Part, Surrogate
from unmask.models.tabular import TabularModel
from unmask.rl import bounds
from unmask.rl.trajectories import Choice

CHOICES: tuple[Choice, ...] = ("uniform", "entropy")  # whose steps follow from the order
RANDOM_CUTS = (2, 3)  # segments of `merge_random`: the draws of their cuts are few


def surrogates(old: TabularModel, block: int) -> Iterator[Surrogate]:
    """Yield every surrogate of the package; the sampler's orders and entropies are those of the `old` policy."""
    length = old.length
    yield Surrogate("mean_field", 1, (Part(masks.mean_field_score, torch.ones(1, 1)),))
    yield Surrogate("coupled", 3, (masks.coupled_part(length),))
    for pairs in (1, 2, 4):
        yield _averaged("elbo_antithetic", 2 * pairs, masks.pair_part(length), pairs)
    for copies in (1, 2, 3, 4, 8):
        yield _averaged("elbo_uniform", copies, masks.single_part(length), copies)
    yield _averaged("elbo_bernoulli", 2, masks.bernoulli_part(length), 1)
    for nodes in (1, 2, 3, 4):
        yield Surrogate("elbo_quadrature", nodes, tuple(masks.quadrature_parts(nodes, length)), estimates="elbo")
    yield from bound_surrogates(length, block)
    yield from path_surrogates(old)


def bound_surrogates(length: int, block: int) -> Iterator[Surrogate]:
    """Yield SPG's bounds, times L, on one masked copy for each block; StableDRL's lower one, on masks of its own."""
    copies = length // block
    lower = masks.block_part(length, block, lambda scores, scored, ends: bounds.lower_bound(scores, scored))
    upper = masks.block_part(
        length, block, lambda scores, scored, ends: bounds.upper_bound(scores, scored, ends, masks.POWER)
    )
    mixed = masks.block_part(length, block, masks.mixed_bound)
    yield Surrogate("lower_bound", copies, (lower,))
    yield Surrogate("lower_bound_own_masks", copies, (lower,), own_masks=True)
    yield Surrogate("upper_bound", copies, (upper,))
    yield Surrogate("mixed_bound", copies, (mixed,))


def path_surrogates(old: TabularModel) -> Iterator[Surrogate]:
    """Yield the surrogates on the sampler's own states: two-stage, merged segments, some of the steps, all of them."""
    length = old.length
    exact = orders.orders_of(old)
    yield _on_path("two_stage", 2, orders.two_stage_part(exact, length))
    yield _on_path("trajectory", length, exact)
    for count in range(1, length + 1):
        yield _on_path("merge_equal", count, orders.spans_part(exact, length, [orders.equal_cuts(length, count)]))
        if count in RANDOM_CUTS:
            cuts = orders.random_cuts(length, count)
            yield _on_path("merge_random", count, orders.spans_part(exact, length, cuts))
        yield _on_path("steps_random", count, orders.random_steps_part(exact, length, count))
        for choice in CHOICES:
            yield _on_path(f"steps_{choice}", count, orders.chosen_steps_part(exact, old, count, choice))


def _averaged(family: str, forwards: int, part: Part, count: int) -> Surrogate:
    """Return the mean of `count` independent draws of a part, as an estimator of the ELBO."""
    return Surrogate(family, forwards, (replace(part, factor=1 / count, count=count),), estimates="elbo")


def _on_path(family: str, forwards: int, part: Part) -> Surrogate:
    return Surrogate(family, forwards, (part,), estimates="path")
