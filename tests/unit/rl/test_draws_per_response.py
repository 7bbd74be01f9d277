"""Draws for one response: its tokens and masks do not depend on which other responses are drawn with it."""

import threading

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from helpers.every_method import SEEDS
from helpers.streams import streams
from unmask.common import distributed
from unmask.config.schema.samplers import Threshold, TopK
from unmask.rl.generation import roll_out
from unmask.rl.likelihoods import draw_copies, draw_coupled, draw_prompt_drop, draw_stage
from unmask.rl.rollouts import RolloutSettings
from unmask.samplers.settings import DecodingSettings

ROWS, LENGTH = 40, 12
PADDED = torch.arange(9) >= torch.arange(ROWS)[:, None] % 4  # prompts of 6 to 9 tokens


def masks(rows):
    """Every kind of mask of these rows, drawn for them alone."""
    some = streams(ROWS)[rows]
    copies = [draw_copies(4, LENGTH, scheme, some) for scheme in ("uniform", "bernoulli")]
    return [
        *(values for one in copies for values in (one.masked, one.weight)),
        *draw_coupled(LENGTH, some),
        draw_prompt_drop(PADDED[rows], 0.5, some),
        draw_stage(torch.arange(1, ROWS + 1)[rows], some),
    ]


@settings(max_examples=30, deadline=None, derandomize=True)
@given(rows=st.lists(st.integers(0, ROWS - 1), min_size=1, max_size=20))
def test_masks_of_a_response_do_not_depend_on_the_others(rows):
    for alone, together in zip(masks(rows), masks(list(range(ROWS))), strict=True):
        assert torch.equal(alone, together[rows])


def test_masks_of_responses_differ():
    for values in masks(list(range(ROWS))):
        assert len(values.flatten(1).unique(dim=0) if values.ndim > 1 else values.unique()) > ROWS / 4


def test_padding_changes_no_prompt_mask():
    real = torch.ones((3, 6), dtype=torch.bool)
    wide = torch.nn.functional.pad(real, (5, 0))
    drop = draw_prompt_drop(real, 0.5, streams(3))
    assert torch.equal(draw_prompt_drop(wide, 0.5, streams(3))[:, 5:], drop)
    assert 0 < drop.sum() < 18


class Processes:
    """So many threads in place of processes: `distributed` as each of them sees it."""

    def __init__(self, count, monkeypatch):
        self.count, self.local = count, threading.local()
        self.barrier, self.shares = threading.Barrier(count), [None] * count
        monkeypatch.setattr(distributed, "world", lambda: count)
        monkeypatch.setattr(distributed, "rank", lambda: self.local.rank)
        monkeypatch.setattr(distributed, "gather", self.gather)

    def gather(self, values):
        self.shares[self.local.rank] = values
        self.barrier.wait()
        whole = torch.cat(self.shares)
        self.barrier.wait()
        return whole

    def run(self, function):
        """What the function of the rank returns in each thread."""
        found = [None] * self.count

        def work(rank):
            self.local.rank = rank
            found[rank] = function(rank)

        threads = [threading.Thread(target=work, args=(rank,)) for rank in range(self.count)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return found


@pytest.fixture
def buffer(make_policy, sudoku, monkeypatch):
    """Samples a buffer of four prompts with a group of three in so many processes; returns what each has."""
    monkeypatch.setattr(type(make_policy()), "eot", 5)  # a token that ends some responses early
    examples = sudoku.splits()["train"][:4]

    def sampled(count, rule, cache, rows_per_batch):
        sampler = rule.model_copy(update={"cache": cache})
        decoding = DecodingSettings(24, 8, sampler, temperature=1.0, rows_per_batch=rows_per_batch)
        given = RolloutSettings(group_size=3, decoding=decoding, micro_batch_size=64, dropout=False)
        # Made one after the other, because models are initialised from the generator that threads share.
        policies = [make_policy() for _ in range(count)]
        return Processes(count, monkeypatch).run(lambda rank: roll_out(policies[rank], sudoku, examples, given, SEEDS))

    return sampled


@settings(max_examples=8, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    count=st.sampled_from([1, 2, 4]),
    rule=st.sampled_from([TopK(tokens_per_step=2, score="confidence"), Threshold(confidence=0.1)]),
    cache=st.sampled_from(["none", "dual"]),
    rows_per_batch=st.integers(1, 13),
)
def test_a_buffer_is_the_same_from_any_number_of_processes_and_rows_at_once(buffer, count, rule, cache, rows_per_batch):
    (whole,) = buffer(1, rule, cache, None)
    assert len(whole.nfe.unique()) > 1
    for found in buffer(count, rule, cache, rows_per_batch):
        for name, values in whole.tensors().items():
            torch.testing.assert_close(getattr(found, name), values, rtol=0, atol=0, equal_nan=True)
