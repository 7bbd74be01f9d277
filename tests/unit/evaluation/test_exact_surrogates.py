"""Exact errors of surrogates: by hand for two tokens, identities, and against what the package itself draws."""

import math
import subprocess
import sys

import pandas as pd
import pytest
import torch
from torch.testing import assert_close

from helpers.by_hand import even_policy, say
from helpers.enumeration import consistent_model
from helpers.paths import ROOT
from helpers.streams import streams
from unmask.analysis import claim_entries, claim_tables
from unmask.analysis.surrogates import LABELS
from unmask.common.seeding import Seeds
from unmask.config.errors import ConfigError
from unmask.config.grid.expand import expand
from unmask.config.schema.surrogates import Surrogates
from unmask.config.specs import SurrogatesSpec
from unmask.evaluation import exact_orders as orders
from unmask.evaluation.exact_errors import elbo_errors, errors, moments, response_errors
from unmask.evaluation.exact_orders import path_errors
from unmask.evaluation.exact_policies import direction_of, moved, old_policy
from unmask.evaluation.exact_surrogates import surrogates
from unmask.models.tabular import TabularModel, kl, log_likelihood
from unmask.rl import bounds, elbo_masks, likelihoods

SETTINGS = Surrogates(
    vocabulary=3, length=4, block=2, modes=6, reference_scale=0.5, seeds=[0, 1], directions=["reward"], distances=[0.1]
)


@pytest.fixture(scope="module", autouse=True)
def _without_gradients():
    with torch.no_grad():
        yield


def pair(seed=0, length=4, scale=0.5):
    """An old policy and a new one, in float64."""
    generator = torch.Generator().manual_seed(seed)
    old, new = (TabularModel(3, length, scale, generator).double() for _ in range(2))
    new.table.copy_(old.table + 0.3 * new.table)
    return old, new


def named(old, family, forwards):
    (found,) = [one for one in surrogates(old, 2) if (one.family, one.forwards) == (family, forwards)]
    return found


# --- by hand ----------------------------------------------------------------------------------------------------------


def test_two_independent_tokens_by_hand():
    """From ½ to ¾ for the token 0, in every state: a = log 3/2 for each 0, b = log ½ for each 1; log-ratios add up.

    Of 01, one copy gives 2a or 2b (¼ each, one token masked, weight 2) or a + b: variance ½ (a − b)². Of 00 and 11 it
    has none. Over the four responses that is ¼ (a − b)² on average, and the true log-ratio has the variance ½ (a − b)².
    """
    old, new = even_policy().model, even_policy().model
    say(new, 0.75)
    gap = math.log(1.5) - math.log(0.5)
    found = response_errors(named_at(old, "elbo_uniform", 1), new, old)
    assert found.bias == pytest.approx(0, abs=1e-6)
    assert found.variance == pytest.approx(gap**2 / 4, rel=1e-5)
    assert found.relative == pytest.approx(math.sqrt(1 / 2), rel=1e-5)
    assert found.correlation == pytest.approx(math.sqrt(2 / 3), rel=1e-5)

    # One of the two steps, times 2, has twice that variance; the mean field and the whole path are exact.
    assert response_errors(named_at(old, "steps_random", 1), new, old).variance == pytest.approx(gap**2 / 2, rel=1e-5)
    for family, forwards in (("mean_field", 1), ("merge_equal", 1), ("trajectory", 2), ("two_stage", 2)):
        assert response_errors(named_at(old, family, forwards), new, old).mse == pytest.approx(0, abs=1e-6)


def named_at(old, family, forwards):
    (found,) = [one for one in surrogates(old, 1) if (one.family, one.forwards) == (family, forwards)]
    return found


def test_errors_by_hand():
    """Two responses of probability ¼ and ¾: errors 1 and −1, noise 2 and 0; the target has the variance 3/16 · 4²."""
    found = errors(
        torch.tensor([5.0, -1.0]), torch.tensor([2.0, 0.0]), torch.tensor([4.0, 0.0]), torch.tensor([0.25, 0.75])
    )
    assert found.mean_error == -0.5
    assert found.bias == 1
    assert found.variance == 0.5
    assert found.mse == 1.5
    assert found.relative == pytest.approx(math.sqrt(1.5 / 3))
    # The mean has the variance 3/16 · 6² = 6.75, and 3/16 · 24 = 4.5 in common with the target.
    assert found.correlation == pytest.approx(4.5 / math.sqrt((6.75 + 0.5) * 3))


# --- identities -------------------------------------------------------------------------------------------------------


def test_what_scores_every_step_apart_is_exact_on_the_path():
    old, new = pair()
    for family in ("trajectory", "merge_equal", "steps_random", "steps_uniform", "steps_entropy"):
        assert path_errors(named(old, family, 4), new, old).mse == pytest.approx(0, abs=1e-20), family
    assert path_errors(named(old, "steps_random", 2), new, old).mean_error == pytest.approx(0, abs=1e-12)


def test_one_segment_is_the_mean_field_and_two_random_ones_are_two_stages():
    old, new = pair()
    for one, other in ((("merge_equal", 1), ("mean_field", 1)), (("merge_random", 2), ("two_stage", 2))):
        for mine, others in zip(
            moments(named(old, *one), new, old), moments(named(old, *other), new, old), strict=True
        ):
            assert_close(mine.expand(81), others.expand(81))


def test_ratios_along_the_path_average_to_the_ratio_of_the_response():
    """E over the old policy's orders of p_new(o, σ) / p_old(o, σ) is p_new(o) / p_old(o)."""
    old, new = pair()
    exact = orders.orders_of(old)
    ratio = (exact.probability * (exact.score(new) - exact.score(old)).exp()).sum(0)
    assert_close(ratio, (log_likelihood(new) - log_likelihood(old)).exp())
    assert_close(exact.probability.sum(0), torch.ones(81, dtype=torch.double))


def test_policies_whose_orders_agree_leave_no_error():
    """If every prediction is a conditional of one joint distribution, the path and the ELBO are exact."""
    old, new = (consistent_model(log_likelihood(model), 3, 4).double() for model in pair())
    assert response_errors(named(old, "trajectory", 4), new, old).mse < 1e-9
    assert response_errors(named(old, "elbo_uniform", 1), new, old).bias < 1e-5
    assert response_errors(named(old, "mean_field", 1), new, old).bias > 0.01


def test_random_levels_are_unbiased_and_more_copies_divide_the_variance():
    old, new = pair()
    for family, few, many in (("elbo_uniform", 1, 8), ("elbo_antithetic", 2, 8)):
        first, second = (elbo_errors(named(old, family, number), new) for number in (few, many))
        assert first.bias < 1e-6  # `scores_by_size` is in float32
        assert second.variance == pytest.approx(first.variance * few / many)


def test_masks_of_its_own_only_add_noise():
    old, new = pair()
    same, own = (response_errors(named(old, name, 2), new, old) for name in ("lower_bound", "lower_bound_own_masks"))
    assert own.bias == pytest.approx(same.bias)
    assert own.variance > 2 * same.variance


# --- against the package's own draws ----------------------------------------------------------------------------------

ROWS = 20000


def copies_score(copies):
    return lambda model, *inputs: likelihoods.elbo(model, *inputs, copies)


def coupled_score(model, *inputs):
    rate, first = likelihoods.draw_coupled(4, streams(ROWS))
    return likelihoods.coupled(model, *inputs, rate, first).sum(1)


def bound_score(bound):
    def score(model, *inputs):
        ends = torch.ones(ROWS, 4, dtype=torch.double)
        masked = bounds.draw_block_masks(2, 2, ends, 0.15, streams(ROWS))
        return 4 * bound(likelihoods.copy_log_probs(model, *inputs, masked), masked, ends)

    return score


SAMPLED = {
    ("elbo_antithetic", 2): lambda: copies_score(likelihoods.draw_copies(2, 4, "uniform", streams(ROWS))),
    ("elbo_antithetic", 4): lambda: copies_score(elbo_masks.draw_stratified(4, 4, streams(ROWS), rows=1)),
    ("elbo_uniform", 3): lambda: copies_score(
        likelihoods.draw_copies(3, 4, "uniform", streams(ROWS), antithetic=False)
    ),
    ("elbo_bernoulli", 2): lambda: copies_score(likelihoods.draw_copies(2, 4, "bernoulli", streams(ROWS))),
    ("elbo_quadrature", 3): lambda: copies_score(elbo_masks.draw_quadrature(3, 4, streams(ROWS))),
    ("coupled", 3): lambda: coupled_score,
    ("lower_bound", 2): lambda: bound_score(lambda scores, masked, _: bounds.lower_bound(scores, masked)),
    ("upper_bound", 2): lambda: bound_score(lambda scores, masked, ends: bounds.upper_bound(scores, masked, ends, 1.5)),
}


@pytest.mark.parametrize("key", SAMPLED, ids=lambda key: f"{key[0]}-{key[1]}")
def test_moments_are_those_of_what_the_package_draws(key):
    """Mean and variance of 20,000 draws for one response, within 4.5 standard errors."""
    old, new = pair()
    response = torch.tensor([[2, 0, 1, 1]]).repeat(ROWS, 1)
    prompt = torch.zeros(ROWS, 1, dtype=torch.long)
    inputs = prompt, torch.ones_like(prompt, dtype=torch.bool), response
    score = SAMPLED[key]()
    drawn = score(new, *inputs) - score(old, *inputs)
    mean, variance = (value[2 * 27 + 3 + 1] for value in moments(named(old, *key), new, old))
    assert abs(drawn.mean() - mean) < 4.5 * (variance / ROWS).sqrt()
    squares = (drawn - mean).square()
    assert abs(squares.mean() - variance) < 4.5 * squares.std() / math.sqrt(ROWS)


def test_every_surrogate_has_probabilities_that_sum_to_one():
    old, _ = pair()
    for one in surrogates(old, 2):
        for part in one.parts:
            total = part.probability.double().sum(0)
            assert_close(total, torch.ones_like(total), atol=1e-6, rtol=0)
        assert one.family in LABELS


# --- the experiment ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("direction", ["reward", "random"])
def test_new_policies_are_at_the_distance_that_was_asked_for(direction):
    seeds = Seeds((3,))
    old, reward = old_policy(SETTINGS, seeds)
    towards = direction_of(direction, old, reward, seeds)
    for distance in (0.01, 1.0):
        new = moved(old, towards, distance)
        assert kl(log_likelihood(old), log_likelihood(new)) == pytest.approx(distance, rel=1e-6)
    if direction == "reward":
        assert (log_likelihood(new).exp() * reward).sum() > (log_likelihood(old).exp() * reward).sum()


def test_both_steps(tmp_path):
    """On 8 responses of 3 tokens: a row for each surrogate and target, then figure, tables and verdicts."""
    changes = {"vocabulary": 2, "length": 3, "block": 1, "modes": 2, "distances": [0.1, 0.5]}
    SurrogatesSpec(SETTINGS.model_copy(update=changes)).write(tmp_path / "spec.yaml")
    claims = ROOT / "workflow/resources/surrogate_claims.yaml"
    step = [sys.executable, str(ROOT / "src/run_surrogates.py"), "spec.yaml", "errors.csv"]
    subprocess.run(step, cwd=tmp_path, check=True, stdout=subprocess.DEVNULL)
    step = [sys.executable, str(ROOT / "src/render_surrogates.py"), "errors.csv", "--claims", str(claims)]
    step += ["--scale", "smoke", "--figures", "a.pdf", "a.png", "--md", "a.md", "--csv", "a.csv", "--verdicts", "b.md"]
    step += ["--differences", "b.csv"]
    subprocess.run(step, cwd=tmp_path, check=True, stdout=subprocess.DEVNULL)

    rows = pd.read_csv(tmp_path / "errors.csv")
    assert set(rows["seed"]) == {0, 1}
    assert set(rows["target"]) == {"elbo", "response", "path"}
    assert rows.groupby(["seed", "direction", "kl", "target", "surrogate", "forwards"]).size().eq(1).all()
    assert rows["mse"].notna().all()
    assert all((tmp_path / name).stat().st_size > 0 for name in ("a.pdf", "a.png", "a.csv"))
    table = (tmp_path / "a.md").read_text(encoding="utf-8")
    assert table.count("| mean field") == 1
    assert "| merge(N), equal" in table.split("sampler's order")[1]
    verdicts = (tmp_path / "b.md").read_text(encoding="utf-8")
    assert "not tested" not in verdicts.split("\n\n")[2]
    found = claim_tables.from_differences(claim_entries.read(claims), pd.read_csv(tmp_path / "b.csv"))
    assert claim_tables.markdown(found, "smoke") == verdicts


MISTAKES = {
    "block": (3, "surrogates: block 3 does not divide length 4"),
    "length": (8, "surrogates: vocabulary**length · length! is 264539520, more than the 50000 that are enumerated"),
    "modes": (81, "surrogates: modes 81 is not below vocabulary**length, 81"),
    "directions": (["rewards"], "surrogates.directions.0: input should be 'reward' or 'random', not 'rewards'"),
}


@pytest.mark.parametrize("key", MISTAKES)
def test_mistakes_are_reported(config, key):
    value, said = MISTAKES[key]
    config["surrogates"][key] = value
    with pytest.raises(ConfigError) as caught:
        expand(config)
    assert any(line.startswith(said) for line in caught.value.lines), caught.value.lines
