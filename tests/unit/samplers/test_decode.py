"""The block loop and its record."""

from types import SimpleNamespace

import pytest
import torch

from helpers.streams import streams
from syncs import HostSyncs
from unmask.config.schema.samplers import EntropyBound, Threshold, TopK
from unmask.rl.likelihoods import trajectory
from unmask.rl.rollouts import loss_mask
from unmask.samplers.decode import decode
from unmask.samplers.settings import DecodingSettings
from unmask.samplers.token_sampling import draw, pick_token

TOP1 = TopK(tokens_per_step=1, score="confidence")
TOP2 = TopK(tokens_per_step=2, score="confidence")
RANDOM = TopK(tokens_per_step=1, score="random")


def run(policy, prompts, length=24, sampler=TOP1, temperature=0.0, seed=0, eot=-1, slots=None):
    settings = DecodingSettings(length, 8, sampler, temperature, rows_per_batch=slots)
    return decode(policy.model, *policy.pad(prompts), settings, eot=eot, streams=streams(len(prompts), seed))


PROMPTS = [[10, 11, 12, 13], [14, 15], [16, 17, 18, 19, 20, 21]]


@pytest.mark.parametrize("sampler", [TOP1, TOP2, RANDOM])
def test_nothing_stays_masked_and_the_steps_are_counted(policy, sampler):
    made = run(policy, PROMPTS, sampler=sampler, temperature=1.0)
    assert not (made.response == policy.model.config.mask_token_id).any()
    assert made.nfe.tolist() == [24 // sampler.tokens_per_step] * 3
    counts = torch.stack([torch.bincount(row) for row in made.unmask_step])
    assert torch.all(counts == sampler.tokens_per_step)
    assert torch.equal(
        made.unmask_step.view(3, 3, 8).amin(2),
        torch.arange(0, 24, 8)[None] // sampler.tokens_per_step + 0 * made.nfe[:, None],
    )


def test_greedy_rows_do_not_depend_on_their_batch(policy):
    together = run(policy, PROMPTS).response
    for i, prompt in enumerate(PROMPTS):
        assert torch.equal(run(policy, [prompt]).response[0], together[i])
    assert torch.equal(run(policy, PROMPTS[::-1]).response.flip(0), together)


def test_greedy_equals_a_plain_loop(policy):
    made = run(policy, PROMPTS[:1])
    mask_id = policy.model.config.mask_token_id
    ids = torch.tensor([PROMPTS[0] + [mask_id] * 24])
    for start in range(4, 28, 8):
        for _ in range(8):
            logits = policy.model(ids)[0].double()
            logits[:, mask_id] = -torch.inf
            confidence, token = logits.softmax(-1).max(-1)
            open_ = [d for d in range(start, start + 8) if ids[0, d] == mask_id]
            best = max(open_, key=lambda d: confidence[d])
            ids[0, best] = token[best]
    assert torch.equal(made.response[0], ids[0, 4:])


def test_recorded_log_probabilities_are_those_of_the_trajectory(policy):
    prompt, mask = policy.pad(PROMPTS)
    made = run(policy, PROMPTS, sampler=TOP2, temperature=1.0)
    with torch.no_grad():
        again = trajectory(
            policy.model, prompt, mask, made.response, made.unmask_step, torch.ones(3, 24, dtype=torch.bool)
        )
    torch.testing.assert_close(made.log_prob_t1, again, atol=1e-5, rtol=1e-5)


def test_a_row_stops_after_the_block_with_its_end_of_text(policy):
    free = run(policy, PROMPTS)
    eot = int(free.response[0, 3])
    made = run(policy, PROMPTS, eot=eot)
    for row in range(3):
        ended = (free.response[row] == eot).nonzero()
        blocks = 3 if len(ended) == 0 else int(ended[0]) // 8 + 1
        assert made.nfe[row] == 8 * blocks
        assert torch.equal(made.response[row, : 8 * blocks], free.response[row, : 8 * blocks])
        assert torch.all(made.response[row, 8 * blocks :] == eot)
        assert torch.all(made.unmask_step[row, 8 * blocks :] == made.nfe[row])


@pytest.mark.parametrize("cache", ["none", "prefix", "dual"])
@pytest.mark.parametrize("sampler", [TOP1, EntropyBound(gamma=0.1, proxy="entropy")])
def test_rows_in_lock_step_wait_for_the_device_once_a_step(policy, sampler, cache):
    with HostSyncs() as syncs:
        made = run(policy, PROMPTS, sampler=sampler.model_copy(update={"cache": cache}))
    assert made.nfe.tolist() == [24] * 3
    # The prompts put in order, padded by two uploads before that; what became of the rows at each step; their end.
    assert +syncs.calls == {"unique": 1, "tolist": 1 + 24, "tensor": 2 + 1}


@pytest.mark.parametrize("cache", ["none", "prefix", "dual"])
def test_rows_that_come_and_go_cost_at_most_two_uploads_a_step(policy, cache):
    prompts = [[10 + i % 5] * (1 + i % 7) for i in range(15)] + [[12, 13]] * 3
    eot = int(run(policy, prompts).response[0, 3])
    with HostSyncs() as syncs:
        made = run(policy, prompts, sampler=TOP1.model_copy(update={"cache": cache}), eot=eot, slots=4, temperature=1.0)
    assert len(set(made.nfe.tolist())) > 1
    assert (+syncs.calls).keys() == {"unique", "tolist", "tensor"}
    assert syncs.calls["unique"] == 1
    assert syncs.calls["tensor"] - 2 <= 2 * (syncs.calls["tolist"] - 1)


def test_the_loss_mask_ends_with_the_first_end_of_text():
    response = torch.tensor([[5, 1, 7, 1], [5, 6, 7, 8], [1, 1, 1, 1]])
    assert loss_mask(response, eot=1).tolist() == [[1, 1, 0, 0], [1, 1, 1, 1], [1, 0, 0, 0]]


@pytest.mark.parametrize("temperature", [1.0, 0.5])
def test_draws_follow_the_softmax(temperature):
    logits = torch.tensor([0.0, 1.0, 2.0, -1.0, 9.0, 9.0])  # the last two are [MASK] and a forbidden token
    model = SimpleNamespace(config=SimpleNamespace(mask_token_id=4, vocab_size=6), lm_head=torch.nn.Identity())
    tokens, found = draw(model, logits.repeat(40000, 1), temperature, streams(40000).key, forbidden=(5,))
    expected = torch.softmax(logits[:4] / temperature, -1)
    assert chi_square(tokens, expected) < 16.27  # 99.9 % point for 3 degrees of freedom
    plain = torch.softmax(logits[:4], -1)
    torch.testing.assert_close(found.log_prob, plain.log()[tokens])
    torch.testing.assert_close(found.entropy, -(plain * plain.log()).sum().expand(40000))
    torch.testing.assert_close(found.margin, (plain[2] - plain[1]).expand(40000))


def test_two_level_draws_follow_the_weights_and_never_pick_none():
    weight = torch.rand(1, 1300, generator=torch.Generator().manual_seed(1)).square()
    weight[0, 500:1100] = 0  # a whole group and parts of two others
    tokens = pick_token(weight.expand(200000, -1), streams(200000, 2).uniform())
    assert not bool((weight[0, tokens] == 0).any())
    some = weight[0] > 0
    place = some.cumsum(0) - 1
    assert chi_square(place[tokens], weight[0, some] / weight.sum()) < 820.3  # 99.9 % point for 699 degrees


def chi_square(tokens, expected):
    counts = torch.bincount(tokens, minlength=len(expected))
    return float(((counts - len(tokens) * expected) ** 2 / (len(tokens) * expected)).sum())


def test_entropies_of_drawn_tokens_are_recorded(policy):
    """At temperature 0 in one step every position has the entropy of the same fully masked response."""
    prompt, mask = policy.pad([policy.prompt_ids([{"role": "user", "content": "1+1"}], "")])
    everything = Threshold(confidence=0.0)
    settings = DecodingSettings(4, 4, everything, temperature=0.0)
    made = decode(policy.model, prompt, mask, settings, eot=-1, streams=streams(1))
    blank = torch.full((1, 4), policy.model.config.mask_token_id)
    ids, seen = torch.cat((prompt, blank), 1), torch.nn.functional.pad(mask, (0, 4), value=True)
    log_probs = policy.model.log_probs(policy.model.hidden_states(ids, seen)[:, -4:]).double()
    entropy = -torch.where(log_probs.isfinite(), log_probs.exp() * log_probs, 0.0).sum(-1)
    assert made.nfe.item() == 1
    torch.testing.assert_close(made.entropy.double(), entropy, atol=1e-5, rtol=1e-5)
