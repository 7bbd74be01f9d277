"""Intervals, paired tests and their correction, against scipy and hand-made cases; comparisons on planted samples."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from helpers import false_verdicts
from unmask.analysis import comparisons
from unmask.analysis.statistics import (
    Estimate,
    holm,
    mcnemar,
    over_pairs,
    over_seeds,
    over_seeds_and_examples,
    paired_interval,
    standard_error,
)
from unmask.common.errors import InputError


def test_standard_error_is_scipys():
    assert standard_error([0.2, 0.3, 0.4]) == pytest.approx(stats.sem([0.2, 0.3, 0.4]))
    assert np.isnan(standard_error([0.2]))


def test_mcnemar_by_hand():
    """Three gained, one lost: 2 · P(X ≥ 3), X ~ Bin(4, 1/2), is 2 · 5/16."""
    better = np.array([1.0, 1, 1, 0, 1, 0])
    worse = np.array([0.0, 0, 0, 1, 1, 0])
    assert mcnemar(better, worse) == (3, 1, 0.625)
    assert mcnemar(better, better) == (0, 0, 1.0)


def test_pairs_by_hand():
    """Of ten pairs 5 : 0. With one more of each kind: 6/12 − 1/12, and a variance of (7/12 − (5/12)²)/12."""
    found = over_pairs(np.array([1.0] * 5 + [0.0] * 5))
    assert found.mean == pytest.approx(5 / 12)
    assert found.variance == pytest.approx((7 / 12 - 25 / 144) / 12)
    low, high = found.interval()
    assert (high - low) / 2 == pytest.approx(stats.norm.ppf(0.975) * found.error)
    assert low > 0 > over_pairs(np.array([1.0] * 4 + [0.0] * 6)).interval()[0]


def test_equal_pairs_have_an_error():
    low, high = over_pairs(np.zeros(10)).interval()
    assert (low, high) == pytest.approx((-0.231, 0.231), abs=1e-3)


def test_holm_by_hand():
    """Sorted 0.01, 0.02, 0.03, 0.5 times 4, 3, 2, 1, and never falling: 0.04, 0.06, 0.06, 0.5."""
    assert holm([0.5, 0.01, 0.03, 0.02]).tolist() == pytest.approx([0.5, 0.04, 0.06, 0.06])
    assert holm([0.9, 0.8]).tolist() == [1.0, 1.0]
    assert holm([0.03]).tolist() == [0.03]


def test_over_seeds_is_students_t():
    values = np.array([0.2, 0.35, 0.3])
    expected = stats.ttest_1samp(values, 0).confidence_interval()
    assert over_seeds(values).interval() == pytest.approx(tuple(expected))
    assert np.isnan(over_seeds(values[:1]).interval()).all()


def test_one_seed_speaks_of_its_examples():
    grades = np.random.default_rng(3).integers(0, 2, (1, 80)).astype(float)
    expected = stats.ttest_1samp(grades[0], 0).confidence_interval()
    assert over_seeds_and_examples([grades]).interval() == pytest.approx(tuple(expected))


def test_seeds_that_are_all_right_or_all_wrong_have_students_interval():
    found = over_seeds_and_examples([np.array([[1.0] * 50, [0.0] * 50, [0.0] * 50])])
    assert found.interval() == pytest.approx(over_seeds(np.array([1.0, 0.0, 0.0])).interval())


def test_seeds_and_examples_by_hand():
    """Means of seeds 2/3 and 1/3: variance 1/18, over 2 seeds 1/36; of examples 1, 1/2 and 0: 1/4, over 3 of them 1/12.

    The error is √(1/9); the quantile the mean of t(1) = 12.706 and t(2) = 4.303 by these variances, 1 : 3.
    """
    found = over_seeds_and_examples([np.array([[1.0, 1, 0], [1.0, 0, 0]])])
    assert found.error == pytest.approx(1 / 3)
    assert found.interval() == pytest.approx((0.5 - 6.4035 / 3, 0.5 + 6.4035 / 3), abs=1e-3)
    assert found.detectable() == pytest.approx((6.4035 + (1.3764 + 3 * 1.0607) / 4) / 3, abs=1e-3)


def test_seeds_within_is_where_students_t_over_the_square_root_of_n_falls_below_the_margin():
    """With a standard deviation of 2: 1.796 · 2/√12 = 1.04 and 1.782 · 2/√13 = 0.99, from a table of Student's t."""
    values = np.sqrt(2) * np.array([1.0, -1.0])
    assert over_seeds(values).seeds_within(1.0) == 13


def test_no_number_of_seeds_makes_up_for_too_few_problems():
    """The part of 100 problems alone, 1.66 · 0.1, is wider than ± 0.1; of 0.2 a few seeds stay below."""
    effect = Estimate(0.0, ((0.0001, 7), (0.01, 99)))
    assert effect.seeds_within(0.1) is None
    assert effect.seeds_within(0.2) is not None


def test_more_seeds_average_the_residual_in_the_means_of_problems():
    """By hand: grades with a residual only, ± 1 in a chessboard of 2 seeds and 4 problems, and problems' effects."""
    chessboard = np.array([[1.0, -1, 1, -1], [-1, 1, -1, 1]])
    effect = over_seeds_and_examples([chessboard])
    # All means are 0, so the estimated residual, 8/3, is more than what there is, and none is taken off.
    assert (effect.parts, effect.residual) == (((0.0, 1), (0.0, 3)), 0.0)

    problems = np.array([3.0, -3, -1, 1])
    both = over_seeds_and_examples([chessboard * [1, 1, -1, -1] / 2 + problems])
    # Means of problems: variance 20/3, over 4 problems 5/3. The residual's square is 8/4/3 = 2/3, over 8 grades 1/12.
    assert both.parts[1] == pytest.approx((5 / 3, 3))
    assert both.residual == pytest.approx(1 / 12)
    # At 8 seeds a quarter of it is left. Without a spread of the seeds the rest decides: t is 2.353 for 3 degrees.
    half = 2.3534 * np.sqrt(5 / 3 - 1 / 12 + 1 / 48)
    assert both.seeds_within(half + 1e-3) <= 8 < both.seeds_within(half - 1e-3)


def test_shared_examples_are_not_taken_for_new_ones():
    """Ten seeds that answer alike say no more about the examples than one."""
    one = np.random.default_rng(0).integers(0, 2, (1, 100)).astype(float)
    ten = over_seeds_and_examples([np.repeat(one, 10, axis=0)])
    assert ten.interval() == pytest.approx(over_seeds_and_examples([one]).interval())


def test_tasks_are_strata():
    """Tasks of 0 and 1: their mean is always 1/2. The error of two equal tasks is 1/√2 of that of one."""
    assert over_seeds_and_examples([np.zeros((3, 20)), np.ones((3, 90))]).interval() == (0.5, 0.5)
    one = np.random.default_rng(0).integers(0, 2, (3, 100)).astype(float)
    found = over_seeds_and_examples([one, one])
    assert found.error == pytest.approx(over_seeds_and_examples([one]).error / np.sqrt(2))


@pytest.mark.parametrize("seeds", [3, 5])
def test_intervals_hold_the_truth_as_often_as_they_say(seeds):
    """Seeds with accuracies about 0.5 ± 0.1 on 60 problems of their own difficulty."""
    rng, held = np.random.default_rng(0), []
    for _ in range(400):
        p = 0.5 + 0.1 * rng.standard_normal((seeds, 1)) + 0.2 * rng.standard_normal((1, 60))
        low, high = over_seeds_and_examples([(rng.random((seeds, 60)) < p).astype(float)]).interval()
        held.append(low <= 0.5 <= high)
    assert 0.95 <= np.mean(held) <= 0.995


@pytest.mark.parametrize("problems", false_verdicts.PROBLEMS)
@pytest.mark.parametrize("seeds", false_verdicts.SEEDS)
def test_equal_methods_are_told_apart_in_5_percent_at_most(seeds, problems):
    """One base model and test set for all seeds; the interval over seeds leaves them out: 7 to 21 % false verdicts."""
    found = false_verdicts.estimates("one base model, seeds alike", seeds, problems, 300)
    over_both, of_seeds = (np.mean([false_verdicts.told_apart(pair[i]) for pair in found]) for i in (1, 0))
    assert over_both <= 0.05
    assert of_seeds > 0.05


@pytest.mark.parametrize("scenario", ["laptop", "seeds unlike"])
def test_seeds_that_differ_cost_no_coverage(scenario):
    """5 % but for twice the error of 300 repetitions; and a difference that is called detectable is found in most."""
    found = [pair[1] for pair in false_verdicts.estimates(scenario, 3, 128, 300)]
    assert np.mean([false_verdicts.told_apart(one) for one in found]) <= 0.05 + 2 * np.sqrt(0.05 * 0.95 / 300)
    effect = np.mean([one.detectable() for one in found])
    assert 0.6 <= np.mean([false_verdicts.told_apart(one, effect) for one in found]) <= 0.9


@pytest.mark.parametrize(("spread", "most", "seeds"), [(1.0, 40, 24), (1.0, 16, 8), (0.4, 16, 8), (2.0, 40, 8)])
def test_a_rule_asks_for_as_many_seeds_as_a_width_needs(spread, most, seeds):
    """Of eight values ± s, whose 90 % interval is ± t · s / √n: 22, 6 and 80 are needed for ± 0.4."""
    first = over_seeds(spread * np.array([1.0, -1.0] * 4))
    assert false_verdicts.needed_if_wide(first, most, 0.4) == seeds


def test_paired_interval_looks_at_differences():
    """Two policies that are right together always differ by the same, however uncertain each of them is."""
    grades = np.array([1.0, 0.0] * 30)
    assert paired_interval(grades, grades) == (0.0, 0.0)
    low, high = paired_interval(np.ones(60), grades)
    expected = stats.bootstrap((1 - grades,), np.mean, n_resamples=2000, method="percentile", rng=5)
    assert (low, high) == pytest.approx(tuple(expected.confidence_interval), abs=0.03)


def planted(method, right, seed, task="sudoku", variant="default"):
    """40 examples of which the first `right` are right."""
    return pd.DataFrame({
        "method": method, "task": task, "variant": variant, "seed": seed, "sampler": "top1", "length": 24,
        "example": range(40), "strict": [1.0] * right + [0.0] * (40 - right), "nfe": 24.0,
    })  # fmt: skip


@pytest.fixture
def samples():
    rights = {"base": 5, "diffu_grpo": 6, "dmpo": 30}
    return pd.concat([planted(m, right + seed, seed) for m, right in rights.items() for seed in range(3)])


def test_trained_methods_meet_the_base_and_dmpo_meets_the_others(samples):
    base, grpo, dmpo = ((m, "default") for m in ("base", "diffu_grpo", "dmpo"))
    assert comparisons.pairs(samples) == [(grpo, base), (dmpo, base), (dmpo, grpo)]
    more = pd.concat([samples, planted("dmpo", 3, 0, variant="alpha~1.0")])
    assert ((dmpo, ("dmpo", "alpha~1.0"))) in comparisons.pairs(more)


def test_comparisons_are_paired_and_corrected(samples):
    found = comparisons.compare(samples).set_index(["better", "worse", "seed"])
    assert len(found) == 9
    one = found.loc[("dmpo/default", "base/default", 0)]
    assert (one["gained"], one["lost"], one["n"]) == (25, 0, 40)
    assert one["difference"] == 0.625
    assert one["p"] == pytest.approx(2 * 0.5**25)
    assert one["p_holm"] == pytest.approx(9 * 2 * 0.5**25)
    assert found.loc[("diffu_grpo/default", "base/default", 0), "p_holm"] == 1.0


def test_the_table_counts_seeds_and_says_how_it_was_made(samples):
    text = comparisons.markdown("main", comparisons.compare(samples), samples)
    lines = [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines() if line.startswith("|")]
    rows = {line[0]: line[1:] for line in lines}
    assert rows["DMPO − Base"][3:5] == ["+62.5", "[+62.5, +62.5]"]
    assert rows["DMPO − Base"][6] == "3 / 0 / 0"
    assert rows["diffu-GRPO − Base"][6] == "0 / 0 / 3"
    assert ["one token a step", "DMPO", "77.5", "1.4"] in [line[:4] for line in lines]
    assert "corrected (Holm) for all 9 tests" in text
    assert comparisons.PASSES not in text  # the same for all


def test_without_base_and_dmpo_all_meet_the_first_and_their_passes_are_compared():
    """8, 9 and 10 passes against 10, by seed: −20, −10 and 0 %; their mean −10, and t(2) · 10/√3 = 24.8 around it."""
    one = [planted("diffpo", 3 + s, s, variant="learn~sampler").assign(nfe=10.0) for s in (2, 0, 1)]  # in any order
    two = [planted("diffpo", 4 + s, s, variant="learn~joint").assign(nfe=8.0 + s) for s in range(3)]
    samples = pd.concat(one + two)
    assert comparisons.pairs(samples) == [(("diffpo", "learn~joint"), ("diffpo", "learn~sampler"))]
    (row,) = comparisons.over_seeds(comparisons.compare(samples), samples).to_dict("records")
    assert row["Difference"] == "+2.5"
    assert row[comparisons.PASSES] == "-10 [-35, +15]"


def test_without_anyone_to_compare_with_the_table_says_so():
    one = planted("diffpo", 3, 0)
    assert "Nothing to compare" in comparisons.markdown("x", comparisons.compare(one), one)


def test_runs_on_other_examples_are_refused(samples):
    short = planted("dmpo", 3, 0).iloc[:39].assign(method="sft")
    with pytest.raises(InputError, match=r"sudoku: sft/default/sudoku/top1/24 lacks seeds or examples"):
        comparisons.compare(pd.concat([samples, short]))
