"""What a reader has to see in a figure: which line is whose, single seeds, how many there are, and no marker hidden."""

import base64
import json
import re

import numpy as np
import pandas as pd
import pytest
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from matplotlib.collections import PathCollection
from matplotlib.colors import to_rgba

from helpers import planted
from helpers.paths import ROOT
from unmask.analysis.figures import FIGURES
from unmask.analysis.figures.style import COUNTS, plt, save
from unmask.analysis.figures.tabular import exact_toy, table
from unmask.analysis.html_report.links import Folders
from unmask.analysis.html_report.page import caption, read_figure
from unmask.analysis.scores import collect
from unmask.methods import method_look


@pytest.fixture(autouse=True)
def _closed():
    yield
    plt.close("all")


def metrics(methods, seeds=(0, 1, 2), steps=6, **columns):
    """Training metrics whose reward differs between seeds by 0.1."""
    settings = json.dumps({"prompts_per_buffer": 4, "group_size": 8})
    return pd.DataFrame([
        {"method": method, "task": "sudoku", "variant": "default", "seed": seed, "step": step,
         "reward": 0.3 + 0.1 * seed, "nfe": 8, "flops": 1e9 * step, "settings": settings, **columns}
        for method in methods for seed in seeds for step in range(1, steps + 1)
    ])  # fmt: skip


def by_nfe(*samplers, nfe):
    """Draw DMPO's accuracy against forward passes, with the same accuracy and passes for each sampler."""
    run = planted.run("dmpo", "sudoku", 0, lengths=(128,))
    answers = run[run["sampler"] == "top1"]
    scores = collect([answers.assign(sampler=sampler, nfe=nfe) for sampler in samplers])
    return FIGURES["accuracy_by_nfe"](scores, pd.DataFrame()).axes[0]


def counts(figure):
    (text,) = figure.findobj(lambda artist: artist.get_gid() == COUNTS)
    return " ".join(text.get_text().split())


def seeds(ax):
    """Single seeds of a panel: an array [points, 2] for each line."""
    return [np.asarray(one.get_offsets()) for one in ax.collections if isinstance(one, PathCollection)]


def names(figure):
    (legend,) = figure.legends
    return [text.get_text() for text in legend.get_texts()]


# --- lines and their names --------------------------------------------------------------------------------------------


def test_the_legend_shows_each_line_as_it_is_drawn():
    figure = FIGURES["training_curves"](None, metrics(["dmpo", "d1"]))
    handles = figure.legends[0].legend_handles
    assert names(figure) == ["DMPO", "d1"]
    for line, handle, method in zip(figure.axes[0].lines, handles, ["dmpo", "d1"], strict=True):
        look = method_look(method)
        assert (line.get_color(), line.get_marker()) == (handle.get_color(), handle.get_marker()) == look[1:3]
        assert line.is_dashed() == handle.is_dashed() == (look.dash != "solid")
    assert list(figure.axes[0].texts) == []  # nothing is written over the data


def test_legend_and_counts_are_below_the_panels_and_apart():
    figure = FIGURES["training_curves"](None, metrics(["dmpo", "d1", "diffpo", "diffu_grpo", "coupled_grpo"]))
    figure.draw_without_rendering()
    panel, legend = figure.axes[0].get_tightbbox(), figure.legends[0].get_window_extent()
    (text,) = figure.findobj(lambda artist: artist.get_gid() == COUNTS)
    assert panel.y0 >= legend.y1 > legend.y0 >= text.get_window_extent().y1
    assert legend.width <= figure.bbox.width


# --- seeds ------------------------------------------------------------------------------------------------------------


def test_seeds_are_points_beside_the_means_of_each_length():
    runs = [planted.run("dmpo", "sudoku", seed) for seed in range(3)]
    scores = collect([*runs, planted.run("base", "sudoku", 0)])
    ax = FIGURES["accuracy_by_length"](scores, pd.DataFrame()).axes[0]
    (points,) = seeds(ax)  # none for a base model that is evaluated once
    own = scores[(scores["method"] == "dmpo") & (scores["sampler"] == "top1")]
    assert sorted(points[:, 1]) == pytest.approx(sorted(100 * own["strict"]))


@pytest.mark.parametrize("figure", ["training_curves", "reward_by_compute"])
def test_last_values_of_seeds_are_right_of_the_curves_and_each_in_its_own_place(figure):
    ax = FIGURES[figure](None, metrics(["dmpo", "d1"])).axes[0]
    first, second = seeds(ax)
    ends = max(line.get_xdata().max() for line in ax.lines)
    assert first[:, 1] == pytest.approx([0.3, 0.4, 0.5])
    assert ends < first[0, 0] < second[0, 0] < ax.get_xlim()[1]
    if ax.get_xscale() == "linear":
        assert max(ax.get_xticks()) <= ends


def test_the_axis_holds_a_seed_far_above_the_mean():
    logged = metrics(["dmpo"], seeds=range(8))  # rewards of .3 to 1.0, mean .65
    ax = FIGURES["training_curves"](None, logged).axes[0]
    assert ax.get_ylim()[1] > 1.0


# --- counts -----------------------------------------------------------------------------------------------------------


def test_each_figure_says_how_many_seeds_and_problems_it_shows():
    runs = [planted.run(method, "sudoku", seed) for method in ("dmpo", "sft") for seed in range(3)]
    once = collect([planted.run("base", "sudoku", 0), *runs])
    assert counts(FIGURES["accuracy_by_length"](once, pd.DataFrame())) == (
        "3 seeds, base model evaluated once; 24 test problems per run."
    )
    fewer = collect([planted.run("base", "sudoku", 0), planted.run("base", "sudoku", 1), *runs[:4]])
    assert counts(FIGURES["accuracy_by_nfe"](fewer, pd.DataFrame())) == (
        "1 to 3 seeds, base model 2 seeds; 24 test problems per run."
    )
    assert counts(FIGURES["training_curves"](None, metrics(["dmpo"]))) == "3 seeds; 32 responses per buffer."


def test_counts_are_in_the_files_and_in_the_caption_of_the_report(tmp_path):
    figure = FIGURES["training_curves"](None, metrics(["dmpo"]))
    for name in ("one.png", "one.pdf"):
        save(figure, tmp_path / name)
        assert b"3 seeds; 32 responses per buffer." in (tmp_path / name).read_bytes()
    shown = read_figure(Folders(tmp_path, tmp_path), "one", "Mean reward.")
    assert shown.caption == "Mean reward. 3 seeds; 32 responses per buffer."
    assert base64.b64decode(shown.source.partition(",")[2]) == (tmp_path / "one.png").read_bytes()


def test_every_figure_has_a_caption_that_says_how_seeds_are_shown_and_where_their_number_is():
    captions = Environment(loader=FileSystemLoader(ROOT / "workflow/report"), undefined=StrictUndefined)
    texts = {name: caption(captions, "figure", "main", name) for name in FIGURES}
    texts["exact_toy"] = caption(captions, "exact_toy", "exact_toy")
    for name, text in texts.items():
        assert len(text) > 200, name
        assert "single seeds" in text, name
        assert "means over seeds" in text or "mean over seeds" in text, name
        assert re.search("The (last line|line below the legend) has the number of seeds", text), name


# --- one quantity on an axis ------------------------------------------------------------------------------------------


def test_weights_of_tokens_and_of_responses_have_panels_of_their_own():
    tokens = metrics(["diffpo"], importance_mean=1.0, importance_squared=1.5, clamped=0.1)
    responses = metrics(["dmpo"], effective_sample_size=0.5, largest_weight=0.25)
    others = metrics(["stable_drl"], clamped=0.9, largest_weight=0.9)  # neither of these weights
    figure = FIGURES["importance_ratios"](None, pd.concat([tokens, responses, others]))
    shown = {ax.get_title("left"): [line.get_ydata()[-1] for line in ax.lines] for ax in figure.axes}
    assert np.array(list(shown.values())) == pytest.approx(np.array([[0.5], [0.1], [1.0], [0.25]]))
    assert names(figure) == ["DiFFPO", "DMPO"]
    assert len(FIGURES["importance_ratios"](None, tokens).axes) == 2


def test_the_exact_toy_draws_the_means_of_its_table():
    kl = {"group": [0.1, 0.1, 0.7], "coupled_grpo": [1.0, 2.0, 3.0]}  # means .3 and 2; geometric means .19 and 1.8
    curves = pd.DataFrame([
        {"curve": curve, "group_size": 4, "seed": seed, "update": update, "kl": value, "modes": 0.5, "entropy": 2.0,
         "reward": 0.8, "entropy_target": 2.2}
        for curve, values in kl.items() for seed, value in enumerate(values) for update in (0, 10)
    ])  # fmt: skip
    figure = exact_toy(curves)
    ax = figure.axes[0]
    assert ax.get_yscale() == "log"
    assert [line.get_ydata()[-1] for line in ax.lines] == pytest.approx([0.3, 2.0])
    assert table(curves)["KL(p* to p)"].str.split().str[0].tolist() == ["0.30", "2.00"]
    assert names(figure) == table(curves)["Method"].tolist() == ["DMPO (group baseline)", "coupled-GRPO"]
    assert [points[:, 1].tolist() for points in seeds(ax)] == list(kl.values())
    assert counts(figure).startswith("3 seeds")


# --- markers ----------------------------------------------------------------------------------------------------------


def test_no_marker_is_drawn_on_an_axis():
    ax = by_nfe("top1", nfe=16.0)  # a power of two, where the ticks are
    left, right = ax.get_xlim()
    assert left < 16 < right


def test_an_adaptive_sampler_shows_around_a_fixed_one_in_the_same_place():
    ax = by_nfe("entropy_01", "adaptive", nfe=16.0)
    markers = {line.get_marker(): line for line in ax.lines}
    star, triangle = markers["*"], markers["^"]
    assert star.get_xydata().tolist() == triangle.get_xydata().tolist()
    assert star.get_zorder() < triangle.get_zorder()
    assert star.get_markersize() > 2 * triangle.get_markersize()
    assert to_rgba(triangle.get_markeredgecolor()) == to_rgba("white")  # set off from the star


def test_policies_are_told_apart_by_the_filling_where_samplers_have_the_markers():
    scores = collect([planted.run(method, "sudoku", seed) for method in ("base", "dmpo") for seed in (0, 1)])
    figure = FIGURES["accuracy_by_nfe"](scores, pd.DataFrame())
    base, dmpo, kind = figure.legends[0].legend_handles
    assert names(figure) == ["Base", "DMPO", "k tokens a step"]
    assert to_rgba(base.get_markerfacecolor()) == to_rgba(base.get_color())
    assert to_rgba(dmpo.get_markerfacecolor()) == to_rgba("white")
    assert kind.get_linestyle() == "None"
