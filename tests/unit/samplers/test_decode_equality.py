"""The engine against the textbook: the same tokens, steps and forward passes, whatever the rule, cache and batch.

The textbook decodes each prompt on its own, without padding, in float64 where it matters; the engine pads, batches,
queues and skips work. Tokens can differ by right only where two numbers agree to six digits: on a mismatch the textbook
is asked again with its head changed in the sixth digit, and an example in which that changes its own answer is no test.
"""

import copy
import math
from functools import cache

import pytest
import torch
from hypothesis import Phase, assume, given, settings
from hypothesis import strategies as st
from scipy.stats import chisquare

import textbook
from helpers.streams import streams
from unmask.config.schema.samplers import sampler_from
from unmask.models.tiny import build_model
from unmask.samplers.decode import decode
from unmask.samplers.settings import DecodingSettings

VOCABULARY, MASK, EOT = 48, 0, 1
FIELDS = ("response", "unmask_step", "nfe")


def seeded(number=0):
    return torch.Generator().manual_seed(number)


@cache
def tiny(seed, vocabulary=VOCABULARY, eot_scale=2.0):
    """An untrained model whose distributions are neither flat nor sharp, and in which the end of text is likely."""
    torch.set_num_threads(1)
    shape = {"hidden_size": 32, "layers": 2, "heads": 2, "mlp_size": 48, "rope_theta": 1e4}
    model = build_model(**shape, vocabulary=vocabulary, seed=seed).eval().requires_grad_(False)
    scale = 0.5 + 2 * torch.rand((vocabulary, 1), generator=seeded(seed))
    model.lm_head.weight.mul_(scale / 1.5)
    model.lm_head.weight[EOT] *= eot_scale
    return model


def pad(prompts):
    """Left-padded ids and their mask; the padding is a token that would change everything if it were seen."""
    width = max(map(len, prompts))
    ids = torch.tensor([[7] * (width - len(p)) + p for p in prompts])
    return ids, torch.tensor([[False] * (width - len(p)) + [True] * len(p) for p in prompts])


def ours(model, prompts, *, length, block_length, sampler, temperature, eot, slots=None, **options):
    """The engine's answer; `options` are those of the sampler, which the textbook takes as arguments."""
    decoding = DecodingSettings(
        length, block_length, sampler_from(sampler | options), temperature, rows_per_batch=slots
    )
    return decode(model, *pad(prompts), decoding, eot=eot, streams=streams(len(prompts)))


def reference(model, prompts, **arguments):
    """The textbook's answer for each prompt on its own."""
    return [textbook.decode(model, torch.tensor([p]), generator=seeded(), **arguments) for p in prompts]


def same(found, expected):
    return all(torch.equal(getattr(found, f)[i], getattr(e, f)[0]) for i, e in enumerate(expected) for f in FIELDS)


def shaken(model, seed):
    """The model with a head that differs in the sixth digit."""
    other = copy.deepcopy(model)
    other.lm_head.weight.mul_(1 + 3e-6 * torch.randn(model.lm_head.weight.shape, generator=seeded(seed)))
    return other


def assert_same(model, prompts, *, slots=None, **arguments):
    """The engine gives what the textbook gives; an example on the edge of two answers is rejected."""
    found, expected = ours(model, prompts, slots=slots, **arguments), reference(model, prompts, **arguments)
    if not same(found, expected):
        others = [reference(shaken(model, seed), prompts, **arguments) for seed in range(3)]
        assume(all(same(merged(expected), other) for other in others))
    for row, one in enumerate(expected):
        for field in FIELDS:
            assert torch.equal(getattr(found, field)[row], getattr(one, field)[0]), (row, field)
        close = one.log_prob_t1[0].to(found.log_prob_t1)
        torch.testing.assert_close(found.log_prob_t1[row], close, atol=2e-4, rtol=1e-4)


def merged(rows):
    return textbook.Record(*(torch.cat([getattr(r, f) for r in rows]) for f in textbook.Record.__dataclass_fields__))


# Whole numbers, as hypothesis spreads them better than floats.
BY_RULE = {
    "top_k": st.builds(lambda k: {"rule": "top_k", "tokens_per_step": k, "score": "confidence"}, st.integers(1, 9)),
    "threshold": st.builds(lambda c: {"rule": "threshold", "confidence": c / 100}, st.integers(2, 90)),
    "factor": st.builds(lambda f: {"rule": "factor", "factor": f / 10}, st.integers(3, 60)),
    "entropy_bound": st.builds(
        lambda g, p: {"rule": "entropy_bound", "gamma": g / 10, "proxy": p},
        st.integers(0, 200),
        st.sampled_from(["entropy", "confidence", "margin"]),
    ),
    "left_to_right": st.just({"rule": "left_to_right"}),
}
RULES = st.one_of(*BY_RULE.values())
TOKENS = st.integers(2, VOCABULARY - 1)
PROMPTS = st.builds(  # some of them twice or more, not always next to each other
    lambda pool, picks: [pool[i % len(pool)] for i in picks],
    st.lists(st.lists(TOKENS, min_size=1, max_size=9), min_size=1, max_size=4),
    st.lists(st.integers(0, 3), min_size=1, max_size=6),
)


@st.composite
def workloads(draw):
    """A model, prompts of any lengths, and how to decode them."""
    block = draw(st.sampled_from([1, 4, 8]))
    return {
        "model": tiny(draw(st.integers(0, 3))),
        "prompts": draw(PROMPTS),
        "length": block * draw(st.integers(1, 3)),
        "block_length": block,
        "sampler": draw(RULES),
        "temperature": 0.0,
        "eot": draw(st.sampled_from([EOT, -1])),
        "slots": draw(st.sampled_from([None, 1, 2, 3, 9])),
    }


def examples(count):
    """The same `count` examples each time; a failing one is small enough as it is."""
    unshrunk = (Phase.explicit, Phase.generate)
    return settings(max_examples=count, deadline=None, derandomize=True, phases=unshrunk)


@pytest.mark.parametrize("rule", BY_RULE)
@examples(25)
@given(work=workloads(), data=st.data())
def test_greedy_tokens_steps_and_passes_are_the_textbooks(rule, work, data):
    assert_same(**work | {"sampler": data.draw(BY_RULE[rule])})


@pytest.mark.parametrize("kind", ["prefix", "dual"])
@examples(40)
@given(work=workloads())
def test_caches_are_the_textbooks(kind, work):
    assert_same(**work, cache=kind)


@pytest.mark.parametrize("kind", ["none", "prefix", "dual"])
@examples(20)
@given(work=workloads(), guidance=st.floats(0.1, 2.0), forbidden=st.sets(TOKENS, max_size=20).map(sorted))
def test_guidance_and_forbidden_tokens_are_the_textbooks(kind, work, guidance, forbidden):
    assert_same(**work, cache=kind, guidance=guidance, forbidden=forbidden)


@examples(20)
@given(work=workloads(), order=st.randoms(use_true_random=False), kind=st.sampled_from(["none", "prefix", "dual"]))
def test_the_order_of_a_batch_changes_nothing_but_the_order(work, order, kind):
    model, prompts = work.pop("model"), work.pop("prompts")
    rows = list(range(len(prompts)))
    order.shuffle(rows)
    straight = ours(model, prompts, cache=kind, **work)
    mixed = ours(model, [prompts[i] for i in rows], cache=kind, **work)
    if not all(torch.equal(getattr(straight, f)[rows], getattr(mixed, f)) for f in FIELDS):
        assert_same(model, prompts, cache=kind, **work)
        assert_same(model, [prompts[i] for i in rows], cache=kind, **work)


def test_rows_of_these_workloads_do_end_early_and_at_different_blocks():
    """Otherwise the properties above would not have tested the queue."""
    top2 = {"rule": "top_k", "tokens_per_step": 2, "score": "confidence"}
    prompts = torch.randint(2, VOCABULARY, (24, 6), generator=seeded()).tolist()
    arguments = {"length": 24, "block_length": 8, "sampler": top2, "temperature": 0.0, "eot": EOT}
    assert set(merged(reference(tiny(0), prompts, **arguments)).nfe.tolist()) == {4, 8, 12}
    assert_same(tiny(0), prompts, slots=4, **arguments)


# --- what a rule promises ---------------------------------------------------------------------------------------------


def bounded(gamma, proxy="entropy"):
    return {"rule": "entropy_bound", "gamma": gamma, "proxy": proxy}


@pytest.mark.parametrize("proxy", ["entropy", "confidence", "margin"])
def test_gamma_zero_is_one_token_a_step(proxy):
    prompts = torch.randint(2, VOCABULARY, (6, 5), generator=seeded()).tolist()
    made = ours(tiny(1), prompts, length=16, block_length=8, sampler=bounded(0.0, proxy), temperature=1.0, eot=-1)
    assert made.nfe.tolist() == [16] * 6
    assert made.unmask_step.sort(1).values.tolist() == [list(range(16))] * 6


@pytest.mark.parametrize("proxy", ["entropy", "confidence", "margin"])
def test_from_the_same_state_more_gamma_commits_no_fewer_tokens(proxy):
    """For whole generations this holds only if H does not depend on what was committed: after the first step two values
    of γ see different tokens, and the one with more of them may be the less certain. The next test is that case."""
    prompts = torch.randint(2, VOCABULARY, (6, 5), generator=seeded()).tolist()
    kept = []
    for gamma in (0.0, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0):
        arguments = {"length": 8, "block_length": 8, "temperature": 1.0, "eot": -1}
        kept.append((ours(tiny(1), prompts, sampler=bounded(gamma, proxy), **arguments).unmask_step == 0).sum(1))
    kept = torch.stack(kept)
    assert (kept.diff(dim=0) >= 0).all()
    assert kept[0].tolist() == [1] * 6
    assert kept[-1].tolist() == [8] * 6
    assert len(kept.unique()) > 4


def test_passes_fall_with_gamma_where_positions_are_independent():
    """No layer moves anything, so all positions have the entropy h, and n of them cost (n − 1)h."""
    model = copy.deepcopy(tiny(1))
    for layer in model.model.layers:
        layer.self_attn.o_proj.weight.zero_()
        layer.mlp.down_proj.weight.zero_()
    h = float(torch.special.entr(model.log_probs(model.hidden_states(torch.tensor([[MASK]]))).exp()).sum())
    passes = []
    for n in range(1, 9):
        sampler = bounded((n - 0.5) * h)
        made = ours(model, [[5, 6], [7]], length=16, block_length=8, sampler=sampler, temperature=1.0, eot=-1)
        assert made.nfe.tolist() == [2 * math.ceil(8 / n)] * 2
        passes.append(int(made.nfe[0]))
    assert passes == sorted(passes, reverse=True)


# --- chance -----------------------------------------------------------------------------------------------------------


def replayed(model, prompt, made, block_length):
    """The best token at each position of one row, given what was committed before it."""
    best = torch.zeros_like(made.response)
    for step in range(int(made.nfe)):
        seen = made.response.masked_fill(made.unmask_step >= step, MASK)
        logits = textbook.forward(model, torch.cat((torch.tensor(prompt), seen))[None])[0][0, len(prompt) :]
        logits[:, MASK] = -torch.inf
        best = torch.where(made.unmask_step == step, logits.argmax(-1), best)
    return best


@pytest.mark.parametrize(
    "sampler", [{"rule": "random_order"}, {"rule": "top_k", "tokens_per_step": 2, "score": "random"}]
)
def test_in_random_order_each_token_is_still_the_best_one(sampler):
    prompts = [[10, 11, 12, 13], [14, 15], [16, 17, 18, 19, 20, 21]]
    made = ours(tiny(2), prompts, length=16, block_length=8, sampler=sampler, temperature=0.0, eot=-1, slots=2)
    for row, prompt in enumerate(prompts):
        assert torch.equal(replayed(tiny(2), prompt, made[row], 8), made.response[row])
        assert torch.equal(
            torch.bincount(made.unmask_step[row]), torch.full((made.nfe[row],), 16 // int(made.nfe[row]))
        )
    assert not torch.equal(made.unmask_step[0], made.unmask_step[1])


def p_value(counts, probability):
    """Of a chi-square test; the cells expected less than five times are taken together."""
    expected = counts.sum() * probability.double()
    rare = expected < 5
    cells = [torch.cat((x[~rare], x[rare].sum()[None])) for x in (counts.double(), expected)]
    observed, expected = (cell[cells[1] > 0].numpy() for cell in cells)
    assert len(expected) > 3
    return chisquare(observed, expected * observed.sum() / expected.sum()).pvalue


def test_all_orders_are_equally_likely():
    arguments = {"length": 4, "block_length": 4, "sampler": {"rule": "random_order"}, "temperature": 0.0, "eot": -1}
    made = ours(tiny(0), [[5, 6]] * 4800, slots=1200, **arguments)
    order = (made.unmask_step * torch.tensor([64, 16, 4, 1])).sum(1).unique(return_counts=True)[1]
    assert len(order) == 24
    assert p_value(order, torch.full((24,), 1 / 24)) > 1e-3


@pytest.mark.parametrize(
    ("vocabulary", "temperature", "forbidden", "guidance"),
    [
        (VOCABULARY, 1.0, [], 0.0),
        (VOCABULARY, 0.5, [3, 4, 47], 0.0),
        (VOCABULARY, 1.7, [], 0.7),
        (5003, 1.0, [2, 5002], 0.0),
        (5003, 0.6, [], 0.0),
    ],
)
def test_draws_follow_the_softmax(vocabulary, temperature, forbidden, guidance):
    """Two positions drawn in one step: each by its own softmax."""
    model, prompt = tiny(0, vocabulary), [5, 6, 7]
    arguments = {"length": 2, "block_length": 2, "sampler": {"rule": "threshold", "confidence": 0.0}, "eot": -1}
    made = ours(
        model,
        [prompt] * 20000,
        slots=2000,
        temperature=temperature,
        forbidden=forbidden,
        guidance=guidance,
        **arguments,
    )
    ids = torch.tensor([[*prompt, MASK, MASK], [MASK] * 5])
    cond, uncond = textbook.forward(model, ids)[0][:, 3:].double()
    logits = (1 + guidance) * cond - guidance * uncond
    logits[:, [MASK, *forbidden]] = -torch.inf
    probability = (logits / temperature).softmax(-1)
    for place in range(2):
        counts = torch.bincount(made.response[:, place], minlength=vocabulary)
        assert counts[[MASK, *forbidden]].sum() == 0
        assert p_value(counts, probability[place]) > 1e-3
    at_one = logits.log_softmax(-1).float()
    torch.testing.assert_close(made.log_prob_t1, at_one[[0, 1], made.response], atol=1e-4, rtol=1e-4)


def test_positions_of_one_step_are_drawn_independently():
    allowed = torch.arange(2, 8)
    arguments = {"length": 2, "block_length": 2, "sampler": {"rule": "threshold", "confidence": 0.0}, "eot": -1}
    forbidden = [1, *range(8, VOCABULARY)]
    made = ours(tiny(3), [[5, 6, 7]] * 20000, temperature=1.0, forbidden=forbidden, slots=2000, **arguments)
    logits = textbook.forward(tiny(3), torch.tensor([[5, 6, 7, MASK, MASK]]))[0][0, 3:][:, allowed].double()
    first, second = logits.softmax(-1)
    cells = (made.response - 2) @ torch.tensor([6, 1])
    assert p_value(torch.bincount(cells, minlength=36), torch.outer(first, second).flatten()) > 1e-3
