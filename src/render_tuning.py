"""Tabulate and draw the candidates of all tuned methods, from what choose_settings.py wrote.

python src/render_tuning.py results/laptop/tuning/*/*.yaml --figures a.pdf a.png --tables a.md a.csv
"""

import argparse
from pathlib import Path

from unmask.analysis import tuning
from unmask.analysis.figures.style import save
from unmask.analysis.figures.tuning import candidates
from unmask.common.atomic import atomic_write
from unmask.common.errors import run_step


def main() -> None:
    """Write each file in the format of its suffix."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("choices", type=Path, nargs="+")
    parser.add_argument("--figures", type=Path, nargs="+", required=True)
    parser.add_argument("--tables", type=Path, nargs="+", required=True)
    args = parser.parse_args()

    choices = [tuning.Choice.read(file) for file in args.choices]
    rows = tuning.table(choices)
    texts = {".md": tuning.markdown(rows), ".csv": rows.to_csv(index=False)}
    for path in args.figures:
        save(candidates(choices), path)
    for path in args.tables:
        with atomic_write(path) as temporary:
            temporary.write_text(texts[path.suffix], encoding="utf-8")
    print(texts[".md"])


if __name__ == "__main__":
    run_step(main)
