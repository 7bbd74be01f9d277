"""Draw the exact toy's curves as PDF and PNG and write their final values as Markdown, LaTeX and CSV.

python src/render_exact_toy.py results/laptop/exact_toy/curves.csv --figures a.pdf a.png --tables a.md a.tex a.csv
"""

import argparse
from pathlib import Path

from unmask.analysis.figures.style import save
from unmask.analysis.figures.tabular import exact_toy, table
from unmask.common.atomic import atomic_write
from unmask.common.errors import run_step
from unmask.common.parquet import read_csv


def main() -> None:
    """Write each file in the format of its suffix."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("curves", type=Path)
    parser.add_argument("--figures", type=Path, nargs="+", required=True)
    parser.add_argument("--tables", type=Path, nargs="+", required=True)
    args = parser.parse_args()

    # Cells are finished text ("0.12 ± 0.03"): tabulate must not parse them as numbers, LaTeX needs a command for ±.
    curves = read_csv(args.curves)
    figure, rows = exact_toy(curves), table(curves)
    texts = {
        ".md": rows.to_markdown(index=False, disable_numparse=True) + "\n",
        ".tex": rows.replace("±", r"$\\pm$", regex=True).to_latex(index=False, column_format="rlrrrr"),
        ".csv": rows.to_csv(index=False),
    }

    for path in args.figures:
        save(figure, path)
    for path in args.tables:
        with atomic_write(path) as temporary:
            temporary.write_text(texts[path.suffix], encoding="utf-8")
    print(texts[".md"])


if __name__ == "__main__":
    run_step(main)
