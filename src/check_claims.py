"""Test the papers' claims on the samples and training metrics of one scale.

python src/check_claims.py "$(cat config.json)" --experiments main --resource workflow/resources/claims.yaml
    --claims results/laptop/claims.md --differences results/laptop/claims.csv
"""

import argparse
import json
from pathlib import Path

import pandas as pd

from unmask.analysis import diversity
from unmask.analysis.claim_entries import read
from unmask.analysis.claim_tables import differences, markdown
from unmask.analysis.claims import COLUMNS, Finding, check
from unmask.analysis.scores import RUN
from unmask.common.atomic import atomic_write
from unmask.common.errors import run_step
from unmask.common.parquet import read_csv, read_rows, schema
from unmask.config.grid.expand import expand
from unmask.config.grid.grid import Grid


def main() -> None:
    """Write the verdicts and the differences they rest on; claims on other experiments count as not tested."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("config", type=json.loads, help="the workflow's configuration as JSON")
    parser.add_argument("--experiments", nargs="*", required=True)
    parser.add_argument("--resource", type=Path, required=True)
    parser.add_argument("--claims", type=Path, required=True)
    parser.add_argument("--differences", type=Path, required=True, help="by seed and test problem, as CSV")
    args = parser.parse_args()

    grid = expand(args.config)
    claims = read(args.resource)
    findings = [Finding(claim, "not tested") for claim in claims]
    for name in args.experiments:
        wanted = [index for index, claim in enumerate(claims) if claim.experiment == name]
        # Samples are large: skip experiments that no claim refers to.
        if not wanted:
            continue
        samples, metrics = numbers(grid, name)
        for index in wanted:
            findings[index] = check(claims[index], samples, metrics)

    text = markdown(findings, grid.place, args.experiments)
    table = differences(findings).to_csv(index=False)
    contents = {args.claims: text, args.differences: table}
    for path, content in contents.items():
        with atomic_write(path) as temporary:
            temporary.write_text(content, encoding="utf-8")
    print(text)


def numbers(grid: Grid, experiment: str) -> tuple[pd.DataFrame, pd.DataFrame | None]:
    """Return an experiment's samples (or diagnosis rows) and its training metrics, None if it trains nothing."""
    files = [Path(file) for file in grid.samples(experiment)]
    # Diagnoses have their own columns; of samples, skip the generated text unless answers are to be told apart.
    columns = None if grid.experiments[experiment].rows == "steps" else COLUMNS
    several = columns is not None and "sample" in schema(files[0])
    if several:
        columns = list(dict.fromkeys([*COLUMNS, *diversity.SAMPLED]))
    frame = pd.concat([read_rows(file, columns) for file in files], ignore_index=True)
    if several:
        frame = diversity.with_pass_at_k(frame, RUN)

    metrics = None
    if grid.metrics(experiment):
        metrics = read_csv(Path(f"results/{grid.place}/metrics/{experiment}.csv"))
    return frame, metrics


if __name__ == "__main__":
    run_step(main)
