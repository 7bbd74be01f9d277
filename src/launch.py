"""Start a step as one process, or as one process on each GPU by torchrun; on several nodes SLURM starts the torchruns.

python src/launch.py --gpus 8 -- src/train_policy.py results/llada-8b/runs/…/spec.yaml --weights …

A training run has as many processes as share its prompts evenly, which its spec says. The process started here replaces
this one, so signals reach it.
"""

import argparse
import os
import sys
from pathlib import Path

from unmask.cards import take_cards
from unmask.files import run_step
from unmask.spec import Run

# SIGTERM and SIGUSR1 reach every process, and they have time to answer with a checkpoint.
SIGNALS = ["--signals-to-handle", "SIGINT,SIGTERM,SIGUSR1", "--shutdown-timeout=280"]


def main() -> None:
    """Become the command that starts the step."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gpus", type=int, default=1, help="of all nodes together")
    parser.add_argument("--nodes", type=int, default=1)
    parser.add_argument("step", nargs=argparse.REMAINDER, help="-- script and its arguments, the spec first")
    args = parser.parse_args()
    script, *words = args.step[1:] if args.step[:1] == ["--"] else args.step
    take_cards(args.gpus if args.nodes == 1 else 0)
    command = launcher(processes(script, words, args.gpus), args.nodes)
    os.execvp(command[0], [*command, script, *words])  # noqa: S606 (no shell is meant)


def processes(script: str, words: list[str], gpus: int) -> int:
    """How many processes a step has on so many GPUs: the parts of an evaluation can be shared by any number."""
    return Run.read(Path(words[0])).shared_by(gpus) if Path(script).stem == "train_policy" else max(1, gpus)


def launcher(count: int, nodes: int = 1) -> list[str]:
    """The words before the script; the torchruns of several nodes meet at PET_RDZV_ENDPOINT, their --rdzv-endpoint."""
    if count == 1:
        return [sys.executable]
    torchrun = [sys.executable, "-m", "torch.distributed.run"]
    each = [f"--nproc-per-node={count // nodes}", *SIGNALS]
    if nodes == 1:
        return [*torchrun, "--standalone", *each]
    start = ["srun", f"--nodes={nodes}", f"--ntasks={nodes}", "--cpu-bind=none"]
    return [*start, *torchrun, f"--nnodes={nodes}", "--rdzv-backend=c10d", *each]


if __name__ == "__main__":
    run_step(main)
