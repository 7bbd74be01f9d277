"""SPG's masks and bounds against values worked out by hand and enumeration of all masked sets."""

import itertools
import math

import pytest
import torch
from torch import tensor
from torch.testing import assert_close

from helpers.enumeration import exact_elbo
from helpers.streams import streams
from unmask.models.tabular import TabularModel, all_responses, conditional, subsets
from unmask.rl.bounds import (
    draw_block_masks,
    draw_prompt_drops,
    draw_uniform_masks,
    lower_bound,
    sandwich,
    upper_bound,
)

# Responses of 6 tokens in blocks of 2 that end after 6, 5, 3 and 1 tokens.
ENDS = (torch.arange(6) < tensor([6, 5, 3, 1])[:, None]).float()


def many(ends, count):
    return ends.repeat(count, 1)


def test_block_masks_have_visible_tokens_only_before_the_end_of_their_block():
    """Without perturbation: blocks before are visible, all after the block and after E is masked."""
    masked = draw_block_masks(2, 2, many(ENDS, 200), 0.0, streams(800)).view(200, 4, 2, 6)
    for row, ended in enumerate([6, 5, 3, 1]):
        kinds = {tuple(mask.tolist()) for mask in masked[:, row].flatten(0, 1)}
        expected = set()
        for start in range(0, ended, 2):
            size = min(2, ended - start)
            for subset in subsets(size)[1:]:
                expected.add((*[False] * start, *subset.tolist(), *[True] * (6 - start - size)))
        assert kinds == expected


def test_blocks_of_the_copies_differ_and_sizes_are_uniform():
    masked = draw_block_masks(3, 2, torch.ones(9000, 6), 0.0, streams(9000))
    seen = (~masked).float()
    # With nothing perturbed the first masked token is in the copy's block, if its first token is masked.
    first = masked.float().argmax(-1) // 2
    assert torch.all(first.sort(1).values == torch.arange(3))
    in_block = torch.stack([masked[..., start : start + 2].sum(-1) for start in (0, 2, 4)], -1)
    sizes = in_block.gather(2, first[..., None])[..., 0].flatten()
    assert abs(float((sizes == 1).float().mean()) - 0.5) < 4.5 * math.sqrt(0.25 / 27000)
    assert seen.any()


def test_earlier_tokens_are_perturbed_with_their_probability():
    masked = draw_block_masks(1, 2, torch.ones(20000, 6), 0.15, streams(20000))[:, 0]
    last = ~masked[:, 4:].all(1)  # in the last block something is visible: the copy took it
    rate = masked[last][:, :4].float().mean(0)
    assert torch.all((rate - 0.15).abs() < 4.5 * math.sqrt(0.15 * 0.85 / int(last.sum())))


def test_masks_of_a_response_do_not_depend_on_the_others():
    whole, some = many(ENDS, 10), [3, 17, 38]
    for draw in (lambda e, s: draw_block_masks(2, 2, e, 0.15, s), lambda e, s: draw_uniform_masks(2, e, s)):
        assert torch.equal(draw(whole, streams(40))[some], draw(whole[some], streams(40)[some]))


def test_every_copy_masks_a_token_that_counts():
    for copies in (1, 2, 5):
        masked = draw_block_masks(copies, 4, many(ENDS, 50), 0.15, streams(200))
        assert torch.all((masked & many(ENDS, 50).bool()[:, None]).any(-1))
        masked = draw_uniform_masks(copies, many(ENDS, 50), streams(200))
        assert torch.all((masked & many(ENDS, 50).bool()[:, None]).any(-1))


def test_uniform_masks_are_uniform_subsets_of_uniform_size():
    masked = draw_uniform_masks(1, many(ENDS[2:3], 30000), streams(30000))[:, 0]
    assert torch.all(masked[:, 3:])
    for subset in subsets(3)[1:]:
        m = int(subset.sum())
        p = 1 / 3 / math.comb(3, m)
        share = float((masked[:, :3] == subset).all(1).float().mean())
        assert abs(share - p) < 4.5 * math.sqrt(p * (1 - p) / 30000)


def test_prompt_tokens_are_masked_apart_in_each_copy_and_padding_never():
    prompt_mask = torch.arange(9) >= torch.arange(400)[:, None] % 4
    drops = draw_prompt_drops(2, prompt_mask, 0.15, streams(400))
    assert drops.shape == (400, 2, 9)
    assert not (drops & ~prompt_mask[:, None]).any()
    assert not torch.equal(drops[:, 0], drops[:, 1])
    assert abs(float(drops.sum() / prompt_mask.sum() / 2) - 0.15) < 0.03


# --- bounds -----------------------------------------------------------------------------------------------------------

# Two copies of a response of 3 tokens, E = 2: the first masks both, the second only the first token.
LOG_PROBS = tensor([[[0.5, 0.25, 0.0], [0.8, 0.0, 0.0]]]).clamp(min=1e-30).log()
SCORED = tensor([[[True, True, False], [True, False, False]]])
BY_HAND = LOG_PROBS.masked_fill(~SCORED, 0.0)
TWO = tensor([[1.0, 1.0, 0.0]])


def test_bounds_by_hand():
    """t̂ is 1 and ½: P_1 = ½ (0.5^β + 2 · 0.8^β), P_2 = ½ · 0.25^β."""
    assert_close(lower_bound(BY_HAND, SCORED), tensor([((math.log(0.5) + math.log(0.25)) / 2 + math.log(0.8)) / 2]))
    for power in (1.0, 1.5):
        first = math.log(0.5 * (0.5**power + 2 * 0.8**power))
        second = math.log(0.5 * 0.25**power)
        assert_close(upper_bound(BY_HAND, SCORED, TWO, power), tensor([(first + second) / 2 / power]))


def test_tokens_in_no_copy_have_neither_value_nor_gradient():
    log_probs = BY_HAND[:, 1:].clone().requires_grad_()
    found = upper_bound(log_probs, SCORED[:, 1:], TWO, 1.5)
    assert_close(found, tensor([math.log(2 * 0.8**1.5) / 1.5]))
    found.sum().backward()
    assert_close(log_probs.grad, tensor([[[1.0, 0.0, 0.0]]]))


def test_the_sandwich_is_lower_for_good_and_mixed_for_other_responses():
    three = BY_HAND.repeat(3, 1, 1), SCORED.repeat(3, 1, 1), TWO.repeat(3, 1)
    lower, upper = float(lower_bound(BY_HAND, SCORED)), float(upper_bound(BY_HAND, SCORED, TWO, 1.5))
    bound, low = sandwich(*three, tensor([0.5, -0.5, 0.0]), 1.5, 0.25)
    mixed = 0.25 * upper + 0.75 * lower
    assert_close(bound, tensor([lower, mixed, mixed]))
    assert_close(low, torch.full((3,), lower))


@pytest.fixture
def enumerated():
    """All masked sets of a response as copies, a set of size m occurring so often that sizes are uniform."""
    model = TabularModel(3, 3, 1.5, torch.Generator().manual_seed(0)).requires_grad_(False)
    sets = [masked for masked in subsets(3)[1:] for _ in range(3 if masked.sum() == 3 else 1)]
    responses = all_responses(model)
    log_probs = torch.stack([conditional(model, responses, ~masked).masked_fill(~masked, 0.0) for masked in sets], 1)
    return responses, log_probs, torch.stack(sets).expand(len(responses), -1, -1)


def test_over_all_masks_the_lower_bound_is_the_elbo_per_token(enumerated):
    """mean over sizes and sets of (1/m) Σ log π = (1/L) · ELBO."""
    _, log_probs, scored = enumerated
    model = TabularModel(3, 3, 1.5, torch.Generator().manual_seed(0)).requires_grad_(False)
    assert_close(lower_bound(log_probs, scored), exact_elbo(model) / 3)


def test_over_all_masks_the_upper_bound_is_the_larger_and_grows_with_the_power(enumerated):
    """A power mean grows with β, and tends to the geometric mean, which is the lower bound, as β goes to 0."""
    responses, log_probs, scored = enumerated
    ends = torch.ones(len(responses), 3)
    lower = lower_bound(log_probs, scored)
    bounds = [upper_bound(log_probs, scored, ends, power) for power in (0.001, 0.5, 1.0, 1.5, 4.0)]
    assert_close(bounds[0], lower, atol=2e-3, rtol=0)
    for smaller, larger in itertools.pairwise(bounds):
        assert torch.all(larger > smaller)


def test_bounds_meet_where_a_token_does_not_depend_on_the_mask(enumerated):
    responses, log_probs, scored = enumerated
    same = torch.full_like(log_probs, math.log(0.3)).masked_fill(~scored, 0.0)
    ends = torch.ones(len(responses), 3)
    assert_close(upper_bound(same, scored, ends, 1.5), torch.full((27,), math.log(0.3)))
    assert_close(lower_bound(same, scored), torch.full((27,), math.log(0.3)))
