"""The checkpoint that is reported, by how it is chosen: planted moments, by hand."""

import pandas as pd
import pytest

from unmask.analysis import claim_entries, claims, selection

# Test grades of four problems and validation accuracy at three moments of a training.
MOMENTS = {
    4: ([1, 1, 0, 0], 0.5),
    8: ([1, 0, 1, 0], 0.7),
    12: ([0, 0, 0, 1], 0.7),
}


def variant(buffers):
    return "validate_every~12" if buffers == 12 else f"buffers~{buffers}+validate_every~12"


def run(buffers, seed=0, gain=0):
    labels = {"method": "dmpo", "task": "countdown", "variant": variant(buffers), "seed": seed}
    grades, validation = MOMENTS[buffers]
    samples = pd.DataFrame([
        labels | {"sampler": "top2", "length": length, "example": example, "published": max(grade, gain), "points": 1}
        for length in (24, 32) for example, grade in enumerate(grades)
    ])  # fmt: skip
    rows = [labels | {"step": step, "validation": None} for step in range(1, 2 * buffers)]
    rows.append(labels | {"step": 2 * buffers, "validation": validation})
    return samples, pd.DataFrame(rows)


def frames(*runs):
    samples, metrics = zip(*runs, strict=True)
    return pd.concat(samples, ignore_index=True), pd.concat(metrics, ignore_index=True)


def test_choices_by_hand():
    """Validation is best at 8 and, later, at 12: 1/4. The test set is best at 4 and 8: 2/4.

    Halves are problems 0 and 2, and 1 and 3. The first is best at 8, where the second has 0; the second is best at 4
    and, later, at 12, where the first has 0.
    """
    found = selection.choices(*frames(*(run(buffers) for buffers in MOMENTS)))
    assert found["variant"].unique().tolist() == ["validate_every~12"]
    assert found["length"].tolist() == [24, 32]
    for row in found.to_dict("records"):
        assert [row[name] for name in selection.WAYS] == [0.25, 0.25, 0.0, 0.5]
        assert row[selection.GAIN] == 0.25


def test_an_earlier_validation_decides():
    samples, metrics = frames(*(run(buffers) for buffers in MOMENTS))
    metrics.loc[(metrics["step"] == 8) & metrics["validation"].notna(), "validation"] = 0.9
    assert selection.choices(samples, metrics)["validated"].tolist() == [0.5, 0.5]


def test_points_weigh_the_problems():
    samples, metrics = frames(*(run(buffers) for buffers in MOMENTS))
    samples["points"] = samples["example"].map({0: 1, 1: 1, 2: 1, 3: 5})
    assert selection.choices(samples, metrics)["tested"].tolist() == [5 / 8, 5 / 8]


def test_a_seed_that_lacks_a_moment_is_left_out():
    """The best of two moments is chosen among fewer than the best of three."""
    runs = [run(buffers, seed) for seed in (0, 1) for buffers in MOMENTS if (seed, buffers) != (1, 4)]
    assert selection.choices(*frames(*runs))["seed"].unique().tolist() == [0]


def test_without_several_moments_there_is_nothing_to_choose():
    assert selection.choices(*frames(run(12))).empty
    assert selection.choices(*frames(run(8))).empty
    samples, metrics = frames(run(8), run(12))
    assert selection.choices(samples, None).empty
    assert selection.markdown(samples, metrics.drop(columns="validation")) == ""


def test_the_section_has_a_column_for_each_way():
    text = selection.markdown(*frames(*(run(buffers, seed) for buffers in MOMENTS for seed in (0, 1))))
    row = next(line for line in text.splitlines() if line.startswith("| DMPO"))
    cells = [cell.strip() for cell in row.split("|")[2:-1]]
    assert cells == ["25.0 [25.0, 25.0]", "25.0 [25.0, 25.0]", "0.0 [0.0, 0.0]", "50.0 [50.0, 50.0]",
                     "+25.0 [+25.0, +25.0]"]  # fmt: skip


@pytest.mark.parametrize(("number", "verdict"), [(0.1, "supported"), (0.3, "contradicted"), (0.2499, "equivalent")])
def test_a_claim_compares_the_gain_with_a_number(number, verdict):
    """Gains of 25, 25 and 24 points: the last seed wins a tenth of a point on every problem otherwise lost."""
    samples, metrics = frames(*(run(buffers, seed, gain) for buffers in MOMENTS for seed, gain in ((0, 0), (1, 0.01))))
    one = claim_entries.Claim(
        claim="c", source="s", experiment="selection", task="countdown", better="dmpo/validate_every~12", worse=number,
        metric="selection_gain", sampler="top2", length="mean", equivalence=0.02,
    )  # fmt: skip
    found = claims.check(one, samples, metrics)
    assert (found.verdict, found.size) == (verdict, "2")
    assert found.effects[0].mean == pytest.approx(0.24875 - number)
