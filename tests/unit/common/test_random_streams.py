"""Streams of random numbers: published values, uniform and independent numbers, the same ones whatever the batch."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chisquare, kstest

from unmask.common.random_streams import Streams, as_normal, as_uniform
from unmask.common.seeding import Seeds

# The first outputs of SplitMix64 by its seed, from https://rosettacode.org/wiki/Pseudo-random_numbers/Splitmix64 and
# from the reference implementation, https://prng.di.unimi.it/splitmix64.c.
KNOWN = {
    1234567: [
        6457827717110365317, 3203168211198807973, 9817491932198370423, 4593380528125082431, 16408922859458223821,
    ],
    0: [0xE220A8397B1DCDAF, 0x6E789E6AA1B965F4, 0x06C45D188009454F, 0xF88BB8A8724C81EC],
}  # fmt: skip


def streams(count, seed=0):
    return Streams.of(seed, torch.arange(count))


def unsigned(words):
    return [word % 2**64 for word in words.tolist()]


@pytest.mark.parametrize("seed", KNOWN)
def test_a_stream_is_splitmix64(seed):
    counter = torch.arange(len(KNOWN[seed]))[None]
    assert unsigned(Streams(torch.tensor([seed])).words(counter)[0]) == KNOWN[seed]
    # The keys of a family are the outputs for its seed.
    assert unsigned(Streams.of(seed, counter[0]).key) == KNOWN[seed]


def plain(seed, number):
    """SplitMix64 in Python's integers."""
    z = (seed + (number + 1) * 0x9E3779B97F4A7C15) % 2**64
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9 % 2**64
    z = (z ^ z >> 27) * 0x94D049BB133111EB % 2**64
    return z ^ z >> 31


@settings(max_examples=200, deadline=None, derandomize=True)
@given(
    seed=st.integers(0, 2**63 - 1), row=st.integers(0, 2**40), counter=st.integers(0, 2**40), purpose=st.integers(0, 9)
)
def test_every_number_follows_from_seed_row_and_counter(seed, row, counter, purpose):
    one = Streams.of(seed, torch.tensor([row]))
    assert unsigned(one.words(torch.tensor([[counter]]))[0]) == [plain(plain(seed, row), counter)]
    key = plain(plain(plain(seed, row), purpose), counter)
    assert unsigned(one.child(purpose).words(torch.tensor([[counter]]))[0]) == [key]
    assert as_uniform(one.words(torch.tensor([[counter]]))).item() == (plain(plain(seed, row), counter) >> 11) / 2**53


@settings(max_examples=50, deadline=None, derandomize=True)
@given(rows=st.lists(st.integers(0, 99), min_size=1, max_size=20), cut=st.integers(0, 20))
def test_a_row_draws_the_same_in_every_batch(rows, cut):
    whole = streams(100).uniform(3, 7)
    parts = [streams(100)[part].uniform(3, 7) for part in (rows[:cut], rows[cut:]) if part]
    assert torch.equal(torch.cat(parts), whole[rows])
    assert torch.equal(Streams.of(0, torch.tensor(rows)).uniform(3, 7), whole[rows])
    assert torch.equal(streams(100).uniform(21).view(100, 3, 7), whole)


def test_the_arguments_stay_as_they_are():
    rows, counter = torch.arange(3), torch.arange(4)[None]
    made = Streams.of(5, rows)
    key = made.key.clone()
    made.words(counter), made.child(1), made.uniform(2)
    assert rows.tolist() == [0, 1, 2]
    assert counter.tolist() == [[0, 1, 2, 3]]
    assert torch.equal(made.key, key)


def test_seeds_and_purposes_have_streams_of_their_own():
    rows = torch.arange(50)
    seeds = Seeds(("train", 0))
    families = [seeds.streams("a", rows=rows), seeds.streams("b", rows=rows), seeds.streams("a", 1, rows=rows)]
    families += [families[0].child(0), families[0].child(1), Seeds(("train", 1)).streams("a", rows=rows)]
    numbers = torch.cat([family.uniform(20) for family in families])
    assert len(numbers.unique()) == numbers.numel()
    again = Seeds(("train", 0)).streams("a", rows=rows)
    assert torch.equal(again.uniform(20), families[0].uniform(20))


# --- quality ----------------------------------------------------------------------------------------------------------
# Rows, steps and positions as in decoding: a counter is step · width + position. Seeds are fixed, so a test either
# always passes or never; 1e-3 is the chance that a sound generator would have failed when the seed was chosen.

ROWS, STEPS, WIDTH = 64, 32, 32


@pytest.fixture(params=[0, 2**62 + 12345, Seeds(("train", 0)).number("sampler")])
def numbers(request):
    """Uniform numbers [rows, steps, positions]."""
    return streams(ROWS, request.param).uniform(STEPS, WIDTH)


def test_numbers_are_uniform_over_all_and_along_each_axis(numbers):
    assert kstest(numbers.flatten().numpy(), "uniform").pvalue > 1e-3
    for axis in range(3):
        lines = numbers.movedim(axis, 0).flatten(1)
        p_values = torch.tensor([kstest(line.numpy(), "uniform").pvalue for line in lines])
        # Of sound numbers the p-values are uniform themselves.
        assert kstest(p_values.numpy(), "uniform").pvalue > 1e-3


@pytest.mark.parametrize(
    "lag", [(1, 0, 0), (0, 1, 0), (0, 0, 1), (1, 1, 0), (1, 0, 1), (0, 1, 1), (7, 0, 0), (0, 8, 0)]
)
def test_neighbours_are_independent(numbers, lag):
    """Numbers of neighbouring rows, steps and positions: no correlation, and all 64 cells of a pair equally likely."""
    one = numbers[tuple(slice(0, size - step) for size, step in zip(numbers.shape, lag, strict=True))].flatten()
    other = numbers[tuple(slice(step, None) for step in lag)].flatten()
    correlation = float(torch.corrcoef(torch.stack((one, other)))[0, 1])
    assert abs(correlation) < 3.5 / math.sqrt(len(one))
    cells = torch.bincount((one * 8).long() * 8 + (other * 8).long(), minlength=64)
    assert chisquare(cells.numpy()).pvalue > 1e-3


def test_each_bit_of_a_word_is_balanced_and_free_of_the_others():
    words = streams(ROWS, 3).words(torch.arange(STEPS * WIDTH)[None]).flatten()
    bits = (words[:, None] >> torch.arange(64)) & 1
    error = 1 / math.sqrt(len(words))
    assert float((bits.double().mean(0) - 0.5).abs().max()) < 4.5 * error / 2
    off_diagonal = torch.corrcoef(bits.double().T) - torch.eye(64)
    assert float(off_diagonal.abs().max()) < 5 * error  # of 2016 pairs


@pytest.mark.parametrize("changed", ["key", "counter"])
def test_each_bit_of_key_and_counter_changes_half_of_the_bits_of_a_word(changed):
    key, counter = streams(4000, 9).key, streams(4000, 10).key
    before = Streams(key).words(counter)
    for bit in range(63):
        flip = torch.tensor(1 << bit)
        after = Streams(key ^ flip).words(counter) if changed == "key" else Streams(key).words(counter ^ flip)
        flips = ((before ^ after)[:, None] >> torch.arange(64)) & 1
        share = flips.double().mean(0)
        assert float((share - 0.5).abs().max()) < 5 * 0.5 / math.sqrt(4000), bit


def test_normal_numbers_are_normal_and_finite():
    words = streams(2000, 4).words(torch.arange(10)[None])
    assert kstest(as_normal(words).flatten().numpy(), "norm").pvalue > 1e-3
    extremes = as_normal(torch.tensor([0, -1]))  # all bits 0, all bits 1
    assert extremes.isfinite().all()
    assert extremes.tolist() == pytest.approx([-8.2095, 8.2095], abs=1e-3)


def test_uniform_numbers_stay_below_one():
    assert as_uniform(torch.tensor([0, -1])).tolist() == [0.0, 1 - 2.0**-53]
