"""What a reader has to see in a figure: labels joined to their lines, and no marker hidden."""

import pandas as pd
import pytest
from matplotlib.colors import to_rgba

from helpers import planted
from unmask.analysis.figures import FIGURES
from unmask.analysis.figures.style import plt
from unmask.analysis.scores import collect


@pytest.fixture(autouse=True)
def _closed():
    yield
    plt.close("all")


def by_nfe(*samplers, nfe):
    """Draw DMPO's accuracy against forward passes, with the same accuracy and passes for each sampler."""
    run = planted.run("dmpo", "sudoku", 0, lengths=(128,))
    answers = run[run["sampler"] == "top1"]
    scores = collect([answers.assign(sampler=sampler, nfe=nfe) for sampler in samplers])
    return FIGURES["accuracy_by_nfe"](scores, pd.DataFrame()).axes[0]


def test_the_label_of_a_line_that_ends_early_is_joined_to_its_end():
    rows = []
    for method, last in (("dmpo", 6), ("d1", 3)):
        for step in range(1, last + 1):
            rows.append({
                "method": method, "task": "sudoku", "variant": "default", "seed": 0, "step": step,
                "reward": 0.1 * step, "nfe": 8,
            })  # fmt: skip
    ax = FIGURES["training_curves"](None, pd.DataFrame(rows)).axes[0]
    ends = {label.get_text(): label.xy for label in ax.texts}
    assert ends["DMPO"] == pytest.approx((6, 0.6))
    assert ends["d1"] == pytest.approx((3, 0.3))


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
    assert to_rgba(star.get_markerfacecolor()) == to_rgba("white")
