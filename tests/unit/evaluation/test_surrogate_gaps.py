"""Gaps between surrogates and the policy, against a plain enumeration."""

import pytest
import torch

from helpers.streams import streams
from unmask.config.schema.samplers import RandomOrder
from unmask.evaluation.surrogate_gaps import surrogate_gaps
from unmask.models.tabular import TabularModel
from unmask.rl.rollouts import Rollouts, loss_mask
from unmask.samplers.decode import decode
from unmask.samplers.settings import DecodingSettings

ROWS, LENGTH = 8, 4


def drawn(model, eot, micro_batch_size):
    """Responses in random order, in two blocks; with token 2 for the end of text some end after the first."""
    prompt = torch.zeros((ROWS, 1), dtype=torch.long)
    seen = torch.ones_like(prompt, dtype=torch.bool)
    settings = DecodingSettings(LENGTH, 2, RandomOrder(), temperature=1.0)
    made = decode(model, prompt, seen, settings, eot=eot, streams=streams(ROWS))
    nothing = torch.zeros(ROWS)
    return Rollouts(
        prompt, seen, **vars(made), reward=nothing, correct=nothing, loss_mask=loss_mask(made.response, eot),
        group_size=1, buffer_rows=ROWS, micro_batch_size=micro_batch_size,
    )  # fmt: skip


@pytest.mark.parametrize("eot", [-1, 2])
@pytest.mark.parametrize("micro_batch_size", [ROWS, 3])
def test_gaps_equal_a_plain_enumeration(eot, micro_batch_size):
    """T is each response's own number of passes, also where others take more."""
    model = TabularModel(3, LENGTH, 1.0, torch.Generator().manual_seed(0))
    made = drawn(model, eot, micro_batch_size)
    assert set(made.nfe.tolist()) == ({4} if eot == -1 else {2, 4})
    found = {(row["step"], row["surrogate"]): row for row in surrogate_gaps(model, made)}

    def conditional(row, now, position):
        latent = made.response[row].masked_fill(made.unmask_step[row] >= now, 3)
        return model.log_probs(model.hidden_states(latent[None]))[0, position, :3].detach()

    tokens = 0
    for now in range(LENGTH):
        mean_field, two_stage = [], []
        for row, position in ((made.unmask_step == now) & made.loss_mask.bool()).nonzero().tolist():
            true = conditional(row, now, position)
            passes = int(made.nfe[row])
            gap = [
                float((true.exp() * (true - conditional(row, tau if tau <= now else 0, position))).sum())
                for tau in range(passes)
            ]
            mean_field.append(gap[0])
            two_stage.append(sum(gap) / passes)
        assert found[now, "mean_field"]["kl"] == pytest.approx(sum(mean_field) / len(mean_field), abs=1e-6)
        assert found[now, "two_stage"]["kl"] == pytest.approx(sum(two_stage) / len(two_stage), abs=1e-6)
        assert found[now, "two_stage"]["tokens"] == len(two_stage)
        tokens += len(two_stage)
    assert tokens == made.loss_mask.sum()
    assert found[0, "mean_field"]["kl"] == pytest.approx(0, abs=1e-6)
    assert found[0, "two_stage"]["weight_50"] == pytest.approx(1)
