"""What a draw leaves out: the nucleus of top_p, and the rare tokens that a draw in bfloat16 never takes."""

import math
from types import SimpleNamespace

import pytest
import torch

from helpers.streams import streams
from unmask.config.schema.samplers import TopK
from unmask.samplers.decode import decode
from unmask.samplers.settings import DecodingSettings
from unmask.samplers.token_sampling import draw, gumbel_max, nucleus
from unmask.samplers.unmasking_rules import Candidates, top_k

ENTROPY = TopK(tokens_per_step=1, score="entropy", blocks=False, top_p=0.9)
VOCABULARY = 8


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def drawn(probability, rows, temperature, seed=0, **more):
    """Draws from given probabilities of tokens 0, 1, …; [MASK] is the token after them."""
    size = len(probability)
    logits = torch.cat((torch.tensor(probability).log(), torch.tensor([3.0]))).repeat(rows, 1)
    model = SimpleNamespace(
        config=SimpleNamespace(mask_token_id=size, vocab_size=size + 1), lm_head=torch.nn.Identity()
    )
    return draw(model, logits, temperature, streams(rows, seed).key, **more)


def within(count, rows, probability):
    """Whether a count is within 4 standard deviations of a binomial distribution."""
    return abs(count - rows * probability) <= 4 * math.sqrt(rows * probability * (1 - probability))


# --- top_p ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("top_p", "kept"),
    [
        (0.45, [1]),  # 0.5 takes the share above it: it is kept, and nothing after it
        (0.5, [1, 3]),  # a share that is only reached takes one more, as in Dream
        (0.6, [1, 3]),
        (0.80, [0, 1, 3]),
        (0.9, [0, 1, 3]),
        (0.95, [0, 1, 2, 3]),
    ],
)
def test_the_nucleus_by_hand(top_p, kept):
    weight = torch.tensor([[0.1875, 0.5, 0.0625, 0.25]]) * 16  # exact in binary; not normalised
    assert nucleus(weight, top_p)[0].nonzero()[:, 0].tolist() == kept


def test_of_equal_tokens_the_first_are_kept():
    assert nucleus(torch.ones(1, 8), 0.3).tolist() == [[True] * 3 + [False] * 5]


def test_top_p_draws_from_the_nucleus_and_records_the_policys_own_probabilities():
    probability = [0.1875, 0.5, 0.0625, 0.25]
    tokens, found = drawn(probability, 20000, 1.0, top_p=0.8, drawn_entropy=True)
    kept = torch.tensor([0.1875, 0.5, 0.0, 0.25]) / 0.9375
    assert (tokens == 2).sum() == 0
    for token in (0, 1, 3):
        assert within(int((tokens == token).sum()), 20000, float(kept[token]))
    torch.testing.assert_close(found.log_prob, torch.tensor(probability).log()[tokens])
    plain, left = torch.tensor(probability), kept[kept > 0]
    torch.testing.assert_close(found.entropy[0], -(plain * plain.log()).sum())
    torch.testing.assert_close(found.drawn_entropy[0], -(left * left.log()).sum())


def test_the_nucleus_is_that_of_the_tempered_distribution():
    """At temperature 0.5 probabilities are squared: 0.36, 0.09, 0.01 of 0.46, so 0.78, 0.20 and 0.02."""
    tokens, found = drawn([0.6, 0.3, 0.1], 4000, 0.5, top_p=0.95, drawn_entropy=True)
    assert within(int((tokens == 0).sum()), 4000, 0.8)
    assert not (tokens == 2).any()
    assert found.drawn_entropy[0].item() == pytest.approx(-0.8 * math.log(0.8) - 0.2 * math.log(0.2), abs=1e-5)
    assert (drawn([0.6, 0.3, 0.1], 4000, 1.0, top_p=0.95)[0] == 2).any()


# --- the order by entropy, and no blocks ------------------------------------------------------------------------------


def test_the_order_by_entropy_is_that_of_what_is_drawn_from():
    entropy = torch.tensor([[0.5, 0.2, 0.9, 0.1]])
    found = Candidates(
        torch.zeros(1, 4), entropy, torch.zeros(1, 4), drawn_entropy=torch.tensor([[0.3, 0.0, 0.0, 0.4]])
    )
    masked = torch.tensor([[True, True, True, True]])
    one = top_k(masked, found, None, tokens_per_step=1, score="entropy")
    assert one.tolist() == [[False, True, False, False]]  # the first of equals
    three = top_k(masked, found, None, tokens_per_step=3, score="entropy")
    assert three.tolist() == [[True, True, True, False]]


def test_without_blocks_the_order_is_one_of_the_whole_response(policy):
    """A plain loop: at each step, of all masked positions, the one with the lowest entropy gets its best token."""
    prompt, mask_id = torch.tensor([[10, 11, 12]]), policy.model.config.mask_token_id
    settings = DecodingSettings(16, 4, ENTROPY, temperature=0.0)
    made = decode(policy.model, prompt, prompt > 0, settings, eot=-1, streams=streams(1))
    ids = torch.cat((prompt, torch.full((1, 16), mask_id)), 1)
    steps = torch.zeros(16, dtype=torch.long)
    for step in range(16):
        with torch.no_grad():
            logits = policy.model(ids)[0, 3:].clone()
        logits[:, mask_id] = -torch.inf
        probability = logits.softmax(-1)
        probability = probability * nucleus(probability, 0.9)
        entropy = torch.special.entr(probability / probability.sum(1, keepdim=True)).sum(1)
        entropy[ids[0, 3:] != mask_id] = torch.inf
        at = int(entropy.argmin())
        steps[at], ids[0, 3 + at] = step, logits[at].argmax()
    assert torch.equal(made.response, ids[:, 3:])
    assert torch.equal(made.unmask_step[0], steps)
    assert steps[:4].max() > 4  # in blocks of 4 the first would be done by then


# --- bfloat16 ---------------------------------------------------------------------------------------------------------

TAIL = [0.78, 0.10] + [0.12 / 100] * 100


def exact_share(probability, temperature):
    """How often token 0 wins, by enumeration of the values that u has in bfloat16: all numbers of that type below 1.

    u is uniform in float32 and rounded, so the chance of a value is the width of what rounds to it. Token 0 wins ties.
    """
    u = torch.arange(0, 0x3F80, dtype=torch.int16).view(torch.bfloat16)
    middles = (u[1:].double() + u[:-1].double()) / 2
    chance = torch.cat((torch.zeros(1).double(), middles, torch.tensor([1 - 2.0**-9]).double())).diff()
    chance[0] += 2.0**-9  # what would round to 1 becomes 0
    noise = (-u.log()) ** temperature
    first, *others = ((p.log().bfloat16().exp() / noise).double() for p in torch.tensor(probability))
    share = chance.clone()
    for other in others:
        ordered, index = other.sort()
        below = torch.cat((torch.zeros(1).double(), chance[index].cumsum(0)))
        share *= below[torch.searchsorted(ordered, first, right=True)]
    return float(share.sum())


@pytest.mark.parametrize(("temperature", "released"), [(0.9, 0.907), (1.0, 0.868)])
def test_a_draw_in_bfloat16_is_a_min_p_filter(temperature, released):
    """d1's rollouts (diffu_grpo_trainer.py:137-148 at commit 837888f) draw a token of .78 nine times in ten.

    `released` is what that function gave in 100,000 draws with noise as on a CUDA device.
    """
    rows = 40000
    tokens = drawn(TAIL, rows, temperature, draw_dtype="bfloat16")[0]
    share = exact_share(TAIL, temperature)
    assert share == pytest.approx(released, abs=0.004)
    assert within(int((tokens == 0).sum()), rows, share)
    plain = torch.tensor(TAIL).log().div(temperature).softmax(0)
    assert share > plain[0] + 0.05
    assert (tokens > 1).sum() < 0.2 * rows * plain[2:].sum()  # of the tail hardly anything is left
    exact = drawn(TAIL, rows, temperature)[0]
    assert within(int((exact == 0).sum()), rows, float(plain[0]))


def test_a_draw_in_bfloat16_records_exact_log_probabilities():
    tokens, found = drawn(TAIL, 200, 0.9, draw_dtype="bfloat16")
    torch.testing.assert_close(found.log_prob, torch.tensor(TAIL).log()[tokens], atol=1e-6, rtol=0)


def test_greedy_tokens_do_not_know_the_type_of_draws():
    logits = torch.randn(50, 300, generator=seeded()) / 1000  # in bfloat16 many would be equal
    model = SimpleNamespace(config=SimpleNamespace(mask_token_id=299, vocab_size=300), lm_head=torch.nn.Identity())
    tokens, _ = draw(model, logits.clone(), 0.0, None, draw_dtype="bfloat16")
    assert torch.equal(tokens, logits[:, :299].argmax(1))


def test_forbidden_tokens_and_those_outside_the_nucleus_stay_out_in_bfloat16():
    tokens = drawn([0.3, 0.4, 0.2, 0.1], 5000, 1.0, draw_dtype="bfloat16", forbidden=(1,), top_p=0.6)[0]
    assert sorted(set(tokens.tolist())) == [0, 2]


def test_noise_that_rounds_to_one_never_wins():
    """A u of 1 would be an infinite key; CUDA devices turn it into 0, whose key is 0."""
    logits = torch.zeros(200000, 2, dtype=torch.bfloat16)
    assert torch.isfinite((-torch.tensor(1 - 2.0**-8).bfloat16().log()) ** 1.0)
    share = float((gumbel_max(logits, 1.0, streams(200000).key) == 0).float().mean())
    assert 0.5 < share < 0.52  # a little above one half: the first token wins ties
