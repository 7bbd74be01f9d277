"""Set an experiment's scores as Markdown, LaTeX and CSV.

python src/render_table.py results/laptop/scores/main.csv --question "…" --md main.md --tex main.tex --csv main.csv
"""

import argparse
import json
from pathlib import Path

from unmask import published, tables
from unmask.data import read_csv
from unmask.files import run_step, writing
from unmask.protocol import Protocol
from unmask.scores import over_seeds, steps_over_seeds


def main() -> None:
    """Write the three files."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("scores", type=Path)
    parser.add_argument("--question", required=True)
    parser.add_argument("--rows", choices=("methods", "samplers", "steps"), default="methods")
    parser.add_argument("--published", type=Path, help="what papers print; with --protocol, to stand beside ours")
    parser.add_argument("--protocol", type=json.loads, help="how ours were examined, as JSON")
    parser.add_argument("--md", type=Path, required=True)
    parser.add_argument("--tex", type=Path, required=True)
    parser.add_argument("--csv", type=Path, required=True)
    args = parser.parse_args()
    scores = read_csv(args.scores)
    cells = steps_over_seeds(scores) if args.rows == "steps" else over_seeds(scores)
    if args.rows == "steps":
        note, blocks = tables.stepwise(cells)
    else:
        printed, protocol = published.read(args.published), Protocol(**args.protocol)
        cells = tables.with_printed(published.beside(cells, printed, protocol))
        note, blocks = tables.blocks(cells, args.rows, protocol.temperature)
        others = published.apart(cells, printed, protocol)
        blocks += [others] if others else []
    texts = {
        args.md: tables.markdown(args.scores.stem, args.question, note, blocks),
        args.tex: tables.latex(args.scores.stem, args.question, note, blocks),
        args.csv: cells.to_csv(index=False),
    }
    for path, text in texts.items():
        with writing(path) as temporary:
            temporary.write_text(text, encoding="utf-8")
    print(texts[args.md])


if __name__ == "__main__":
    run_step(main)
