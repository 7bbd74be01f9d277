"""Test the papers' claims on the samples and training metrics of one scale.

python src/check_claims.py "$(cat config.json)" --experiments main --resource workflow/resources/claims.yaml
    --claims results/laptop/claims.md --differences results/laptop/claims.csv
"""

import argparse
import json
from pathlib import Path

from unmask.analysis.claim_entries import read
from unmask.analysis.claim_numbers import check_all, joined_metrics
from unmask.analysis.claim_tables import differences, markdown
from unmask.common.atomic import atomic_write
from unmask.common.errors import run_step
from unmask.config.grid.expand import expand


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
    findings = check_all(claims, grid, args.experiments, Path(grid.root), joined_metrics)
    text = markdown(findings, grid.place, args.experiments)
    table = differences(findings).to_csv(index=False)
    contents = {args.claims: text, args.differences: table}
    for path, content in contents.items():
        with atomic_write(path) as temporary:
            temporary.write_text(content, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    run_step(main)
