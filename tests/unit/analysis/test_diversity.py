"""pass@k and distinct right answers against values by hand."""

import itertools
import math

import numpy as np
import pandas as pd
import pytest

from unmask.analysis import claim_entries, claim_tables, claims, diversity, tables
from unmask.analysis.diversity import pass_at_k
from unmask.analysis.scores import RUN, collect, over_seeds


def samples(method, seed, problems):
    """A row for each (right, answer) of each problem."""
    rows = []
    for example, answers in enumerate(problems):
        for sample, (right, answer) in enumerate(answers):
            rows.append({"example": example, "sample": sample, "answer": answer, "strict": right, "published": right})
    labels = {
        "method": method,
        "task": "countdown",
        "variant": "default",
        "seed": seed,
        "sampler": "top1",
        "length": 24,
    }
    return pd.DataFrame(rows).assign(**labels, nfe=10, tokens=20, seconds=0.1, points=1)


def right(*answers):
    return [(1.0, answer) for answer in answers]


def wrong(count):
    return [(0.0, "no")] * count


# Four samples a problem: two right ones that are one answer, three of two answers, and none.
PROBLEMS = [right("1 + 2", "1+2") + wrong(2), right("2+1", "1+2", "2+1") + wrong(1), wrong(4)]


@pytest.mark.parametrize(
    ("c", "n", "k", "expected"),
    [
        (0, 4, 2, 0.0),
        (1, 4, 1, 1 / 4),
        (1, 4, 2, 1 / 2),
        (2, 4, 2, 5 / 6),
        (3, 4, 2, 1.0),
        (4, 4, 4, 1.0),
        (1, 16, 16, 1.0),
    ],
)
def test_pass_at_k_by_hand(c, n, k, expected):
    assert pass_at_k(c, n, k) == pytest.approx(expected)


def test_pass_at_k_is_the_share_of_subsets_with_a_right_sample():
    for n in range(1, 7):
        for grades in itertools.product((0, 1), repeat=n):
            for k in range(1, n + 1):
                subsets = list(itertools.combinations(grades, k))
                assert pass_at_k(sum(grades), n, k) == pytest.approx(sum(map(any, subsets)) / len(subsets))


def test_pass_at_k_is_unbiased():
    """Each sample is right with probability 0.3: its expectation is 1 − 0.7^k."""
    for k in (1, 2, 4):
        expected = sum(math.comb(5, c) * 0.3**c * 0.7 ** (5 - c) * pass_at_k(c, 5, k) for c in range(6))
        assert expected == pytest.approx(1 - 0.7**k)


def test_solutions_are_told_apart_by_their_class_and_not_by_their_text():
    """Right samples of three classes, twice, once and once: 3 answers, ½·1 + ¼·2 + ¼·2 = 1.5 bits; none is 0 bits."""
    frame = samples("base", 0, [right("1+2", "2+1", "4-1", "3") + wrong(0), wrong(4)])
    frame["solution"] = ["1+2", "1+2", "4-1", "3", "", "", "", ""]
    found = diversity.of_problems(frame, RUN)
    assert list(found["distinct_right"]) == [3, 0]
    assert list(found["solution_entropy"]) == pytest.approx([1.5, 0])
    (row,) = collect([frame]).to_dict("records")
    assert row["solution_entropy"] == pytest.approx(0.75)
    assert row["solution_entropy_error"] == pytest.approx(0.75 / math.sqrt(2))


def test_pairs_of_right_samples_by_hand():
    """Of six pairs of 1, 1, 2 and 3 one is equal; with one right sample there is no pair, and no value."""
    assert diversity.distinct_pairs(np.array([2, 1, 1])) == pytest.approx(5 / 6)
    assert diversity.distinct_pairs(np.array([4])) == 0
    assert math.isnan(diversity.distinct_pairs(np.array([1])))
    problems = [right("1", "1", "2", "3"), right("1") + wrong(3), right("1", "2") + wrong(2)]
    frame = samples("base", 0, problems)
    assert list(diversity.of_problems(frame, RUN)["distinct_pairs"]) == pytest.approx([5 / 6, math.nan, 1], nan_ok=True)
    (row,) = collect([frame]).to_dict("records")
    assert row["distinct_pairs"] == pytest.approx(11 / 12)  # over the two problems that have a pair
    assert row["distinct_pairs_error"] == pytest.approx(1 / 12 / math.sqrt(2))


@pytest.mark.parametrize("accuracy", [0.3, 0.9])
def test_distinct_pairs_do_not_depend_on_accuracy(accuracy):
    """A policy that is right with this probability, and then each of three answers alike: two differ with 2/3."""
    rng = np.random.default_rng(0)
    problems = []
    for _ in range(2000):
        grades = rng.random(8) < accuracy
        problems.append([(float(grade), str(rng.integers(3)) if grade else "no") for grade in grades])
    found = diversity.of_problems(samples("base", 0, problems), RUN)["distinct_pairs"]
    assert found.mean() == pytest.approx(2 / 3, abs=4 * found.std() / math.sqrt(found.count()))


def test_an_experiment_may_have_tasks_with_one_solution_and_with_several():
    many = samples("base", 0, [right("1+2", "2+1")]).assign(task="countdown_many", solution="1+2")
    scores = over_seeds(collect([samples("base", 0, [right("1+2", "2+1")]), many])).set_index("task")
    assert scores.at["countdown", "distinct_right"] == 2
    assert scores.at["countdown_many", "distinct_right"] == 1
    assert scores["solution_entropy"].isna().to_dict() == {"countdown": True, "countdown_many": False}
    headings = dict(tables.blocks(scores.reset_index())[1])
    one, several = (table for heading, table in headings.items() if "pass@k" in heading)
    assert "entropy (bits)" not in one
    assert list(several["entropy (bits)"]) == ["0.00 [0.00, 0.00]"]


def test_more_samples_than_there_are_is_an_error():
    with pytest.raises(ValueError, match="pass@8 needs at least 8 samples, not 4"):
        pass_at_k(2, 4, 8)


def test_columns_of_a_run_by_hand():
    (row,) = collect([samples("base", 0, PROBLEMS)]).to_dict("records")
    assert row["n"] == 3
    assert row["strict"] == row["published"] == pytest.approx(5 / 12)
    assert row["pass_at_1"] == pytest.approx(5 / 12)
    assert row["pass_at_2"] == pytest.approx((5 / 6 + 1 + 0) / 3)
    assert row["pass_at_4"] == pytest.approx(2 / 3)
    assert row["distinct_right"] == pytest.approx((1 + 2 + 0) / 3)
    assert "pass_at_8" not in row
    # Over problems: shares ½, ¾ and 0, and counts 1, 2 and 0.
    shares, counts = [0.5, 0.75, 0.0], [1, 2, 0]
    for name, values in (("strict", shares), ("pass_at_1", shares), ("distinct_right", counts)):
        mean = sum(values) / 3
        error = math.sqrt(sum((value - mean) ** 2 for value in values)) / 3
        assert row[f"{name}_error"] == pytest.approx(error)


def test_intervals_are_over_seeds():
    runs = [samples("dmpo", seed, [right("a") * (seed + 1) + wrong(3 - seed)]) for seed in range(3)]
    (cell,) = over_seeds(collect(runs)).to_dict("records")
    assert cell["pass_at_1"] == pytest.approx(0.5)
    assert cell["pass_at_1_high"] - 0.5 == pytest.approx(4.3027 * 0.25 / math.sqrt(3), rel=1e-4)
    assert cell["distinct_right"] == cell["distinct_right_low"] == cell["distinct_right_high"] == 1.0


def test_a_base_model_that_is_evaluated_once_has_intervals_over_problems():
    (cell,) = over_seeds(collect([samples("base", 0, PROBLEMS)])).to_dict("records")
    assert cell["interval"] == "problems"
    assert 0 < cell["pass_at_4_low"] < 2 / 3 < cell["pass_at_4_high"] < 1
    half = 1.959964 * math.sqrt(2) / 3
    assert (cell["distinct_right_low"], cell["distinct_right_high"]) == pytest.approx((1 - half, 1 + half))


def test_the_table_has_a_block_for_each_length():
    runs = [samples("dmpo", seed, PROBLEMS) for seed in range(3)]
    text = tables.markdown("diversity", "?", *tables.blocks(over_seeds(collect(runs)), temperature=1.0))
    assert "## Countdown, one token a step, L = 24: pass@k, and how many right answers differ" in text
    assert "| Method   | pass@1     | pass@2     | pass@4     | right answers   |" in text
    assert "| DMPO     | 41.7 ± 0.0 | 61.1 ± 0.0 | 66.7 ± 0.0 | 1.00 ± 0.00     |" in text


def test_a_policy_that_is_never_right_twice_has_no_pairs():
    runs = [samples("dmpo", 0, PROBLEMS), samples("base", 0, [wrong(4)] * 3)]
    ((_, table),) = [one for one in tables.blocks(over_seeds(collect(runs)))[1] if "pass@k" in one[0]]
    assert dict(zip(table["Method"], table["distinct pairs (%)"], strict=True)) == {"DMPO": "33.3", "Base": "–"}


def test_one_sample_per_problem_has_no_such_columns():
    once = samples("dmpo", 0, PROBLEMS).drop(columns=["sample", "answer", "example"])
    scores = collect([once])
    assert diversity.found_in(scores.columns) == []
    assert not [heading for heading, _ in tables.blocks(over_seeds(scores))[1] if "pass@k" in heading]


def test_problems_with_different_numbers_of_samples_are_an_error():
    frame = samples("dmpo", 0, [right("a", "b"), right("a")])
    with pytest.raises(ValueError, match="different numbers of samples"):
        diversity.of_problems(frame, RUN)


def test_rows_of_claims_are_problems_with_pass_at_k_and_the_gain_from_more_samples():
    """Of 16 samples one is right: pass@1 is 1/16 and pass@16 is 1. A problem that is never solved gains nothing."""
    frame = samples("base", 0, [right("1+2") + wrong(15), wrong(16)])
    frame["solution"] = ["1+2"] + [""] * 31
    rows = diversity.with_pass_at_k(frame, RUN).set_index("example")
    assert list(rows["pass_at_16"]) == [1, 0]
    assert list(rows["gain_at_16"]) == pytest.approx([15 / 16, 0])
    assert list(rows["strict"]) == pytest.approx([1 / 16, 0])
    assert set(rows) >= claim_entries.OF_SEVERAL


def test_the_orders_of_decoding_are_compared_by_problem():
    """Left to right solves one of two problems more, in each seed."""
    claim = claim_entries.Claim(
        claim="more", source="own question", experiment="base_orders", task="countdown", better="base@left_to_right",
        worse="base@top1", length="mean", metric="pass_at_16", equivalence=0.02,
    )  # fmt: skip
    parts = []
    for seed in range(3):
        better = samples("base", seed, [right("1+2") + wrong(15), right("2+1") + wrong(15)])
        parts += [better.assign(sampler="left_to_right"), samples("base", seed, [right("1+2") + wrong(15), wrong(16)])]
    found = claims.check(claim, diversity.with_pass_at_k(pd.concat(parts), RUN))
    assert found.effects[0].mean == pytest.approx(0.5)
    assert found.size == "3 × 2"


def pairs(method, seeds, values):
    """Distinct pairs of a policy, one value for each problem in every seed."""
    labels = {"method": method, "task": "countdown", "variant": "default", "sampler": "top1", "length": 24}
    rows = [{"seed": seed, "example": i, "distinct_pairs": value} for seed in seeds for i, value in enumerate(values)]
    return pd.DataFrame(rows).assign(**labels)


ON_PAIRS = {"sampler": "top1", "length": 24, "metric": "distinct_pairs", "experiment": "main", "task": "countdown"}


@pytest.mark.parametrize(
    ("rival", "verdict"),
    [
        ([0.4] * 20 + [math.nan] * 5, "contradicted"),
        ([0.4] * 19 + [math.nan] * 6, "not tested"),  # one problem too few that both solve twice
    ],
)
def test_a_claim_on_pairs_needs_enough_problems_that_all_runs_solve_twice(rival, verdict):
    claim = claim_entries.Claim(claim="c", source="s", better="dmpo", worse="base", **ON_PAIRS)
    noise = np.random.default_rng(0).normal(0, 0.01, 25)
    frame = pd.concat([pairs("dmpo", range(3), 0.2 + noise), pairs("base", range(3), rival)])
    assert claims.check(claim, frame).verdict == verdict


def test_a_run_that_solves_nothing_twice_is_not_left_out_of_a_claim_on_pairs():
    """Leaving it out would compare only the seeds in which the method did not fail."""
    claim = claim_entries.Claim(claim="c", source="s", better="dmpo", worse="base", **ON_PAIRS)
    failed = pairs("dmpo", [3], [math.nan] * 25)
    both_fail = pd.concat([failed, pairs("base", [3], [math.nan] * 25)])
    noise = np.random.default_rng(0).normal(0, 0.01, 25)
    rest = pd.concat([pairs("dmpo", range(3), 0.2 + noise), pairs("base", range(3), [0.4] * 25)])
    assert claims.check(claim, rest).verdict == "contradicted"
    for more in (pd.concat([failed, pairs("base", [3], [0.4] * 25)]), both_fail):
        found = claims.check(claim, pd.concat([rest, more]))
        assert found.verdict == "not tested"
    text = claim_tables.markdown([found], "laptop", ["main"])
    assert "1 of methods or tasks that an experiment does not have here, or with fewer than 20 problems that" in text
