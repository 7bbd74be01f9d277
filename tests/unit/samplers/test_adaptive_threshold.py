"""The adaptive sampler: its head, the record of what it chose, and what it learns."""

import math

import pytest
import torch

from helpers.streams import streams
from unmask.common.seeding import Seeds
from unmask.config.schema.samplers import Adaptive, EntropyBound
from unmask.methods.diffpo import Diffpo
from unmask.models.threshold_head import ThresholdHead
from unmask.rl.buffer_data import NoData
from unmask.rl.losses import gaussian_log_prob
from unmask.rl.rollouts import RolloutSettings
from unmask.samplers.decode import decode
from unmask.samplers.settings import DecodingSettings
from unmask.training.optimizer import adamw

SAMPLER = Adaptive(gamma=0.1, gamma_max=2.0, choose="prompt", width=8, proxy="entropy")
BOUND = EntropyBound(gamma=0.1, proxy="entropy")
PROMPTS = [[10, 11, 12, 13], [14, 15], [16, 17, 18, 19, 20, 21]]


def run(policy, sampler, slots=None):
    settings = DecodingSettings(24, 8, sampler, temperature=0.0, rows_per_batch=slots)
    prompt, mask = policy.pad(PROMPTS)
    return decode(policy.model, prompt, mask, settings, eot=-1, streams=streams(len(PROMPTS)), head=policy.head)


@pytest.mark.parametrize("choose", ["prompt", "block"])
def test_an_untrained_head_is_the_fixed_bound(policy, choose):
    fixed = run(policy, BOUND)
    policy.add_head(SAMPLER, seed=0)
    made = run(policy, SAMPLER.model_copy(update={"choose": choose}))
    assert torch.equal(made.response, fixed.response)
    assert torch.equal(made.nfe, fixed.nfe)
    assert made.gamma_logit.shape == (3, 1 if choose == "prompt" else 3)
    torch.testing.assert_close(policy.head.gamma(made.gamma_logit), torch.full_like(made.gamma_logit, 0.1))


@pytest.mark.parametrize("cache", ["none", "prefix", "dual"])
@pytest.mark.parametrize("slots", [None, 1])
def test_the_recorded_state_is_that_of_the_column_before_the_response(policy, cache, slots):
    policy.add_head(SAMPLER, seed=0)
    made = run(policy, SAMPLER.model_copy(update={"cache": cache}), slots=slots)
    mask_id = policy.model.config.mask_token_id
    for i, prompt in enumerate(PROMPTS):
        ids = torch.tensor([prompt + [mask_id] * 24])
        state = policy.model.hidden_states(ids, None, slice(len(prompt) - 1, len(prompt)))[0]
        torch.testing.assert_close(made.gamma_input[i], state.detach(), atol=1e-5, rtol=1e-5)


def test_a_larger_threshold_needs_fewer_passes(policy):
    generator = torch.Generator().manual_seed(0)  # an untrained model is unsure of everything
    torch.nn.init.normal_(policy.model.lm_head.weight, std=0.5, generator=generator)
    passes = []
    for gamma in (0.01, 1.0, 1.99):
        policy.head = None
        policy.add_head(SAMPLER.model_copy(update={"gamma": gamma}), seed=0)
        passes.append(int(run(policy, SAMPLER).nfe.sum()))
    assert passes[0] > passes[1] > passes[2]


def test_the_threshold_does_not_decay(policy, grid):
    """Without a gradient weight decay shrinks the adapter (its B is zero) and leaves the head where it is."""
    policy.add_head(SAMPLER, seed=0)
    policy.make_trainable(rank=2, alpha=4, dropout=0.0, targets=["q_proj"], seed=0)
    parameters = policy.trainable()
    before = {name: p.detach().clone() for name, p in parameters.items()}
    training = next(run.training for run in grid.runs.values() if run.trains)
    settings = training.model_copy(update={"weight_decay": 0.1})
    optimizer = adamw(parameters, settings)
    for p in parameters.values():
        p.grad = torch.zeros_like(p)
    optimizer.step()
    changed = {name for name, p in parameters.items() if not torch.equal(p, before[name])}
    assert changed == {name for name in parameters if "lora_A" in name}
    assert len(changed) == 2


def test_density_is_the_gaussians_and_skips_what_was_not_drawn():
    logit = torch.tensor([[0.5, -1.0], [2.0, torch.nan]])
    mean = torch.zeros(2, 2, requires_grad=True)
    density = gaussian_log_prob(logit, mean, 0.5)
    normal = torch.distributions.Normal(0.0, 0.5)
    expected = [float(normal.log_prob(torch.tensor([0.5, -1.0])).sum()), float(normal.log_prob(torch.tensor(2.0)))]
    assert density.tolist() == pytest.approx(expected)
    density.sum().backward()
    assert mean.grad.tolist() == [[2.0, -4.0], [8.0, 0.0]]  # (z − μ)/σ², nothing where no threshold was drawn


def test_the_head_is_saved_with_the_adapter(policy, tmp_path):
    policy.add_head(SAMPLER, seed=0)
    torch.nn.init.normal_(policy.head.outer.weight)
    policy.head.save(tmp_path)
    again = ThresholdHead.load(tmp_path)
    state = torch.randn(4, 32)
    assert torch.equal(again(state), policy.head(state))
    assert again.gamma_max == 2.0
    assert ThresholdHead.load(tmp_path / "nothing") is None


def buffer(policy, sudoku, method):
    decoding = DecodingSettings(24, 8, SAMPLER, temperature=1.0)
    settings = RolloutSettings(group_size=4, decoding=decoding, micro_batch_size=64, dropout=False)
    examples = sudoku.splits()["train"][:2]
    return method.collect(policy, sudoku, examples, settings, Seeds((0,)))


def diffpo(learn):
    return Diffpo(
        clip=0.5, kl_penalty=0.0, surrogate="two_stage", importance_sampling=True, clamp=2.0,
        learn=learn, sigma=0.5, speed_reward=0.5,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("learn", "trained"), [("model", {"lora"}), ("sampler", {"head"}), ("joint", {"lora", "head"})]
)
def test_each_mode_trains_what_it_names(policy, sudoku, learn, trained):
    method = diffpo(learn)
    policy.add_head(SAMPLER, seed=0)
    policy.make_trainable(rank=2, alpha=4, dropout=0.0, targets=["q_proj"], seed=0)
    method.begin(policy)
    rollouts = buffer(policy, sudoku, method)
    rollouts.reward = torch.rand(8, generator=torch.Generator().manual_seed(0))
    noise = rollouts.gamma_logit - math.log(0.1 / 1.9)
    assert bool(noise.abs().max() > 0) == (learn != "model")
    buffer_data = method.prepare(policy, rollouts, 1, Seeds((1,)))
    update_data = method.refresh(policy, rollouts, buffer_data, 0, Seeds((1,)))
    rows, metrics = method.loss(policy, rollouts, buffer_data, update_data)
    rows.sum().backward()
    assert ("gamma" in metrics) == (learn != "model")
    reached = {name for name, p in policy.trainable().items() if p.grad is not None and bool(p.grad.abs().sum() > 0)}
    assert {"head" if name.startswith("head.") else "lora" for name in reached} == trained


def test_the_threshold_moves_to_where_the_reward_is(policy, sudoku):
    """Reward that grows with the threshold, as fewer passes would earn: its mean goes up, step by step."""
    method = diffpo("sampler")
    policy.add_head(SAMPLER, seed=0)
    method.begin(policy)
    optimizer = torch.optim.Adam(policy.trainable().values(), 0.05)
    means = []
    for _ in range(5):
        rollouts = buffer(policy, sudoku, method)
        rollouts.reward, rollouts.correct = rollouts.gamma_logit[:, 0].clone(), torch.zeros(8)
        buffer_data = method.prepare(policy, rollouts, 1, Seeds((1,)))
        rows, _ = method.loss(policy, rollouts, buffer_data, NoData())
        optimizer.zero_grad()
        rows.sum().backward()
        optimizer.step()
        means.append(float(policy.head(rollouts.gamma_input).mean().detach()))
    assert means == sorted(means)
    assert means[-1] > math.log(0.1 / 1.9) + 0.2


def test_speed_pays_only_for_right_answers(policy, sudoku):
    method = diffpo("sampler")
    policy.add_head(SAMPLER, seed=0)
    rollouts = buffer(policy, sudoku, method)
    rollouts.reward, rollouts.correct = torch.zeros(8), torch.tensor([1.0, 0, 0, 0, 0, 0, 0, 0])
    advantage = method.prepare(policy, rollouts, 1, Seeds((1,))).advantage
    bonus = 0.5 * (1 - float(rollouts.nfe[0]) / 24)
    assert advantage.tolist() == pytest.approx([0.75 * bonus, *[-0.25 * bonus] * 3, 0, 0, 0, 0])
