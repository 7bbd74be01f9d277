"""Claims: each verdict from planted numbers."""

import re

import numpy as np
import pandas as pd
import pytest
import yaml
from scipy import stats

from unmask.analysis import claim_entries, claim_tables, claims
from unmask.analysis.statistics import over_seeds_and_examples
from unmask.common.errors import InputError


def claim(better="dmpo", worse="base", metric="strict", task="sudoku", **others):
    if metric in claim_entries.BY_EXAMPLE:
        others = {"sampler": None if "@" in better else "top1", "length": "mean"} | others
    others = {"experiment": "main"} | others
    return claim_entries.Claim(claim="c", source="s", task=task, better=better, worse=worse, metric=metric, **others)


def scored(values, column="strict", **labels):
    """Rows of a policy, one a seed."""
    labels = {"task": "sudoku", "variant": "default", "sampler": "top1", "length": 24} | labels
    return pd.DataFrame([{**labels, "seed": seed, column: value} for seed, value in enumerate(values)])


def against(values, base=(0.2, 0.3, 0.4)):
    return pd.concat([scored(base, method="base"), scored(values, method="dmpo")])


@pytest.mark.parametrize(
    ("values", "verdict"),
    [
        ([0.70, 0.81, 0.90], "supported"),
        ([0.10, 0.21, 0.30], "contradicted"),
        ([0.00, 0.30, 0.90], "inconclusive"),
    ],
)
def test_the_interval_alone_decides(values, verdict):
    found = claims.check(claim(), against(values))
    assert (found.verdict, len(found.differences[0])) == (verdict, 3)
    assert found.effects[0].mean == pytest.approx(sum(values) / 3 - 0.3)
    assert verdict in claim_tables.markdown([found], "laptop")


@pytest.mark.parametrize(
    ("values", "margin", "verdict"),
    [
        ([0.201, 0.299, 0.400], None, "equivalent"),  # within the 2 points of every share
        ([0.201, 0.299, 0.400], 0.001, "inconclusive"),
        ([0.250, 0.349, 0.402], None, "inconclusive"),
        ([0.250, 0.349, 0.402], 0.2, "equivalent"),
        ([0.210, 0.311, 0.409], None, "supported"),  # small, but on one side of zero
    ],
)
def test_no_difference_within_the_margin_is_a_verdict(values, margin, verdict):
    found = claims.check(claim(equivalence=margin), against(values))
    assert found.verdict == verdict
    low, high = found.effects[0].interval(0.9)
    assert (max(-low, high) < (margin or 0.02)) == (verdict in ("equivalent", "supported"))


def test_a_claim_of_no_loss_and_a_metric_without_margin_are_never_equivalent():
    same = against([0.201, 0.299, 0.400])
    assert claims.check(claim(margin=0.0001), same).verdict == "inconclusive"
    passes = same.rename(columns={"strict": "nfe"})
    assert claims.check(claim(metric="nfe"), passes).verdict == "inconclusive"
    assert claims.check(claim(metric="nfe", equivalence=0.1), passes).verdict == "equivalent"


def test_a_claim_of_several_parts_is_equivalent_if_a_part_makes_no_difference():
    verdicts = [["supported", "equivalent"], ["equivalent", "inconclusive"], ["equivalent", "contradicted"]]
    assert [claims._joined(one) for one in verdicts] == ["equivalent", "inconclusive", "contradicted"]


def test_verdicts_survive_holm_among_the_claims_of_their_paper():
    """p = 0.02 survives alone, and next to a smaller one; not next to a larger one, whose family has two tests."""
    seeds = np.array([-1.0, 0.0, 1.0])

    def finding(p, source):
        # Three seeds with spread 1: |t| = √3 · mean, and two degrees of freedom.
        mean = stats.t.isf(p / 2, 2) / np.sqrt(3)
        rows = pd.DataFrame(mean + seeds)
        return claims.judged(claim(metric="reward").model_copy(update={"source": source}), [rows])

    first, second = "A, arXiv 2501.00001v2, Table 1", "A, arXiv 2501.00001, Table 2"
    found = [finding(0.02, first), finding(0.04, second), finding(0.02, "B, arXiv 2501.00002"), finding(0.3, "C")]
    assert [round(one.p, 6) for one in found] == [0.02, 0.04, 0.02, 0.3]
    assert claims.survivors(found) == [True, True, True, None]
    assert claims.survivors([finding(0.03, first), finding(0.04, second)]) == [False, False]
    assert claims.survivors([finding(0.04, second)]) == [True]


def test_a_claim_of_two_parts_is_contradicted_at_twice_the_smaller_p():
    """Of parts with p = 0.01 against the claim and p = 0.6; for `supported` the larger p counts."""
    seeds = np.array([-1.0, 0.0, 1.0])
    two = claim(metric="reward", also=[{"metric": "kl"}])

    def finding(*signed):
        rows = [pd.DataFrame(np.sign(p) * stats.t.isf(abs(p) / 2, 2) / np.sqrt(3) + seeds) for p in signed]
        return claims.judged(two, rows)

    against, held = finding(-0.01, 0.6), finding(0.01, 0.04)
    assert (against.verdict, round(against.p, 6)) == ("contradicted", 0.02)
    assert (held.verdict, round(held.p, 6)) == ("supported", 0.04)
    assert round(finding(-0.01, -0.002).p, 6) == 0.004
    one_seed = claims.judged(two, [pd.DataFrame([1.0]), pd.DataFrame(seeds)])
    assert np.isnan(one_seed.p)


def test_our_own_questions_on_a_subject_are_one_paper():
    sources = ["own question", "own question on diversity", "DMPO, arXiv 2510.08233v3, Table 1"]
    papers = [claim().model_copy(update={"source": source}).paper for source in sources]
    assert papers == ["own question", "own question on diversity", "DMPO, arXiv 2510.08233"]


def test_one_seed_decides_nothing():
    found = claims.check(claim(), against([0.9], [0.1]))
    assert found.verdict == "inconclusive"
    assert "| +80.0 (no interval) |" in claim_tables.markdown([found], "laptop")


def test_no_difference_has_no_sign():
    found = claims.check(claim(), against([0.2, 0.3, 0.4 - 1e-9]))
    assert "| +0.0 [" in claim_tables.markdown([found], "laptop")


def test_lower_may_be_better():
    found = claims.check(claim(direction="lower"), against([0.10, 0.21, 0.30]))
    assert (found.verdict, round(found.effects[0].mean, 3)) == ("supported", -0.097)
    assert claims.check(claim(direction="lower"), against([0.70, 0.81, 0.90])).verdict == "contradicted"


@pytest.mark.parametrize(
    ("values", "verdict"),
    [
        ([0.19, 0.295, 0.39], "supported"),
        ([0.10, 0.205, 0.30], "contradicted"),
        ([0.16, 0.23, 0.36], "inconclusive"),
    ],
)
def test_no_worse_is_decided_at_the_margin(values, verdict):
    """Losses of 1, 10 and 5 points, where 5 are allowed."""
    assert claims.check(claim(margin=0.05), against(values)).verdict == verdict


def test_without_numbers_a_claim_is_not_tested():
    scores = against([0.7, 0.8, 0.9])
    assert claims.check(claim("d1"), scores).verdict == "not tested"
    assert claims.check(claim("dmpo/alpha~1.0"), scores).verdict == "not tested"
    assert claims.check(claim(sampler="top4"), scores).verdict == "not tested"
    assert claims.check(claim(metric="clamped"), scores, scores).verdict == "not tested"
    assert claims.check(claim(), None).verdict == "not tested"


def test_claims_without_numbers_are_counted_in_one_line():
    scores = against([0.7, 0.8, 0.9])
    given = [claim(), claim("d1"), claim(task="gsm8k"), claim(task="gsm8k", metric="published")]
    found = [claims.check(one, scores) for one in given]
    found.append(claims.check(claim().model_copy(update={"experiment": "dream"}), None))
    text = claim_tables.markdown(found, "laptop", ["main"])
    assert "1 supported, 4 not tested." in text
    assert [line for line in text.splitlines() if line.startswith("|") and "not tested" in line] == []
    assert text.endswith(
        "\n\nNot tested: 1 of experiments without scores here (`dream`); 3 of methods or tasks that an experiment does "
        "not have here (`main` on Sudoku, `main` on GSM8K).\n"
    )


def test_a_variant_a_sampler_and_a_length_can_be_named():
    scores = pd.concat(
        [
            scored([0.1, 0.1, 0.1], method="base"),
            scored([0.5, 0.5, 0.5], method="dmpo", variant="alpha~1.0"),
            scored([0.9, 0.9, 0.9], method="dmpo", variant="alpha~1.0", length=32),
            scored([0.3, 0.3, 0.3], method="base", length=32),
        ]
    )
    assert claims.check(claim("dmpo/alpha~1.0"), scores).effects[0].mean == pytest.approx(0.5)
    assert claims.check(claim("dmpo/alpha~1.0", length=32), scores).effects[0].mean == pytest.approx(0.6)


def trained(method, rewards, variant="default"):
    """Four updates a seed."""
    return pd.DataFrame([
        {"method": method, "task": "sudoku", "variant": variant, "seed": seed, "step": step, "reward": reward + seed}
        for seed in range(3) for step, reward in enumerate(rewards, 1)
    ])  # fmt: skip


def test_training_metrics_can_be_tested_in_a_quarter_of_the_updates():
    metrics = pd.concat([trained("dmpo", [0, 1, 2, 3]), trained("dmpo", [1, 1, 1, 1], "loss_kind~wddo")])
    early = claim("dmpo/loss_kind~wddo", "dmpo", "reward", quarter=1)
    late = claim("dmpo/loss_kind~wddo", "dmpo", "reward", quarter=4)
    assert [claims.check(one, None, metrics).effects[0].mean for one in (early, late)] == [1, -2]
    assert claims.check(late, None, metrics).verdict == "contradicted"
    assert "quarter 4 of training, reward" in claim_tables.markdown([claims.check(late, None, metrics)], "x")


def test_surrogates_are_compared_by_tokens():
    """Last quarter: steps 6 and 7 with 1 and 3 tokens; (6 · 1 + 7 · 3) / 4 = 6.75, and half of it for two-stage."""
    rows = pd.DataFrame([
        {"method": "base", "task": "sudoku", "variant": "default", "seed": seed, "step": step, "surrogate": surrogate,
         "kl": factor * step, "tokens": 1 + 2 * (step == 7)}
        for seed in (0, 1, 2) for step in range(8) for surrogate, factor in (("mean_field", 1), ("two_stage", 0.5))
    ])  # fmt: skip
    found = claims.check(claim("base@two_stage", "base@mean_field", "kl", direction="lower", quarter=4), rows)
    assert found.effects[0].mean == pytest.approx(-6.75 / 2)
    assert found.verdict == "supported"


def test_stand_ins_are_called_what_they_are():
    found = claims.check(claim(task="chain"), against([0.7, 0.8, 0.9]).assign(task="chain"))
    assert "Chains (in place of GSM8K)" in claim_tables.markdown([found], "laptop")


def test_a_wrong_entry_is_named(tmp_path):
    (tmp_path / "claims.yaml").write_text(yaml.safe_dump([{"claim": "c", "direction": "up"}]), encoding="utf-8")
    with pytest.raises(InputError, match=r"claim 1\.metric: missing; add it"):
        claim_entries.read(tmp_path / "claims.yaml")


def answered(method, right, points=1, **others):
    """Samples of a policy: `right` is the share of each problem, a row a seed."""
    labels = {"task": "sudoku", "variant": "default", "sampler": "top1", "length": 24, "method": method} | others
    return pd.DataFrame([
        {**labels, "seed": seed, "example": example, "published": share, "points": one, "strict": float(share == 1)}
        for seed, shares in enumerate(right)
        for example, (share, one) in enumerate(zip(shares, np.broadcast_to(points, len(shares)), strict=True))
    ])  # fmt: skip


def test_the_luck_of_shared_problems_is_in_the_interval():
    """Three seeds that all have the same two of eight problems more than their bases: alike, yet hardly evidence."""
    base, better = [[0.0] * 8] * 3, [[1.0, 1.0, *[0.0] * 6]] * 3
    found = claims.check(claim(), pd.concat([answered("base", base), answered("dmpo", better)]))
    assert (found.size, found.verdict) == ("3 × 8", "inconclusive")
    assert found.effects == (over_seeds_and_examples([np.array(better)]),)
    assert "| 3 × 8 " in claim_tables.markdown([found], "laptop").replace("  ", " ")


def test_cells_are_pooled_over_boards():
    """Boards of 2 and 6 cells, right 1/2 and 1/3 more: (1 + 2) / 8. Its error is that of d − 3/8, times cells / 4."""
    points = [2, 6]
    base, better = answered("base", [[0.5, 0.0]] * 2, points), answered("dmpo", [[1.0, 1 / 3]] * 2, points)
    (found,) = claims.check(claim(metric="published"), pd.concat([base, better])).effects
    excess = np.array([(1 / 2 - 3 / 8) * 2 / 4, (1 / 3 - 3 / 8) * 6 / 4])
    assert found.mean == pytest.approx(3 / 8)
    assert found.error == pytest.approx(excess.std(ddof=1) / np.sqrt(2))


def test_boards_have_no_say_in_another_task():
    """Examples are numbered from 0 in each task: the cells of board 1 are no weight of puzzle 1."""
    boards = [answered(method, [[0.0, 0.0]] * 2, [2, 6]) for method in ("base", "dmpo")]
    puzzles = [
        answered("base", [[0.0, 0.0]] * 2, task="countdown"),
        answered("dmpo", [[1.0, 0.0]] * 2, task="countdown"),
    ]
    found = claims.check(claim(metric="published", task="countdown"), pd.concat([*boards, *puzzles]))
    assert found.effects[0].mean == 1 / 2
    assert found.differences[0].to_numpy().tolist() == [[1.0, 0.0]] * 2


def test_one_step_mode_is_compared_and_lengths_are_averaged():
    right = {("top1", 24): 0.25, ("top1", 32): 0.75, ("top2", 24): 1.0}
    samples = pd.concat([
        answered(method, [[share * (method == "dmpo")] * 4] * 3, sampler=sampler, length=length)
        for (sampler, length), share in right.items() for method in ("base", "dmpo")
    ])  # fmt: skip
    for given, mean in (({}, 0.5), ({"length": 32}, 0.75), ({"sampler": "top2"}, 1.0)):
        found = claims.check(claim(metric="published", **given), samples)
        assert found.effects[0].mean == pytest.approx(mean)


@pytest.mark.parametrize(
    ("passes", "right", "verdict"),
    [
        ([8.0, 8.1, 8.2], [0.30, 0.41, 0.50], "supported"),
        ([10.0, 10.5, 9.5], [0.30, 0.41, 0.50], "inconclusive"),  # nothing is lost because nothing is saved
        ([8.0, 8.1, 8.2], [0.10, 0.21, 0.30], "contradicted"),
        ([12.0, 12.1, 12.2], [0.30, 0.41, 0.50], "contradicted"),
    ],
)
def test_a_claim_of_two_parts_needs_both(passes, right, verdict):
    base = scored([0.3, 0.4, 0.5], method="base").assign(nfe=10.0)
    scores = pd.concat([base, scored(right, method="dmpo").assign(nfe=passes)])
    also = [claim_entries.Measure(metric="strict", margin=0.05)]
    found = claims.check(claim(metric="nfe", direction="lower", also=also), scores)
    assert (found.verdict, len(found.effects)) == (verdict, 2)
    text = claim_tables.markdown([found], "laptop")
    assert "nfe (lower is better) and strict (no worse than by 5.0)" in text
    assert f"1 {verdict}." in text


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"metric": "strict"}, "strict needs `sampler` and `length`: name one step mode, and a length or `mean`"),
        ({"metric": "nfe", "sampler": "top1"}, "nfe needs `sampler` and `length`"),
        ({"metric": "reward", "sampler": "top1"}, "reward has no sampler and no length; remove them"),
        (
            {"metric": "strict", "sampler": "top1", "length": "mean", "also": [{"metric": "reward"}]},
            "metrics of samples and of training cannot be parts of one claim; make two",
        ),
    ],
)
def test_a_claim_names_its_step_mode_and_length(entry, message, tmp_path):
    fields = {"claim": "c", "source": "s", "experiment": "main", "task": "sudoku", "better": "dmpo", "worse": "base"}
    (tmp_path / "claims.yaml").write_text(yaml.safe_dump([fields | entry]), encoding="utf-8")
    with pytest.raises(InputError, match=re.escape(message)):
        claim_entries.read(tmp_path / "claims.yaml")


def test_verdicts_follow_again_from_the_stored_differences(tmp_path):
    """Of samples with pooled cells, of a metric without problems, of two parts, and of nothing."""
    rng = np.random.default_rng(0)
    samples = pd.concat([
        answered(method, rng.random((3, 6)) + gain, [2, 6, 4, 4, 5, 3]).assign(nfe=10.0 - 3 * gain)
        for method, gain in (("base", 0), ("dmpo", 1))
    ])  # fmt: skip
    metrics = pd.concat([trained("dmpo", [0, 1]), trained("base", [1, 1])])
    also = [claim_entries.Measure(metric="nfe", direction="lower")]
    given = [claim(metric="published"), claim(metric="reward"), claim("d1"), claim(metric="published", also=also)]
    found = [claims.check(one, samples, metrics) for one in given]
    claim_tables.differences(found).to_csv(tmp_path / "claims.csv", index=False)
    again = claim_tables.from_differences(given, pd.read_csv(tmp_path / "claims.csv"))
    assert claim_tables.markdown(again, "x") == claim_tables.markdown(found, "x")
    assert {one.verdict for one in again} == {"supported", "not tested", "contradicted"}


def test_stored_differences_belong_to_their_claims_wherever_these_are_in_the_file():
    samples = pd.concat([answered(method, np.full((3, 6), level)) for method, level in (("base", 0.2), ("dmpo", 1.0))])
    given = [claim(metric="published"), claim(metric="strict")]
    rows = claim_tables.differences([claims.check(one, samples) for one in given])
    other_words = given[0].model_copy(update={"claim": "other words", "margin": 0.05, "direction": "lower"})
    assert other_words.key == given[0].key
    found = claim_tables.from_differences([claim("d1"), *reversed(given)], rows)
    assert [one.verdict for one in found] == ["not tested", "supported", "supported"]
    with pytest.raises(InputError, match=r"does not have: main sudoku dmpo base .*metric=strict"):
        claim_tables.from_differences(given[:1], rows)
    with pytest.raises(InputError, match="does not have: 1; make them again"):
        claim_tables.from_differences(given, rows.assign(claim=1))


@pytest.mark.parametrize(
    "changes",
    [
        {"experiment": "methods"}, {"task": "countdown"}, {"better": "d1"}, {"worse": "d1"}, {"sampler": "top2"},
        {"length": 24}, {"metric": "nfe"}, {"also": [claim_entries.Measure(metric="nfe")]}, {"quarter": 2},
        {"equal": "flops"},
    ],
)  # fmt: skip
def test_whatever_changes_the_numbers_of_a_claim_changes_its_key(changes):
    one = claim(metric="published")
    assert one.model_copy(update=changes).key != one.key


def test_differences_of_two_publications_are_merged():
    def rows_of(frames, of):
        return claim_tables.differences([claims.check(one, pd.concat(frames)) for one in of])

    given = [
        claim(metric=metric, experiment=name) for name in ("main", "methods") for metric in ("published", "strict")
    ]
    few, many = ([answered("base", np.full((2, n), 0.2)), answered("dmpo", np.full((2, n), 1.0))] for n in (3, 5))
    old, new = rows_of(few, given), rows_of(many, given[:2])
    union = claim_tables.merged(given, old, new, ["main"])
    assert list(dict.fromkeys(union["claim"])) == [one.key for one in given]
    found = claim_tables.from_differences(given, union)
    assert [one.size for one in found] == ["2 × 5", "2 × 5", "2 × 3", "2 × 3"]
    # An experiment without numbers any more has none, and columns that are padding everywhere go.
    union = claim_tables.merged(given, union, new.iloc[:0], ["main"])
    assert set(union["claim"]) == {one.key for one in given[2:]}
    assert list(union.columns) == ["claim", "metric", "seed", "base_once", "0", "1", "2"]
    pd.testing.assert_frame_equal(claim_tables.merged(given, old.iloc[:0], new, []), new, check_dtype=False)


def test_two_samplers_of_one_policy_are_compared():
    scores = pd.concat([
        scored([0.2, 0.3, 0.4], method="dmpo", sampler="adaptive"),
        scored([0.6, 0.7, 0.8], method="dmpo", sampler="entropy_01"),
    ])  # fmt: skip
    found = claims.check(claim("dmpo@adaptive", "dmpo@entropy_01"), scores)
    assert (found.effects[0].mean, found.verdict) == (pytest.approx(-0.4), "contradicted")
    text = claim_tables.markdown([found], "laptop")
    assert "DMPO, adaptive threshold − DMPO, entropy bound 0.1, Sudoku, mean over lengths, strict |" in text


def collapsing(method, alarms):
    """Training metrics of four updates, in two buffers; alarms ring at the third, and 1 is that the second lost all."""
    return pd.DataFrame([
        {"method": method, "task": "sudoku", "variant": "default", "seed": seed, "step": step, "inner": 2 - step % 2,
         "clamped": [0.0, 0.9, 0.1, 1.0][step - 1], "alarm": alarm if step >= 3 else 0,
         "reward": 0.0 if alarm == 1 and step >= 2 else 1.0}
        for seed, alarm in enumerate(alarms) for step in (1, 2, 3, 4)
    ])  # fmt: skip


def test_shares_of_collapsed_runs_are_compared_by_pairs():
    """Six of six against none: (7 − 1)/8 and an interval above zero; none against none decides nothing."""
    metrics = pd.concat([collapsing("spg", [1] * 6), collapsing("dmpo", [0] * 6), collapsing("espo", [32] * 6)])
    found = claims.check(claim("dmpo", "spg", "collapsed", direction="lower"), None, metrics.reset_index(drop=True))
    assert (found.verdict, found.effects[0].mean) == ("supported", pytest.approx(-6 / 8))
    assert "| -75.0 [" in claim_tables.markdown([found], "laptop")
    same = claims.check(claim("dmpo", "espo", "collapsed"), None, metrics.reset_index(drop=True))
    assert (same.verdict, same.effects[0].mean) == ("inconclusive", 0.0)


def test_how_early_runs_collapse_is_a_share_of_the_training():
    metrics = pd.concat([collapsing("spg", [1, 1, 8]), collapsing("dmpo", [0, 0, 0])], ignore_index=True)
    found = claims.check(claim("dmpo", "spg", "collapsed_time", direction="lower"), None, metrics)
    assert found.effects[0].mean == pytest.approx(-(0.75 + 0.75 + 0.5) / 3)
    none = pd.concat([collapsing("spg", [0, 0, 0]), collapsing("dmpo", [0, 0, 0])], ignore_index=True)
    assert claims.check(claim("dmpo", "spg", "collapsed_time"), None, none).verdict == "inconclusive"


def test_one_update_of_a_buffer_is_compared_with_a_number():
    """The second updates have 0.9 and 1.0."""
    metrics = collapsing("gdsd", [0, 0, 0])
    found = claims.check(claim("gdsd", 0.9, "clamped", inner=2), None, metrics)
    assert (found.verdict, found.effects[0].mean) == ("supported", pytest.approx(0.05))
    text = claim_tables.markdown([found], "laptop")
    assert "GDSD − 90.0, Sudoku, update 2 of a buffer, clamped |" in text
    assert claims.check(claim("gdsd", 0.99, "clamped", inner=2), None, metrics).verdict == "contradicted"


@pytest.mark.parametrize("metric", ["strict", "collapsed"])
def test_paired_metrics_are_compared_with_a_policy(metric):
    with pytest.raises(ValueError, match="compared with those of another policy"):
        claim("dmpo", 0.5, metric)


def test_samples_have_no_updates():
    with pytest.raises(ValueError, match="remove `inner`"):
        claim(inner=1)
