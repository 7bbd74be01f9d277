"""A base model that is evaluated once: an interval over test problems, and pairing with every seed of the others."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from helpers import planted
from helpers.paths import ROOT
from unmask.analysis import claim_entries, claim_tables, claims, comparisons, paper_entries, paper_results, tables
from unmask.analysis.figures.accuracy import accuracy_by_length
from unmask.analysis.scores import collect, for_every_seed, over_seeds, shared_base
from unmask.analysis.statistics import over_seeds_and_examples, problem_interval

GOLDEN = ROOT / "tests/data/golden_analysis"


def rendered(frames):
    """The files of an experiment's tables, by name."""
    printed = paper_results.read(
        ROOT / "workflow/resources/published_results.yaml", paper_entries.read(ROOT / "workflow/resources/papers.yaml")
    )
    cells = tables.with_printed(paper_results.join_published(over_seeds(collect(frames)), printed, planted.PROTOCOL))
    note, blocks = tables.blocks(cells)
    blocks.append(paper_results.apart(cells, printed, planted.PROTOCOL))
    samples = pd.concat(frames, ignore_index=True)
    compared = comparisons.compare(samples)
    return {
        "main.md": tables.markdown("main", "Which?", note, blocks),
        "main.csv": cells.to_csv(index=False),
        "main-comparisons.md": comparisons.markdown("main", compared, samples),
        "main-comparisons.csv": compared.to_csv(index=False),
    }


def test_tables_of_several_base_models_are_as_they_always_were():
    """The golden files were written before base models could be evaluated once; but for intervals over examples."""
    for name, text in rendered(planted.experiment()).items():
        assert text == (GOLDEN / name).read_text(encoding="utf-8"), name


@pytest.mark.parametrize(("right", "n"), [(50, 100), (0, 10), (10, 10), (3, 8)])
def test_the_interval_of_0_1_grades_is_wilsons(right, n):
    expected = stats.binomtest(right, n).proportion_ci(method="wilson")
    error = np.sqrt(right / n * (1 - right / n) / n)
    assert problem_interval(right / n, error, n) == pytest.approx(tuple(expected))


def test_wilsons_interval_by_hand():
    """50 of 100: (0.5 + 1.96²/200) / (1 + 1.96²/100) ± 1.96 · √(0.25/100 + 1.96²/40000) / (1 + 1.96²/100)."""
    assert problem_interval(0.5, 0.05, 100) == pytest.approx((0.40383, 0.59617), abs=1e-5)


def test_the_error_of_pooled_cells_is_over_boards():
    """4 of 4 and 3 of 12 cells: r = 7/16, excess 4 − 4 r = 2.25 and 3 − 12 r = −2.25, so √(2 · 2.25²) / 16."""
    board = planted.run("base", "sudoku", 0, examples=2, lengths=(128,))
    board = board[board["sampler"] == "top1"].assign(published=[1.0, 0.25], points=[4, 12], strict=[1.0, 0.0])
    (row,) = collect([board]).to_dict("records")
    assert row["published_error"] == pytest.approx(np.sqrt(2) * 2.25 / 16)
    assert row["published_error"] > np.sqrt(7 / 16 * 9 / 16 / 16)  # of 16 independent cells
    assert row["strict_error"] == pytest.approx(np.sqrt(0.25 / 2))


def test_the_interval_of_pooled_cells_holds_the_truth_as_often_as_it_says():
    """Boards that differ in difficulty: cells of one are right together; Wilson's over single cells is too narrow."""
    rng, held, naive = np.random.default_rng(0), [], []
    for _ in range(1000):
        points = rng.integers(4, 12, 128)
        chance = rng.beta(0.5, 1.5, 128)  # mean 0.25
        right = rng.binomial(points, chance)
        share = right.sum() / points.sum()
        error = np.sqrt(((right - share * points) ** 2).sum()) / points.sum()
        low, high = problem_interval(share, error, 128)
        held.append(low <= 0.25 <= high)
        cells = stats.binomtest(int(right.sum()), int(points.sum())).proportion_ci(method="wilson")
        naive.append(cells.low <= 0.25 <= cells.high)
    assert 0.93 <= np.mean(held) <= 0.97
    assert np.mean(naive) < 0.8


@pytest.fixture
def frames():
    return planted.experiment(base_seeds=(0,))


def test_the_base_has_an_interval_over_problems_and_trained_methods_over_seeds(frames):
    cells = over_seeds(collect(frames))
    assert cells.groupby("method")["interval"].agg(set).to_dict() == {
        "base": {"problems"}, "diffu_grpo": {"seeds"}, "dmpo": {"seeds"},
    }  # fmt: skip
    base = cells[(cells["method"] == "base") & (cells["task"] == "countdown")].iloc[0]
    expected = stats.binomtest(round(24 * base["strict"]), 24).proportion_ci(method="wilson")
    assert (base["strict_low"], base["strict_high"]) == pytest.approx(tuple(expected))


def test_the_table_says_which_interval_is_which(frames):
    note, blocks = tables.blocks(over_seeds(collect(frames)))
    assert (
        "mean over 3 seeds ± half of the 95 % interval (Student's t over seeds); base model: one deterministic" in note
    )
    assert "one deterministic evaluation, in brackets its 95 % binomial interval (Wilson) over 24 problems" in note
    assert "where cells of a board are pooled, the boards are the problems" in note
    for _, body in blocks:
        values = body.set_index("Method")["L = 128"]
        assert "±" not in values["Base"]
        assert "[" in values["Base"]
        assert "±" in values["DMPO"]
    warm, _ = tables.blocks(over_seeds(collect(frames)), temperature=0.95)
    assert "deterministic" not in warm


def test_a_table_of_the_base_alone_and_one_of_single_seeds():
    (base, *_), trained = planted.experiment(base_seeds=(0,)), planted.run("dmpo", "sudoku", 0)
    note = tables.note(over_seeds(collect([base])))
    assert note.startswith("Percent, base model: one deterministic evaluation")
    assert tables.note(over_seeds(collect([trained]))).startswith(
        "Percent, one seed, so no interval over seeds; 24 test"
    )
    (_, body), *_ = tables.blocks(over_seeds(collect([trained])))[1]
    assert body["L = 128"].str.fullmatch(r"\d+\.\d").all()  # of a trained policy nothing is said over problems


def test_each_seed_is_compared_with_the_one_evaluation(frames):
    samples = pd.concat(frames, ignore_index=True)
    compared = comparisons.compare(samples)
    rows = compared[(compared["better"] == "dmpo/default") & (compared["worse"] == "base/default")]
    assert rows.groupby(["task", "sampler", "length"]).size().tolist() == [3] * 8
    base = samples[samples["method"] == "base"].groupby(["task", "sampler", "length"])["strict"].mean()
    ours = samples[samples["method"] == "dmpo"].groupby(["task", "sampler", "length", "seed"])["strict"].mean()
    for row in rows.to_dict("records"):
        cell = row["task"], row["sampler"], row["length"]
        assert row["difference"] == pytest.approx(ours[(*cell, row["seed"])] - base[cell])


def test_the_bases_luck_is_in_the_interval_over_seeds_and_examples(frames):
    """By hand: the grades of each seed minus those of the base on the same examples."""
    samples = pd.concat(frames, ignore_index=True)
    here = samples[(samples["task"] == "countdown") & (samples["sampler"] == "top1") & (samples["length"] == 128)]
    wide = here.pivot_table(index=["method", "seed"], columns="example", values="strict")
    low, high = over_seeds_and_examples([wide.loc["dmpo"].to_numpy() - wide.loc["base"].to_numpy()]).interval()
    rows = comparisons.over_seeds(comparisons.compare(samples), samples).set_index(["Pair", "Task", "Sampler", "L"])
    row = rows.loc[("DMPO − Base", "Countdown", "one token a step", 128)]
    assert row["Seeds and examples"] == f"[{100 * low:+.1f}, {100 * high:+.1f}]"
    text = comparisons.markdown("main", comparisons.compare(samples), samples)
    assert "The base model is evaluated once (Sudoku, Countdown)" in text
    bases = [line.split("|")[4:6] for line in text.splitlines() if "| Base  " in line]
    assert [(error.strip(), seeds.strip()) for error, seeds in bases] == [("", "")] * 2
    assert "1 × 24/1 × 24" in text


def test_figures_draw_the_interval_over_problems(frames):
    cells = over_seeds(collect(frames))
    figure = accuracy_by_length(collect(frames), pd.DataFrame())
    bars = np.concatenate(figure.axes[0].collections[0].get_segments())[:, 1]
    first = cells[(cells["method"] == "base") & (cells["task"] == "sudoku") & (cells["sampler"] == "top1")]
    assert bars.max() == pytest.approx(100 * first["strict_high"].max())


def test_a_claim_pairs_the_one_evaluation_with_each_seed(frames):
    samples = pd.concat(frames, ignore_index=True)
    claim = claim_entries.Claim(
        claim="c", source="s", experiment="main", task="countdown", better="dmpo", worse="base", metric="strict",
        sampler="top1", length="mean",
    )  # fmt: skip
    found = claims.check(claim, samples)
    here = samples[(samples["task"] == "countdown") & (samples["sampler"] == "top1")]
    wide = here.pivot_table(index=["method", "seed"], columns="example", values="strict")
    expected = over_seeds_and_examples([wide.loc["dmpo"].to_numpy() - wide.loc["base"].to_numpy()])
    assert (found.size, found.base_once) == ("3 × 24", True)
    assert found.effects == (expected,)
    assert "Where the base model is evaluated once" in claim_tables.markdown([found], "llada-8b")
    again = claim_tables.from_differences([claim], claim_tables.differences([found]))
    assert claim_tables.markdown(again, "llada-8b") == claim_tables.markdown([found], "llada-8b")
    reverse = claims.check(claim.model_copy(update={"better": "base", "worse": "dmpo"}), samples)
    assert reverse.effects[0].mean == pytest.approx(-found.effects[0].mean)
    between = claims.check(claim.model_copy(update={"worse": "diffu_grpo"}), samples)
    assert not between.base_once
    assert "Where the base model is evaluated once" not in claim_tables.markdown([between], "llada-8b")


def test_a_base_with_seeds_to_come_is_the_base_of_its_own_seed_only(frames):
    samples = pd.concat(frames, ignore_index=True).assign(planned=3)
    assert shared_base(samples) == []
    assert for_every_seed(samples) is samples
    cells = over_seeds(collect([samples]))
    base = cells[cells["method"] == "base"]
    assert base["strict_low"].isna().all()
    claim = claim_entries.Claim(
        claim="c", source="s", experiment="main", task="countdown", better="dmpo", worse="base", metric="strict",
        sampler="top1", length="mean",
    )  # fmt: skip
    assert len(claims.check(claim, samples).differences[0]) == 1
    assert set(comparisons.compare(samples).query("worse == 'base/default'")["seed"]) == {0}
