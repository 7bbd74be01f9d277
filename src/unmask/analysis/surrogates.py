"""Tables and verdicts of the experiment `surrogates`: exact errors of every surrogate, averaged over seeds."""

from __future__ import annotations

import numpy as np
import pandas as pd

from unmask.analysis import claims
from unmask.analysis.claim_entries import Claim
from unmask.analysis.claims import Finding
from unmask.analysis.frames import select
from unmask.analysis.scores import interval

LABELS = {
    "mean_field": "mean field",
    "coupled": "coupled",
    "elbo_antithetic": "ELBO, antithetic or stratified",
    "elbo_uniform": "ELBO, uniform",
    "elbo_bernoulli": "ELBO, Bernoulli pair",
    "elbo_quadrature": "ELBO, quadrature",
    "lower_bound": "lower bound",
    "lower_bound_own_masks": "lower bound, old policy on other masks",
    "upper_bound": "upper bound",
    "mixed_bound": "mixed bound",
    "two_stage": "two-stage mean field",
    "trajectory": "trajectory",
    "merge_equal": "merge(N), equal",
    "merge_random": "merge(N), random cuts",
    "steps_random": "steps(k), random",
    "steps_uniform": "steps(k), uniform",
    "steps_entropy": "steps(k), entropy",
}
KEY = ["surrogate", "forwards"]


def middle(errors: pd.DataFrame) -> float:
    """Return the middle of the distances, at which tables and verdicts compare; the lower one of two."""
    distances = sorted(select(errors, target="response")["kl"].unique())
    return float(distances[(len(distances) - 1) // 2])


def of_target(errors: pd.DataFrame, target: str) -> pd.DataFrame:
    """Return the rows of a target; of a log-ratio, those along the gradient of the expected reward."""
    rows = select(errors, target=target)
    return rows if target == "elbo" else select(rows, direction="reward")


def summary(errors: pd.DataFrame) -> pd.DataFrame:
    """Average over seeds: one row per target, direction, distance and surrogate, with ends of 95 % intervals."""
    rows = []
    for key, group in errors.groupby(["target", "direction", "kl", *KEY], sort=False):
        row = dict(zip(["target", "direction", "kl", *KEY], key, strict=True))
        for name in ("mean_error", "bias", "variance", "mse", "relative", "correlation"):
            mean, low, high = interval(group[name].to_numpy())
            row |= {name: mean, f"{name}_low": low, f"{name}_high": high}
        rows.append(row)
    return pd.DataFrame(rows)


def markdown(errors: pd.DataFrame) -> str:
    """Render three tables: log-ratios of responses, ELBOs of one policy, log-ratios on the sampler's order."""
    distance = middle(errors)
    responses = of_target(errors, "response")
    at_middle = select(responses, kl=distance)
    parts = [
        "# Surrogates against exact values",
        f"Mean ± half of the 95 % interval over {errors['seed'].nunique()} seeds, each with its own policies, in nats. "
        "Bias: root mean square over responses of the mean error over masks and orders. SD: of the draws around that "
        "mean. Relative: root mean squared error over the standard deviation of the true value over responses. "
        "Correlation: with the true value, over responses and draws.",
        f"## Log-ratio of a response\n\nBy KL(old ‖ new); bias, SD and relative error at {distance:g}. "
        "The new policy is along the gradient of the expected reward.",
        _rendered(_of_responses(responses, at_middle)),
        "## ELBO of one policy",
        _rendered(_table(of_target(errors, "elbo"), {"MSE": "mse", "Bias": "bias", "Variance": "variance"})),
        f"## Log-ratio on the sampler's order\n\nAt KL(old ‖ new) = {distance:g}, against forward passes spent.",
        _rendered(
            _table(
                select(of_target(errors, "path"), kl=distance), {"Relative": "relative", "Correlation": "correlation"}
            )
        ),
    ]
    return "\n\n".join(parts) + "\n"


def verdicts(errors: pd.DataFrame, file_claims: list[Claim]) -> list[Finding]:
    """Test claims whose policies are surrogates, with the number of forward passes as variant."""
    at = (errors["target"] == "elbo") | ((errors["kl"] == middle(errors)) & (errors["direction"] == "reward"))
    rows = errors[at]
    frame = pd.DataFrame(
        {
            "task": rows["target"],
            "method": rows["surrogate"],
            "variant": "forwards~" + rows["forwards"].astype(str),
            "seed": rows["seed"],
            "log_mse": np.log(rows["mse"].where(rows["mse"] > 0)),
            "correlation": rows["correlation"],
        }
    )
    return [claims.check(claim, None, frame) for claim in file_claims]


def _of_responses(responses: pd.DataFrame, at_middle: pd.DataFrame) -> pd.DataFrame:
    """Return the first table: correlations at all distances, then the errors at the middle one."""
    table = None
    for distance, rows in responses.groupby("kl"):
        one = _table(rows, {f"Correlation, {distance:g}": "correlation"})
        table = one if table is None else table.merge(one, on=["Surrogate", "Forwards"])
    spread = at_middle.assign(sd=np.sqrt(at_middle["variance"]))
    errors = _table(spread, {"Bias": "bias", "SD": "sd", "Relative": "relative"})
    return errors if table is None else table.merge(errors, on=["Surrogate", "Forwards"])


def _table(rows: pd.DataFrame, columns: dict[str, str]) -> pd.DataFrame:
    """Return a row per surrogate, in the order of LABELS, with `mean ± half` of each column over seeds."""
    lines = []
    order = list(LABELS)
    groups = sorted(rows.groupby(KEY), key=lambda item: (order.index(item[0][0]), item[0][1]))
    for (surrogate, forwards), group in groups:
        line = {"Surrogate": LABELS[surrogate], "Forwards": str(forwards)}
        for title, column in columns.items():
            mean, _, high = interval(group[column].to_numpy())
            line[title] = f"{mean:.3f} ± {high - mean:.3f}"
        lines.append(line)
    return pd.DataFrame(lines)


def _rendered(table: pd.DataFrame) -> str:
    return table.to_markdown(index=False, disable_numparse=True)
