"""Draw the errors of surrogates as PDF and PNG, and write their tables and the verdicts on claims.

python src/render_surrogates.py results/laptop/surrogates/errors.csv --claims workflow/resources/surrogate_claims.yaml
--scale laptop --figures a.pdf a.png --md a.md --csv a.csv --verdicts b.md --differences b.csv
"""

import argparse
from pathlib import Path

from unmask.analysis import claim_entries, claim_tables
from unmask.analysis.figures.style import save
from unmask.analysis.figures.surrogates import surrogates
from unmask.analysis.surrogates import markdown, summary, verdicts
from unmask.common.atomic import atomic_write
from unmask.common.errors import run_step
from unmask.common.parquet import read_csv


def main() -> None:
    """Write all files."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("errors", type=Path)
    parser.add_argument("--claims", type=Path, required=True)
    parser.add_argument("--scale", required=True)
    parser.add_argument("--figures", type=Path, nargs="+", required=True)
    parser.add_argument("--md", type=Path, required=True)
    parser.add_argument("--csv", type=Path, required=True)
    parser.add_argument("--verdicts", type=Path, required=True)
    parser.add_argument("--differences", type=Path, required=True, help="by seed, as CSV")
    args = parser.parse_args()

    errors = read_csv(args.errors)
    findings = verdicts(errors, claim_entries.read(args.claims))
    texts = {
        args.md: markdown(errors),
        args.csv: summary(errors).to_csv(index=False, float_format="%.6g"),
        args.verdicts: claim_tables.markdown(findings, args.scale),
        args.differences: claim_tables.differences(findings).to_csv(index=False),
    }
    figure = surrogates(errors)
    for path in args.figures:
        save(figure, path)
    for path, text in texts.items():
        with atomic_write(path) as temporary:
            temporary.write_text(text, encoding="utf-8")
    print(texts[args.md])


if __name__ == "__main__":
    run_step(main)
