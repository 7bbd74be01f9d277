"""Commit rules on a small block, by hand."""

import pytest
import torch
from torch import tensor

from unmask.config.schema.samplers import sampler_from
from unmask.samplers.unmasking_rules import Candidates, RowBounds, commit

NONE = None  # rules by hand are not random


def found(probability, entropy=None, margin=None):
    log_prob = tensor([probability]).log()
    entropy = log_prob * 0 if entropy is None else tensor([entropy])
    return Candidates(log_prob, entropy, entropy if margin is None else tensor([margin]))


def chosen(rule, masked=(True, True, True, True), **values):
    return commit(sampler_from(rule), tensor([masked]), found(**values), NONE)[0].tolist()


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        ({"rule": "top_k", "tokens_per_step": 2, "score": "confidence"}, [0, 1, 0, 1]),
        ({"rule": "top_k", "tokens_per_step": 9, "score": "confidence"}, [1, 1, 1, 1]),
        ({"rule": "threshold", "confidence": 0.7}, [1, 1, 0, 1]),
        ({"rule": "threshold", "confidence": 0.95}, [0, 1, 0, 0]),  # none has it: the best one
        ({"rule": "factor", "factor": 0.21}, [0, 1, 0, 0]),  # 2(1 − .9) = .20 and 3(1 − .8) = .6
        ({"rule": "factor", "factor": 0.5}, [0, 1, 0, 0]),  # and 2(1 − .8) = .4 would be too few
        ({"rule": "factor", "factor": 0.61}, [0, 1, 0, 1]),  # 4(1 − .7) = 1.2
        ({"rule": "factor", "factor": 0.1}, [0, 1, 0, 0]),  # none passes: the best one
    ],
)
def test_rules_on_confidence(rule, expected):
    assert chosen(rule, probability=[0.7, 0.9, 0.5, 0.8]) == expected


@pytest.mark.parametrize(("masked", "first"), [((1, 1, 1, 1), 0), ((0, 1, 1, 1), 1), ((0, 0, 1, 1), 2)])
def test_left_to_right_takes_the_first_masked_position(masked, first):
    found = chosen({"rule": "left_to_right"}, [bool(m) for m in masked], probability=[0.1, 0.9, 0.5, 0.8])
    assert found == [position == first for position in range(4)]


@pytest.mark.parametrize(
    ("gamma", "expected"),
    [
        (0.0, [0, 1, 0, 0]),
        (0.1, [0, 1, 0, 0]),  # the second costs .1, which is not less
        (0.11, [0, 1, 0, 1]),
        (0.31, [1, 1, 0, 1]),  # .1 + .2
        (0.71, [1, 1, 1, 1]),  # .1 + .2 + .4
        (1e9, [1, 1, 1, 1]),
    ],
)
def test_entropy_bound_leaves_out_the_largest(gamma, expected):
    rule = {"rule": "entropy_bound", "gamma": gamma, "proxy": "entropy"}
    assert chosen(rule, probability=[0.5] * 4, entropy=[0.4, 0.1, 0.8, 0.2]) == expected


def test_entropy_bound_sorts_by_its_proxy():
    values = {"probability": [0.9, 0.2, 0.5, 0.6], "entropy": [0.4, 0.1, 0.8, 0.2], "margin": [0.1, 0.2, 0.9, 0.3]}
    for proxy, first in (("entropy", 1), ("confidence", 0), ("margin", 2)):
        rule = {"rule": "entropy_bound", "gamma": 0.0, "proxy": proxy}
        assert chosen(rule, **values).index(True) == first


def test_entropy_bound_takes_one_gamma_a_row():
    two = found([0.5] * 4, [0.1, 0.2, 0.4, 0.8])
    both = Candidates(*(value.repeat(2, 1) for value in (two.log_prob, two.entropy, two.margin)))
    rule = RowBounds(tensor([0.11, 9.0]), "entropy")
    masked = torch.ones(2, 4, dtype=torch.bool)
    assert commit(rule, masked, both, NONE).tolist() == [[1, 1, 0, 0], [1, 1, 1, 1]]


def test_only_masked_positions_are_committed_and_ties_go_to_the_earlier():
    rule = {"rule": "top_k", "tokens_per_step": 1, "score": "confidence"}
    assert chosen(rule, masked=(False, True, True, False), probability=[0.9, 0.5, 0.5, 0.9]) == [0, 1, 0, 0]
    assert chosen({"rule": "threshold", "confidence": 0.1}, masked=(False,) * 4, probability=[0.9] * 4) == [0] * 4


def test_a_sampler_without_a_rule_is_an_error():
    class Novel:
        pass

    with pytest.raises(TypeError, match="Novel has no commit rule"):
        commit(Novel(), tensor([[True]]), found([0.5]), NONE)
