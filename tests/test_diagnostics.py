"""Gaps between surrogates and the policy, against a plain enumeration."""

import pytest
import torch

from unmask.diagnostics import surrogate_gaps
from unmask.exact import TabularModel
from unmask.samplers.decode import decode


def test_gaps_equal_a_plain_enumeration():
    model = TabularModel(3, 3, 1.0, torch.Generator().manual_seed(0))
    prompt = torch.zeros((2, 1), dtype=torch.long)
    seen = torch.ones_like(prompt, dtype=torch.bool)
    made = decode(
        model, prompt, seen, length=3, block_length=3, sampler={"rule": "random_order"}, temperature=1.0, eot=-1,
        generator=torch.Generator().manual_seed(1),
    )  # fmt: skip
    rows = surrogate_gaps(model, prompt, seen, made.response, made.step, torch.ones(2, 3))
    found = {(row["step"], row["surrogate"]): row for row in rows}

    def conditional(row, now, position):
        latent = made.response[row].masked_fill(made.step[row] >= now, 3)
        return model.log_probs(model.hidden_states(latent[None]))[0, position, :3].detach()

    for now in range(3):
        mean_field, two_stage = [], []
        for row in range(2):
            position = int((made.step[row] == now).nonzero())
            true = conditional(row, now, position)
            gap = [
                float((true.exp() * (true - conditional(row, tau if tau <= now else 0, position))).sum())
                for tau in range(3)
            ]
            mean_field.append(gap[0])
            two_stage.append(sum(gap) / 3)
        assert found[now, "mean_field"]["kl"] == pytest.approx(sum(mean_field) / 2, abs=1e-6)
        assert found[now, "two_stage"]["kl"] == pytest.approx(sum(two_stage) / 2, abs=1e-6)
        assert found[now, "two_stage"]["tokens"] == 2
    assert found[0, "mean_field"]["kl"] == pytest.approx(0, abs=1e-6)
    assert found[0, "two_stage"]["weight_50"] == pytest.approx(1)
