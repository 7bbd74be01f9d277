"""Masks in the order of confidence: against conditionals of the tabular model, and next to random masks."""

import math
from dataclasses import replace

import torch
from torch import tensor

from helpers.by_hand import even_policy, pair_of_responses
from helpers.every_method import DMPO, SEEDS
from helpers.streams import streams
from unmask.models.policy import Policy
from unmask.models.tabular import TabularModel
from unmask.rl.likelihoods import draw_copies, token_log_probs
from unmask.rl.mask_orders import confidence_ranks, in_order
from unmask.rl.rollouts import Rollouts

LENGTH = 4


def rollouts_of(response, rows=3):
    prompt = torch.zeros((len(response), 1), dtype=torch.long)
    flat = torch.zeros(response.shape)
    reward = torch.zeros(len(response))
    return Rollouts(
        prompt=prompt, prompt_mask=prompt == 0, response=response, unmask_step=flat.long(), log_prob_t1=flat,
        nfe=reward, reward=reward, correct=reward, loss_mask=flat + 1, group_size=2, buffer_rows=len(response),
        micro_batch_size=rows,
    )  # fmt: skip


def test_one_token_a_phase_is_the_most_probable_one_each_time():
    """As many phases as tokens: greedily by the model's own conditionals, token by token."""
    model = TabularModel(3, LENGTH, 2.0, torch.Generator().manual_seed(1)).requires_grad_(False)
    response = torch.randint(0, 3, (8, LENGTH), generator=torch.Generator().manual_seed(2))
    made = rollouts_of(response)
    found = confidence_ranks(Policy(model, tokenizer=None), made, LENGTH)

    prompt, prompt_mask, _ = made.inputs
    for row, tokens in enumerate(response):
        visible: list[int] = []
        for _ in range(LENGTH):
            hidden = tensor([[d not in visible for d in range(LENGTH)]])
            noisy = tokens[None].masked_fill(hidden, model.config.mask_token_id)
            scores = token_log_probs(model, prompt[:1], prompt_mask[:1], noisy, tokens[None], hidden)
            visible.append(int(scores.masked_fill(~hidden, -torch.inf).argmax()))
        assert found[row].argsort().tolist() == visible


def test_fewer_phases_reveal_several_tokens_at_once_and_more_than_tokens_are_as_many():
    policy = Policy(TabularModel(2, 2, 0.0, torch.Generator()), tokenizer=None)
    # Position 1 says its token with 3/4 from the masked state on, position 0 with 1/2.
    policy.model.table.data[..., 1, 0] = math.log(3)
    for phases in (1, 2, 8):
        assert confidence_ranks(policy, rollouts_of(tensor([[0, 0], [1, 0]])), phases).tolist() == [[1, 0]] * 2


def test_ties_go_to_the_earlier_token():
    assert confidence_ranks(even_policy(), pair_of_responses(), 8).tolist() == [[0, 1]] * 2


def test_copies_keep_their_sizes_and_weights_and_mask_what_is_revealed_last():
    copies = draw_copies(6, LENGTH, "bernoulli", streams(5))
    rank = torch.stack([torch.randperm(LENGTH) for _ in range(5)])
    found = in_order(copies, rank)
    assert torch.equal(found.weight, copies.weight)
    assert torch.equal(found.masked.sum(-1), copies.masked.sum(-1))
    for row, copy in torch.cartesian_prod(torch.arange(5), torch.arange(6)).tolist():
        masked = found.masked[row, copy]
        if masked.any() and not masked.all():
            assert rank[row][masked].min() > rank[row][~masked].max()


def test_only_the_masks_of_the_loss_are_ordered():
    """Weights come from the same random copies; loss copies have the same sizes in another place."""
    bernoulli = replace(DMPO, masks="bernoulli")
    made = {}
    for method in (bernoulli, replace(DMPO, masks="confidence")):
        policy, rollouts = even_policy(), pair_of_responses()
        buffer_data = method.prepare(policy, rollouts, 1, SEEDS)
        made[method.masks] = buffer_data, method.refresh(policy, rollouts, buffer_data, 0, SEEDS)
    (first, random), (second, ordered) = made["bernoulli"], made["confidence"]
    assert torch.equal(first.weight, second.weight)
    assert torch.equal(first.likelihoods.copies.masked, second.likelihoods.copies.masked)
    assert torch.equal(random.copies.weight, ordered.copies.weight)
    assert torch.equal(ordered.copies.masked[..., 1], ordered.copies.masked.sum(-1) > 0)
    assert not torch.equal(random.copies.masked, ordered.copies.masked)
