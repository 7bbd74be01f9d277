"""Logits that are NaN or infinite end decoding with the row and position, whatever the rule: no endless loop."""

import contextlib
import signal

import pytest
import torch

from helpers.streams import streams
from unmask.common.errors import InputError
from unmask.config.schema.samplers import Adaptive, EntropyBound, Factor, LeftToRight, RandomOrder, Threshold, TopK
from unmask.models.threshold_head import ThresholdHead
from unmask.samplers.decode import decode
from unmask.samplers.settings import DecodingSettings

PROMPTS = [[10, 11, 12, 13], [14, 15], [14, 15]]
TOP1 = TopK(tokens_per_step=1, score="confidence")
SAMPLERS = {
    "top_k": TopK(tokens_per_step=2, score="confidence"),
    "random": TopK(tokens_per_step=1, score="random"),
    "random_order": RandomOrder(),
    "left_to_right": LeftToRight(),
    "threshold": Threshold(confidence=0.9),
    "factor": Factor(factor=1.0),
    "entropy": EntropyBound(gamma=0.1, proxy="entropy"),
    "margin": EntropyBound(gamma=0.1, proxy="margin"),
    "adaptive": Adaptive(gamma=0.1, gamma_max=1.0, choose="block", width=4, proxy="confidence"),
    "guided": TopK(tokens_per_step=1, score="confidence", guidance=0.5),
}


@contextlib.contextmanager
def at_most(seconds):
    """Raise TimeoutError in the block after so many seconds."""

    def late(*_):
        raise TimeoutError

    before = signal.signal(signal.SIGALRM, late)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def spoil(policy, call, change):
    """From this call of the head on (from 0), `change` its logits [n, V] in place."""
    calls = iter(range(10**9))

    def hook(_module, _inputs, logits):
        if next(calls) >= call:
            logits = logits.clone()
            change(logits)
        return logits

    policy.model.lm_head.register_forward_hook(hook)


def run(policy, sampler, temperature=0.0, prompts=PROMPTS, slots=None):
    settings = DecodingSettings(24, 8, sampler, temperature, rows_per_batch=slots)
    head = ThresholdHead(policy.model.config.hidden_size, 4, 0.1, 1.0)
    with at_most(20):
        return decode(policy.model, *policy.pad(prompts), settings, eot=-1, head=head, streams=streams(len(prompts)))


CHANGES = {
    "NaN": lambda logits: logits[:, 5].fill_(torch.nan),
    "NaN in one row": lambda logits: logits[-1, 7].fill_(torch.nan),
    "infinity": lambda logits: logits[:, 5].fill_(torch.inf),
    "nothing possible": lambda logits: logits.fill_(-torch.inf),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
@pytest.mark.parametrize("temperature", [0.0, 0.7])
@pytest.mark.parametrize("sampler", SAMPLERS.values(), ids=SAMPLERS)
def test_spoilt_logits_end_the_decoding_with_their_place(policy, sampler, temperature, change):
    spoil(policy, 2, change)
    said = r"decoding: row \d, block 0, position [0-7] of the response .*: the model's logits there are NaN or infinite"
    with pytest.raises(InputError, match=said):
        run(policy, sampler, temperature)


@pytest.mark.parametrize("cache", ["none", "prefix", "dual"])
@pytest.mark.parametrize("slots", [None, 1])
def test_with_any_cache_and_queue(policy, cache, slots):
    spoil(policy, 9, CHANGES["NaN"])
    with pytest.raises(InputError, match=r"row \d, block 1, position (8|9|1[0-5]) of the response .* forward pass 9"):
        run(policy, TOP1.model_copy(update={"cache": cache}), slots=slots)


def test_the_row_and_position_are_those_of_the_spoilt_logits(policy):
    """The second of the positions that are masked at the third pass, of the second row: a shorter prompt comes last."""
    clean = run(policy, TOP1, prompts=PROMPTS[:2])
    masked = (clean.unmask_step[:, :8] >= 3).nonzero().tolist()
    spoil(policy, 3, lambda logits: logits[6].fill_(torch.nan))  # five are masked in each row
    row, position = masked[6]
    assert row == 1
    with pytest.raises(InputError, match=f"row 1, block 0, position {position} of .* forward pass 3: the model's"):
        run(policy, TOP1, prompts=PROMPTS[:2])


def test_a_threshold_that_is_nan_ends_the_decoding(policy, monkeypatch):
    monkeypatch.setattr(ThresholdHead, "forward", lambda self, state: torch.full(state.shape[:-1], torch.nan))
    with pytest.raises(InputError, match=r"row 0, block 0, position 0 .*: the commit rule chose none of its tokens"):
        run(policy, SAMPLERS["adaptive"])


def test_minus_infinity_for_some_tokens_is_no_fault(policy):
    spoil(policy, 0, lambda logits: logits[:, 5:9].fill_(-torch.inf))
    made = run(policy, TOP1, 1.0)
    assert bool(made.log_prob_t1.isfinite().all())
    assert not bool(((made.response >= 5) & (made.response < 9)).any())
