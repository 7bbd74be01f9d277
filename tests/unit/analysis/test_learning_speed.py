"""Learning speed: means over training by hand, at equal responses and at equal FLOPs."""

import pandas as pd
import pytest

from unmask.analysis import claim_entries, claims, learning_speed
from unmask.common.errors import InputError


def run(method, seed, validation, flops_per_step, task="sudoku"):
    """Metrics of a run that is validated after every second update."""
    rows = []
    for step in range(1, 2 * len(validation) + 1):
        value = validation[step // 2 - 1] if step % 2 == 0 else None
        labels = {"method": method, "variant": "default", "task": task, "seed": seed}
        rows.append({**labels, "step": step, "validation": value, "flops": step * flops_per_step})
    return pd.DataFrame(rows)


@pytest.fixture
def metrics():
    """DMPO needs twice the FLOPs per update: within the 4 of diffu-GRPO it is validated once, at 0.2 and 0.4."""
    return pd.concat(
        [
            run("diffu_grpo", 0, [0.1, 0.3], 1.0),
            run("diffu_grpo", 1, [0.3, 0.5], 1.0),
            run("dmpo", 0, [0.2, 0.8], 2.0),
            run("dmpo", 1, [0.4, 0.8], 2.0),
        ]
    )


def test_means_by_hand(metrics):
    text = learning_speed.markdown(metrics)
    lines = [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines() if line.startswith("| d")]
    assert [line[0] for line in lines] == ["diffu-GRPO"]
    (grpo,) = lines
    assert grpo[1].startswith("30.0 [")
    assert grpo[3].startswith("30.0 [")
    # DMPO has 0.5 and 0.6 over all of training, 0.2 and 0.4 within the budget; diffu-GRPO 0.2 and 0.4 for both.
    assert grpo[2].startswith("+25.0 [")
    assert grpo[4] == "+0.0 [+0.0, +0.0]"


def test_the_budget_is_that_of_the_cheapest_run_of_a_seed(metrics):
    within = learning_speed.at_equal_flops(metrics)
    assert within.groupby("method")["flops"].max().to_dict() == {"diffu_grpo": 4.0, "dmpo": 4.0}
    assert len(learning_speed.evaluations(within)) == 6


def test_without_validation_there_is_no_section(metrics):
    assert learning_speed.markdown(metrics.assign(validation=None)) == ""
    assert learning_speed.markdown(metrics.drop(columns="validation")) == ""


def test_claims_may_compare_at_equal_flops(metrics):
    asked = {
        "claim": "c",
        "source": "s",
        "experiment": "main",
        "task": "sudoku",
        "better": "dmpo",
        "worse": "diffu_grpo",
        "metric": "validation",
    }
    found = {
        equal: claims.check(claim_entries.Claim(**asked, equal=equal), None, metrics).effects[0].mean
        for equal in ("responses", "flops")
    }
    assert found == {"responses": pytest.approx(0.25), "flops": pytest.approx(0.0)}


def test_a_metric_of_samples_has_no_equal_flops(tmp_path):
    file = tmp_path / "claims.yaml"
    file.write_text(
        "- {claim: c, source: s, experiment: e, task: t, better: a, worse: b, metric: strict, sampler: top1, "
        "length: 24, equal: flops}\n"
    )
    with pytest.raises(InputError, match="cost no training; remove `equal`"):
        claim_entries.read(file)
