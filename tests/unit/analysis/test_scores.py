"""Scores, tables and claims on planted numbers."""

import math

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from scipy import stats

from unmask.analysis import tables
from unmask.analysis.scores import collect, interval, over_seeds, quarters, steps_over_seeds


def samples(method, seed, right, length=24, points=1):
    return pd.DataFrame({
        "method": method, "task": "sudoku", "variant": "default", "seed": seed, "sampler": "top1", "length": length,
        "published": right, "strict": right, "nfe": 10, "tokens": 20, "seconds": 0.1,
        "points": points,
    })  # fmt: skip


@pytest.fixture
def scores():
    """Base: 20, 30, 40 %; DMPO: 70, 80, 90 %; ten samples a run."""
    return collect([
        samples(method, seed, [1.0] * (count + seed) + [0.0] * (10 - count - seed))
        for method, count in (("base", 2), ("dmpo", 7))
        for seed in range(3)
    ])  # fmt: skip


def test_collect_averages_each_run(scores):
    assert len(scores) == 6
    assert scores["n"].tolist() == [10] * 6
    assert scores[scores["method"] == "dmpo"]["strict"].tolist() == pytest.approx([0.7, 0.8, 0.9])


def test_published_accuracy_pools_the_points_and_nothing_else_does():
    """Boards of 4 and 12 blanks with 4 and 3 right cells: 7 of 16; the mean of the boards is 5 of 8."""
    row = collect([samples("base", 0, [1.0, 0.25], points=[4, 12])]).iloc[0]
    assert row["published"] == 7 / 16
    assert row["strict"] == 0.625
    assert (row["nfe"], row["n"]) == (10, 2)


def test_interval_is_students():
    values = np.array([0.2, 0.3, 0.4])
    expected = stats.t.interval(0.95, 2, loc=0.3, scale=stats.sem(values))
    assert interval(values) == pytest.approx((0.3, *expected))
    assert math.isnan(interval(np.array([0.5]))[1])


def test_over_seeds_has_a_row_a_cell(scores):
    cells = over_seeds(scores)
    assert cells["seeds"].tolist() == [3, 3]
    assert cells["strict"].tolist() == pytest.approx([0.3, 0.8])


def test_markdown_table(scores):
    text = tables.markdown("main", "Which?", *tables.blocks(over_seeds(scores)))
    assert "## Sudoku, one token a step, both scoring rules" in text
    assert "| Base     | 30.0 ± 24.8 | 10.0  |" in text
    assert "| DMPO     | 80.0 ± 24.8 | 10.0  |" in text
    assert "mean over 3 seeds" in text


@pytest.mark.parametrize(
    ("task", "name"), [("chain", "Chains (in place of GSM8K)"), ("simplify", "Like terms (in place of MATH500)")]
)
def test_stand_ins_are_called_what_they_are(scores, task, name):
    made = tables.blocks(over_seeds(scores.assign(task=task)))
    assert f"## {name}, one token a step" in tables.markdown("four_tasks", "", *made)
    assert f"% {name}, one token a step" in tables.latex("four_tasks", "", *made)


def test_published_and_strict_scores_stand_in_blocks_of_their_own(scores):
    scores["published"] += 0.1
    headings = [heading for heading, _ in tables.blocks(over_seeds(scores))[1]]
    assert headings == ["Sudoku, one token a step, published scoring", "Sudoku, one token a step, strict scoring"]


def test_samplers_are_the_rows_where_they_are_compared(scores):
    both = pd.concat([scores, scores.assign(sampler="entropy_01", nfe=4.0)])
    (heading, body), _ = tables.blocks(over_seeds(both), "samplers")[1]
    assert heading == "Sudoku, Base, both scoring rules"
    assert body["Sampler"].tolist() == ["one token a step", "entropy bound 0.1"]
    assert body["NFE"].tolist() == ["10.0", "4.0"]


def gaps():
    """Two seeds, eight steps: the mean field is off by the step, two-stage by half of it; all but one token counted."""
    return pd.DataFrame([
        {"method": "base", "task": "sudoku", "variant": "default", "seed": seed, "step": step, "surrogate": surrogate,
         "kl": factor * step + seed, "tokens": 1 + 2 * (step == 1)}
        for seed in (0, 1) for step in range(8) for surrogate, factor in (("mean_field", 1), ("two_stage", 0.5))
    ])  # fmt: skip


def test_steps_are_averaged_by_quarter_and_weighted_by_tokens():
    cells = steps_over_seeds(gaps())
    mean_field = cells[cells["surrogate"] == "mean_field"]
    assert mean_field["kl"].tolist() == pytest.approx([(0 * 1 + 1 * 3) / 4 + 0.5, 3.0, 5.0, 7.0])
    note, ((heading, body),) = tables.stepwise(cells)
    assert heading == "Sudoku, Base"
    assert body["quarter 4"].tolist() == ["7.000 ± 6.353", "3.750 ± 6.353"]
    assert "2 seeds" in note


def test_quarters_are_of_each_policys_own_steps():
    long, short = ([{"task": "sudoku", "method": m, "variant": "default", "step": s} for s in range(n)]
                   for m, n in (("base", 8), ("diffpo", 4)))  # fmt: skip
    assert quarters(pd.DataFrame(long + short), first=0).tolist() == [1, 1, 2, 2, 3, 3, 4, 4, 1, 2, 3, 4]


def test_a_policy_of_another_task_is_called_so_in_tables_and_figures(scores):
    from unmask.analysis.figures.decoding import threshold_by_difficulty

    here = scores[scores["method"] == "dmpo"]
    both = pd.concat([scores, here.assign(variant="trained_on~countdown", strict=0.5, published=0.5)])
    (_, body), *_ = tables.blocks(over_seeds(both))[1]
    assert body["Method"].tolist() == ["Base", "DMPO", "DMPO (trained on countdown)"]
    assert body["L = 24"].tolist()[1:] == ["80.0 ± 24.8", "50.0 ± 0.0"]
    drawn = samples("dmpo", 0, [1.0, 0.0]).assign(gamma=0.2, difficulty=[4, 5])
    other = drawn.assign(variant="trained_on~countdown", gamma=[0.4, 0.6])
    own, carried = threshold_by_difficulty(scores, pd.DataFrame(), pd.concat([drawn, other])).axes[0].lines
    assert (own.get_ydata().tolist(), carried.get_ydata().tolist()) == ([0.2, 0.2], [0.4, 0.6])
    assert own.get_linestyle() != carried.get_linestyle()


def test_panels_that_share_an_axis_show_the_largest_values_of_all(scores):
    """A limit that is set with the first panel would cut off what is larger in the second."""
    from unmask.analysis.figures.decoding import kl_per_step, threshold_by_difficulty

    drawn = samples("dmpo", 0, [1.0, 0.0]).assign(gamma=0.2, difficulty=[4, 5])
    other = drawn.assign(task="countdown", gamma=[0.4, 0.6])
    further = gaps().assign(method="diffpo", kl=lambda rows: 10 * rows["kl"] + 1)
    for figure in (
        threshold_by_difficulty(scores, pd.DataFrame(), pd.concat([drawn, other])),
        kl_per_step(pd.concat([gaps(), further]), pd.DataFrame()),
    ):
        low, high = figure.axes[1].get_ylim()
        assert (low, len(figure.axes)) == (0, 2)
        assert all(line.get_ydata().max() < high for line in figure.axes[1].lines)
        plt.close(figure)


def test_without_logged_weights_their_figure_says_what_to_do(scores):
    from unmask.analysis.figures import FIGURES

    with pytest.raises(ValueError, match="no weights in the metrics: made by older code; delete the adapters"):
        FIGURES["weight_distribution"](scores, pd.DataFrame({"method": ["dmpo"], "variant": ["default"]}))


def test_latex_table_compiles_by_eye(scores):
    text = tables.latex("main", "Which?", *tables.blocks(over_seeds(scores)))
    assert r"\begin{tabular}{lrr}" in text
    assert r"DMPO & 80.0 $\pm$ 24.8 & 10.0 \\" in text


def test_figures_are_drawn_from_planted_numbers(scores):
    from unmask.analysis.figures import FIGURES

    metrics = pd.DataFrame([
        {"method": "dmpo", "task": "sudoku", "variant": "default", "seed": seed, "step": step, "reward": 0.1 * step,
         "nfe": 8, "flops": 1e6 * step, "entropy": 0.5 / step, "effective_sample_size": 0.5, "largest_weight": 0.25,
         "inner": step, "partial_credit": 0.2 * step, "clipped": 0.3 * step, "validation": 0.5,
         "weight_from_-inf": 0.1, "weight_from_-1": 0.3, "weight_from_0.25": 0.6,
         "settings": '{"group_size": 8, "baseline": "group"}'}
        for seed in range(3)
        for step in range(1, 4)
    ])  # fmt: skip
    drawn = samples("dmpo", 0, [1.0]).assign(gamma=0.2, difficulty=5)
    small = "baseline~none+group_size~4"
    varied = pd.concat([scores, scores[scores["method"] == "dmpo"].assign(variant=small)])
    chosen = '{"group_size": 4, "baseline": "none"}'
    # A run of fewer buffers, whose test accuracy is 50 %.
    whole, short = samples("dmpo", 0, [1.0, 1.0]), samples("dmpo", 0, [1.0, 0.0]).assign(variant="buffers~1")
    moments = pd.concat([whole, short]).reset_index(names="example")
    both = pd.concat([metrics, metrics[metrics["step"] == 1].assign(variant="buffers~1")])
    several = scores.assign(pass_at_1=scores["strict"], distinct_right=2.5, distinct_pairs=0.4)
    several = several.assign(pass_at_1_error=0.1, distinct_right_error=0.1, distinct_pairs_error=0.1)
    inputs = {  # the last value of a line of the first panel
        "accuracy_by_length": (scores, metrics, -1, 80.0),
        "accuracy_by_method": (scores, metrics, 1, 0),
        "accuracy_by_setting": (varied, pd.concat([metrics, metrics.assign(variant=small, settings=chosen)]), 0, 80.0),
        "accuracy_by_nfe": (scores, metrics, -1, 80.0),
        "checkpoint_choice": (scores, both, moments, -1, 100.0),
        "diversity_by_accuracy": (several, metrics, -1, 40.0),
        "clipped_by_inner_update": (scores, metrics, -1, 90.0),
        "partial_credit": (scores, metrics, -1, 0.6),
        "training_curves": (scores, metrics, -1, 0.3),
        "reward_by_compute": (scores, metrics, -1, 0.3),
        "rollout_entropy": (scores, metrics, -1, 0.5 / 3),
        "importance_ratios": (scores, metrics, -1, 1.0),
        "threshold_by_difficulty": (scores, metrics, drawn, -1, 0.2),
        "kl_per_step": (gaps(), metrics, -1, 4.0),
    }
    distribution = FIGURES["weight_distribution"](scores, metrics).axes
    assert inputs.keys() | {"weight_distribution"} == FIGURES.keys()
    for name, (*given, line, last) in inputs.items():
        assert FIGURES[name](*given).axes[0].lines[line].get_ydata()[-1] == pytest.approx(last), name
    tops = [area.get_paths()[0].vertices[:, 1].max() for area in distribution[0].collections]
    assert tops == pytest.approx([0.1, 0.4, 1.0])  # stacked: below -1, -1 to 0.25, from 0.25
    assert distribution[1].lines[0].get_ydata() == pytest.approx([0.5] * 3)


def test_labels_leave_out_what_all_variants_share():
    from unmask.common.catalogue import without_common

    assert without_common(["sampler~adaptive", "learn~joint+sampler~adaptive"]) == ["default", "learn~joint"]
    assert without_common(["default", "learn~joint+sampler~adaptive"]) == ["default", "learn~joint+sampler~adaptive"]
    assert without_common(["learn~joint", "learn~joint"]) == ["learn~joint", "learn~joint"]


def test_a_hack_rate_is_a_column_where_samples_have_it(scores):
    """Two of ten programs in each run, against no such column in the scores of other tasks."""
    assert "hack_rate" not in scores
    hacked = [1.0, 1.0, *[0.0] * 8]
    rated = collect([samples("base", seed, [0.0] * 10).assign(hack=hacked) for seed in range(2)])
    assert rated["hack_rate"].tolist() == pytest.approx([0.2, 0.2])
    cells = over_seeds(rated)
    assert cells["hack_rate"].tolist() == pytest.approx([0.2])
    assert "hack rate" in tables.note(cells)
    assert "hack rate" not in tables.note(over_seeds(scores))
