"""Print how a policy denoises a test problem: the response after every forward pass, with the positions committed.

python src/trace_denoising.py results/laptop/runs/dmpo/sudoku/default/seed-0 --problem 3 --html denoising.html
python src/trace_denoising.py --weights …/weights --adapter …/adapter --task sudoku --scale laptop

notebooks/denoising.ipynb shows the same in a notebook.
"""

import argparse
from pathlib import Path

from unmask.common.atomic import atomic_write
from unmask.common.determinism import fix_order
from unmask.common.errors import InputError, run_step
from unmask.config.grid.expand import expand
from unmask.config.loading import load_config
from unmask.evaluation.denoising import Loaded, denoise, load_run, load_weights


def main() -> None:
    """Print the passes, and write a web page if --html is given."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, nargs="?", help="folder of a finished run; or --weights and --task")
    parser.add_argument("--weights", type=Path, help="folder of a base model")
    parser.add_argument("--adapter", type=Path, help="adapter or all weights, trained from --weights")
    parser.add_argument("--task")
    parser.add_argument("--scale", default="laptop", help="whose problems and evaluation --weights is shown on")
    parser.add_argument("--evaluation", default="papers", help="its samplers, lengths and temperature")
    parser.add_argument("--problem", type=int, default=0, help="number of the test problem, from 0")
    parser.add_argument("--sampler", default="", help="name of a sampler of the evaluation; default: its first")
    parser.add_argument("--length", type=int, default=0, help="response length in tokens; default: its first")
    parser.add_argument("--temperature", type=float, help="default: that of the evaluation")
    parser.add_argument("--html", type=Path, help="web page to write")
    args = parser.parse_args()

    fix_order()
    made = denoise(loaded(args), args.problem, args.sampler, args.length, args.temperature)
    print(made)
    if args.html:
        with atomic_write(args.html) as temporary:
            temporary.write_text(made.page(), encoding="utf-8")


def loaded(args: argparse.Namespace) -> Loaded:
    """Load what the command line names. Raises InputError if it names both a run and weights, or neither."""
    if args.run and not (args.weights or args.adapter or args.task):
        return load_run(args.run, args.evaluation)
    if args.run or not (args.weights and args.task):
        raise InputError("name either the folder of a run, or --weights and --task (and --adapter)")
    config = load_config()
    if args.scale not in config["scales"]:
        raise InputError(f"--scale: {args.scale!r} is none of {', '.join(config['scales'])}")
    grid = expand(config | {"scale": args.scale})
    return load_weights(args.weights, args.adapter, args.task, grid, args.evaluation)


if __name__ == "__main__":
    run_step(main)
