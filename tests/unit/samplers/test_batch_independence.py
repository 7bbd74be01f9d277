"""A response is the same, byte for byte, whatever is decoded with it: how many rows, in which order, in how many
processes, and whichever row of a queue takes a place that becomes free.

On a CPU this includes its probabilities. Prompts are padded to the same width first, as in a buffer or an evaluation.
"""

import pytest
import torch
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from helpers.streams import streams
from unmask.config.schema.samplers import Adaptive, EntropyBound, LeftToRight, RandomOrder, Threshold, TopK
from unmask.models.threshold_head import ThresholdHead
from unmask.models.tiny import build_model
from unmask.samplers.decode import decode, decode_as_finished
from unmask.samplers.settings import DecodingSettings

VOCABULARY, EOT = 48, 1
FIELDS = ("response", "unmask_step", "nfe", "log_prob_t1", "entropy", "gamma_logit", "gamma_input")
ADAPTIVE = {"gamma": 0.5, "gamma_max": 2.0, "width": 8, "proxy": "entropy"}
SAMPLERS = {
    "top_k": TopK(tokens_per_step=2, score="confidence"),
    "random positions": TopK(tokens_per_step=2, score="random"),
    "random order": RandomOrder(),
    "left to right": LeftToRight(),
    "threshold": Threshold(confidence=0.2),
    "entropy bound": EntropyBound(gamma=2.0, proxy="margin"),
    "adaptive": Adaptive(choose="prompt", **ADAPTIVE),
    "adaptive by block": Adaptive(choose="block", **ADAPTIVE),
    "bfloat16": TopK(tokens_per_step=3, score="confidence", draw_dtype="bfloat16"),
}


@pytest.fixture(scope="module")
def model():
    """An untrained model in which the end of text is likely, so that rows end at different blocks."""
    shape = {"hidden_size": 32, "layers": 2, "heads": 2, "mlp_size": 48, "rope_theta": 1e4}
    made = build_model(**shape, vocabulary=VOCABULARY, seed=0).eval().requires_grad_(False)
    made.lm_head.weight[EOT] *= 2
    return made


@pytest.fixture(scope="module")
def head():
    made = ThresholdHead(32, 8, 0.5, 2.0)
    torch.nn.init.normal_(made.outer.weight, generator=torch.Generator().manual_seed(0))
    return made.requires_grad_(False)


def padded(prompts):
    width = max(map(len, prompts))
    ids = torch.tensor([[7] * (width - len(prompt)) + prompt for prompt in prompts])
    return ids, torch.tensor([[False] * (width - len(prompt)) + [True] * len(prompt) for prompt in prompts])


PROMPTS = st.builds(  # some of them twice or more
    lambda pool, picks: [pool[i % len(pool)] for i in picks],
    st.lists(st.lists(st.integers(2, VOCABULARY - 1), min_size=1, max_size=20), min_size=1, max_size=5),
    st.lists(st.integers(0, 4), min_size=2, max_size=9),
)


@pytest.mark.parametrize("sampler", SAMPLERS.values(), ids=SAMPLERS)
@settings(max_examples=15, deadline=None, derandomize=True, phases=(Phase.explicit, Phase.generate))
@given(
    prompts=PROMPTS,
    cache=st.sampled_from(["none", "prefix", "dual"]),
    temperature=st.sampled_from([0.0, 0.7, 1.0]),
    slots=st.sampled_from([None, 1, 2, 3, 5]),
    window=st.sampled_from([None, 1, 2, 4]),
    order=st.randoms(use_true_random=False),
    share=st.integers(1, 8),
)
def test_nothing_but_its_own_stream_decides_a_response(
    model, head, sampler, prompts, cache, temperature, slots, window, order, share
):
    def decoded(rows, slots=None, window=None):
        """The responses of these rows, each with the stream of its own number."""
        with_cache = sampler.model_copy(update={"cache": cache})
        decoding = DecodingSettings(24, 8, with_cache, temperature, rows_per_batch=slots)
        prompt, mask = padded(prompts)
        given = {"eot": EOT, "head": head, "sigma": 0.5, "window": window, "streams": streams(len(prompts))[rows]}
        return decode(model, prompt[rows], mask[rows], decoding, **given)

    def same(found, rows):
        for field in FIELDS:
            expected = getattr(alone, field)[rows]
            torch.testing.assert_close(getattr(found, field), expected, atol=0, rtol=0, equal_nan=True)

    every = list(range(len(prompts)))
    alone = decoded(every)
    shuffled = list(every)
    order.shuffle(shuffled)
    same(decoded(shuffled, slots, window), shuffled)
    for rows in (shuffled[:share], shuffled[share:]):  # as on two processes
        if rows:
            same(decoded(rows, slots), rows)


def test_responses_come_as_they_finish_and_windows_start_in_order(model):
    """Ten windows of four rows, two at a time: a window is complete before the second after it begins."""
    prompts = torch.randint(2, VOCABULARY, (40, 6), generator=torch.Generator().manual_seed(0)).tolist()
    prompts = [prompt[: 1 + row % 6] for row, prompt in enumerate(prompts)]
    decoding = DecodingSettings(24, 8, SAMPLERS["top_k"], 1.0, rows_per_batch=2)
    parts = list(decode_as_finished(model, *padded(prompts), decoding, eot=EOT, streams=streams(40), window=4))
    rows = torch.cat([found for found, _ in parts])
    assert sorted(rows.tolist()) == list(range(40))
    assert all(len(found) <= 2 for found, _ in parts)
    assert int((rows // 4 - torch.arange(40) // 4).abs().max()) <= 1
    whole = decode(model, *padded(prompts), decoding, eot=EOT, streams=streams(40))
    assert len(whole.nfe.unique()) > 1
    for found, made in parts:
        assert torch.equal(made.response, whole.response[found])
