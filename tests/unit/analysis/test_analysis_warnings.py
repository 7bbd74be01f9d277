"""Figures and tables of odd results: no warning of matplotlib, pandas or numpy reaches a user, and nothing breaks."""

import inspect
import json
import re
import warnings

import numpy as np
import pandas as pd
import pytest

from helpers import planted
from unmask.analysis import comparisons, tables
from unmask.analysis.figures import FIGURES
from unmask.analysis.figures.style import plt
from unmask.analysis.scores import collect, over_seeds, steps_over_seeds
from unmask.common.errors import InputError

SMALL = "group_size~4"
POLICIES = [("sft", "sudoku", "default"), ("dmpo", "sudoku", "default"), ("dmpo", "sudoku", SMALL)]
LOGGED = {
    "reward": 0.3, "nfe": 8, "flops": 1e6, "entropy": 0.5, "effective_sample_size": 0.5, "largest_weight": 0.25,
    "weight_from_-inf": 0.1, "weight_from_-1": 0.3, "weight_from_0.25": 0.6,
}  # fmt: skip
OF_ROLLOUTS = ("reward", "entropy", "effective_sample_size", "largest_weight")


def metrics(policies=POLICIES, seeds=(0, 1), steps=6, **changes):
    """Training metrics; SFT has no rollouts, so no reward and no entropy of them."""
    rows = []
    for method, task, variant in policies:
        own = dict.fromkeys(OF_ROLLOUTS, np.nan) | {"nfe": 0} if method == "sft" else {}
        settings = json.dumps({"group_size": 4 if variant == SMALL else 8})
        label = {"method": method, "task": task, "variant": variant, "settings": settings}
        rows += [LOGGED | label | {"seed": s, "step": i + 1} | changes | own for s in seeds for i in range(steps)]
    return pd.DataFrame(rows)


def nothing(**others):
    return dict.fromkeys(OF_ROLLOUTS, np.nan) | others


def runs(methods=("base", "dmpo"), seeds=(0, 1), variants=("default",), **options):
    made = [planted.run(m, "sudoku", s, variant=v, **options) for m in methods for v in variants for s in seeds]
    return pd.concat(made, ignore_index=True)


def gaps(seeds):
    return pd.DataFrame([
        {"method": "base", "task": "sudoku", "variant": "default", "seed": seed, "step": step, "surrogate": surrogate,
         "kl": factor * step, "tokens": 1}
        for seed in seeds for step in range(8) for surrogate, factor in (("mean_field", 1), ("two_stage", 0.5))
    ])  # fmt: skip


CASES = {
    "an evaluated-once base": (pd.concat([runs(("base",), (0,)), runs(("dmpo",), (0, 1, 2))]), metrics()),
    "one seed": (runs(seeds=(0,), variants=("default", SMALL)), metrics(seeds=(0,))),
    "one length": (runs(variants=("default", SMALL), lengths=(128,)), metrics()),
    "nothing right": (runs(variants=("default", SMALL), accuracy=0.0), metrics(reward=0.0, entropy=0.0)),
    "everything right": (runs(accuracy=1.0), metrics(steps=1)),
    "a base model alone": (planted.run("base", "sudoku", 0), pd.DataFrame()),
    "SFT alone": (planted.run("sft", "sudoku", 0), metrics(POLICIES[:1])),
    "no metric of rollouts": (runs(), metrics(**nothing())),
    "a seed without metrics": (runs(), pd.concat([metrics(seeds=(0,)), metrics(seeds=(1,), **nothing())])),
    "a seed that is not as far": (runs(), pd.concat([metrics(seeds=(0,)), metrics(seeds=(1,), steps=3)])),
    "missing seeds": (
        pd.concat([runs(("base",), (0,)), runs(("dmpo",), (1,)), runs(("sft",), (2,))]).assign(planned=3),
        metrics(seeds=(0, 2)).assign(planned=3),
    ),
}
# What a figure says where it has nothing to draw.
SAID = (
    "there is no setting to draw against|has rollouts with a|has importance weights|no rows to draw|"
    "no weights in the metrics|has a clip or a clamp|no moments to choose among|has one sample per problem"
)


@pytest.fixture(autouse=True)
def _strict():
    plt.close("all")  # of other tests
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield
    plt.close("all")


@pytest.mark.parametrize("case", CASES)
def test_figures_are_drawn_without_a_warning_or_say_what_they_lack(case):
    samples, logged = CASES[case]
    drawn, said = set(), {}
    for name, figure in FIGURES.items():
        scores = gaps(sorted(samples["seed"].unique())) if name == "kl_per_step" else collect([samples])
        more = [samples.assign(gamma=0.2)] if "samples" in inspect.signature(figure).parameters else []
        try:
            figure(scores, logged, *more).draw_without_rendering()
        except InputError as error:
            said[name] = str(error)
        else:
            drawn.add(name)
    assert [text for text in said.values() if not re.search(SAID, text)] == []
    assert {"accuracy_by_length", "accuracy_by_nfe", "threshold_by_difficulty", "kl_per_step"} <= drawn


@pytest.mark.parametrize("case", CASES)
def test_tables_are_made_without_a_warning(case):
    samples, _ = CASES[case]
    compared = comparisons.compare(samples)
    assert comparisons.markdown("x", compared, samples)
    assert tables.blocks(over_seeds(collect([samples])))
    assert tables.stepwise(steps_over_seeds(gaps(sorted(samples["seed"].unique()))))


def test_sft_has_no_curve_and_a_seed_without_values_leaves_the_mean_of_the_others():
    figure = FIGURES["training_curves"](None, metrics())
    assert len(figure.axes[0].lines) == 2  # of dmpo's two variants
    logged = pd.concat([metrics(POLICIES[1:2], (0,)), metrics(POLICIES[1:2], (1,), steps=3, reward=0.1)])
    (line,) = FIGURES["training_curves"](None, logged).axes[0].lines
    assert line.get_ydata() == pytest.approx([0.2] * 3 + [0.3] * 3)
    with pytest.raises(InputError, match="SFT has no rollouts"):
        FIGURES["training_curves"](None, metrics(POLICIES[:1]))
